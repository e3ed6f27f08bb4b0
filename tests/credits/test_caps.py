"""Caps: never passed, for any subject and period, and counted from the first day on."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from callers import code_of, make_key

from lantern.core.errors import OutOfCredits
from lantern.gate.ledger import Use

EAST = Use("x", key_id="key_1", tags={"team": "east"})
WEST = Use("x", key_id="key_2", tags={"team": "west"})


async def cap(api, **body):
    answer = await api.post("/v1/credits/caps", json={"period": "day", "credits": 10, **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def caps(api):
    return (await api.get("/v1/credits/caps")).json()["caps"]


async def counted(api, cap_id):
    (found,) = [c for c in await caps(api) if c["id"] == cap_id]
    return found["used"], found["left"]


@pytest.fixture
async def key_id(db, tenant):
    await make_key(db, tenant.id)
    async with db.transaction(tenant.id) as tx:
        row = await tx.one("select id from api_keys order by created_at desc limit 1")
    return row["id"]


async def test_a_cap_of_each_kind(api, account, key_id):
    own = Use("x", key_id=key_id, tags={"team": "east=1"})
    made = [
        await cap(api, scope="account", credits=30),
        await cap(api, scope="key", subject=key_id, credits=20, period="month"),
        await cap(api, scope="tag", subject="team=east=1", period="total", credits="12.5"),
    ]
    assert [(c["scope"], c["subject"], c["period"], c["credits"]) for c in await caps(api)] == [
        ("account", None, "day", 30), ("key", key_id, "month", 20),
        ("tag", "team=east=1", "total", 12.5),
    ]  # fmt: skip
    await account("charge", 12, "a", own)
    await account("charge", 3, "b", WEST)
    assert [await counted(api, c["id"]) for c in made] == [(15, 15), (12, 8), (12, 0.5)]
    with pytest.raises(OutOfCredits) as refusal:
        await account("charge", 1, "c", own)
    assert refusal.value.details == {
        "reason": "tag_cap",
        "cap": {"id": made[2]["id"], "scope": "tag", "subject": "team=east=1", "period": "total",
                "credits": 12.5, "used": 12},
    }  # fmt: skip
    assert refusal.value.message == "The tag's cap does not cover this request"
    assert (refusal.value.required, refusal.value.remaining) == (1, 985)
    with pytest.raises(OutOfCredits) as refusal:
        await account("charge", 9, "d", Use("x", key_id=key_id))
    assert refusal.value.details["reason"] == "key_cap"
    with pytest.raises(OutOfCredits) as refusal:
        await account("charge", Decimal("15.0001"), "e", Use("x"))
    assert refusal.value.details["reason"] == "account_cap"
    assert [await counted(api, c["id"]) for c in made] == [(15, 15), (12, 8), (12, 0.5)]
    assert (await account("balance")).remaining == 985


async def test_a_refused_charge_can_be_made_after_the_cap_is_gone(api, account, db, tenant):
    made = await cap(api, scope="account", credits=0)
    with pytest.raises(OutOfCredits):
        await account("charge", 1, "a", EAST)
    await account("charge", 0, "free", EAST)  # what costs nothing passes
    gone = await api.delete(f"/v1/credits/caps/{made['id']}")
    assert gone.json() == {"success": True, "id": made["id"]}
    assert (await api.delete(f"/v1/credits/caps/{made['id']}")).status_code == 404
    assert (await account("charge", 1, "a", EAST)).balance == 999
    async with db.transaction(tenant.id) as tx:
        assert (await tx.one("select capped from credit_balances"))["capped"] is False
        actions = await tx.all("select action from audit_log where object = 'cap' order by id")
    assert [row["action"] for row in actions] == ["cap.create", "cap.delete"]


async def test_what_was_paid_is_answered_when_the_cap_is_full(api, account):
    await cap(api, scope="account", credits=5)
    await account("charge", 5, "a", EAST)
    again = await account("charge", 5, "a", EAST)
    assert (again.repeated, again.balance) == (True, 995)


async def test_fifty_callers_on_a_cap_for_ten(api, account):
    made = await cap(api, scope="tag", subject="team=east")
    calls = (account("charge", 1, f"c{n}", EAST) for n in range(50))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, OutOfCredits) for answer in answers) == 40
    assert await counted(api, made["id"]) == (10, 0)
    assert (await account("balance")).remaining == 990


async def test_a_reservation_counts_until_it_is_closed(api, account):
    made = await cap(api, scope="account")
    await account("reserve", 6, "a", EAST)
    await account("reserve", 4, "b", EAST)
    with pytest.raises(OutOfCredits):
        await account("reserve", 1, "c", EAST)
    await account("settle", "a", 2)
    assert await counted(api, made["id"]) == (6, 4)
    with pytest.raises(OutOfCredits) as refusal:
        await account("settle", "b", 9)
    assert refusal.value.details["reason"] == "account_cap"
    assert await counted(api, made["id"]) == (6, 4)
    await account("settle", "b", 8)
    assert await counted(api, made["id"]) == (10, 0)


async def test_a_release_gives_the_cap_back(api, account):
    made = await cap(api, scope="account")
    await account("reserve", 6, "a", EAST)
    await account("release", "a")
    assert await counted(api, made["id"]) == (0, 10)


async def test_a_new_cap_counts_what_its_period_has_seen(api, account, db, tenant):
    await account("charge", 3, "old", EAST)
    await account("reserve", 50, "older", EAST)
    async with db.transaction(tenant.id) as tx:  # those were yesterday's
        await tx.run("set local role lantern_system")
        await tx.run("update credit_ledger set created_at = created_at - interval '1 day'"
                     " where tenant_id = %s", (tenant.id,))  # fmt: skip
    await account("settle", "older", 40)  # belongs to the day of its reservation
    await account("charge", 2, "a", EAST)
    await account("charge", 1, "b", WEST)
    await account("reserve", 5, "c", EAST)
    await account("reserve", 5, "d", EAST)
    await account("settle", "d", 1)
    day = await cap(api, scope="account", credits=100)
    tag = await cap(api, scope="tag", subject="team=east", period="day", credits=1)
    total = await cap(api, scope="account", period="total", credits=1000)
    assert await counted(api, day["id"]) == (9, 91)
    assert await counted(api, tag["id"]) == (8, 0)  # already past it: nothing is left
    assert await counted(api, total["id"]) == (52, 948)


async def test_a_new_day_begins_at_nothing(api, account, db, tenant):
    made = await cap(api, scope="account")
    await account("charge", 10, "a", EAST)
    await account("reserve", 0, "none", EAST)
    async with db.transaction(tenant.id) as tx:
        await tx.run("update credit_cap_uses set starts = starts - interval '1 day'")
    assert await counted(api, made["id"]) == (0, 10)
    assert (await account("charge", 10, "b", EAST)).balance == 980


async def test_a_settlement_counts_on_the_day_of_its_reservation(api, account, db, tenant):
    made = await cap(api, scope="account")
    await account("reserve", 10, "a", EAST)
    async with db.transaction(tenant.id) as tx:  # a day goes by
        await tx.run("set local role lantern_system")
        for change in (
            "update credit_ledger set created_at = created_at - interval '1 day'",
            "update credit_caps set created_at = created_at - interval '1 day'",
            "update credit_cap_uses set starts = starts - interval '1 day'",
        ):
            await tx.run(f"{change} where tenant_id = %s", (tenant.id,))
    await account("charge", 10, "b", EAST)
    await account("settle", "a", 7)  # today's cap is full, but this is yesterday's
    async with db.transaction(tenant.id) as tx:
        rows = await tx.all("select starts, used from credit_cap_uses order by starts")
    assert [row["used"] for row in rows] == [7, 10]
    assert rows[1]["starts"] - rows[0]["starts"] == timedelta(days=1)
    assert await counted(api, made["id"]) == (10, 0)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "scope"),
        ({"scope": "team"}, "scope"),
        ({"scope": "account", "period": "year"}, "period"),
        ({"scope": "account", "credits": -1}, "credits"),
        ({"scope": "account", "credits": "1e14"}, "credits"),
        ({"scope": "account", "subject": "x"}, "subject"),
        ({"scope": "key"}, "subject"),
        ({"scope": "key", "subject": "key_unknown"}, "subject"),
        ({"scope": "tag"}, "subject"),
        ({"scope": "tag", "subject": "east"}, "subject"),
        ({"scope": "tag", "subject": "a b=c"}, "subject"),
        ({"scope": "tag", "subject": "a=" + "c" * 257}, "subject"),
        ({"scope": "tag", "subject": "a=\0"}, "subject"),
        ({"scope": "account", "more": 1}, "more"),
    ],
)
async def test_what_is_no_cap(api, body, field):
    answer = await api.post("/v1/credits/caps", json={"period": "day", "credits": 1, **body})
    assert (answer.status_code, code_of(answer)) == (400, "bad_request")
    assert answer.json()["details"][0]["loc"] == ["body", field]
    assert await caps(api) == []


async def test_a_cap_like_another_is_a_conflict(api):
    await cap(api, scope="account")
    again = await api.post(
        "/v1/credits/caps", json={"scope": "account", "period": "day", "credits": 11}
    )
    assert (again.status_code, code_of(again)) == (409, "conflict")
    await cap(api, scope="account", period="month")


async def test_caps_of_others_are_not_there(api, server, db):
    made = await cap(api, scope="account")
    other = await db.one("select create_tenant('other', 'team', 5) as id")
    key = await make_key(db, other["id"], limits={"credits": 0})
    headers = {"Authorization": f"Bearer {key}"}
    answer = await api.get("/v1/credits/caps", headers=headers)
    assert (answer.json()["caps"], answer.json()["total"]) == ([], 0)
    assert (await api.delete(f"/v1/credits/caps/{made['id']}", headers=headers)).status_code == 404
    assert (await api.delete("/v1/credits/caps/%00", headers=headers)).status_code == 404
    assert len(await caps(api)) == 1


async def test_there_is_an_end_of_caps(api, db, tenant):
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "insert into credit_caps (tenant_id, id, scope, subject, period, credits)"
            " select %s, 'cap_' || n, 'tag', 'n=' || n, 'day', 1 from generate_series(1, 1000) n",
            (tenant.id,),
        )
    answer = await api.post(
        "/v1/credits/caps", json={"scope": "account", "period": "day", "credits": 1}
    )
    assert (answer.status_code, code_of(answer)) == (409, "conflict")
    page = (await api.get("/v1/credits/caps", params={"per_page": 100, "page": 10})).json()
    assert (len(page["caps"]), page["total"]) == (100, 1000)


async def test_a_new_cap_does_not_count_what_was_given_back(api, account):
    await account("charge", 10, "kept", EAST)
    await account("charge", 7, "given back", EAST)
    await account("refund", "given back")
    made = await cap(api, scope="tag", subject="team=east", credits=12)
    assert await counted(api, made["id"]) == (10, 2)
    await account("charge", 2, "more", EAST)


@pytest.mark.parametrize("end", ["release", "settle"])
async def test_the_end_of_a_reservation_counts_where_it_did_also_beside_a_charge_of_the_same_ref(
    api, account, end
):
    """Found by the model of the ledger: the tags of either row were taken."""
    made = await cap(api, scope="tag", subject="team=east", credits=10)
    await account("charge", 1, "same", WEST)
    await account("reserve", 4, "same", EAST)
    assert await counted(api, made["id"]) == (4, 6)
    await account(end, "same", *([3] if end == "settle" else []))
    assert await counted(api, made["id"]) == ((0, 10) if end == "release" else (3, 7))
