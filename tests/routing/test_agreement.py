"""The SQL that decides and the Python that explains are one rotation, after any history."""

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lantern.core import ids
from lantern.core.db import Database, Tx
from lantern.routing import explanation, service, store
from lantern.routing.eligibility import Caps, Person
from lantern.settings import DatabaseSettings
from routing.lay import lay_pool_in
from routing.oracle import LIVE, Ask, Member, Policy, Pool

USERS = [f"u{i}" for i in range(7)]
RECORDS = [f"r{i}" for i in range(5)]
ZONES = [
    "UTC",
    "Asia/Kolkata",  # 5:30
    "Asia/Kathmandu",  # 5:45
    "Australia/Lord_Howe",  # clocks move by half an hour
    "America/Santiago",  # forward over midnight
    "America/Havana",  # back over midnight
    "Europe/Berlin",
]
WORK = tuple((day * 1440 + 540, day * 1440 + 1020) for day in range(5))
LATE = tuple((day * 1440, day * 1440 + 60) for day in range(7))  # the hour after midnight
# Just before nights on which clocks change somewhere in ZONES, and a plain noon.
STARTS = [
    datetime(2024, 3, 30, 22, tzinfo=UTC),
    datetime(2024, 10, 5, 14, tzinfo=UTC),
    datetime(2024, 11, 3, 2, tzinfo=UTC),
    datetime(2024, 9, 8, 2, tzinfo=UTC),
    datetime(2024, 6, 5, 12, tzinfo=UTC),
]
no = st.none()


def mostly(usual: Any, odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.just(usual), st.just(usual), odd)


caps = st.builds(
    Caps,
    **{name: mostly(None, st.integers(0, 4)) for name in ("hour", "day", "week", "open")},
)


@st.composite
def people(draw: st.DrawFn, begin: datetime) -> Person:
    away = begin + timedelta(minutes=draw(st.integers(-300, 300)))
    back = away + timedelta(minutes=draw(st.integers(1, 600)))
    return Person(
        active=draw(mostly(True, st.booleans())),
        crm_active=draw(st.sampled_from([None, None, True, False])),
        timezone=draw(st.sampled_from(ZONES)),
        hours=draw(mostly(None, st.sampled_from([WORK, LATE]))),
        holidays=frozenset(draw(mostly(set(), st.just({begin.date()})))),
        out_of_office=draw(mostly((), st.just(((away, back),)))),
        caps=draw(mostly(Caps(), caps)),
    )


policies = st.builds(
    Policy,
    skip_policy=st.sampled_from(["forfeit", "catch_up", "hold"]),
    max_catch_up=st.integers(1, 4),
    hold_minutes=st.sampled_from([3, 30, 120]),
    respect_schedule=mostly(True, st.booleans()),
    sticky_owner=st.booleans(),
    sticky_counts=st.booleans(),
    dedupe_minutes=st.sampled_from([0, 30, 1440]),
    fallback=st.sampled_from([None, "queue"]),
)


@st.composite
def pools(draw: st.DrawFn) -> tuple[datetime, list[Member], Policy]:
    begin = draw(st.sampled_from(STARTS))
    count = draw(st.integers(1, len(USERS)))
    weights = draw(st.one_of(st.just([1] * count), st.lists(st.integers(1, 5), min_size=count)))
    back = st.booleans()
    members = [
        Member(user, weight, draw(people(begin)), draw(mostly(True, back)))
        for user, weight in zip(USERS[:count], weights, strict=False)
    ]
    return begin, members, draw(policies)


def columns(member: Member) -> dict[str, Any]:
    """A member as the table keeps it."""
    person = member.person
    hours = person.hours and "{" + ",".join(f"[{a},{b})" for a, b in person.hours) + "}"
    return {
        "user_id": member.user,
        "weight": member.weight,
        "active": person.active,
        "crm_active": person.crm_active,
        "timezone": person.timezone,
        "hours": hours,
        "holidays": sorted(person.holidays),
        "out_of_office": away(person),
        "credit_back": member.credit_back,
        **{f"cap_{name}": value for name, value in asdict(person.caps).items()},
    }


