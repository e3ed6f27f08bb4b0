"""Who gets in: keys that are missing, wrong, revoked, expired, too small; and in which order."""

import asyncio
import secrets

import pytest
from callers import caller, code_of, forget_failures, make_key

MANY = {"plan": 1}  # a limit that the second call meets


@pytest.fixture(autouse=True)
async def clean_address(db):
    await forget_failures(db)
    yield
    await forget_failures(db)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer lnt_",
        "Bearer lnt_" + "x" * 43,
        "Bearer lnt_" + "x" * 5000,
        "Bearer sk-" + "x" * 43,
        "Basic bG50X3g6",
        "lnt_" + "x" * 43,
        "Bearer \xe9\xff",
        "Bearer lnt_a lnt_b",
    ],
)
async def test_without_a_good_key_nothing_is_told(server, header):
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    async with caller(server.url) as nobody:
        for path in ("/v1/agents", "/v1/agents/x", "/v1/nope", "/v1/runs/run_aaaa/stream", "/v1"):
            answer = await nobody.get(path, headers=headers)
            assert (answer.status_code, code_of(answer)) == (401, "unauthorized")
            assert answer.headers["x-ratelimit-limit"] == "30"
            assert "x-credits-remaining" not in answer.headers
        await nobody.get("/healthz")


async def test_scheme_and_spaces_are_read_as_http_says(server, tenant):
    async with caller(server.url) as client:
        for header in (f"bearer {tenant.key}", f"BEARER  {tenant.key}"):
            answer = await client.get("/v1/agents", headers={"Authorization": header})
            assert answer.status_code == 200


async def test_a_key_that_differs_by_one_character_is_nobody(server, tenant):
    last = "A" if tenant.key[-1] != "A" else "B"
    for wrong in (tenant.key[:-1], tenant.key[:-1] + last, tenant.key + "0", tenant.key.swapcase()):
        async with caller(server.url, wrong) as client:
            assert (await client.get("/v1/agents")).status_code == 401


async def test_a_revoked_key_is_refused_at_once(server, api):
    made = (await api.post("/v1/api-keys", json={"name": "short-lived"})).json()
    async with caller(server.url, made["raw_key"]) as client:
        assert (await client.get("/v1/agents")).status_code == 200
        assert (await api.delete(f"/v1/api-keys/{made['key']['id']}")).status_code == 204
        for method, path in (("GET", "/v1/agents"), ("POST", "/v1/agents/x/runs")):
            answer = await client.request(method, path, json={"input": {}})
            assert (answer.status_code, code_of(answer)) == (401, "unauthorized")


async def test_a_key_may_revoke_itself(server, api):
    made = (await api.post("/v1/api-keys", json={"name": "own", "scopes": ["admin"]})).json()
    async with caller(server.url, made["raw_key"]) as client:
        assert (await client.delete(f"/v1/api-keys/{made['key']['id']}")).status_code == 204
        assert (await client.get("/v1/agents")).status_code == 401


async def test_an_expired_key_is_nobody(server, db, tenant, api):
    made = (
        await api.post("/v1/api-keys", json={"name": "x", "expires_at": "2999-01-01T00:00:00Z"})
    ).json()
    async with caller(server.url, made["raw_key"]) as client:
        assert (await client.get("/v1/agents")).status_code == 200
        async with db.transaction(tenant.id) as tx:
            await tx.run(
                "update api_keys set expires_at = clock_timestamp() where id = %s",
                (made["key"]["id"],),
            )
        assert (await client.get("/v1/agents")).status_code == 401


