"""How often: exactly the limit, on every bucket, from any number of callers at once."""

import asyncio
import math
import time

import pytest
from callers import caller, code_of, forget_failures, make_key

from lantern.core.db import Database
from lantern.gate.limits import Doors
from lantern.settings import DatabaseSettings, LimitSettings


@pytest.fixture(autouse=True)
async def clean_address(db):
    await forget_failures(db)
    yield
    await forget_failures(db)


def refilled(limit: int, since: float) -> int:
    """How many slots a bucket has won back by now."""
    return math.floor((time.monotonic() - since) * limit / 60)


async def test_of_61_at_once_one_is_refused(server, db, tenant):
    for _ in range(5):  # a slot comes back each second: only a quick round can tell
        key = await make_key(db, tenant.id, plan="personal", limits={})
        async with caller(server.url, key) as client:
            began = time.monotonic()
            answers = await asyncio.gather(*[client.get("/v1/agents") for _ in range(61)])
            won = refilled(60, began)
        refused = [a for a in answers if a.status_code == 429]
        assert 1 - won <= len(refused) <= 1
        left = sorted(int(a.headers["x-ratelimit-remaining"]) for a in answers)
        assert left[0] <= won
        assert left[-1] == 59
        if won == 0:
            break


async def test_a_refusal_says_when_to_come_back(server, db, tenant):
    key = await make_key(db, tenant.id, plan="personal", limits={})
    async with caller(server.url, key) as client:
        await client.get("/v1/agents")
        await db.run("update rate set tat = clock_timestamp() + '60 s' where k like 'key_%%:plan'")
        answer = await client.get("/v1/agents")
    assert (answer.status_code, code_of(answer)) == (429, "rate_limited")
    assert answer.headers["x-ratelimit-limit"] == "60"
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert answer.headers["retry-after"] == "1"
    assert 58 <= int(answer.headers["x-ratelimit-reset"]) - time.time() <= 61
    assert "error" in answer.json()
    assert "success" not in answer.json()


async def test_the_flat_half_says_retry_after_in_its_body_too(server, db, tenant):
    key = await make_key(db, tenant.id, limits={"credits": 2})
    async with caller(server.url, key) as client:
        for _ in range(2):
            assert (await client.get("/v1/credits/x")).status_code == 404
        answer = await client.get("/v1/credits/x")
    assert (answer.status_code, code_of(answer)) == (429, "rate_limited")
    assert answer.json()["retry_after"] == int(answer.headers["retry-after"])
    assert 29 <= answer.json()["retry_after"] <= 30


async def test_plans_have_their_limits_and_api_keys_take_their_tenants(server, db, tenant, api):
    made = (await api.post("/v1/api-keys", json={"name": "x"})).json()["raw_key"]
    keys = {
        "60": await make_key(db, tenant.id, plan="personal", limits={}),
        "300": made,
        "3000": await make_key(db, tenant.id, plan="enterprise", limits={}),
        "7": await make_key(db, tenant.id, limits={"plan": 7}),
        "1000000": await make_key(db, tenant.id, limits={"plan": 0}),
    }
    for limit, key in keys.items():
        async with caller(server.url, key) as client:
            headers = (await client.get("/v1/agents")).headers
        assert headers["x-ratelimit-limit"] == limit
        left = int(headers["x-ratelimit-remaining"])
        assert left == (int(limit) if limit == "1000000" else int(limit) - 1)
    async with db.transaction(tenant.id) as tx:
        await tx.run("update tenants set plan = 'personal'")
    async with caller(server.url, made) as client:
        assert (await client.get("/v1/agents")).headers["x-ratelimit-limit"] == "60"


async def test_a_limit_that_is_off_is_off(server, db, tenant):
    key = await make_key(db, tenant.id, plan="personal", limits={"plan": 0, "credits": 0})
    async with caller(server.url, key) as client:
        for path in ("/v1/agents", "/v1/credits/x"):
            answers = await asyncio.gather(*[client.get(path) for _ in range(62)])
            assert {a.status_code for a in answers} <= {200, 404}


async def test_every_authenticated_request_counts_whatever_becomes_of_it(server, db, tenant):
    key = await make_key(db, tenant.id, scopes=["read"], limits={"plan": 100})
    async with caller(server.url, key) as client:

        async def one(method: str, path: str, **more) -> int:
            answer = await client.request(method, path, **more)
            assert answer.status_code in (200, 403, 404, 405, 400), answer.text
            return int(answer.headers["x-ratelimit-remaining"])

        async def chunks():
            yield b"{"

        began = time.monotonic()
        left = [
            await one("GET", "/v1/agents"),
            await one("POST", "/v1/agents", json={}),  # 403
            await one("POST", "/v1/agents/x/runs", json={"input": {}}),  # 403, one statement
            await one("POST", "/v1/agents/x/runs", content=b"{"),  # 403 before the body
            await one("POST", "/v1/agents/x/runs", content=chunks()),  # once, without a length
            await one("GET", "/v1/nope"),  # 404
            await one("PUT", "/v1/agents"),  # 405
            await one("GET", "/v1/agents?page=x"),  # 400
            await one("GET", "/v1/runs/run_none/stream"),  # 404
        ]
    expected = [99 - n for n in range(len(left))]
    won = refilled(100, began)
    assert all(e <= got <= e + won for e, got in zip(expected, left, strict=True)), left


