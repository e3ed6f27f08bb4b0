"""The same answer twice: `Idempotency-Key` on real routes, races and secrets included."""

import asyncio

import psycopg
import pytest
from callers import caller, code_of, make_key

from lantern.gate import idempotency


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


async def test_the_stored_answer_comes_again(api):
    body = {"name": "once", "description": "first"}
    first = await api.post("/v1/agents", json=body, headers=keyed("k"))
    again = await api.post("/v1/agents", json=body, headers=keyed("k"))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert again.headers["content-type"] == first.headers["content-type"]
    await api.patch("/v1/agents/once", json={"description": "second"})
    later = await api.post("/v1/agents", json=body, headers=keyed("k"))
    assert later.json()["description"] == "first"  # the answer as it was, not as it would be


async def test_another_body_is_a_conflict(api):
    await api.post("/v1/agents", json={"name": "a"}, headers=keyed("k"))
    other = await api.post("/v1/agents", json={"name": "b"}, headers=keyed("k"))
    assert (other.status_code, code_of(other)) == (409, "conflict")
    assert (await api.get("/v1/agents/b")).status_code == 404
    spaced = await api.post(
        "/v1/agents",
        content=b'{"name": "a" }',
        headers={**keyed("k"), "content-type": "application/json"},
    )
    assert spaced.status_code == 409  # byte for byte: we do not guess what is the same


async def test_a_secret_is_not_kept(api, db, tenant):
    body = {"name": "ci", "scopes": ["read"]}
    first = (await api.post("/v1/api-keys", json=body, headers=keyed("k"))).json()
    again = await api.post("/v1/api-keys", json=body, headers=keyed("k"))
    assert again.status_code == 201
    assert first["raw_key"].startswith("lnt_")
    assert again.json() == {"key": first["key"], "raw_key": None}
    assert (await api.get("/v1/api-keys")).json()["total"] == 2  # and the test's own
    async with db.transaction(tenant.id) as tx:
        rows = await tx.all("select answer from idempotency")
    assert first["raw_key"] not in str(rows)


async def test_tickets_are_not_kept_either(api):
    await api.post("/v1/agents", json={"name": "a", "model": "small"})
    run = (await api.post("/v1/agents/a/runs", json={"input": {}})).json()["run_id"]
    path = f"/v1/runs/{run}/stream-ticket"
    first = (await api.post(path, headers=keyed("k"))).json()
    again = (await api.post(path, headers=keyed("k"))).json()
    assert first["ticket"].startswith("tick_")
    assert again == {"ticket": None, "expires_at": first["expires_at"]}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/agents", {"name": "Bad"}, 400),
        ("POST", "/v1/agents", {"name": "taken"}, 409),
        ("POST", "/v1/agents/none/runs", {"input": {}}, 404),
        ("POST", "/v1/agents/paused/runs", {"input": {}}, 409),
    ],
)
async def test_errors_are_not_kept(api, method, path, body, status):
    await api.post("/v1/agents", json={"name": "taken"})
    await api.post("/v1/agents", json={"name": "paused", "model": "small"})
    await api.patch("/v1/agents/paused", json={"status": "paused"})
    assert (await api.request(method, path, json=body, headers=keyed("k"))).status_code == status
    await api.delete("/v1/agents/taken")
    await api.patch("/v1/agents/paused", json={"status": "active"})
    await api.post("/v1/agents", json={"name": "none", "model": "small"})
    good = {"name": "good"} if status == 400 else body
    assert (await api.request(method, path, json=good, headers=keyed("k"))).status_code == 201


async def test_the_key_is_of_one_caller_and_one_route(server, db, tenant, api):
    other = await make_key(db, tenant.id)
    assert (await api.post("/v1/agents", json={"name": "a"}, headers=keyed("k"))).status_code == 201
    async with caller(server.url, other) as client:
        mine = await client.post("/v1/agents", json={"name": "b"}, headers=keyed("k"))
    assert (mine.status_code, mine.json()["name"]) == (201, "b")
    elsewhere = await api.post("/v1/api-keys", json={"name": "a"}, headers=keyed("k"))
    assert elsewhere.status_code == 201
    assert "raw_key" in elsewhere.json()


async def test_twins_at_once_are_one(api):
    calls = [
        api.post("/v1/agents", json={"name": "twin"}, headers=keyed("twins")) for _ in range(8)
    ]
    answers = await asyncio.gather(*calls)
    assert {a.status_code for a in answers} == {201}
    assert len({a.content for a in answers}) == 1
    assert sum("idempotent-replayed" in a.headers for a in answers) == 7


async def test_a_twin_does_not_wait_forever(api, dsn, db, tenant, monkeypatch):
    """The first is still at work, somewhere: after the wait the second is told so."""
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 1)
    async with db.transaction(tenant.id) as tx:
        key_id = (await tx.one("select id from api_keys"))["id"]
    async with await psycopg.AsyncConnection.connect(dsn) as first:
        await first.execute(
            "insert into lantern.idempotency (tenant_id, key_id, route, key, body_hash)"
            " values (%s, %s, '/v1/agents', 'k', '')",
            (tenant.id, key_id),
        )
        answer = await api.post("/v1/agents", json={"name": "a"}, headers=keyed("k"))
        await first.rollback()
    assert (answer.status_code, code_of(answer)) == (409, "conflict")
    assert "still running" in answer.json()["error"]["message"]
    after = await api.post("/v1/agents", json={"name": "a"}, headers=keyed("k"))
    assert after.status_code == 201


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ("x" * 255, 201),
        ("x" * 256, 400),
        ("", 400),
        ("caf\xe9", 400),
        ("a\tb", 400),
        ("~ !", 201),
    ],
)
async def test_what_a_key_may_be(api, key, status):
    for path, body in (("/v1/agents", {"name": "a"}), ("/v1/agents/a/runs", {"input": {}})):
        headers = {"Idempotency-Key": key.encode("latin-1")}
        answer = await api.post(path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert "x-ratelimit-limit" in answer.headers


async def test_it_means_nothing_on_other_methods(api):
    await api.post("/v1/agents", json={"name": "a"})
    for text in ("one", "two"):
        answer = await api.patch("/v1/agents/a", json={"description": text}, headers=keyed("k"))
        assert answer.json()["description"] == text
