"""API keys through the dashboard: what test_settings.py leaves out."""

import json

import httpx
import pytest
from callers import make_key

from .browser import signed_in

KEYS = "/dashboard/settings/keys"


@pytest.fixture
async def browser(server, tenant):
    async with signed_in(server, tenant) as browser:
        yield browser


async def test_a_fault_keeps_how_long_the_key_was_to_last(browser):
    answer = await browser.submit(KEYS, name="", scopes="read", days="30")
    assert answer.status_code == 400
    assert '<option value="30" selected>' in answer.text


async def test_an_unknown_time_makes_no_key_for_ever(browser, api):
    answer = await browser.submit(KEYS, name="odd", scopes="read", days="31")
    assert answer.status_code == 400
    assert "odd" not in [key["name"] for key in (await api.get("/v1/api-keys")).json()["keys"]]


async def test_revoking_the_key_of_the_session_ends_it_at_the_sign_in_page(server, db, tenant):
    raw = await make_key(db, tenant.id, scopes=["admin"])
    async with signed_in(server, tenant, raw) as browser:
        page = (await browser.get(KEYS)).text
        assert "revoking it ends this session" in page
        own = page.split("revoking it ends this session")[0].rsplit("/settings/keys/", 1)[1]
        gone = await browser.submit(f"{KEYS}/{own.split('/')[0]}/revoke")
        assert gone.status_code == 303
        after = await browser.get(gone.headers["location"])
        assert after.status_code == 200
        assert "this session ended with it" in after.text
        again = await browser.get(KEYS)
        assert again.headers["location"].startswith("/dashboard/sign-in")


async def test_a_way_back_in_a_toast_needs_a_session(server):
    told = {"said": "Revoked", "undo": {"path": f"{KEYS}/key_x/restore", "label": "Undo"}}
    cookies = {"lantern_flash": json.dumps(told).encode().hex()}
    async with httpx.AsyncClient(base_url=server.url, cookies=cookies) as stranger:
        page = await stranger.get("/dashboard/sign-in")
    assert page.status_code == 200
    assert "Revoked" in page.text
    assert "Undo" not in page.text


async def test_a_key_may_end_on_a_day_and_a_day_that_is_none_or_past_is_refused(browser, api):
    assert (await browser.submit(KEYS, name="d", scopes="read", expires_at="2090-02-03")).is_success
    keys = (await api.get("/v1/api-keys")).json()["keys"]
    assert keys[0]["expires_at"].startswith("2090-02-03T23:59:59")
    for wrong in ("2001-01-01", "2090-02-31", "soon"):
        answer = await browser.submit(KEYS, name="d", scopes="read", expires_at=wrong)
        assert answer.status_code == 400
        assert 'id="expires_at-fault"' in answer.text
        assert f'value="{wrong}"' in answer.text


async def test_a_page_beyond_the_last_does_not_say_that_there_are_no_keys(browser):
    page = (await browser.get(f"{KEYS}?page=9")).text
    assert "No keys yet" not in page


async def test_restoring_is_in_the_audit_log(browser, api, db, tenant):
    key_id = (await api.post("/v1/api-keys", json={"name": "a"})).json()["key"]["id"]
    await browser.submit(f"{KEYS}/{key_id}/revoke")
    await browser.submit(f"{KEYS}/{key_id}/restore")
    async with db.transaction(tenant.id) as tx:
        row = await tx.one(
            "select count(*) as n from audit_log where action = 'key.restore' and object_id = %s",
            (key_id,),
        )
    assert row["n"] == 1


async def test_keys_are_for_admins(server, db, tenant):
    raw = await make_key(db, tenant.id, scopes=["write"])
    async with signed_in(server, tenant, raw) as writer:
        assert (await writer.get(KEYS)).status_code == 403
        assert (await writer.submit(KEYS, name="a", scopes="admin")).status_code == 403
