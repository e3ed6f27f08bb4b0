"""Prices: a tenant's own over the operator's over the shipped ones; estimates made of them."""

from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest
from callers import caller, code_of, make_key
from servers import InProcess

from lantern.core.errors import BadRequest
from lantern.gate import tariff
from lantern.gate.ledger import Use

ASSIGN = "/v1/credits/tariff/routing.assign/assign"


def _items(request):
    if "bad" in request:
        raise BadRequest.field("request", "is bad")
    return {
        "call": 1,
        "source": request.get("sources", 3),
        **({"extra": 2} if "extra" in request else {}),
    }


@pytest.fixture(scope="module", autouse=True)
def operation(dsn) -> Iterator[str]:
    """An operation that only these tests have."""
    tariff.register("test.paid", "A call and what it asks.", _items, certain=("extra",))
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute(
            "insert into lantern.tariff (operation, item, credits, charge_on) values"
            " ('test.paid', 'call', 0.5, 'query'), ('test.paid', 'source', 2, 'success'),"
            " ('test.paid', 'extra', 1, 'success')"
        )
        yield "test.paid"
        owner.execute("delete from lantern.tenant_tariff where operation = 'test.paid'")
        owner.execute("delete from lantern.tariff where operation = 'test.paid'")


async def listed(api, name="routing.assign"):
    body = (await api.get("/v1/credits/tariff")).json()
    assert body["success"] is True
    return {row["item"]: row for row in body["tariff"] if row["operation"] == name}


async def audited(db, tenant):
    async with db.transaction(tenant.id) as tx:
        rows = await tx.all(
            "select * from audit_log where action not like 'key.%%' order by id", ()
        )
    return [(row["action"], row["object_id"], row["detail"]) for row in rows]


async def test_the_shipped_prices(api):
    prices = await listed(api)
    assert {item: row["credits"] for item, row in prices.items()} == {
        "assign": 1, "reset": 1, "pool_size": 0.5,
    }  # fmt: skip
    assert prices["pool_size"].pop("description")
    assert prices["pool_size"] == {
        "operation": "routing.assign", "item": "pool_size", "credits": 0.5, "charge_on": "success",
        "own": False, "default_credits": 0.5, "default_charge_on": "success",
    }  # fmt: skip


async def test_a_price_of_ones_own_and_back(api, db, tenant, server):
    answer = await api.put(ASSIGN, json={"credits": 0.1, "charge_on": "query"})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["success"], body["own"], body["credits"], body["charge_on"]) == (
        True, True, 0.1, "query",
    )  # fmt: skip
    async with db.transaction(tenant.id) as tx:
        price = await tariff.price(tx, "routing.assign", "assign")
        assert price == tariff.Price(Decimal("0.1"), "query")  # not a binary fraction beside it
        assert (price.of(hit=False), price.of(hit=True)) == (Decimal("0.1"), Decimal("0.1"))
        assert (await tariff.prices(tx, "routing.assign"))["assign"] == price
    await api.put(ASSIGN, json={"credits": "3.25"})  # text is fine, and charge_on stays
    assert (await listed(api))["assign"]["charge_on"] == "query"
    async with caller(server.url, server.key) as other:
        assert (await listed(other))["assign"]["credits"] == 1
    back = await api.delete(ASSIGN)
    assert (back.json()["own"], back.json()["credits"]) == (False, 1)
    assert (await api.delete(ASSIGN)).status_code == 200  # nothing to undo, nothing audited
    assert await audited(db, tenant) == [
        ("tariff.set", "routing.assign/assign", {"credits": "0.1000", "charge_on": "query"}),
        ("tariff.set", "routing.assign/assign", {"credits": "3.2500", "charge_on": "query"}),
        ("tariff.unset", "routing.assign/assign", None),
    ]


async def test_a_miss_is_free_unless_the_query_is_charged():
    assert tariff.Price(Decimal(2), "success").of(hit=False) == 0
    assert tariff.Price(Decimal(2), "success").of(hit=True) == 2


async def test_a_price_of_zero(api, account, tenant, db):
    assert (await api.put(ASSIGN, json={"credits": 0})).json()["credits"] == 0
    async with db.transaction(tenant.id) as tx:
        free = (await tariff.price(tx, "routing.assign", "assign")).credits
    moved = await account("charge", free, "free", Use("routing.assign"))
    assert (moved.amount, moved.balance) == (0, 1000)
    assert (await api.get("/v1/credits/receipts")).json()["total"] == 1  # the grant alone
    await account("reserve", free, "held", Use("routing.assign"))
    assert (await account("settle", "held", free)).balance == 1000


@pytest.mark.parametrize(
    "body",
    [
        {}, {"credits": -1}, {"credits": 1_000_000.0001}, {"credits": "0.00001"}, {"credits": "NaN"},
        {"credits": "Infinity"}, {"credits": True}, {"credits": None}, {"credits": "much"},
        {"credits": [1]}, {"credits": 1, "charge_on": "never"}, {"credits": 1, "more": 1},
        {"credits": 1e300}, {"credits": "1\0"},
    ],
)  # fmt: skip
async def test_what_is_no_price(api, body):
    answer = await api.put(ASSIGN, json=body)
    assert (answer.status_code, code_of(answer)) == (400, "bad_request")
    assert (await listed(api))["assign"]["own"] is False


