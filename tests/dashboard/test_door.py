"""Who gets in, how far, and what every answer carries."""

import httpx
import pytest
from callers import make_key
from parts import new_tenant
from servers import InProcess

from lantern.gate import sessions

from .browser import TOKEN, Browser, signed_in


@pytest.fixture
async def operator(server, db, tenant):
    """A browser of the operator, in the tenant, free to go to others."""
    async with db.transaction(tenant.id) as tx:
        link = await sessions.make_link(tx, tenant.id, 60, roams=True)
    async with Browser(base_url=server.url) as browser:
        answer = await browser.post("/dashboard/enter", data={"link": link})
        assert answer.headers["location"] == "/dashboard"
        browser.link = link
        yield browser


async def test_without_a_session_every_page_leads_to_the_sign_in_and_back(server):
    async with Browser(base_url=server.url) as browser:
        answer = await browser.get("/dashboard/runs?status=failed")
        assert answer.status_code == 303
        where = answer.headers["location"]
        assert where == "/dashboard/sign-in?next=%2Fdashboard%2Fruns%3Fstatus%3Dfailed"
        form = await browser.get(where)
        assert 'value="/dashboard/runs?status=failed"' in form.text
        assert (await browser.get("/")).headers["location"] == "/dashboard"
        part = await browser.get("/dashboard/find?q=x", headers={"HX-Request": "true"})
        assert (part.status_code, part.headers["hx-redirect"]) == (401, "/dashboard/sign-in")


async def test_a_link_signs_in_once(server, operator):
    assert (await operator.get("/dashboard")).status_code == 200
    async with Browser(base_url=server.url) as other:
        again = await other.post("/dashboard/enter", data={"link": operator.link})
        assert again.status_code == 401
        assert "was used already" in again.text
        assert "lantern_session" not in other.cookies


async def test_a_link_that_is_too_old_signs_nobody_in(server, db, tenant):
    async with db.transaction(tenant.id) as tx:
        link = await sessions.make_link(tx, tenant.id, -1, roams=False)
    async with Browser(base_url=server.url) as browser:
        assert (await browser.post("/dashboard/enter", data={"link": link})).status_code == 401


async def test_sessions_that_are_over_their_time_are_removed(server, db, tenant):
    async with signed_in(server, tenant):
        async with db.transaction(tenant.id) as tx:
            old = await tx.all("select hash from dashboard_sessions")
            await tx.run(
                "insert into dashboard_sessions (hash, tenant_id, expires_at) values"
                " ('old', %s, clock_timestamp() - interval '1 s')",
                (tenant.id,),
            )
        async with signed_in(server, tenant), db.transaction(tenant.id) as tx:
            now = await tx.all("select hash from dashboard_sessions")
            assert len(now) == len(old) + 1
            assert b"old" not in {bytes(row["hash"]) for row in now}


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(server, tenant):
    async with Browser(base_url=server.url) as browser:
        answer = await browser.post("/dashboard/sign-in", data={"key": tenant.key})
        cookie = answer.headers["set-cookie"]
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=lax", "path=/dashboard"} <= parts
        assert "secure" not in parts
        assert tenant.key not in cookie


async def test_behind_tls_the_cookie_is_secure(dsn, tenant, tmp_path):
    proxied = {"trusted_proxies": ["127.0.0.1"]}
    with InProcess(dsn, data_dir=tmp_path, server=proxied) as behind:
        async with Browser(base_url=behind.url) as browser:
            for told, expected in (("https", True), ("http", False), ("https, http", False)):
                answer = await browser.post(
                    "/dashboard/sign-in",
                    data={"key": tenant.key},
                    headers={"X-Forwarded-Proto": told},
                )
                assert ("Secure" in answer.headers["set-cookie"]) is expected


async def test_who_is_no_trusted_proxy_cannot_claim_tls(server, tenant):
    async with Browser(base_url=server.url) as browser:
        told = {"X-Forwarded-Proto": "https"}
        answer = await browser.post("/dashboard/sign-in", data={"key": tenant.key}, headers=told)
        assert "Secure" not in answer.headers["set-cookie"]


@pytest.mark.parametrize("key", ["", "lnt_wrong", "ses_" + "a" * 43, "tick_x"])
async def test_a_wrong_key_signs_nobody_in(server, key):
    async with Browser(base_url=server.url) as browser:
        answer = await browser.post("/dashboard/sign-in", data={"key": key})
        assert answer.status_code in (401, 429)
        assert "set-cookie" not in answer.headers
        assert key == "" or key not in answer.text


async def test_a_session_is_no_api_key_and_a_key_no_session(server, tenant):
    async with signed_in(server, tenant) as browser:
        raw = browser.cookies["lantern_session"]
        answer = await browser.get("/v1/agents", headers={"Authorization": f"Bearer {raw}"})
        assert answer.status_code == 401
    async with Browser(base_url=server.url, cookies={"lantern_session": tenant.key}) as other:
        assert (await other.get("/dashboard")).status_code == 303


