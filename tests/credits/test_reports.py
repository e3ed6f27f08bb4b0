"""Balance, usage and receipts: what they show adds up to what moved."""

from datetime import timedelta
from decimal import Decimal

import pytest
from callers import caller, code_of, make_key

from lantern.core import clock
from lantern.gate.ledger import Use

NOW = clock.now()
TODAY = NOW.date().isoformat()
YEAR = {"start_date": f"{NOW.year - 1}-01-01", "end_date": f"{NOW.year + 1}-01-01"}


def use(**more):
    return Use(**{"operation": "routing.assign", **more})


@pytest.fixture
async def history(account):
    """Charges, a settlement, a release and a grant; 17.75 are used."""
    step = {"item": "assign", "credits": Decimal("1.5")}
    await account(
        "charge", Decimal("1.5"), "a", use(key_id="key_1", tags={"team": "east"}, steps=[step])
    )
    await account("charge", 2, "b", use(key_id="key_1", tags={"team": "west"}, run_id="run_1"))
    await account("charge", 4, "c", use(key_id="key_2", workflow_id="wf_1", tags={"team": "east"}))
    held = use(
        operation="enrich.email",
        tags={"team": "east", "empty": ""},
        steps=[{"item": "source", "credits": 20}],
    )
    await account("reserve", 20, "d", held)
    await account(
        "settle", "d", Decimal("10.25"), [{"item": "source", "credits": Decimal("10.25")}]
    )
    await account("reserve", 30, "e", held)
    await account("release", "e")
    await account("reserve", 7, "open", held)
    await account("grant", 100, "f")


async def used(api, **params):
    answer = await api.get("/v1/credits/usage", params={**YEAR, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_is_left_and_the_total(api, tenant, history):
    body = (await api.get("/v1/credits/remaining")).json()
    assert body == {
        "success": True, "tenant_id": tenant.id, "remaining_credits": 1075.25, "total_credits": 1100,
    }  # fmt: skip


async def test_whole_credits_are_integers(api):
    answer = await api.get("/v1/credits/remaining")
    assert '"remaining_credits":1000,' in answer.text
    assert answer.headers["x-credits-remaining"] == "1000"


async def test_usage_has_the_keys_of_the_contract(api, tenant, history):
    body = await used(api)
    assert body == {"success": True, "tenant_id": tenant.id, **YEAR, "credits_used": 17.75}


@pytest.mark.parametrize(
    ("filters", "credits"),
    [
        ({"workflow_id": "wf_1"}, 4),
        ({"workflow_run_id": "run_1"}, 2),
        ({"key_id": "key_1"}, 3.5),
        ({"operation": "enrich.email"}, 10.25),
        ({"custom_key": "team"}, 17.75),
        ({"custom_key": "empty"}, 10.25),
        ({"custom_key": "empty", "custom_value": ""}, 10.25),
        ({"custom_key": "team", "custom_value": "east"}, 15.75),
        ({"custom_key": "team", "custom_value": "south"}, 0),
        ({"custom_key": "team", "custom_value": "east", "key_id": "key_1"}, 1.5),
        ({"workflow_id": "none"}, 0),
    ],
)
async def test_usage_is_filtered(api, history, filters, credits):
    assert (await used(api, **filters))["credits_used"] == credits


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        ("day", [(TODAY, 17.75)]),
        ("operation", [("enrich.email", 10.25), ("routing.assign", 7.5)]),
        ("key", [(None, 10.25), ("key_2", 4), ("key_1", 3.5)]),
        ("workflow", [(None, 13.75), ("wf_1", 4)]),
        ("tag:team", [("east", 15.75), ("west", 2)]),
        ("tag:nope", [(None, 17.75)]),
    ],
)
async def test_the_groups_add_up(api, history, group_by, groups):
    body = await used(api, group_by=group_by)
    assert [(group["value"], group["credits"]) for group in body["groups"]] == groups
    assert body["credits_used"] == 17.75


async def test_a_report_with_too_many_groups_still_adds_up(api, db, tenant, account):
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "select ledger_move(%s, 'charge', -0.5, 0.5, 'many' || n, jsonb_build_object('operation',"
            " 'x', 'tags', jsonb_build_object('customer', n::text))) from generate_series(1, 1100) n",
            (tenant.id,),
        )
    groups = (await used(api, group_by="tag:customer"))["groups"]
    assert len(groups) == 1000
    assert sum(group["credits"] for group in groups) == 550
    assert groups[-1] == {"value": None, "credits": 50.5, "others": 101}


