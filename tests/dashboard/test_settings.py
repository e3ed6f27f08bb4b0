"""Keys, models and health through the dashboard."""

import re

import httpx
import pytest
from callers import make_key
from servers import InProcess

from .browser import signed_in

RAW = re.compile(r">(lnt_\w{20,})<")


@pytest.fixture
async def browser(server, tenant):
    async with signed_in(server, tenant) as browser:
        yield browser


async def calls(server, raw):
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/v1/agents", headers={"Authorization": f"Bearer {raw}"})
        return answer.status_code


async def test_a_key_is_shown_once_and_works(browser, server):
    made = await browser.submit("/dashboard/settings/keys", name="crm <sync>", scopes="write")
    assert made.status_code == 200
    raw = RAW.search(made.text)[1]
    assert made.headers["cache-control"] == "no-store"
    assert await calls(server, raw) == 200
    later = (await browser.get("/dashboard/settings/keys")).text
    assert raw not in later
    assert raw[:12] in later
    assert "crm &lt;sync&gt;" in later


async def test_a_revoked_key_is_refused_at_once_and_can_be_brought_back(browser, server, api, db):
    made = (await api.post("/v1/api-keys", json={"name": "brief"})).json()
    key_id, raw = made["key"]["id"], made["raw_key"]
    gone = await browser.submit(f"/dashboard/settings/keys/{key_id}/revoke")
    assert gone.status_code == 303
    assert await calls(server, raw) == 401
    page = (await browser.get("/dashboard/settings/keys")).text
    assert f"/settings/keys/{key_id}/restore" in page  # the way back is in the toast
    await browser.submit(f"/dashboard/settings/keys/{key_id}/restore")
    assert await calls(server, raw) == 200
    again = await browser.submit(f"/dashboard/settings/keys/{key_id}/restore")
    assert again.status_code == 404  # it is in force


async def test_after_five_minutes_a_revocation_stands(browser, server, api, db, tenant):
    made = (await api.post("/v1/api-keys", json={"name": "old"})).json()
    key_id = made["key"]["id"]
    await browser.submit(f"/dashboard/settings/keys/{key_id}/revoke")
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "update api_keys set revoked_at = revoked_at - interval '301 s' where id = %s",
            (key_id,),
        )
    late = await browser.submit(f"/dashboard/settings/keys/{key_id}/restore")
    assert late.status_code == 404
    assert await calls(server, made["raw_key"]) == 401


async def test_a_key_of_named_agents_brings_back_no_key_beyond_them(server, api, db, tenant):
    await api.post("/v1/agents", json={"name": "mine"})
    wide = (await api.post("/v1/api-keys", json={"name": "wide"})).json()["key"]["id"]
    key = await make_key(db, tenant.id, agents=["mine"])
    await api.delete(f"/v1/api-keys/{wide}")
    async with signed_in(server, tenant, key) as few:
        answer = await few.submit(f"/dashboard/settings/keys/{wide}/restore")
        assert answer.status_code == 404


async def test_a_wrong_key_form_names_the_field_and_keeps_what_was_typed(browser):
    wrong = {
        "name-fault": {"name": "", "scopes": "write"},
        "agents-fault": {"name": "a", "scopes": "write", "agents": "Not A Name"},
    }
    for mark, fields in wrong.items():
        answer = await browser.submit("/dashboard/settings/keys", **fields)
        assert answer.status_code == 400
        assert f'id="{mark}"' in answer.text
    none = await browser.submit("/dashboard/settings/keys", name="a")
    assert none.status_code == 400
    assert "at least 1 item" in none.text


async def test_a_key_that_ends_says_when(browser, api):
    await browser.submit("/dashboard/settings/keys", name="month", scopes="read", days="30")
    keys = (await api.get("/v1/api-keys")).json()["keys"]
    assert next(key for key in keys if key["name"] == "month")["expires_at"]


async def test_models_show_where_they_are_their_price_and_how_they_did(browser, api):
    page = (await browser.get("/dashboard/settings/models")).text
    for word in ("small", "$1.00, $2.00", "127.0.0.1:", "would ask small now"):
        assert word in page, word
    answered = await browser.submit("/dashboard/settings/models/check", model="small")
    assert "first token after" in answered.text
    assert "answered" in (await browser.get("/dashboard/settings/models")).text
    assert (await browser.submit("/dashboard/settings/models/check", model="no")).status_code == 404


async def test_a_model_that_fails_says_how_and_what_to_do(dsn, tenant, tmp_path, fake):
    row = {"name": "shut", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "NOT_THERE_KEY"}
    with InProcess(dsn, data_dir=tmp_path, models=[row]) as other:
        async with signed_in(other, tenant) as browser:
            page = (await browser.get("/dashboard/settings/models")).text
            assert "NOT_THERE_KEY is not set" in page
            failed = await browser.submit("/dashboard/settings/models/check", model="shut")
            assert "failed" in failed.text
            assert "base_url" in failed.text or "api_key_env" in failed.text


async def test_health_shows_nodes_and_database_to_admins_alone(browser, server, db, tenant):
    page = (await browser.get("/dashboard/health")).text
    for word in ("All is well", "this one", "Postgres", "the latest 00", "cleanup"):
        assert word in page, word
    key = await make_key(db, tenant.id, scopes=["read"])
    async with signed_in(server, tenant, key) as reader:
        small = (await reader.get("/dashboard/health")).text
        assert "Runs queued" in small
        assert "the latest 00" not in small


async def test_health_names_a_node_that_fell_silent(browser, db):
    await db.run(
        "insert into nodes (id, role, host, pid, version, beat) values"
        " ('node_silent', 'worker', 'far', 1, '0', clock_timestamp() - interval '1 min')"
    )
    try:
        page = (await browser.get("/dashboard/health")).text
        assert "node_silent on far (pid 1) fell silent" in page
    finally:
        await db.run("delete from nodes where id = 'node_silent'")