async def test_the_highest_price(api):
    for credits in (1_000_000, "999999.9999", 999999.9999):
        body = (await api.put(ASSIGN, json={"credits": credits, "metadata": {"a": "b"}})).json()
        assert body["credits"] == float(credits)


@pytest.mark.parametrize("path", ["nope/assign", "routing.assign/nope", "%00/assign"])
async def test_a_price_of_nothing_is_not_found(api, path):
    answer = await api.put(f"/v1/credits/tariff/{path}", json={"credits": 1})
    assert (answer.status_code, code_of(answer)) == (404, "not_found")
    assert (await api.delete(f"/v1/credits/tariff/{path}")).status_code == 404


async def test_only_admins_set_prices(server, db, tenant):
    key = await make_key(db, tenant.id, scopes=["write"])
    async with caller(server.url, key) as writer:
        assert (await writer.put(ASSIGN, json={"credits": 0})).status_code == 403
        assert (await writer.delete(ASSIGN)).status_code == 403
        assert (await writer.post("/v1/credits/caps", json={})).status_code == 403
        assert (await writer.get("/v1/credits/tariff")).status_code == 200


async def test_the_operator_may_keep_prices_to_himself(dsn, db, tenant):
    key = await make_key(db, tenant.id)
    with InProcess(dsn, credits={"tenants_set_prices": False}) as running:
        async with caller(running.url, key) as client:
            for answer in (
                await client.put(ASSIGN, json={"credits": 0}),
                await client.delete(ASSIGN),
            ):
                assert (answer.status_code, code_of(answer)) == (403, "forbidden")
                assert "tenants_set_prices" in answer.json()["error"]
            assert (await client.get("/v1/credits/tariff")).status_code == 200


async def test_the_database_keeps_the_tariff_from_the_server(db):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await db.run("update tariff set credits = 0")


# ---------------------------------------------------------------- estimates
async def estimate(api, **body):
    answer = await api.post("/v1/credits/estimate", json={"operation": "test.paid", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_estimate_without_a_past(api):
    assert await estimate(api) == {
        "success": True, "operation": "test.paid", "count": 1, "at_most_credits": 6.5,
        "expected_credits": 6.5, "based_on": {"charges": 0, "days": 30}, "affordable": True,
        "items": [
            {"item": "call", "credits": 0.5, "charge_on": "query", "at_most": 0.5, "expected": 0.5},
            {"item": "source", "credits": 2, "charge_on": "success", "at_most": 6, "expected": 6},
        ],
    }  # fmt: skip
    assert (await api.get("/v1/credits/receipts")).json()["total"] == 1  # it cost nothing


async def test_an_estimate_from_ones_own_past(api, account):
    for n, sources in enumerate((1, 0, 2)):
        steps = [{"item": "call", "credits": 0.5}, *({"item": "source", "credits": 2},) * sources]
        await account("charge", 1, f"c{n}", Use("test.paid", steps=steps))
    await account("reserve", 9, "r", Use("test.paid", steps=[{"item": "source", "credits": 9}]))
    await account("settle", "r", 6, [{"item": "source", "credits": 2, "times": 3}])
    body = await estimate(api, request={"extra": 1}, count=1000)
    # 6 sources and 3 calls in 4 charges; what is certain is not guessed from the past
    assert {item["item"]: (item["at_most"], item["expected"]) for item in body["items"]} == {
        "call": (500, 375), "source": (6000, 3000), "extra": (2000, 2000),
    }  # fmt: skip
    assert body["based_on"] == {"charges": 4, "days": 30}
    assert (body["at_most_credits"], body["expected_credits"]) == (8500, 5375)
    assert (body["affordable"], body["reason"]) == (False, "account_balance")
    few = await estimate(api, request={"sources": 1})  # never more than at most
    assert few["expected_credits"] == 0.375 + 2


async def test_an_estimate_uses_the_tenants_prices_and_caps(api):
    await api.put("/v1/credits/tariff/test.paid/source", json={"credits": 0})
    assert (await estimate(api))["at_most_credits"] == 0.5
    cap = {"scope": "tag", "subject": "team=east", "period": "day", "credits": 0.4}
    await api.post("/v1/credits/caps", json=cap)
    assert (await estimate(api))["affordable"] is True
    body = await estimate(api, metadata={"team": "east"})
    assert (body["affordable"], body["reason"], body["cap"]["used"]) == (False, "tag_cap", 0)
    tagged = await api.post(
        "/v1/credits/estimate", json={"operation": "test.paid"},
        headers={"X-Lantern-Tags": "team=east"},
    )  # fmt: skip
    assert tagged.json()["reason"] == "tag_cap"


@pytest.mark.parametrize(
    "body",
    [
        {}, {"operation": 7}, {"operation": "test.paid", "count": 0},
        {"operation": "test.paid", "count": 1_000_001}, {"operation": "test.paid", "request": []},
        {"operation": "test.paid", "request": {"bad": 1}}, {"operation": "test.paid", "x": 1},
    ],
)  # fmt: skip
async def test_a_wrong_estimate(api, body):
    answer = await api.post("/v1/credits/estimate", json=body)
    assert (answer.status_code, code_of(answer)) == (400, "bad_request")


async def test_an_unknown_operation_lists_those_there_are(api):
    answer = await api.post("/v1/credits/estimate", json={"operation": "nope"})
    assert answer.status_code == 400
    assert "test.paid" in answer.json()["error"]