@pytest.mark.parametrize(
    ("start", "end", "credits"),
    [
        (TODAY, TODAY, 17.75),  # a date as the end is the whole day
        (NOW.isoformat(), (NOW + timedelta(days=1)).isoformat(), 17.75),
        ((NOW - timedelta(days=2)).date().isoformat(), (NOW - timedelta(days=1)).date().isoformat(), 0),
        ("2001-01-01T00:00:00Z", "2001-01-01T00:00:00Z", 0),  # a moment
        ("2001-01-01T00:00:00 02:00", "2999-01-01T00:00:00", 17.75),  # a plus sign, not escaped
    ],
    ids=["today", "to the moment", "earlier", "a moment", "unescaped"],  # workers must name them alike
)  # fmt: skip
async def test_the_time_of_a_usage(api, history, start, end, credits):
    body = await used(api, start_date=start, end_date=end)
    assert (body["credits_used"], body["start_date"], body["end_date"]) == (credits, start, end)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "start_date"),
        ({"start_date": TODAY}, "end_date"),
        ({"start_date": "soon", "end_date": TODAY}, "start_date"),
        ({"start_date": "1700000000", "end_date": TODAY}, "start_date"),
        ({"start_date": TODAY, "end_date": "2026-13-01"}, "end_date"),
        ({"start_date": "2026-02-02", "end_date": "2026-02-01"}, "end_date"),
        ({"start_date": "2026-02-01T00:00:01Z", "end_date": "2026-02-01T00:00:00Z"}, "end_date"),
        ({"start_date": TODAY, "end_date": "9999-12-31"}, "end_date"),
        ({**YEAR, "custom_value": "east"}, "custom_value"),
        ({**YEAR, "group_by": "moon"}, "group_by"),
        ({**YEAR, "group_by": "tag"}, "group_by"),
        ({**YEAR, "group_by": "tag:"}, "group_by"),
        ({**YEAR, "group_by": "day:x"}, "group_by"),
        ({**YEAR, "group_by": "tag:\0"}, "group_by"),
        ({**YEAR, "workflow_id": "\0"}, "workflow_id"),
        ({**YEAR, "key_id": "k" * 257}, "key_id"),
    ],
)
async def test_a_wrong_question_names_its_field(api, params, field):
    answer = await api.get("/v1/credits/usage", params=params)
    assert answer.status_code == 400
    assert code_of(answer) == "bad_request"
    assert answer.json()["details"][0]["loc"] == ["query", field]


async def receipts(api, **params):
    answer = await api.get("/v1/credits/receipts", params={"per_page": 100, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_receipts_add_up_to_balance_and_usage(api, history):
    body = await receipts(api)
    rows = body["receipts"]
    assert body["total"] == len(rows) == 10
    assert sum(Decimal(str(row["amount"])) for row in rows) == Decimal("1075.25")
    assert sum(Decimal(str(row["used"])) for row in rows) == Decimal("17.75")
    after = Decimal(0)
    for row in reversed(rows):
        after += Decimal(str(row["amount"]))
        assert row["balance_after"] == float(after)


async def test_a_receipt_shows_its_steps(api, history):
    (row,) = (await receipts(api, kind="settle"))["receipts"]
    assert row["steps"] == [{"item": "source", "credits": 10.25}]
    assert (row["amount"], row["used"], row["operation"]) == (9.75, 10.25, "enrich.email")
    one = await api.get(f"/v1/credits/receipts/{row['id']}")
    assert one.json() == {"success": True, **row}
    (freed,) = (await receipts(api, kind="release"))["receipts"]
    assert (freed["amount"], freed["used"]) == (30, 0)
    assert freed["steps"] == [{"item": "source", "credits": 20}]


async def test_receipts_are_filtered_and_paged(api, history):
    assert [row["ref"] for row in (await receipts(api, key_id="key_1"))["receipts"]] == ["b", "a"]
    assert (await receipts(api, operation="enrich.email", kind="reserve"))["total"] == 3
    assert (await receipts(api, **{"from": TODAY, "to": TODAY}))["total"] == 10
    assert (await receipts(api, to="2001-01-01"))["total"] == 0
    second = await receipts(api, per_page=4, page=3)
    assert [row["ref"] for row in second["receipts"]] == ["a", "welcome"]
    assert (second["page"], second["per_page"], second["total"]) == (3, 4, 10)
    for wrong in (
        {"kind": "gift"},
        {"page": 0},
        {"from": "x"},
        {"from": "2002-01-01", "to": "2001-01-01"},
    ):
        assert (await api.get("/v1/credits/receipts", params=wrong)).status_code == 400


async def test_receipts_of_others_are_not_there(api, db, history):
    (row,) = (await receipts(api, kind="settle"))["receipts"]
    for unknown in ("rcpt_0", "rcpt_999999999999999999", "rcpt_x", "1", "%00"):
        answer = await api.get(f"/v1/credits/receipts/{unknown}")
        assert (answer.status_code, code_of(answer)) == (404, "not_found")
    other = await db.one("select create_tenant('other', 'team', 5) as id")
    key = await make_key(db, other["id"])
    async with caller(str(api.base_url), key) as stranger:
        assert (await stranger.get(f"/v1/credits/receipts/{row['id']}")).status_code == 404
        assert (await stranger.get("/v1/credits/usage", params=YEAR)).json()["credits_used"] == 0
        assert [r["ref"] for r in (await receipts(stranger))["receipts"]] == ["welcome"]


async def test_ten_calls_a_minute(server, tenant, db):
    async with caller(server.url, await make_key(db, tenant.id)) as client:
        answers = [await client.get("/v1/credits/remaining") for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert code_of(answers[-1]) == "rate_limited"
    assert answers[-1].json()["retry_after"] == int(answers[-1].headers["retry-after"])
    assert answers[0].headers["x-ratelimit-limit"] == "10"


@pytest.mark.parametrize("path", ["remaining", "usage", "receipts", "tariff", "caps"])
async def test_without_a_key_and_with_a_narrow_one(server, db, tenant, path):
    async with caller(server.url) as nobody:
        answer = await nobody.get(f"/v1/credits/{path}")
        assert (answer.status_code, code_of(answer)) == (401, "unauthorized")
    key = await make_key(db, tenant.id, agents=["one"])
    async with caller(server.url, key) as narrow:
        answer = await narrow.get(f"/v1/credits/{path}")
        assert (answer.status_code, code_of(answer)) == (403, "forbidden")
