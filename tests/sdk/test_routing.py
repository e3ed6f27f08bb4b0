"""Routing, credits and logs of the client library against the product's own server."""

import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from lantern_sdk import (
    Absence,
    BadRequest,
    Conflict,
    Fallback,
    InsufficientCredits,
    Member,
    NotFound,
    Policy,
    Sla,
    WorkingHours,
)

NOW = datetime.now(UTC).replace(microsecond=0)
AWAY = Absence(from_=NOW - timedelta(days=1), to=NOW + timedelta(days=1))
DAY = NOW.date()


def record(number: int) -> str:
    return f"00Q{number:012}"


async def assign(real, number, **named):
    return await real.do("routing", "assign", "inbound", "lead", record(number), **named)


async def rows(real) -> list:
    """The log of the last days: the test may run at midnight."""
    return await real.all("logs", "export", DAY - timedelta(days=1), DAY + timedelta(days=1))


@pytest.fixture
async def inbound(real):
    members = [Member(user_id="ann", weight=2), Member(user_id="ben"), {"user_id": "cem"}]
    return await real.do("routing.pools", "create", "inbound", members=members)


async def test_a_pool_takes_turns_by_weight(real, inbound):
    assert (inbound.pool_size, inbound.version, len(inbound.next) > 0) == (3, 1, True)
    made = [await assign(real, number) for number in range(8)]
    owners = [one.assigned_to for one in made]
    assert owners[: len(inbound.next)] == inbound.next[:8]
    assert (owners.count("ann"), owners.count("ben"), owners.count("cem")) == (4, 2, 2)
    assert [one.sequence for one in made] == list(range(1, 9))
    assert made[0].assignment_id is None


async def test_the_same_key_gives_the_same_answer_for_nothing(real, inbound):
    first = await assign(real, 1, idempotency_key="k1", explain=True)
    again = await assign(real, 1, idempotency_key="k1", explain=True)
    assert (first.cached, again.cached) == (False, True)
    assert again.assignment_id == first.assignment_id
    assert first.credits_consumed > 0
    assert again.credits_consumed == 0
    with pytest.raises(Conflict):
        await assign(real, 2, idempotency_key="k1")


async def test_an_assignment_is_explained_accepted_and_voided(real, inbound):
    made = await assign(real, 1, explain=True)
    why = await real.do("routing.assignments", "explain", made.assignment_id)
    assert why.agrees
    assert "shortest wait of 3" in why.summary
    assert [one.user_id for one in why.candidates if one.picked] == [made.assigned_to]
    taken = await real.do("routing.assignments", "accept", made.assignment_id)
    assert (taken.status, taken.accepted_at is not None) == ("accepted", True)
    other = await assign(real, 2, explain=True)
    void = await real.do("routing.assignments", "void", other.assignment_id, reason="a test")
    assert (void.status, void.ended_why) == ("void", "a test")
    assert (await real.do("routing.assignments", "get", other.assignment_id)) == void
    found = await real.all(
        "routing.assignments", "list", pool="inbound", start=NOW - timedelta(hours=1), per_page=1
    )
    assert [one.assignment_id for one in found] == [other.assignment_id, made.assignment_id]
    voided = await real.all("routing.assignments", "list", status="void", sf_id=record(2))
    assert [one.sequence for one in voided] == [2]


async def test_a_pool_that_was_read_may_be_changed_and_sent_back(real, inbound):
    hours = WorkingHours(days=["mon"], from_="09:00", to="17:00")
    changes = {"weight": 3, "working_hours": [hours], "out_of_office": [AWAY], "holidays": [DAY]}
    await real.do("routing.pools", "change_member", "inbound", "cem", **changes)
    read = await real.do("routing.pools", "get", "inbound")
    cem = read.members[2]
    assert (cem.weight, cem.eligible, cem.working_hours) == (3, False, [hours])
    assert (cem.out_of_office, cem.holidays) == ([AWAY], [DAY])
    read.members[0].weight = 5
    policy = Policy(fallback=Fallback(queue_id="q1"), sla=Sla(minutes=5, on_breach="queue"))
    put = await real.do(
        "routing.pools", "put", "inbound", read.members, policy=policy, version=read.version
    )
    assert [member.weight for member in put.members] == [5, 1, 3]
    assert put.members[2].out_of_office == [AWAY]
    assert (put.policy.fallback.queue_id, put.policy.sla.minutes) == ("q1", 5)
    with pytest.raises(Conflict):
        await real.do("routing.pools", "put", "inbound", put.members, version=read.version)
    kept = await real.do("routing.pools", "put", "inbound", put.members, policy=put.policy)
    assert kept.policy == put.policy