def away(person: Person) -> str:
    return (
        "{" + ",".join(f"[{a.isoformat()},{b.isoformat()})" for a, b in person.out_of_office) + "}"
    )


class Sides:
    """One pool twice: in the database, in a transaction that is rolled back, and as the model."""

    def __init__(self, tx: Tx, tenant: int, pool_id: str, pool: Pool) -> None:
        self.tx, self.tenant, self.id, self.pool = tx, tenant, pool_id, pool

    async def assign(self, ask: Ask) -> None:
        given = {
            "id": ask.id,
            "pool": "p",
            "object": "lead",
            "title": "Lead",
            "sf_id": ask.record,
            "record": ask.record,
            "exclude_inactive": ask.exclude_inactive,
            "reset": ask.reset is not None,
            "reason": ask.reset,
            "top": ask.top,
            "owner": ask.owner,
            "owner_key": ask.owner,
            "tags": {},
            "crm": False,
        }
        if ask.held is not None:
            given |= {"hop": 1, "held": list(ask.held), "free": True, "from": "asg_0"}
        row = await store.assign(self.tx, self.tenant, given, ask.at)
        told = self.pool.assign(ask)
        waits = told.pop("waits", None)
        assert {name: row[name] for name in told} == told
        if waits is not None:
            stored = await store.fetch(self.tx, ask.id)
            assert stored is not None
            assert tuple(stored["waits"]) == waits
            assert stored["reasons"] == told["reasons"]
            assert explanation.recompute(stored) == stored["assigned_to"]
        await self.compare()

    async def compare(self) -> None:
        """Waits, cursors, turns and all else of the two rotations."""
        row = await self.tx.one("select * from routing_rotations where pool_id = %s", (self.id,))
        assert row is not None
        state = self.pool.state
        assert (row["sequence"], row["epoch"]) == (self.pool.sequence, self.pool.epoch)
        assert tuple(row["waits"]) == state.waits
        assert tuple(row["cursors"]) == state.cursors
        assert (tuple(row["turns"]), row["last"]) == (state.turns, state.last)
        assert tuple(row["at_top"]) == tuple(self.pool.users[i] for i in state.at_top)
        statuses = await self.tx.all(
            "select sequence, assigned_to, status from routing_assignments order by sequence"
        )
        assert [tuple(s.values()) for s in statuses] == [
            (p.sequence, p.user, p.status) for p in self.pool.past
        ], "gapless, and each as the model has it"

    async def end(self, number: int, status: str) -> None:
        """Void an assignment of the past, or take it as moved on by the SLA."""
        if not self.pool.past:
            return
        past = self.pool.past[number % len(self.pool.past)]
        row = await store.fetch(self.tx, past.id)
        assert row is not None
        ended = await service.end(self.tx, row, status, "test", give_back=status == "void")
        assert ended == (past.status in LIVE)
        if ended:
            past.status = status
            if status == "void":
                self.pool.give_back(past)

    async def accept(self, number: int) -> None:
        if not self.pool.past:
            return
        past = self.pool.past[number % len(self.pool.past)]
        assert await store.accept(self.tx, past.id) == (past.status in LIVE)
        if past.status in LIVE:
            past.status = "accepted"

    async def change(self, at: int, **more: Any) -> None:
        self.pool.change(at, **more)
        person = self.pool.members[at].person
        await self.tx.run(
            "update routing_members set active = %s, crm_active = %s, out_of_office = %s"
            " where pool_id = %s and user_id = %s",
            (person.active, person.crm_active, away(person), self.id, self.pool.users[at]),
        )