@pytest.mark.parametrize("token", [None, "", "00", "0" * 48, "f" * 47])
async def test_a_write_without_the_sessions_token_is_refused(server, tenant, token):
    async with signed_in(server, tenant) as browser:
        data = {"name": "forged"} | ({} if token is None else {"csrf": token})
        answer = await browser.post("/dashboard/agents/new", data=data)
        assert answer.status_code == 403
        assert (await browser.get("/dashboard/agents/forged")).status_code == 404


async def test_a_token_of_another_session_is_refused(server, tenant):
    async with signed_in(server, tenant) as one, signed_in(server, tenant) as other:
        data = {"csrf": await other.token(), "name": "forged"}
        assert (await one.post("/dashboard/agents/new", data=data)).status_code == 403


async def test_tokens_differ_from_page_to_page(server, tenant):
    async with signed_in(server, tenant) as browser:
        assert await browser.token() != await browser.token()


async def test_a_form_from_another_site_is_refused(server, tenant):
    async with signed_in(server, tenant) as browser:
        data = {"csrf": await browser.token(), "name": "forged"}
        for site in ("cross-site", "same-site"):
            answer = await browser.post(
                "/dashboard/agents/new", data=data, headers={"Sec-Fetch-Site": site}
            )
            assert answer.status_code == 403
        login = await browser.post(
            "/dashboard/sign-in",
            data={"key": tenant.key},
            headers={"Sec-Fetch-Site": "cross-site"},
        )
        assert login.status_code == 403


async def test_signing_out_ends_the_session_for_every_copy_of_its_cookie(server, tenant):
    async with signed_in(server, tenant) as browser:
        kept = dict(browser.cookies)
        assert (await browser.submit("/dashboard/sign-out")).status_code == 303
        async with Browser(base_url=server.url, cookies=kept) as thief:
            assert (await thief.get("/dashboard")).status_code == 303


async def test_a_session_ends_with_its_key(server, api, db, tenant):
    made = (await api.post("/v1/api-keys", json={"name": "brief", "scopes": ["read"]})).json()
    async with signed_in(server, tenant, made["raw_key"]) as browser:
        assert (await browser.get("/dashboard/runs")).status_code == 200
        await api.delete(f"/v1/api-keys/{made['key']['id']}")
        assert (await browser.get("/dashboard/runs")).status_code == 303


async def test_a_session_reaches_as_far_as_its_key(server, db, tenant):
    reader = await make_key(db, tenant.id, scopes=["read"])
    async with signed_in(server, tenant, reader) as browser:
        assert "New agent" not in (await browser.get("/dashboard/agents")).text
        assert (await browser.submit("/dashboard/agents/new", name="x")).status_code == 403
        assert (await browser.get("/dashboard/settings/keys")).status_code == 403
        assert (await browser.get("/dashboard/tenants")).status_code == 403


async def test_a_key_for_forms_alone_does_not_sign_in(server, db, tenant):
    key = await make_key(db, tenant.id, scopes=["forms"])
    async with Browser(base_url=server.url) as browser:
        answer = await browser.post("/dashboard/sign-in", data={"key": key})
        assert answer.status_code == 401
        assert "may not read" in answer.text


async def test_a_key_of_named_agents_sees_these_and_nothing_of_the_account(server, api, db, tenant):
    for name in ("mine", "theirs"):
        await api.post("/v1/agents", json={"name": name})
    key = await make_key(db, tenant.id, agents=["mine"])
    async with signed_in(server, tenant, key) as browser:
        listed = (await browser.get("/dashboard/agents")).text
        assert "/dashboard/agents/mine" in listed
        assert "/dashboard/agents/theirs" not in listed
        assert (await browser.get("/dashboard/agents/theirs")).status_code == 403
        sent = await browser.submit("/dashboard/agents/theirs/runs", input="hello")
        assert sent.status_code == 403
        found = (await browser.get("/dashboard/find?q=e")).text
        assert "theirs" not in found
        bar = (await browser.get("/dashboard/agents")).text
        for path in ("routing", "logs", "credits", "health", "settings/models"):
            assert (await browser.get(f"/dashboard/{path}")).status_code == 403
            assert f'href="/dashboard/{path}"' not in bar
        assert 'href="/dashboard/runs"' in bar


