"""The door to Postgres: what is committed, what is not, and what happens when it breaks."""

import asyncio
import time

import psycopg
import pytest
from servers import free_port

from lantern.core.db import (
    APP_ROLE,
    ConnectionLost,
    Database,
    DatabaseError,
    UniqueViolation,
    facts,
)
from lantern.core.errors import Unavailable
from lantern.settings import DatabaseSettings


@pytest.fixture
async def small(dsn):
    """A pool of two connections that waits half a second for one."""
    db = Database(
        dsn,
        DatabaseSettings(pool_size=2, pool_timeout_seconds=0.5, statement_timeout_ms=1000),
    )
    await db.open()
    yield db
    await db.close()


async def kill_all(dsn: str, keep: int = 0) -> None:
    """End every other backend of this database that works as the server's role."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as boss:
        await boss.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid() and pid = %s",
            (keep,),
        )


async def test_rows_are_dictionaries(db):
    assert await db.one("select 1 as a, 'x' as b") == {"a": 1, "b": "x"}
    assert await db.one("select 1 where false") is None
    assert await db.all("select n from generate_series(1, 3) n") == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert await db.one("select %(n)s::int as n", {"n": 5}) == {"n": 5}
    assert await db.one("select %s::int as n", (5,)) == {"n": 5}


async def test_run_counts_rows(db):
    async with db.transaction() as tx:
        await tx.run("create temp table t (a int) on commit drop")
        assert await tx.run("insert into t select generate_series(1, 7)") == 7
        assert await tx.run("update t set a = 0 where a > 5") == 2


async def test_a_transaction_commits_at_its_end(db):
    async with db.transaction() as tx:
        await tx.run("insert into rate (k, tat) values ('kept', now())")
        assert await db.one("select 1 from rate where k = 'kept'") is None
    assert await db.run("delete from rate where k = 'kept'") == 1


async def put(db: Database, *names: str, then: type[BaseException] | None = None) -> None:
    """Buckets of these names, in one transaction that may end badly."""
    async with db.transaction() as tx:
        for name in names:
            await tx.run("insert into rate (k, tat) values (%s, now())", (name,))
        await tx.run("select pg_notify('test_channel', 'put')")
        if then is not None:
            raise then


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
async def test_and_does_not_when_anything_is_raised(db, error):
    with pytest.raises(error):
        await put(db, "gone", then=error)
    assert await db.one("select 1 from rate where k = 'gone'") is None


async def test_a_statement_that_fails_spoils_only_its_transaction(small):
    with pytest.raises(UniqueViolation):
        await put(small, "x", "x")
    for _ in range(4):
        assert await small.one("select count(*) as n from rate where k = 'x'") == {"n": 0}


async def test_a_commit_that_fails_is_raised_and_the_connection_lives(small):
    async def broken() -> None:
        async with small.transaction() as tx:
            await tx.run("create temp table parent (id int primary key)")
            await tx.run(
                "create temp table child (id int references parent deferrable initially deferred)"
            )
            await tx.run("insert into child values (1)")

    with pytest.raises(DatabaseError, match="foreign key"):
        await broken()
    assert await small.one("select 1 as a") == {"a": 1}


async def test_every_connection_is_bound_and_finds_our_tables(small):
    async with small.session() as one, small.session() as two:
        for session in (one, two):
            row = await session.one(
                "select current_user as role, current_setting('search_path') as path,"
                " current_setting('statement_timeout') as timeout"
            )
            assert row == {"role": APP_ROLE, "path": "lantern", "timeout": "1s"}


async def test_the_tenant_is_a_number_or_nothing(db):
    for tenant in ("1; drop table runs", "x", None):
        if tenant is None:
            async with db.transaction(None) as tx:
                assert await tx.one("select tenant() as t") == {"t": None}
            continue
        with pytest.raises(ValueError, match="invalid literal"):
            async with db.transaction(tenant):
                pass
    async with db.transaction(42) as tx:
        assert await tx.one("select tenant() as t") == {"t": 42}
    assert await db.one("select tenant() as t") == {"t": None}


async def test_more_callers_than_connections_take_turns(small):
    rows = await asyncio.gather(*[small.one("select %s::int as n", (n,)) for n in range(50)])
    assert [row["n"] for row in rows] == list(range(50))


async def test_without_a_free_connection_it_is_unavailable(small):
    async with small.session(), small.session():
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await small.one("select 1")
        assert time.monotonic() - began < 2
    assert await small.one("select 1 as a") == {"a": 1}


async def test_a_database_that_is_not_there_is_unavailable():
    dsn = f"host=127.0.0.1 port={free_port()} dbname=x user=x"
    db = Database(dsn, DatabaseSettings(pool_timeout_seconds=0.3))
    with pytest.raises(Unavailable):
        await db.open()


async def test_a_statement_may_not_take_forever(small):
    with pytest.raises(DatabaseError, match="statement timeout"):
        await small.one("select pg_sleep(30)")
    assert await small.one("select 1 as a") == {"a": 1}


async def test_a_caller_who_gives_up_frees_the_connection(small):
    async def sleep() -> None:
        async with small.transaction() as tx:
            await tx.run("insert into rate (k, tat) values ('given up', now())")
            await tx.one("select pg_sleep(30)")

    tasks = [asyncio.create_task(sleep()) for _ in range(2)]
    await asyncio.sleep(0.1)
    began = time.monotonic()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await small.one("select 1 from rate where k = 'given up'") is None
    assert time.monotonic() - began < 0.8


async def test_a_backend_that_dies_is_replaced(small, dsn):
    async def die() -> None:
        async with small.transaction() as tx:
            await tx.run("insert into rate (k, tat) values ('died', now())")
            row = await tx.one("select pg_backend_pid() as pid")
            await kill_all(dsn, row["pid"])
            await tx.one("select 1")

    with pytest.raises(ConnectionLost):
        await die()
    rows = await asyncio.gather(*[small.one("select 1 as a") for _ in range(10)])
    assert rows == [{"a": 1}] * 10
    assert await small.one("select 1 from rate where k = 'died'") is None


async def test_what_a_log_may_say_of_an_error(db):
    with pytest.raises(DatabaseError) as caught:
        await db.run(
            "insert into nodes (id, role, host, pid, version) values ('a', null, '', 1, '')"
        )
    assert facts(caught.value) == {"sqlstate": "23502", "table": "nodes", "constraint": None}
    assert facts(ValueError("x")) == {}


async def test_listening_hears_what_is_committed(db):
    ready, heard = asyncio.Event(), []

    async def listen() -> None:
        async for payload in db.listen("test_channel", ready.set):
            heard.append(payload)
            if payload == "last":
                return

    task = asyncio.create_task(listen())
    await asyncio.wait_for(ready.wait(), 5)
    with pytest.raises(ValueError):
        await put(db, "unheard", then=ValueError)
    await db.run("select pg_notify('test_channel', 'first')")
    await db.run("select pg_notify('test_channel', 'last')")
    await asyncio.wait_for(task, 5)
    assert heard == ["first", "last"]