@asynccontextmanager
async def both(db: Database, members: list[Member], policy: Policy) -> Any:
    # Not rolled back: a number that nobody got would leave the database without a tenant 1.
    row = await db.one("select create_tenant('agreement', 'team', 100000) as id")
    assert row is not None
    async with db.session() as tx:
        await tx.run("begin")
        await tx.act_for(row["id"])
        rows = [columns(member) for member in members]
        told = asdict(policy)
        pool_id = await lay_pool_in(tx, row["id"], "p", rows, **told)
        try:
            yield Sides(tx, row["id"], pool_id, Pool(members, policy))
        finally:
            await tx.run("rollback")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@pytest.fixture(scope="module")
def one(runner: asyncio.Runner, dsn: str) -> Iterator[Database]:
    """A pool of connections on a loop of its own: hypothesis calls no coroutines."""
    database = Database(dsn, DatabaseSettings(pool_size=2))
    runner.run(database.open())
    yield database
    runner.run(database.close())


someone = st.sampled_from(USERS)
steps = st.one_of(
    st.tuples(
        st.just("assign"),
        st.fixed_dictionaries(
            {
                "record": st.sampled_from(RECORDS),
                "exclude_inactive": mostly(True, st.booleans()),
                "owner": st.one_of(no, someone),
                "reset": mostly(None, st.sampled_from(["bad_fit", "user_request", "holiday"])),
                "top": st.one_of(no, no, someone),
                "moved_on": mostly(False, st.booleans()),
            }
        ),
    ),
    st.tuples(st.just("end"), st.tuples(st.integers(0, 99), st.sampled_from(["void", "rerouted"]))),
    st.tuples(st.just("accept"), st.integers(0, 99)),
    st.tuples(st.just("member"), st.tuples(st.integers(0, 99), st.sampled_from("aco"))),
)
histories = st.lists(st.tuples(st.integers(0, 40_000), steps), min_size=5, max_size=30)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(pools(), histories)
def test_the_sql_and_the_model_agree_after_every_call(runner, one, given_pool, history):
    begin, members, policy = given_pool
    runner.run(live(one, (begin, members, policy), history))


