"""Keys over the API: shown once, never wider than their maker, gone at once."""

import asyncio
import re

import pytest
from callers import caller, code_of, make_key

MADE = {
    "id",
    "name",
    "prefix",
    "scopes",
    "agents",
    "created_at",
    "expires_at",
    "last_used_at",
}


async def test_a_key_is_shown_once(api, db, tenant):
    made = await api.post(
        "/v1/api-keys",
        json={"name": "ci", "scopes": ["read", "forms"], "agents": ["b", "a", "b"]},
    )
    body = made.json()
    assert (made.status_code, set(body)) == (201, {"key", "raw_key"})
    assert set(body["key"]) == MADE
    assert re.fullmatch(r"lnt_[0-9A-Za-z]{43}", body["raw_key"])
    assert body["key"]["prefix"] == body["raw_key"][:12]
    assert re.fullmatch(r"key_[0-9a-z]{26}", body["key"]["id"])
    assert body["key"]["scopes"] == ["read", "forms"]
    assert body["key"]["agents"] == ["a", "b"]
    assert body["key"]["expires_at"] is None
    assert body["key"]["created_at"].endswith("Z")
    listed = await api.get("/v1/api-keys")
    assert body["raw_key"] not in listed.text
    assert body["key"] in listed.json()["keys"]
    async with db.transaction(tenant.id) as tx:
        stored = await tx.one("select * from api_keys where id = %s", (body["key"]["id"],))
    assert body["raw_key"] not in str(stored)
    assert len(bytes(stored["hash"])) == 32


async def test_defaults_are_write_and_all_agents(api):
    key = (await api.post("/v1/api-keys", json={"name": "x"})).json()["key"]
    assert (key["scopes"], key["agents"]) == (["write"], ["*"])
    both = (await api.post("/v1/api-keys", json={"name": "x", "agents": ["a", "*"]})).json()
    assert both["key"]["agents"] == ["*"]


async def test_the_list_is_paged_and_newest_first(api):
    names = [f"key-{n}" for n in range(5)]
    for name in names:
        await api.post("/v1/api-keys", json={"name": name})
    first = (await api.get("/v1/api-keys?per_page=2")).json()
    assert [k["name"] for k in first["keys"]] == ["key-4", "key-3"]
    assert (first["total"], first["page"], first["per_page"]) == (6, 1, 2)
    last = (await api.get("/v1/api-keys?per_page=2&page=3")).json()
    assert [k["name"] for k in last["keys"]] == ["key-0", "test"]
    assert (await api.get("/v1/api-keys?page=9")).json()["keys"] == []


async def test_use_is_noted(server, api):
    made = (await api.post("/v1/api-keys", json={"name": "seen"})).json()
    async with caller(server.url, made["raw_key"]) as client:
        await client.get("/v1/agents")
    (listed,) = [k for k in (await api.get("/v1/api-keys")).json()["keys"] if k["name"] == "seen"]
    assert made["key"]["last_used_at"] is None
    assert listed["last_used_at"].endswith("Z")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": 5}, "name"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["root"]}, "scopes"),
        ({"name": "x", "scopes": "write"}, "scopes"),
        ({"name": "x", "agents": []}, "agents"),
        ({"name": "x", "agents": ["Bad Name"]}, "agents"),
        ({"name": "x", "agents": ["a"] * 101}, "agents"),
        ({"name": "x", "expires_at": "soon"}, "expires_at"),
        ({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "expires_at": 4102444800}, "expires_at"),
        ({"name": "x", "expires_at": "4102444800"}, "expires_at"),
        ({"name": "x", "expires_at": True}, "expires_at"),
        ({"name": "x", "expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at"),
        ({"name": "x", "expires_at": "0001-01-01T00:00:00+23:59"}, "expires_at"),
        ({"name": "x", "plan": "enterprise"}, "plan"),
        ({"name": "x", "limits": {"plan": 0}}, "limits"),
        ({"name": "x", "tenant_id": 1}, "tenant_id"),
    ],
)
async def test_wrong_fields_are_named(api, fields, named):
    answer = await api.post("/v1/api-keys", json=fields)
    assert (answer.status_code, code_of(answer)) == (400, "bad_request")
    assert answer.json()["error"]["message"].startswith(named)
    assert (await api.get("/v1/api-keys")).json()["total"] == 1


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("2999-01-01T12:00:00Z", "2999-01-01T12:00:00Z"),
        ("2999-01-01T12:00:00+02:00", "2999-01-01T10:00:00Z"),
        ("2999-01-01T12:00:00", "2999-01-01T12:00:00Z"),
        ("2999-01-01", "2999-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ],
)
async def test_times_are_utc(api, given, stored):
    made = await api.post("/v1/api-keys", json={"name": "x", "expires_at": given})
    assert made.json()["key"]["expires_at"] == stored