async def test_family_buckets_stand_beside_the_plan(server, db, tenant):
    key = await make_key(db, tenant.id, limits={"plan": 1})
    async with caller(server.url, key) as client:
        assert (await client.get("/v1/agents")).status_code == 200
        assert (await client.get("/v1/agents")).status_code == 429
        for family, limit in (("credits", 10), ("routing", 300), ("forms", 600), ("enrich", 50)):
            answer = await client.get(f"/v1/{family}/x")
            assert answer.status_code == 404
            assert answer.headers["x-ratelimit-limit"] == str(limit)
            assert answer.headers["x-ratelimit-remaining"] == str(limit - 1)
        kinds = [await client.post(f"/v1/agents/{kind}") for kind in ("phone", "email")]
        assert [a.status_code for a in kinds] == [405, 429]  # one bucket for all kinds of batches


async def test_keys_do_not_share_buckets(server, db, tenant):
    for _ in range(2):
        key = await make_key(db, tenant.id, limits={"plan": 1})
        async with caller(server.url, key) as client:
            assert (await client.get("/v1/agents")).status_code == 200


async def test_exactly_50_of_400_over_16_connections(dsn, db, tenant):
    """The bucket is one row: no number of processes gets more out of it."""
    doors = Doors(LimitSettings(), [])
    scope = {"method": "GET", "path": "/v1/agents", "client": ("10.0.0.1", 1), "headers": []}
    door = doors.door(scope, "read", None).json()
    pool = Database(dsn, DatabaseSettings(pool_size=16))
    await pool.open()
    try:
        for _ in range(5):
            key = await make_key(db, tenant.id, limits={"plan": 50})
            row = await db.one("select sha256(%s::bytea) as hash", (key.encode(),))
            began = time.monotonic()
            rows = await asyncio.gather(
                *[
                    pool.one("select * from admit(%s, %s::jsonb)", (row["hash"], door))
                    for _ in range(400)
                ]
            )
            won = refilled(50, began)
            passed = sum(row["verdict"] == "ok" for row in rows)
            assert 50 <= passed <= 50 + won
            if won == 0:
                break
    finally:
        await pool.close()


async def test_failures_are_counted_by_address_and_never_refuse_a_good_key(server, tenant):
    began = time.monotonic()
    async with caller(server.url) as nobody, caller(server.url, tenant.key) as good:
        answers = await asyncio.gather(*[nobody.get("/v1/agents") for _ in range(40)])
        codes = [a.status_code for a in answers]
        assert 30 <= codes.count(401) <= 30 + refilled(30, began)
        assert codes.count(401) + codes.count(429) == 40
        refused = answers[codes.index(429)]
        assert code_of(refused) == "rate_limited"
        assert refused.headers["x-ratelimit-limit"] == "30"
        assert 1 <= int(refused.headers["retry-after"]) <= 2
        for _ in range(5):
            assert (await good.get("/v1/agents")).status_code == 200
        assert (await good.get("/v1/nope")).status_code == 404


def scope_of(client: str | None, *forwarded: str) -> dict:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"client": (client, 1) if client else None, "headers": headers}


@pytest.mark.parametrize(
    ("client", "forwarded", "address"),
    [
        ("9.9.9.9", [], "9.9.9.9"),
        ("9.9.9.9", ["1.1.1.1"], "9.9.9.9"),  # not a proxy of ours: anybody may write the header
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),  # the first is the caller's own claim
        ("10.0.0.1", ["6.6.6.6", "1.1.1.1"], "1.1.1.1"),  # a proxy that adds a line of its own
        ("10.0.0.1", ["1.1.1.1, 10.0.0.2", "10.0.0.3"], "1.1.1.1"),
        ("10.0.0.1", ["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, "], "1.1.1.1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::1", ["2.2.2.2"], "2.2.2.2"),
        ("10.0.0.1", ["x" * 500], "x" * 64),
        (None, [], "unknown"),
    ],
)
def test_the_address_is_the_sockets_or_a_trusted_proxys(client, forwarded, address):
    doors = Doors(LimitSettings(), ["10.0.0.0/8", "::1"])
    assert doors.address(scope_of(client, *forwarded)) == address


def test_without_trusted_proxies_the_header_means_nothing():
    assert Doors(LimitSettings(), []).address(scope_of("10.0.0.1", "1.1.1.1")) == "10.0.0.1"