async def test_the_operator_goes_from_tenant_to_tenant(server, db, operator, tenant):
    other = await new_tenant(db)
    assert "/dashboard/tenants" in (await operator.get("/dashboard")).text
    assert f'value="{other.id}"' in (await operator.get("/dashboard/tenants")).text
    moved = await operator.submit("/dashboard/tenants", tenant=str(other.id))
    assert moved.headers["location"] == "/dashboard"
    await operator.submit(
        "/dashboard/agents/new", name="over-there", model="auto", privacy_level="standard"
    )
    async with signed_in(server, other) as theirs, signed_in(server, tenant) as ours:
        assert (await theirs.get("/dashboard/agents/over-there")).status_code == 200
        assert (await ours.get("/dashboard/agents/over-there")).status_code == 404
    for nobody in ("0", "-1", "999999999", "x", ""):
        assert (await operator.submit("/dashboard/tenants", tenant=nobody)).status_code == 404


async def test_the_session_of_a_key_stays_with_its_tenant(server, db, tenant):
    other = await new_tenant(db)
    async with signed_in(server, tenant) as browser:
        assert (await browser.get("/dashboard/tenants")).status_code == 403
        assert (await browser.submit("/dashboard/tenants", tenant=str(other.id))).status_code == 403


@pytest.mark.parametrize(
    "next",
    ["https://evil.example", "//evil.example", "/dashboardx", "/v1/agents", "/dashboard/\\evil"],
)
async def test_signing_in_leads_to_no_other_site(server, tenant, next):
    async with Browser(base_url=server.url) as browser:
        answer = await browser.post("/dashboard/sign-in", data={"key": tenant.key, "next": next})
        assert answer.headers["location"] == "/dashboard"


async def test_every_answer_carries_the_strict_headers(server, tenant):
    async with signed_in(server, tenant) as browser:
        for path in ("/dashboard", "/dashboard/nowhere", "/dashboard/sign-in"):
            headers = (await browser.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"


async def test_a_page_that_is_not_there_is_404_with_a_way_back(server, tenant):
    async with signed_in(server, tenant) as browser:
        answer = await browser.get("/dashboard/nowhere/at/all")
        assert answer.status_code == 404
        assert 'href="/dashboard"' in answer.text
        assert (await browser.get("/dashboard/runs/run_0000000000")).status_code == 404
        assert (await browser.get("/dashboard/agents/%00")).status_code == 404


async def test_a_form_that_is_too_large_or_broken_is_refused(server, tenant):
    async with signed_in(server, tenant) as browser:
        token = await browser.token()
        large = {"csrf": token, "name": "x" * 1_100_000}
        assert (await browser.post("/dashboard/agents/new", data=large)).status_code == 413
        broken = await browser.post("/dashboard/agents/new", content=b"name=\xff")
        assert broken.status_code == 400
        nul = await browser.post("/dashboard/agents/new", data={"csrf": token, "name": "a\0b"})
        assert nul.status_code == 400


async def test_files_are_compressed_and_kept_for_good_under_their_version(server):
    async with Browser(base_url=server.url) as browser:
        page = (await browser.get("/dashboard/sign-in")).text
        path = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
        file = await browser.get(path)
        assert file.headers["content-encoding"] == "gzip"
        assert "immutable" in file.headers["cache-control"]
        assert (await browser.get(path, headers={"Accept-Encoding": "identity"})).text == file.text
        old = "/".join([*path.split("/")[:3], "0" * 12, *path.split("/")[4:]])
        assert (await browser.get(old)).headers["cache-control"] == "no-cache"
        for gone in ("/dashboard/static/x/../../settings.py", "/dashboard/static/x/no.css"):
            assert (await browser.get(gone)).status_code == 404


async def test_the_first_load_is_small(server, tenant):
    """150 KB, compressed, with everything the page asks for."""
    async with signed_in(server, tenant) as browser:
        answer = await browser.get("/dashboard")
        total = int(answer.headers["content-length"])
        for name in set(TOKEN.sub("", answer.text).split('"')):
            if "/static/" in name and "#" not in name:
                total += int((await browser.get(name)).headers["content-length"])
        icons = answer.text.partition('<use href="')[2].partition("#")[0]
        total += int((await browser.get(icons)).headers["content-length"])
    assert 40_000 < total < 150_000, total


async def test_a_browser_that_asks_too_often_is_told_to_wait(server, db, tenant):
    key = await make_key(db, tenant.id, limits={"dashboard": 3})  # signing in counts too
    async with signed_in(server, tenant, key) as browser:
        answers = [(await browser.get("/dashboard/runs")).status_code for _ in range(3)]
        assert answers == [200, 200, 429]


async def test_the_rest_of_the_api_does_not_know_cookies(server, tenant):
    async with signed_in(server, tenant) as browser:
        raw = browser.cookies["lantern_session"]
        async with httpx.AsyncClient(base_url=server.url) as api:
            answer = await api.get("/v1/agents", headers={"Cookie": f"lantern_session={raw}"})
            assert answer.status_code == 401