@pytest.mark.parametrize(
    ("scope", "method", "path", "status"),
    [
        ("read", "GET", "/v1/agents", 200),
        ("read", "POST", "/v1/agents", 403),
        ("read", "PATCH", "/v1/agents/x", 403),
        ("read", "DELETE", "/v1/agents/x", 403),
        ("read", "POST", "/v1/agents/x/runs", 403),
        ("read", "POST", "/v1/runs", 403),
        ("read", "POST", "/v1/runs/run_aaaa/cancel", 403),
        ("read", "POST", "/v1/runs/run_aaaa/stream-ticket", 404),
        ("read", "GET", "/v1/api-keys", 403),
        ("write", "GET", "/v1/agents", 200),
        ("write", "POST", "/v1/agents", 400),
        ("write", "POST", "/v1/api-keys", 403),
        ("write", "GET", "/v1/api-keys", 403),
        ("write", "DELETE", "/v1/api-keys/x", 403),
        ("forms", "GET", "/v1/agents", 403),
        ("workflows", "POST", "/v1/agents/x/runs", 403),
        ("forms", "GET", "/v1/nope", 404),
        ("admin", "GET", "/v1/api-keys", 200),
        ("admin", "DELETE", "/v1/agents/x", 404),
    ],
)
async def test_scopes(server, db, tenant, scope, method, path, status):
    async with caller(server.url, await make_key(db, tenant.id, scopes=[scope])) as client:
        answer = await client.request(method, path, json={})
        assert answer.status_code == status, answer.text
        if status == 403:
            assert code_of(answer) == "forbidden"


@pytest.fixture
async def narrow(server, db, tenant, api):
    """An admin key for the agent `mine`, where there is also `other`."""
    for name in ("mine", "other"):
        await api.post("/v1/agents", json={"name": name, "model": "small"})
    key = await make_key(db, tenant.id, agents=["mine"])
    async with caller(server.url, key) as client:
        yield client


async def test_a_key_of_one_agent_does_not_reach_another(narrow):
    refused = [
        await narrow.get("/v1/agents/other"),
        await narrow.patch("/v1/agents/other", json={"description": "x"}),
        await narrow.delete("/v1/agents/other"),
        await narrow.get("/v1/agents/other/runs"),
        await narrow.post("/v1/agents/other/runs", json={"input": {}}),
        await narrow.post("/v1/runs", json={"agent_name": "other", "input": {}}),
        await narrow.post("/v1/agents", json={"name": "third"}),
        await narrow.get("/v1/agents/none-such"),
    ]
    assert [(a.status_code, code_of(a)) for a in refused] == [(403, "forbidden")] * len(refused)
    assert (await narrow.get("/v1/agents/mine")).status_code == 200
    assert (await narrow.post("/v1/agents/mine/runs", json={"input": {}})).status_code == 201


async def test_lists_show_only_what_the_key_covers(narrow, api):
    for name in ("mine", "other"):
        assert (await api.post(f"/v1/agents/{name}/runs", json={"input": {}})).status_code == 201
    agents = (await narrow.get("/v1/agents")).json()
    assert ([a["name"] for a in agents["agents"]], agents["total"]) == (["mine"], 1)
    runs = (await narrow.get("/v1/runs")).json()["runs"]
    assert [r["agent"] for r in runs] == ["mine"]
    assert (await narrow.get("/v1/runs?agent=other")).json()["runs"] == []


async def test_runs_of_other_agents_do_not_exist(narrow, api):
    run = (await api.post("/v1/agents/other/runs", json={"input": {}})).json()["run_id"]
    answers = [
        await narrow.get(f"/v1/runs/{run}"),
        await narrow.get(f"/v1/runs/{run}/stream"),
        await narrow.get(f"/v1/runs/{run}/events"),
        await narrow.post(f"/v1/runs/{run}/cancel"),
        await narrow.post(f"/v1/runs/{run}/stream-ticket"),
    ]
    assert [a.status_code for a in answers] == [404] * 5
    texts = {a.json()["error"]["message"] for a in answers}
    assert texts == {f"Run '{run}' not found"}


async def test_a_key_of_named_agents_has_no_business_in_the_flat_half(narrow):
    answer = await narrow.get("/v1/credits/remaining")
    assert (answer.status_code, code_of(answer)) == (403, "forbidden")
    assert answer.json()["success"] is False


