"""A simulation decides the past again: unchanged it finds the same, changed it says what differs."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parts import new_tenant

from lantern.core import clock, ids
from lantern.routing import store as assignments
from lantern.routing.eligibility import Caps, Person
from lantern.routing.pools import store
from lantern.routing.pools.models import Policy
from lantern.routing.pools.pool import Member, Pool, made
from lantern.routing.pools.replay import Replay, affordable
from lantern.routing.pools.simulation import simulate
from routing.test_pools import POOLS, assign, make, people

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # a Monday


def pool_of(*weights: int, policy: Policy | None = None, **person) -> Pool:
    members = [
        Member(f"u{i}", None, 0, weight, True, Person(**person)) for i, weight in enumerate(weights)
    ]
    return made("p", policy or Policy(), members)


def row(n: int, got: str, at: datetime, **more) -> dict:
    return {
        "id": f"asg_{n}",
        "sequence": n,
        "epoch": 0,
        "object": "lead",
        "sf_id": f"r{n}",
        "record": f"r{n}",
        "assigned_to": got,
        "method": "rotation",
        "status": "assigned",
        "prev_owner": None,
        "reason": None,
        "exclude_inactive": True,
        "rerouted_from": None,
        "created_at": at,
        "accepted_at": None,
        "ended_at": None,
        **more,
    }


def lived(pool: Pool, turns: int, minutes: int = 5) -> list[dict]:
    """A past in which the pool decided by itself."""
    asked = [row(n, "?", START + n * timedelta(minutes=minutes)) for n in range(turns)]
    return [
        {**r, "assigned_to": held.user or "queue", "method": held.why}
        for r, held in Replay(pool).run(asked)
    ]


async def simulated(api, **body) -> dict:
    answer = await api.post(f"{POOLS}/emea/simulate", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_unchanged_pool_reproduces_its_history(api):
    members = [*people("a", weight=5), *people("b"), *people("c", weight=2)]
    await make(api, members=members)
    for n in range(40):
        await assign(api, f"r{n}")
    found = await simulated(api)
    assert (found["assignments"], found["changed"], found["examples"]) == (40, 0, [])
    assert (found["days"], found["truncated"], found["unassigned"]) == (30, False, 0)
    assert all(m["got"] == m["would_get"] for m in found["members"])
    assert [m["got"] for m in found["members"]] == [25, 5, 10]
    assert found["members"][0]["share"] == 0.625


async def test_tops_resets_bad_fits_and_voids_are_reproduced(api):
    await make(api, "emea", *(f"u{n}" for n in range(5)))
    rules = {
        3: {"reason": "vip", "place_user_at_top": "u4"},
        6: {"reason": "user_request"},
        11: {"reason": "spring", "place_user_at_top": "u0"},
    }
    made_ids = []
    for n in range(30):
        more = {"reset_rules": rules[n]} if n in rules else {}
        made_ids.append((await assign(api, f"r{n}", explain=True, **more))["assignment_id"])
        if n % 7 == 5:
            again = {"reason": "bad_fit"}
            await assign(api, f"r{n}", reset_rules=again)
        if n % 9 == 4:
            voided = await api.post(f"/v1/routing/assignments/{made_ids[n]}/void")
            assert voided.status_code == 200
    found = await simulated(api)
    assert (found["changed"], found["repeated"]) == (0, 0)
    assert found["assignments"] == 34


async def test_caps_are_counted_within_the_simulation(api):
    await make(api, members=[*people("a", caps={"day": 2}), *people("b"), *people("c")])
    for n in range(12):
        await assign(api, f"r{n}")
    assert (await simulated(api))["changed"] == 0
    lifted = await simulated(api, members=people("a", "b", "c"))
    assert [m["would_get"] for m in lifted["members"]] == [4, 4, 4]
    assert lifted["examples"][0]["would_get"] == "a"


async def test_a_changed_pool_says_who_would_have_got_what(api):
    await make(api, "emea", "a", "b")
    for n in range(10):
        await assign(api, f"r{n}")
    found = await simulated(api, members=[*people("b", weight=3), *people("new")])
    assert {m["user_id"]: (m["got"], m["would_get"]) for m in found["members"]} == {
        "b": (5, 8),
        "new": (0, 2),
        "a": (5, 0),
    }
    first = found["examples"][0]
    assert (first["got"], first["would_get"], first["why"]) == ("a", "b", "not_a_member")
    assert (await api.get(f"{POOLS}/emea")).json()["version"] == 1


async def test_it_is_free_and_changes_nothing(api):
    await make(api)
    for n in range(5):
        await assign(api, f"r{n}")
    before = (await api.get(f"{POOLS}/emea")).json()
    answer = await api.post(f"{POOLS}/emea/simulate", json={"members": []})
    assert answer.json()["unassigned"] == 5
    assert "credits_consumed" not in answer.json()
    after = await api.get(f"{POOLS}/emea")
    assert after.json() == before
    assert after.headers["x-credits-remaining"] == "995"


async def test_only_the_newest_are_replayed_and_it_says_so(api):
    await make(api)
    for n in range(8):
        await assign(api, f"r{n}")
    found = await simulated(api, limit=5)
    assert (found["assignments"], found["truncated"]) == (5, True)
    assert (await simulated(api, limit=8))["truncated"] is False


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"days": 0}, "days"),
        ({"days": 91}, "days"),
        ({"limit": 20_001}, "limit"),
        ({"members": people("a", "a")}, "members.1.user_id"),
        ({"policy": {"skip": "x"}}, "policy.skip"),
        ({"pool": "x"}, "pool"),
    ],
)
async def test_a_wrong_question_is_named(api, body, field):
    await make(api)
    answer = await api.post(f"{POOLS}/emea/simulate", json=body)
    assert (answer.status_code, answer.json()["success"]) == (400, False)
    assert answer.json()["error"].startswith(f"{field}: ")


async def test_a_pool_that_is_not_there_and_a_key_that_is_none(api, server):
    assert (await api.post(f"{POOLS}/none/simulate", json={})).status_code == 404
    wrong = {"Authorization": "Bearer lnt_wrong"}
    for content in (b"{}", b"{"):
        answer = await api.post(f"{POOLS}/none/simulate", content=content, headers=wrong)
        assert answer.status_code == 401


async def test_no_connection_is_held_while_it_computes(api):
    """More simulations at once than the pool has connections; the server answers all."""
    await make(api)
    for n in range(5):
        await assign(api, f"r{n}")
    answers = await asyncio.gather(*(simulated(api) for _ in range(30)))
    assert all(answer["changed"] == 0 for answer in answers)


# --- the model ----------------------------------------------------------------------------------

policies = st.builds(
    Policy,
    skip=st.sampled_from(["forfeit", "catch_up", "hold"]),
    sticky_owner=st.booleans(),
    fallback=st.sampled_from([None, {"queue_id": "queue"}]),
)
shifts = st.sampled_from([None, ((540, 1020),), ((0, 600), (1320, 2040)), ()])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_a_pool_decided_it_decides_again(data):
    """Hours, caps, weights, policies: the history of a pool simulated with itself does not change."""
    members = [
        Member(
            f"u{i}",
            None,
            0,
            data.draw(st.integers(1, 4)),
            True,
            Person(
                hours=data.draw(shifts),
                timezone=data.draw(st.sampled_from(["UTC", "Asia/Kolkata", "America/Havana"])),
                caps=Caps(day=data.draw(st.sampled_from([None, 3])), hour=None),
            ),
        )
        for i in range(data.draw(st.integers(1, 5)))
    ]
    pool = made("p", data.draw(policies), members)
    past = [r for r in lived(pool, 60, minutes=47) if r["method"] != "nobody"]
    found = simulate(pool, past)
    assert (found["changed"], found["unassigned"], found["repeated"]) == (0, 0, 0)


def test_the_same_record_again_is_deduplicated_by_a_longer_window():
    pool = pool_of(1, 1)
    past = [row(0, "u0", START), row(1, "u1", START + timedelta(hours=30), record="r0", sf_id="r0")]
    assert simulate(pool, past)["repeated"] == 0
    longer = pool_of(1, 1, policy=Policy(dedupe_minutes=43_200))
    found = simulate(longer, past)
    assert (found["repeated"], found["changed"]) == (1, 1)
    assert found["examples"][0] | {"would_get": "u0", "why": "repeated"} == found["examples"][0]


def test_what_was_accepted_is_not_open_any_more():
    policy = Policy()
    pool = pool_of(1, 1, policy=policy, caps=Caps(open=1))
    minutes = count()
    past = [row(n, "u0", START + timedelta(minutes=next(minutes))) for n in range(4)]
    assert simulate(pool, past)["unassigned"] == 2
    past[0]["accepted_at"] = START + timedelta(seconds=90)
    assert simulate(pool, past)["unassigned"] == 1


def test_a_rerouted_record_does_not_go_back():
    pool = pool_of(1, 1, 1)
    past = [row(0, "u0", START, status="rerouted", ended_at=START + timedelta(minutes=9))]
    again = {"record": "r0", "rerouted_from": "asg_0", "reason": "sla"}
    past.append(row(1, "u1", START + timedelta(minutes=10), **again))
    assert [held.user for _, held in Replay(pool).run(past)] == ["u0", "u1"]
    past[1]["created_at"] = START + timedelta(minutes=10)
    alone = pool_of(1)
    assert [held.user for _, held in Replay(alone).run(past)] == ["u0", None]


def test_a_sticky_owner_keeps_its_records():
    pool = pool_of(1, 1, policy=Policy(sticky_owner=True))
    past = [row(n, "u0", START + timedelta(hours=n), prev_owner="u1") for n in range(3)]
    assert {held.user for _, held in Replay(pool).run(past)} == {"u1"}
    assert simulate(pool, past)["examples"][0]["why"] == "sticky"


def test_working_hours_decide_by_the_time_of_the_assignment():
    early = pool_of(1, 1, hours=((540, 545),))  # Monday 9:00 to 9:05
    past = lived(pool_of(1, 1), 4)
    found = simulate(early, past)
    assert (found["unassigned"], found["examples"][-1]["why"]) == (3, "outside_hours")


def test_no_more_is_replayed_than_can_be_paid_for():
    assert affordable(pool_of(*[1] * 17)) >= 20_000
    busy = pool_of(*[1] * 100, policy=Policy(skip="hold", hold_minutes=240), hours=((0, 5),))
    assert affordable(busy) < 1000


def test_twenty_thousand_assignments_of_an_unchanged_pool_stay_as_they_are():
    pool = pool_of(*[1] * 17)
    past = lived(pool, 20_000, minutes=1)
    assert simulate(pool, past)["changed"] == 0
    assert clock.iso(past[0]["created_at"]) == "2026-03-02T09:00:00Z"


# --- the model and the database -----------------------------------------------------------------

weeks = st.sampled_from([None, ((540, 3000), (4000, 9000)), ((0, 600), (1320, 10_000))])


def drawn_pool(data) -> Pool:
    members = [
        Member(
            f"u{i}",
            None,
            data.draw(st.integers(0, 1)),
            data.draw(st.integers(1, 4)),
            data.draw(st.booleans()),
            Person(
                active=data.draw(st.sampled_from([True, True, True, False])),
                hours=data.draw(weeks),
                timezone=data.draw(st.sampled_from(["UTC", "Asia/Kathmandu", "America/New_York"])),
                caps=Caps(
                    day=data.draw(st.sampled_from([None, None, 2])),
                    week=data.draw(st.sampled_from([None, None, 4])),
                ),
            ),
        )
        for i in range(data.draw(st.integers(1, 5)))
    ]
    return replace(made("p", data.draw(policies), members), id=ids.new("pool"))


def drawn_request(data, pool: Pool, n: int) -> dict:
    reset = data.draw(st.sampled_from([None, None, None, "bad_fit", "user_request"]))
    users = st.sampled_from([m.user_id for m in pool.members])
    top = data.draw(st.one_of(st.none(), users)) if reset == "user_request" else None
    record = f"r{data.draw(st.integers(0, n)) if reset == 'bad_fit' else n}"
    owner = data.draw(st.one_of(st.none(), st.none(), users))
    return {
        "id": ids.new("asg"),
        "pool": "p",
        "object": "lead",
        "title": "Lead",
        "sf_id": record,
        "record": record,
        "exclude_inactive": data.draw(st.booleans()),
        "reset": reset is not None,
        "reason": reset,
        "top": top,
        "owner": owner,
        "owner_key": owner,
        "size_price": False,
        "free": True,
        "tags": {},
        "crm": False,
    }


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
async def test_the_database_and_the_model_decide_alike(db, data):
    """Real decisions at drawn times, then the simulation of the same pool: nothing differs."""
    tenant = (await new_tenant(db)).id
    pool = drawn_pool(data)
    async with db.transaction(tenant) as tx:
        assert await store.insert(tx, tenant, pool)
        at = clock.now() - timedelta(days=25)
        for n in range(data.draw(st.integers(1, 25))):
            at += timedelta(minutes=data.draw(st.integers(1, 600)))
            await assignments.assign(tx, tenant, drawn_request(data, pool, n), at)
        past = await store.history(tx, pool.id, 30, 100)
        stored = await store.load(tx, "p")
    replay = Replay(pool)
    decided = [(held.user, held.why) for _, held in replay.run(past)]
    assert decided == [(r["assigned_to"], r["method"]) for r in past]
    assert replay.state.turns == stored.state.turns