async def test_members_come_by_file_and_go(real, inbound):
    text = "user_id,weight\nann,4\ndee,1\n"
    done = await real.do("routing.pools", "import_csv", "inbound", text)
    assert (done.added, done.updated, done.removed) == (1, 1, 0)
    with pytest.raises(BadRequest):
        await real.do("routing.pools", "import_csv", "inbound", "user_id,weight\neve,many\n")
    part = "user_id,weight\neve,many\nfay,1\n"
    done = await real.do("routing.pools", "import_csv", "inbound", part, partial=True)
    assert (done.added, [one.line for one in done.refused]) == (1, [2])
    assert await real.do("routing.pools", "remove_member", "inbound", "fay") is None
    names = [pool.pool for pool in await real.all("routing.pools", "list", "inb")]
    assert names == ["inbound"]
    assert await real.do("routing.pools", "delete", "inbound") is None
    with pytest.raises(NotFound):
        await real.do("routing.pools", "get", "inbound")


async def test_a_simulation_changes_nothing(real, inbound):
    for number in range(4):
        await assign(real, number)
    members = [member for member in inbound.members if member.user_id != "ann"]
    told = await real.do("routing.pools", "simulate", "inbound", members=members, days=1)
    assert (told.assignments, told.changed >= 2) == (4, True)
    assert {one.user_id: one.would_get for one in told.members}.get("ann", 0) == 0
    assert (await real.do("routing.pools", "get", "inbound")).version == inbound.version


async def test_nobody_to_pick_is_a_conflict_that_says_why(real):
    away = Member(user_id="ann", out_of_office=[AWAY])
    await real.do("routing.pools", "create", "inbound", members=[away])
    with pytest.raises(Conflict) as wrong:
        await assign(real, 1)
    assert wrong.value.code == "no_eligible_user"
    assert [one["user_id"] for one in wrong.value.details["skipped"]] == ["ann"]


# ---------------------------------------------------------------- credits
async def test_what_an_assignment_cost_is_found_again(real, inbound):
    before = await real.do("credits", "remaining")
    made = await assign(real, 1, tags={"team": "x"}, metadata={"stage": "\u00e9"})
    after = await real.do("credits", "remaining")
    assert before.total_credits == after.total_credits == 1000
    assert after.remaining_credits == made.credits_remaining
    assert before.remaining_credits - after.remaining_credits == made.credits_consumed
    newest = (await real.all("credits", "receipts", per_page=1, start=DAY - timedelta(days=1)))[0]
    assert (newest.kind, newest.operation) == ("charge", "routing.assign")
    assert newest.tags == {"team": "x", "stage": "\u00e9"}
    assert await real.do("credits", "receipt", newest.id) == newest
    ends = (DAY - timedelta(days=1), DAY + timedelta(days=1))
    used = await real.do("credits", "usage", *ends, custom_key="team", custom_value="x")
    assert used.credits_used == made.credits_consumed
    split = await real.do("credits", "usage", *ends, group_by="operation")
    assert [(one.value, one.credits) for one in split.groups] == [
        ("routing.assign", made.credits_consumed)
    ]


async def test_prices_and_estimates(real):
    usual = {(p.operation, p.item): p for p in await real.do("credits", "tariff")}
    assert not usual["routing.assign", "assign"].own
    price = await real.do("credits", "set_price", "routing.assign", "assign", Decimal("1.25"))
    assert (price.credits, price.own) == (Decimal("1.25"), True)
    told = await real.do("credits", "estimate", "routing.assign", count=4)
    assert (told.at_most_credits, told.affordable) == (5, True)
    reset = {"reset_rules": {"reason": "a test"}}
    more = await real.do("credits", "estimate", "routing.assign", reset, count=4)
    assert more.at_most_credits > told.at_most_credits
    price = await real.do("credits", "unset_price", "routing.assign", "assign")
    assert (price.credits, price.own) == (price.default_credits, False)


