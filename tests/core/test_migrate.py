"""Migrations: once, in order, by one process at a time, also for an owner who is no superuser."""

import re
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from lantern.core import home, ids, migrate
from lantern.core.db import Database, DatabaseError
from lantern.core.errors import Conflict, Unavailable
from lantern.settings import DatabaseSettings


@pytest.fixture
def database(pg):
    """Makes databases without any table; drops them afterwards."""
    made: list[str] = []

    def make(owner: str | None = None) -> str:
        name = ids.new("db")
        with psycopg.connect(pg.dsn, autocommit=True) as boss:
            boss.execute(f"create database {name}" + (f" owner {owner}" if owner else ""))
        made.append(name)
        login = {"user": owner, "password": "plain"} if owner else {}
        return psycopg.conninfo.make_conninfo(pg.dsn, dbname=name, **login)

    yield make
    with psycopg.connect(pg.dsn, autocommit=True) as boss:
        for name in made:
            boss.execute(f"drop database {name} with (force)")


@pytest.fixture
def plain(pg):  # to be asked for before `database`: an owner goes last
    """A role as a hosting service gives it: it may log in and create roles, and nothing else."""
    name = ids.new("plain")
    with psycopg.connect(pg.dsn, autocommit=True) as boss:
        boss.execute(f"create role {name} login createrole password 'plain'")
        yield name
        boss.execute(f"drop owned by {name}")
        boss.execute(f"drop role {name}")


def test_files_are_numbered_without_gaps():
    names = [name for name, _ in migrate.files()]
    numbers = [int(name[:4]) for name in names]
    assert numbers == list(range(1, len(names) + 1))
    for name in names:
        assert re.fullmatch(r"\d{4}_[a-z0-9_]+(\.(pre|post))?\.sql", name)


def test_applied_once(database):
    dsn = database()
    names = [name for name, _ in migrate.files()]
    assert migrate.pending(dsn) == names
    assert migrate.apply(dsn) == names
    assert migrate.pending(dsn) == []
    assert migrate.apply(dsn) == []


def test_a_file_that_was_edited_is_refused(dsn, database):
    fresh = database()
    migrate.apply(fresh)
    name = migrate.files()[0][0]
    with psycopg.connect(fresh, autocommit=True) as boss:
        boss.execute("update lantern.schema_migrations set checksum = 'another'")
    with pytest.raises(Conflict, match=name):
        migrate.apply(fresh)


def test_one_that_fails_leaves_nothing(database, monkeypatch):
    dsn = database()
    migrate.apply(dsn)
    bad = ("9999_bad.sql", "create table half (a int); select 1 / 0; create table rest (a int)")
    good = migrate.files()
    monkeypatch.setattr(migrate, "files", lambda: [*good, bad])
    assert migrate.pending(dsn) == ["9999_bad.sql"]
    with pytest.raises(DatabaseError):
        migrate.apply(dsn)
    assert migrate.pending(dsn) == ["9999_bad.sql"]
    with psycopg.connect(dsn) as boss:
        row = boss.execute("select to_regclass('lantern.half')").fetchone()
    assert row == (None,)


def test_processes_that_start_together_apply_it_once(database):
    dsn = database()
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate.apply, [dsn] * 4))
    assert sorted(applied) == [[], [], [], [name for name, _ in migrate.files()]]


async def test_a_server_does_not_start_on_an_old_database(database):
    with pytest.raises(Unavailable, match="lantern migrate"):
        await home.open_database(database(), DatabaseSettings())


async def test_a_plain_owner_migrates_and_serves(pg, plain, database, dsn):
    """Its roles exist on this server already, made by somebody else and granted to it."""
    with psycopg.connect(pg.dsn, autocommit=True) as boss:
        boss.execute(f"grant lantern_app, lantern_system to {plain}")
    theirs = database(plain)
    assert migrate.apply(theirs) == [name for name, _ in migrate.files()]
    assert migrate.apply(theirs) == []
    db = await home.open_database(theirs, DatabaseSettings())
    try:
        tenant = (await db.one("select create_tenant('x', 'team', 5) as id"))["id"]
        async with db.transaction(tenant) as tx:
            await tx.run(
                "insert into agents (tenant_id, id, name) values (%s, 'a', 'a')", (tenant,)
            )
            assert await tx.one("select name from agents") == {"name": "a"}
        assert await db.all("select * from agents") == []
        row = await db.one("select current_setting('is_superuser') as super")
        assert row == {"super": "off"}
    finally:
        await db.close()


def test_without_the_grant_the_error_says_what_to_run(plain, database, dsn):
    theirs = database(plain)
    with pytest.raises(DatabaseError, match=f"grant lantern_app, lantern_system to {plain}"):
        migrate.apply(theirs)
    assert migrate.pending(theirs) == [name for name, _ in migrate.files()]


class Unbound(Database):
    """Works as the login role, which is a superuser here."""

    async def _configure(self, connection):
        await super()._configure(connection)
        await connection.execute("reset role")


async def test_a_role_that_bypasses_is_refused(dsn):
    db = Unbound(dsn)
    await db.open()
    try:
        with pytest.raises(Conflict, match="bypasses row-level security"):
            await home.check(db)
    finally:
        await db.close()
