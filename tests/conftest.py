"""Shared parts of the tests: one Postgres a run, one database a worker, a new tenant a test."""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from lantern.core import ids, migrate, postgres
from lantern.core.db import Database

TEMPLATE = "lantern_template"


@dataclass(frozen=True)
class Tenant:
    """A tenant of its own, so that tests need not clean up after each other."""

    id: int


@pytest.fixture(scope="session")
def pg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.Server]:
    """The run's Postgres: the product's own launcher, without fsync, gone with the run."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with postgres.acquire(shared / "postgres", fsync=False, die_with_parent=True) as server:
        yield server


def _dsn(server: postgres.Server, database: str) -> str:
    return psycopg.conninfo.make_conninfo(server.dsn, dbname=database)


def clone_database(server: postgres.Server) -> str:
    """A new migrated database from the template; returns its DSN."""
    name = ids.new("db")
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(1)")  # the workers start at the same time
        made = connection.execute(
            "select 1 from pg_database where datname = %s", (TEMPLATE,)
        ).fetchone()
        if not made:
            connection.execute(f"create database {TEMPLATE}_new")
            migrate.apply(_dsn(server, f"{TEMPLATE}_new"))
            connection.execute(f"alter database {TEMPLATE}_new rename to {TEMPLATE}")
        connection.execute(f"create database {name} template {TEMPLATE} strategy file_copy")
    return _dsn(server, name)


@pytest.fixture(scope="session")
def dsn(pg: postgres.Server) -> str:
    """This worker's database."""
    return clone_database(pg)


@pytest.fixture(scope="session")
async def db(dsn: str) -> AsyncIterator[Database]:
    """A pool on this worker's database."""
    database = Database(dsn)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def tenant(db: Database) -> Tenant:
    """A new tenant with 1,000 credits."""
    row = await db.one("select create_tenant('test', 'team', 1000) as id")
    assert row is not None
    return Tenant(row["id"])


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).parents[1]