async def test_checks_come_in_the_order_of_the_contract(server, db, tenant):
    """Each call has every later fault as well: the first one answers."""
    bad = {"content": b"{", "headers": {"content-type": "application/json"}}
    read = await make_key(db, tenant.id, scopes=["read"], limits=MANY)
    write = await make_key(db, tenant.id, scopes=["write"], limits=MANY)
    free = await make_key(db, tenant.id, scopes=["write"])
    for path in ("/v1/agents", "/v1/agents/none/runs", "/v1/runs"):
        async with caller(server.url) as nobody:
            assert (await nobody.post(path, **bad)).status_code == 401
        async with caller(server.url, read) as client:
            await client.get("/v1/agents")  # empties the bucket
            assert (await client.post(path, **bad)).status_code == 403
            assert (await client.get("/v1/agents")).status_code == 429
        async with caller(server.url, write) as client:
            await client.get("/v1/agents")
            assert (await client.post(path, **bad)).status_code == 429
            assert (await client.get("/v1/nope")).status_code == 429
            assert (await client.put("/v1/agents", **bad)).status_code == 429
        async with caller(server.url, free) as client:
            assert (await client.put(path, **bad)).status_code == 405
            assert (await client.post(path + "/nope/nope", **bad)).status_code == 404
            assert (await client.post(path, **bad)).status_code == 400
    async with caller(server.url, free) as client:
        assert (await client.post("/v1/agents/none/runs", json={"input": {}})).status_code == 404
        assert (await client.patch("/v1/agents/none", json={"nope": 1})).status_code == 400


async def test_wrong_headers_and_queries_without_a_key_are_still_401(server):
    async with caller(server.url) as nobody:
        long = {"Idempotency-Key": "x" * 300}
        for path in ("/v1/agents", "/v1/agents/x/runs"):
            assert (await nobody.post(path, json={}, headers=long)).status_code == 401
        for query in ("after=-1", "after=-1&ticket=tick_x", "ticket=" + "x" * 200, "ticket=%00"):
            answer = await nobody.get(f"/v1/runs/run_aaaa/stream?{query}")
            assert answer.status_code == 401
            assert "x-ratelimit-limit" in answer.headers


async def test_a_ticket_is_checked_before_the_query(server, api):
    await api.post("/v1/agents", json={"name": "a", "model": "small"})
    run = (await api.post("/v1/agents/a/runs", json={"input": {}})).json()["run_id"]
    other = (await api.post("/v1/agents/a/runs", json={"input": {}})).json()["run_id"]

    async def ticket() -> str:
        return str((await api.post(f"/v1/runs/{run}/stream-ticket")).json()["ticket"])

    async with caller(server.url) as nobody:
        wrong = await nobody.get(f"/v1/runs/{run}/stream?after=-1&ticket={await ticket()}")
        assert (wrong.status_code, code_of(wrong)) == (400, "bad_request")
        kept = await ticket()
        assert (await nobody.get(f"/v1/runs/{other}/stream?ticket={kept}")).status_code == 401
        twins = [nobody.get(f"/v1/runs/{run}/stream?ticket={kept}") for _ in range(4)]
        got = sorted(answer.status_code for answer in await asyncio.gather(*twins))
        assert got == [200, 401, 401, 401]


async def test_a_ticket_dies_with_its_key(server, api, db):
    await api.post("/v1/agents", json={"name": "a", "model": "small"})
    run = (await api.post("/v1/agents/a/runs", json={"input": {}})).json()["run_id"]
    made = (await api.post("/v1/api-keys", json={"name": "x"})).json()
    async with caller(server.url, made["raw_key"]) as client, caller(server.url) as nobody:
        ticket = (await client.post(f"/v1/runs/{run}/stream-ticket")).json()["ticket"]
        await api.delete(f"/v1/api-keys/{made['key']['id']}")
        assert (await nobody.get(f"/v1/runs/{run}/stream?ticket={ticket}")).status_code == 401
    assert not await db.all("select 1 from stream_tickets")  # and no tenant sees the table


async def test_a_name_in_the_path_may_be_anything(api):
    for name in ("%00", "a%00", "%ff", "%ed%a0%80", "%F0%9F%98%80", "%2f", "a" * 3000):
        for method, path in (
            ("GET", "/v1/agents/{}"),
            ("PATCH", "/v1/agents/{}"),
            ("DELETE", "/v1/agents/{}"),
            ("GET", "/v1/agents/{}/runs"),
            ("POST", "/v1/agents/{}/runs"),
            ("GET", "/v1/runs/{}"),
            ("GET", "/v1/runs/{}/stream"),
            ("POST", "/v1/runs/{}/cancel"),
            ("DELETE", "/v1/api-keys/{}"),
        ):
            answer = await api.request(method, path.format(name), json={"input": {}})
            assert answer.status_code in (400, 404, 405), (method, path, name)
            assert "x-ratelimit-limit" in answer.headers
    ticket = secrets.token_hex(8)
    answer = await api.get(f"/v1/runs/%00/stream?ticket={ticket}")
    assert answer.status_code == 404
