"""Timers fire once, on one node, together with what they start, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from parts import clone_database, opened

from lantern.core import clock, jobs, postgres, timers
from lantern.core.db import ConnectionLost, Database
from lantern.core.errors import BadRequest

FIRED: list[timers.Fire] = []
NOTE = "test.local"


@timers.local(NOTE)
async def note(tx, fire):
    FIRED.append(fire)
    # Seen by others only if the firing is committed.
    await tx.run("insert into rate (k, tat) values (%s, now())", (f"fired:{fire.key}",))


@timers.local("test.broken")
async def broken(tx, fire):
    FIRED.append(fire)
    await tx.run("insert into rate (k, tat) values (%s, now())", (f"fired:{fire.key}",))
    raise ValueError("not today")


@pytest.fixture(scope="module")
def dsn(pg: postgres.Server) -> str:
    """A database of its own: the node of another test's server would fire the timers."""
    return clone_database(pg)


@pytest.fixture(scope="module")
async def db(dsn: str) -> AsyncIterator[Database]:
    async with opened(dsn) as database:
        yield database


@pytest.fixture(autouse=True)
async def _fresh(db):
    FIRED.clear()
    await db.run("delete from timers")
    await db.run("delete from rate where k like 'fired:%%'")


async def traces(db: Database) -> int:
    row = await db.one("select count(*) as n from rate where k like 'fired:%%'")
    return row["n"]


async def due(db: Database, key: str) -> datetime | None:
    row = await db.one("select due_at from timers where key = %s", (key,))
    return row and row["due_at"]


async def make_due(db: Database, ago: timedelta = timedelta(seconds=1)) -> None:
    await db.run("update timers set due_at = clock_timestamp() - %s", (ago,))


def past(seconds: float = 1) -> datetime:
    return clock.now() - timedelta(seconds=seconds)


async def test_a_single_timer_fires_once_and_is_gone(db):
    moment = past()
    async with db.transaction() as tx:
        await timers.at(tx, moment, NOTE, "one", {"run_id": "run_1"})
    assert await timers.run_due(db) == 1
    assert await timers.run_due(db) == 0
    assert [timers.Fire("one", {"run_id": "run_1"}, moment)] == FIRED
    assert await due(db, "one") is None


async def test_a_timer_does_not_fire_early(db):
    async with db.session() as tx:
        await timers.at(tx, clock.now() + timedelta(seconds=0.4), NOTE, "soon")
    assert await timers.run_due(db) == 0
    await asyncio.sleep(0.5)
    assert await timers.run_due(db) == 1


async def test_a_rolled_back_timer_never_was(db):
    async def fail() -> None:
        async with db.transaction() as tx:
            await timers.at(tx, past(), NOTE, "one")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await timers.run_due(db) == 0


async def test_a_key_again_moves_the_timer(db):
    async with db.session() as tx:
        await timers.at(tx, past(), NOTE, "one", {"n": 1})
        await timers.at(tx, clock.now() + timedelta(hours=1), NOTE, "one", {"n": 2})
        assert await timers.run_due(db) == 0
        await timers.at(tx, past(), NOTE, "one", {"n": 3})
    await timers.run_due(db)
    assert [fire.args for fire in FIRED] == [{"n": 3}]


async def test_a_cancelled_timer_is_gone(db):
    async with db.session() as tx:
        await timers.at(tx, past(), NOTE, "one")
        assert await timers.cancel(tx, "one")
        assert not await timers.cancel(tx, "one")
    assert await timers.run_due(db) == 0


async def test_a_cron_line_moves_on(db):
    async with db.session() as tx:
        await timers.every(tx, "*/5 * * * *", NOTE, key="five", args={"n": 1})
    assert await timers.run_due(db) == 0
    await make_due(db)
    assert await timers.run_due(db) == 1
    following = await due(db, "five")
    assert following is not None
    assert following == timers.next_fire("*/5 * * * *", "UTC", clock.now())


async def test_missed_ticks_are_made_up_for_once(db):
    async with db.session() as tx:
        await timers.every(tx, "* * * * *", NOTE, key="minute")
    await make_due(db, timedelta(days=3))
    assert await timers.run_due(db) == 1
    following = await due(db, "minute")
    assert following is not None
    assert following > clock.now()