async def live(one: Database, given_pool: tuple[datetime, list[Member], Policy], history) -> None:
    at, members, policy = given_pool
    async with both(one, members, policy) as sides:
        for seconds, (name, arguments) in history:
            at += timedelta(seconds=seconds // 20)
            if name == "assign":
                await sides.assign(ask_of(sides.pool, at, **arguments))
            elif name == "end":
                await sides.end(*arguments)
            elif name == "accept":
                await sides.accept(arguments)
            else:
                await flap(sides, at, *arguments)
        await sides.compare()


def ask_of(pool: Pool, at: datetime, *, moved_on: bool, **given_ask: Any) -> Ask:
    top, reset = given_ask.pop("top"), given_ask.pop("reset")
    held = None
    if moved_on:
        reset = None
        past = [p for p in pool.past if p.record == given_ask["record"]]
        held = tuple({p.user for p in past if p.status in ("assigned", "rerouted")})
    top = top if reset and top in pool.users else None
    return Ask(ids.new("asg"), at=at, reset=reset, top=top, held=held, **given_ask)


async def flap(sides: Sides, at: datetime, number: int, what: str) -> None:
    place = number % len(sides.pool.members)
    person = sides.pool.members[place].person
    if what == "a":
        await sides.change(place, active=not person.active)
    elif what == "c":
        await sides.change(place, crm_active=person.crm_active is False)
    else:
        gone = () if person.out_of_office else ((at, at + timedelta(hours=3)),)
        await sides.change(place, out_of_office=gone)


# ---------------------------------------------------------------- nights that are not like others
async def who(one: Database, moments: list[datetime], person: Person) -> list[list[str | None]]:
    """Why the member could not be picked at these moments; a colleague always may."""
    found = []
    members = [Member("u0", 1, person), Member("u1", 1, Person())]
    async with both(one, members, Policy(dedupe_minutes=0)) as sides:
        for number, at in enumerate(moments):
            ask = Ask(ids.new("asg"), f"r{number}", at)
            await sides.assign(ask)
            stored = await store.fetch(sides.tx, ask.id)
            assert stored is not None
            found.append(stored["reasons"])
    return [reasons[0] for reasons in found]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_half_hour_zones_open_on_their_own_half_hour(runner, one):
    kolkata = Person(timezone="Asia/Kolkata", hours=WORK)  # 09:00 there is 03:30 UTC
    moments = [utc("2024-06-05T03:29:59"), utc("2024-06-05T03:30:00"), utc("2024-06-05T11:30:00")]
    assert runner.run(who(one, moments, kolkata)) == ["outside_hours", None, "outside_hours"]
    kathmandu = Person(timezone="Asia/Kathmandu", hours=WORK)  # and 03:15
    moments = [utc("2024-06-05T03:14:59"), utc("2024-06-05T03:15:00")]
    assert runner.run(who(one, moments, kathmandu)) == ["outside_hours", None]


def test_the_hour_that_comes_twice_is_worked_twice_and_the_skipped_one_never(runner, one):
    two = Person(
        timezone="Europe/Berlin", hours=tuple((d * 1440 + 120, d * 1440 + 180) for d in range(7))
    )
    autumn = [utc("2024-10-26T23:59:00") + timedelta(minutes=m) for m in (0, 1, 61, 120, 121)]
    assert runner.run(who(one, autumn, two)) == ["outside_hours", None, None, None, "outside_hours"]
    spring = [utc("2024-03-31T00:59:00"), utc("2024-03-31T01:00:00")]  # 01:59, then 03:00
    assert runner.run(who(one, spring, two)) == ["outside_hours", "outside_hours"]


def test_a_cap_of_the_day_turns_over_at_the_members_midnight(runner, one):
    def capped(zone: str) -> Person:
        return Person(timezone=zone, caps=Caps(day=1))

    night = utc("2024-06-05T18:29:00")  # 23:59 in Kolkata
    moments = [night, night + timedelta(seconds=30), night + timedelta(minutes=1)]
    assert runner.run(who(one, moments, capped("Asia/Kolkata"))) == [None, "cap_day", None]
    # Clocks go forward over midnight: the day begins at 01:00, which is 04:00 UTC.
    begin = utc("2024-09-08T04:00:00")
    moments = [begin - timedelta(minutes=2), begin - timedelta(seconds=1), begin]
    assert runner.run(who(one, moments, capped("America/Santiago"))) == [None, "cap_day", None]
    # And back over midnight: the day has two of them, an hour apart, and begins with the first.
    begin = utc("2024-11-03T04:00:00")
    moments = [begin + timedelta(minutes=m) for m in (-2, -1, 0, 30, 70)]
    told = [None, "cap_day", None, "cap_day", "cap_day"]
    assert runner.run(who(one, moments, capped("America/Havana"))) == told


def test_a_holiday_is_a_day_of_the_member(runner, one):
    person = Person(timezone="Asia/Kathmandu", holidays=frozenset({date(2024, 6, 5)}))
    moments = [utc("2024-06-04T18:14:59"), utc("2024-06-04T18:15:00"), utc("2024-06-05T18:15:00")]
    assert runner.run(who(one, moments, person)) == [None, "holiday", None]


async def refused_bad_fit(one: Database) -> None:
    async with both(one, [Member("u0", 1, Person())], Policy()) as sides:
        at = utc("2024-06-05T12:00:00")
        await sides.assign(Ask("asg_a", "r0", at))
        await sides.assign(Ask("asg_b", "r0", at, reset="bad_fit"))  # compares all of both sides
        assert (await store.fetch(sides.tx, "asg_a") or {})["status"] == "assigned"


def test_a_bad_fit_that_nobody_else_can_take_changes_nothing(runner, one):
    runner.run(refused_bad_fit(one))