async def test_a_cap_stops_what_goes_over_it(real, inbound):
    cap = await real.do("credits.caps", "create", "tag", "day", 0, subject="team=x")
    assert await real.all("credits.caps", "list") == [cap]
    with pytest.raises(InsufficientCredits) as wrong:
        await assign(real, 1, tags={"team": "x"})
    assert wrong.value.credits_required > 0
    assert wrong.value.details
    assert await real.do("credits.caps", "delete", cap.id) is None
    assert (await assign(real, 1, tags={"team": "x"})).sequence == 1


async def test_a_tag_that_no_header_carries_is_refused(lantern, peer):
    for tags in ({"a": "x,b=y"}, {"a=b": "x"}, {"a": "\u00e9"}, {"a": "x\ny"}):
        with pytest.raises(ValueError, match="cannot stand in a header"):
            await lantern.do("routing", "assign", "p", "lead", "1", tags=tags)
    assert not peer.seen


# ---------------------------------------------------------------- logs
async def test_rows_are_exported_as_they_come(real, inbound):
    for number in range(3):
        await assign(real, number)
    found = await rows(real)
    assert [one.object_id for one in found] == [record(number) for number in range(3)]
    assert {(one.action, one.object, one.pool) for one in found} == {("assign", "Lead", "inbound")}
    narrow = {"object_id": record(1), "include_diff": False, "signed": True}
    only = await real.all("logs", "export", DAY - timedelta(days=1), "2100-01-01", **narrow)
    assert [(one.sequence, one.diff) for one in only] == [(2, None)]


async def test_an_export_says_at_its_end_what_it_left_out(real, inbound):
    for number in range(3):
        await assign(real, number)
    export = real.client.logs.export(DAY - timedelta(days=1), "2100-01-01", limit=2, signed=True)
    assert export.summary is None
    if hasattr(export, "__aiter__"):
        assert len([row async for row in export]) == 2
    else:
        assert len(list(export)) == 2
    said = export.summary
    assert (said.count, said.total, said.truncated) == (2, 3, True)
    assert said.signature["algorithm"] == "Ed25519"


async def test_csv_goes_to_a_file(real, inbound):
    for number in range(3):
        await assign(real, number)
    file = io.BytesIO()
    made = await real.do("logs", "export_csv", file, DAY - timedelta(days=1), "2100-01-01", limit=2)
    lines = file.getvalue().decode().splitlines()
    assert lines[0].startswith("timestamp,object,object_id,action")
    assert (len(lines), made.size, made.truncated) == (3, len(file.getvalue()), True)


async def test_the_log_is_counted_kept_and_checked(real, inbound):
    for number in range(3):
        await assign(real, number)
    ends = (DAY - timedelta(days=1), DAY + timedelta(days=1))
    counts = await real.do("logs", "stats", *ends, group_by="user", action="assign")
    assert (counts.total, counts.by_pool) == (3, {"inbound": 3})
    assert sum(group.count for group in counts.groups) == 3
    assert date.fromisoformat(counts.by_day[0].date) >= DAY - timedelta(days=1)
    kept = await real.do("logs.retention", "put", retention_days=30, per_action={"assign": 60})
    assert (kept.retention_days, kept.per_action["assign"]) == (30, 60)
    assert await real.do("logs.retention", "get") == kept
    assert (await real.do("logs", "cleanup")).dry_run
    cleaned = await real.do("logs", "cleanup", dry_run=False)
    assert (cleaned.dry_run, cleaned.deleted) == (False, 0)
    checked = await real.do("logs", "verify")
    assert (checked.intact, checked.complete, checked.problem) == (True, True, None)


async def test_a_wrong_period_names_its_field(real):
    with pytest.raises(BadRequest) as wrong:
        await real.all("logs", "export", "yesterday", "2026-01-01")
    assert "from" in str(wrong.value)