async def test_revoking(api):
    key = (await api.post("/v1/api-keys", json={"name": "x"})).json()["key"]
    gone = await api.delete(f"/v1/api-keys/{key['id']}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert "content-length" not in gone.headers
    again = await api.delete(f"/v1/api-keys/{key['id']}")
    assert (again.status_code, code_of(again)) == (404, "not_found")
    assert key["id"] not in (await api.get("/v1/api-keys")).text


async def test_a_key_is_revoked_once(api, db, tenant):
    key = (await api.post("/v1/api-keys", json={"name": "x"})).json()["key"]
    answers = await asyncio.gather(*[api.delete(f"/v1/api-keys/{key['id']}") for _ in range(5)])
    assert sorted(a.status_code for a in answers) == [204, 404, 404, 404, 404]
    async with db.transaction(tenant.id) as tx:
        rows = await tx.all(
            "select actor, action, object_id, request_id from audit_log order by id"
        )
    assert [row["action"] for row in rows][-2:] == ["key.create", "key.revoke"]
    assert rows[-1]["object_id"] == key["id"]
    assert rows[-1]["request_id"].startswith("req_")


@pytest.mark.parametrize(
    "key_id", ["key_nope", "key_" + "0" * 26, "x", "%27;--", "KEY_" + "0" * 26]
)
async def test_unknown_keys_are_404(api, key_id):
    assert (await api.delete(f"/v1/api-keys/{key_id}")).status_code == 404


async def test_keys_of_other_tenants_do_not_exist(api, server, db):
    other = (await db.one("select create_tenant('other', 'team', 1) as id"))["id"]
    theirs = await make_key(db, other)
    async with caller(server.url, theirs) as client:
        (key,) = (await client.get("/v1/api-keys")).json()["keys"]
        assert (await api.delete(f"/v1/api-keys/{key['id']}")).status_code == 404
        assert (await client.get("/v1/agents")).status_code == 200
    assert key["id"] not in (await api.get("/v1/api-keys")).text


@pytest.fixture
async def narrow(server, db, tenant):
    """An admin key for two agents."""
    key = await make_key(db, tenant.id, name="narrow", agents=["mine", "ours"])
    async with caller(server.url, key) as client:
        yield client


@pytest.mark.parametrize("agents", [["*"], ["other"], ["mine", "other"], None])
async def test_a_key_makes_none_that_reaches_further(narrow, api, agents):
    body = {"name": "wide"} if agents is None else {"name": "wide", "agents": agents}
    answer = await narrow.post("/v1/api-keys", json=body)
    assert (answer.status_code, code_of(answer)) == (403, "forbidden")
    assert "wide" not in (await api.get("/v1/api-keys")).text


async def test_it_makes_one_that_reaches_as_far(narrow):
    made = await narrow.post("/v1/api-keys", json={"name": "ok", "agents": ["mine"]})
    assert made.status_code == 201
    assert made.json()["key"]["agents"] == ["mine"]


async def test_it_neither_sees_nor_ends_wider_ones(narrow, api):
    wide = (await api.post("/v1/api-keys", json={"name": "wide"})).json()["key"]
    side = (await api.post("/v1/api-keys", json={"name": "s", "agents": ["mine", "other"]})).json()
    same = (await api.post("/v1/api-keys", json={"name": "same", "agents": ["mine"]})).json()["key"]
    listed = (await narrow.get("/v1/api-keys")).json()
    assert ([k["name"] for k in listed["keys"]], listed["total"]) == (["same", "narrow"], 2)
    for key_id in (wide["id"], side["key"]["id"]):
        assert (await narrow.delete(f"/v1/api-keys/{key_id}")).status_code == 404
    assert (await narrow.delete(f"/v1/api-keys/{same['id']}")).status_code == 204