async def test_a_restart_does_not_put_a_tick_off(db):
    async with db.session() as tx:
        await timers.every(tx, "0 0 1 1 *", NOTE, key="yearly")
        await make_due(db)
        await timers.every(tx, "0 0 1 1 *", NOTE, key="yearly", args={"n": 2})
        assert await timers.run_due(db) == 1
        assert FIRED[0].args == {"n": 2}
        for changed in (("0 0 2 1 *", "UTC"), ("0 0 2 1 *", "Asia/Tokyo")):
            await make_due(db)
            await timers.every(tx, changed[0], NOTE, key="yearly", timezone=changed[1])
            assert await timers.run_due(db) == 0


async def test_every_answers_with_the_next_tick(db):
    async with db.session() as tx:
        following = await timers.every(tx, "30 6 * * *", NOTE, timezone="Europe/Berlin")
    assert following == timers.next_fire("30 6 * * *", "Europe/Berlin", clock.now())
    assert following.astimezone(UTC) == await due(db, NOTE)


async def test_bad_lines_are_refused_before_they_are_stored(db):
    async with db.session() as tx:
        with pytest.raises(BadRequest, match="cron"):
            await timers.every(tx, "61 * * * *", NOTE)
        with pytest.raises(BadRequest, match="timezone"):
            await timers.every(tx, "* * * * *", NOTE, timezone="Mars")
        with pytest.raises(LookupError):
            await timers.every(tx, "* * * * *", "nobody knows")
        with pytest.raises(LookupError):
            await timers.at(tx, past(), "nobody knows", "x")
        jobs.job(NOTE)(broken)  # the same name twice: which of them is meant?
        with pytest.raises(LookupError):
            await timers.at(tx, past(), NOTE, "x")
        del jobs._jobs[NOTE]
    assert await db.one("select 1 from timers") is None


async def test_many_nodes_fire_each_timer_once(db, dsn):
    nodes = [Database(dsn) for _ in range(4)]
    for node in nodes:
        await node.open()
    async with db.transaction() as tx:
        for number in range(40):
            await timers.at(tx, past(), NOTE, f"timer-{number}")
    fired = await asyncio.gather(*(timers.run_due(node) for node in nodes))
    for node in nodes:
        await node.close()
    assert sum(fired) == 40
    assert len({fire.key for fire in FIRED}) == len(FIRED) == 40
    assert await traces(db) == 40


async def test_one_that_fails_is_rolled_back_and_put_off_and_holds_up_nobody(db):
    async with db.transaction() as tx:
        await timers.at(tx, past(9), "test.broken", "bad")
        await timers.at(tx, past(1), NOTE, "good")
    await timers.run_due(db)
    assert [fire.key for fire in FIRED] == ["bad", "good"]
    assert await traces(db) == 1
    again = await due(db, "bad")
    assert again is not None
    assert timedelta(seconds=50) < again - clock.now() < timedelta(seconds=61)


async def test_a_line_that_went_bad_in_the_table_holds_up_nobody(db):
    async with db.session() as tx:
        await timers.every(tx, "* * * * *", NOTE, key="bad")
        await tx.run("update timers set timezone = 'Mars/Olympus'")
        await make_due(db)
        await timers.at(tx, past(0), NOTE, "good")
    await timers.run_due(db)
    assert [fire.key for fire in FIRED] == ["good"]


async def test_jobs_of_another_version_are_left_alone(db):
    await db.run("insert into timers (key, job, due_at) values ('new', 'of tomorrow', now())")
    assert await timers.run_due(db) == 0
    assert await due(db, "new") is not None


async def test_a_look_ends_in_time_for_the_heartbeat(db, monkeypatch):
    monkeypatch.setattr(timers, "BUDGET_SECONDS", 0)
    async with db.session() as tx:
        await timers.at(tx, past(), NOTE, "one")
    assert await timers.run_due(db) == 0
    monkeypatch.undo()
    assert await timers.run_due(db) == 1


async def test_what_cannot_be_queued_is_not_lost(pg):
    @jobs.job("test.unreachable")
    async def unreachable(db): ...

    bare = clone_database(pg)
    with psycopg.connect(bare, autocommit=True) as owner:
        owner.execute("drop schema dbos cascade")
    database = Database(bare)
    await database.open()
    async with database.session() as tx:
        await timers.at(tx, past(), "test.unreachable", "x")
    assert await timers.run_due(database) == 1
    assert await due(database, "x") is not None
    await database.close()


async def test_a_lost_database_is_the_callers_matter(dsn):
    gone = Database(dsn)
    await gone.open()
    await gone.close()
    with pytest.raises(ConnectionLost):
        await timers.run_due(gone)
