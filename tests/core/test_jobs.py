"""Queued jobs on the real engine: with the transaction or not at all, once, and on after a kill."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import psycopg
import pytest
from parts import clone_database, opened

from lantern.core import clock, jobs, jobs_dbos, postgres, timers
from lantern.core.db import Database
from lantern.core.errors import Conflict, Unavailable
from lantern.core.jobs import Jobs
from lantern.core.nodes import Node
from lantern.settings import NodeSettings

DONE: list[tuple[str, int]] = []
RUNNING: set[str] = set()


@jobs.job("test.note")
async def note(db: Database, name: str, n: int = 0) -> None:
    # The pool belongs to the loop of the process: on the engine's own loop this would fail.
    row = await db.one("select current_user as role")
    assert row is not None
    assert row["role"] == "lantern_app"
    DONE.append((name, n))


@jobs.job("test.wait")
async def wait(db: Database, name: str) -> None:
    RUNNING.add(name)
    try:
        await asyncio.sleep(60)
    finally:
        RUNNING.discard(name)


@jobs.job("test.fail", attempts=3, pause=0.01)
async def fail(db: Database, name: str, times: int) -> None:
    DONE.append((name, 1))
    if len(DONE) <= times:
        raise OSError("not today")


@jobs.job("test.refuse", attempts=3, pause=0.01)
async def refuse(db: Database) -> None:
    DONE.append(("refused", 1))
    raise Conflict("never")


@pytest.fixture(scope="module")
def dsn(pg: postgres.Server) -> str:
    """A database of its own: the node of another test's server would take the jobs."""
    return clone_database(pg)


@pytest.fixture(scope="module")
async def db(dsn: str) -> AsyncIterator[Database]:
    async with opened(dsn) as database:
        yield database


@asynccontextmanager
async def running(db: Database) -> AsyncIterator[Jobs]:
    """An engine that looks every 50 ms. Its node is in no list, so nobody judges it, nor it them."""
    engine = Jobs(Node(db, NodeSettings(), "worker"))
    await engine.open()

    async def tend() -> None:
        while True:
            await engine.tend()
            await asyncio.sleep(0.05)

    task = asyncio.create_task(tend())
    try:
        yield engine
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await engine.close()


@pytest.fixture
async def clean(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_dbos, "POLL_SECONDS", 0.1)
    for table in ("workflow_status", "workflow_input", "workflow_output"):
        await db.run(f"delete from dbos.{table}")
    DONE.clear()
    RUNNING.clear()


@pytest.fixture
async def engine(clean: None, db: Database) -> AsyncIterator[Jobs]:
    async with running(db) as engine:
        yield engine


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def until_db(condition: Callable[[], Awaitable[object]], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def status(db: Database, job_id: str) -> str | None:
    row = await db.one(
        "select status from dbos.workflow_status where workflow_uuid = %s", (job_id,)
    )
    return row and row["status"]


async def put(db: Database, name: str, args: dict[str, object], key: str) -> str:
    async with db.transaction() as tx:
        return await jobs.enqueue(tx, name, args, key)


async def test_rolled_back_nothing_committed_once(engine, db):
    async def roll_back() -> None:
        async with db.transaction() as tx:
            await jobs.enqueue(tx, "test.note", {"name": "rolled back"}, "1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await roll_back()
    assert await status(db, "test.note:1") is None
    ids = [await put(db, "test.note", {"name": "committed", "n": 2}, "2") for _ in range(3)]
    assert set(ids) == {"test.note:2"}
    await until_db(lambda: _is(db, "test.note:2", "SUCCESS"))
    await put(db, "test.note", {"name": "committed", "n": 3}, "2")  # done, and remembered
    await put(db, "test.note", {"name": "last"}, "3")
    await until(lambda: ("last", 0) in DONE)
    assert DONE == [("committed", 2), ("last", 0)]


async def _is(db: Database, job_id: str, expected: str) -> bool:
    return await status(db, job_id) == expected


async def test_the_same_key_in_two_transactions_at_once(engine, db):
    await asyncio.gather(*(put(db, "test.note", {"name": "twin"}, "twin") for _ in range(10)))
    await until_db(lambda: _is(db, "test.note:twin", "SUCCESS"))
    await asyncio.sleep(0.2)
    assert DONE == [("twin", 0)]


async def test_the_engine_starts_with_the_first_job_and_stops_after_the_last(
    engine, db, monkeypatch
):
    await asyncio.sleep(0.3)
    assert not engine.running
    monkeypatch.setattr(jobs, "IDLE_SECONDS", 0.5)
    for round_ in range(2):
        await put(db, "test.note", {"name": "x", "n": round_}, f"round {round_}")
        await until(lambda: engine.running)
        await until(lambda r=round_: ("x", r) in DONE)
        await until(lambda: not engine.running)
    assert not [t for t in threading.enumerate() if "dbos" in t.name or "queue-worker" in t.name]


async def test_it_works_with_no_more_rights_than_the_server(engine, db, dsn):
    await put(db, "test.note", {"name": "x"}, "rights")
    await until(lambda: DONE)
    row = await db.one(
        "select count(*) as n from pg_stat_activity"
        " where application_name = 'lantern jobs' and datname = current_database()"
    )
    assert 1 <= row["n"] <= jobs_dbos.CONNECTIONS
    with jobs_dbos.connect(dsn) as connection:
        facts = connection.execute(
            "select current_user, current_setting('is_superuser'), current_setting('search_path')"
        ).fetchone()
        assert facts == ("lantern_app", "off", "dbos")
        connection.rollback()
        role = connection.execute("select current_user").fetchone()
        assert role == ("lantern_app",)
        for statement in ("create table dbos.x ()", "create table lantern.x ()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(statement)
        assert connection.execute("select count(*) from lantern.api_keys").fetchone() == (0,)


async def test_every_connection_of_the_engine_is_made_by_the_door(engine, db, dsn):
    """Under the login role there is none but the tests' own."""
    await put(db, "test.note", {"name": "x"}, "door")
    await until(lambda: DONE)
    names = await db.all(
        "select distinct application_name as name from pg_stat_activity"
        " where datname = current_database() and backend_type = 'client backend'"
    )
    assert {row["name"] for row in names} <= {"", "lantern jobs"}


async def test_a_job_that_raises_is_tried_again(engine, db):
    await put(db, "test.fail", {"name": "twice", "times": 2}, "a")
    await until_db(lambda: _is(db, "test.fail:a", "SUCCESS"))
    assert len(DONE) == 3


async def test_a_job_that_never_works_ends_as_an_error(engine, db):
    await put(db, "test.fail", {"name": "never", "times": 99}, "b")
    await until_db(lambda: _is(db, "test.fail:b", "ERROR"))
    assert len(DONE) == 3


async def test_a_refusal_is_not_tried_again(engine, db):
    await put(db, "test.refuse", {}, "c")
    await until_db(lambda: _is(db, "test.refuse:c", "ERROR"))
    assert len(DONE) == 1


async def test_unknown_jobs_are_a_mistake_of_the_caller(engine, db):
    with pytest.raises(LookupError):
        await put(db, "nobody.knows", {}, "x")


async def test_a_timer_queues_a_job_in_its_own_transaction(engine, db):
    async with db.session() as tx:
        await timers.at(tx, clock.now(), "test.note", "when", {"name": "timer", "n": 7})
    assert await timers.run_due(db) == 1
    await until(lambda: DONE)
    assert DONE == [("timer", 7)]


async def test_a_suspended_node_stops_its_jobs_and_comes_back_for_them(engine, db):
    await put(db, "test.wait", {"name": "long"}, "long")
    await until(lambda: RUNNING)
    await engine.suspend()
    await until(lambda: not RUNNING)
    assert await status(db, "test.wait:long") == "PENDING"
    await put(db, "test.note", {"name": "meanwhile"}, "meanwhile")
    await asyncio.sleep(1.5)
    assert not DONE  # it takes nothing
    engine.node.id = "node_again"
    await until(lambda: {"long"} == RUNNING)
    await until(lambda: DONE)
    row = await db.one(
        "select executor_id from dbos.workflow_status where workflow_uuid = 'test.wait:long'"
    )
    assert row["executor_id"] == "node_again"


async def test_closing_leaves_unfinished_jobs_to_others(engine, db):
    await put(db, "test.wait", {"name": "long"}, "left")
    await until(lambda: RUNNING)
    await engine.close()
    assert not RUNNING
    assert await status(db, "test.wait:left") == "PENDING"
    # The closed node is in no list any more: its job is taken over by the next one that looks.
    async with running(db) as heir:
        await until(lambda: {"long"} == RUNNING)
        row = await db.one("select executor_id as id from dbos.workflow_status")
        assert row["id"] == heir.node.id


async def test_closing_waits_for_what_runs_if_it_may(engine, db):
    @jobs.job("test.short")
    async def short(db: Database) -> None:
        RUNNING.add("short")
        await asyncio.sleep(0.5)
        DONE.append(("short", 1))

    await put(db, "test.short", {}, "short")
    await until(lambda: RUNNING)
    await engine.close(drain_seconds=5)
    assert DONE == [("short", 1)]
    assert await status(db, "test.short:short") == "SUCCESS"


async def test_a_job_that_kills_its_nodes_is_put_aside(engine, db):
    async with db.transaction() as tx:
        job_id = await jobs.enqueue(tx, "test.note", {"name": "killer"}, "x")
        taken = jobs_dbos.RECOVERIES + 1
        await tx.run("update dbos.workflow_status set recovery_attempts = %s", (taken,))
    await until_db(lambda: _is(db, job_id, "MAX_RECOVERY_ATTEMPTS_EXCEEDED"))
    assert not DONE


async def test_lost_connections_are_made_again(engine, db, dsn):
    await put(db, "test.note", {"name": "before"}, "before")
    await until(lambda: DONE)
    with psycopg.connect(dsn, autocommit=True) as owner:
        ended = owner.execute(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where application_name = 'lantern jobs' and datname = current_database()"
        ).fetchone()
        assert ended is not None
        assert ended[0] >= 1
    await put(db, "test.note", {"name": "after"}, "after")
    await until(lambda: ("after", 0) in DONE)


async def test_ended_jobs_are_forgotten_in_batches(engine, db):
    for n in range(3):
        await put(db, "test.note", {"name": "x", "n": n}, f"old {n}")
    await until_db(lambda: all_ended(db))
    await db.run(
        "update dbos.workflow_status set completed_at = completed_at - 31 * 86400000::int8"
    )
    await engine.close()
    await put(db, "test.wait", {"name": "open"}, "open")
    assert await jobs.forget(db, days=40, batch=10) == 0
    assert await jobs.forget(db, days=30, batch=2) == 2
    assert await jobs.forget(db, days=30, batch=2) == 1
    for table in ("workflow_status", "workflow_input"):
        left = await db.all(f"select workflow_uuid as id from dbos.{table}")
        assert [row["id"] for row in left] == ["test.wait:open"]
    assert await db.one("select 1 from dbos.workflow_output") is None


async def all_ended(db: Database) -> bool:
    return await db.one("select 1 from dbos.workflow_status where completed_at is null") is None


async def test_a_database_without_the_schema_is_told_apart(pg):
    bare = clone_database(pg)
    with psycopg.connect(bare, autocommit=True) as owner:
        owner.execute("drop schema dbos cascade")
        owner.execute("delete from lantern.schema_migrations where name = 'dbos'")
    database = Database(bare)
    await database.open()
    with pytest.raises(Unavailable, match="lantern migrate"):
        await Jobs(Node(database, NodeSettings(), "worker")).open()
    assert jobs.migrate_jobs(bare) is True
    await Jobs(Node(database, NodeSettings(), "worker")).open()
    await database.close()


def test_migrating_again_takes_no_time(dsn):
    started = time.perf_counter()
    assert jobs.migrate_jobs(dsn) is False
    assert time.perf_counter() - started < 0.5


def test_importing_jobs_does_not_import_the_engine():
    code = "import sys; from lantern.core import jobs; sys.exit('dbos' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


VICTIM = """
import asyncio, sys
from lantern.core import jobs
from lantern.core.db import Database
from lantern.core.nodes import Node
from lantern.settings import NodeSettings

@jobs.job("test.survive")
async def survive(db, name):
    print("begun", flush=True)
    await asyncio.sleep(600)

async def main():
    db = Database(sys.argv[1])
    await db.open()
    node = Node(db, NodeSettings(dead_seconds=1, beat_seconds=0.2), "worker")
    engine = jobs.Jobs(node)
    await engine.open()
    node.each_second.append(engine.tend)
    await node.open()
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.usefixtures("clean")
async def test_a_killed_process_leaves_its_job_to_another(db, dsn):
    """kill -9 in mid-job. While the victim beats, nobody touches its job; then it is done here."""

    @jobs.job("test.survive")
    async def survive(db: Database, name: str) -> None:
        DONE.append((name, 1))

    job_id = await put(db, "test.survive", {"name": "heir"}, "1")
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", VICTIM, dsn, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert victim.stdout is not None
        async with asyncio.timeout(30):
            while await victim.stdout.readline() != b"begun\n":
                pass  # its log
        async with running(db) as heir:
            await until(lambda: heir.running)
            await asyncio.sleep(1)
            assert await status(db, job_id) == "PENDING"
            assert not DONE
            victim.kill()
            killed = time.monotonic()
            await until_db(lambda: _is(db, job_id, "SUCCESS"), 30)
            assert time.monotonic() - killed < 10
            assert await heir.recover([heir.node.id, "node_nobody"]) == 0
    finally:
        if victim.returncode is None:
            victim.kill()
        await victim.communicate()
    assert DONE == [("heir", 1)]
