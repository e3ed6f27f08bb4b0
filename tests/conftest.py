"""Shared parts of the tests: one Postgres a run, one database a worker, a new tenant a test."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from servers import InProcess

from lantern import keys
from lantern.core import ids, jobs, migrate, postgres
from lantern.core.db import Database
from lantern_dev.model import FakeModel

TEMPLATE = "lantern_template"


@dataclass(frozen=True)
class Tenant:
    """A tenant of its own, so that tests need not clean up after each other."""

    id: int
    key: str  # admin, without a limit


@dataclass(frozen=True)
class Server:
    """The worker's running server and an admin key of a tenant of its own."""

    url: str
    key: str
    app: InProcess


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
            jobs.migrate_jobs(_dsn(server, f"{TEMPLATE}_new"))
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
    return await new_tenant(db)


async def new_tenant(db: Database) -> Tenant:
    """A tenant with 1,000 credits and an admin key that no limit holds back."""
    row = await db.one("select create_tenant('test', 'team', 1000) as id")
    assert row is not None
    return Tenant(row["id"], await new_key(db, row["id"], limits={"plan": 0}))


async def new_key(db: Database, tenant: int, **options: Any) -> str:
    """A key of a tenant; by default admin, all agents, plan limits."""
    wanted = keys.OperatorKey(**{"name": "test", "scopes": ["admin"], "agents": ["*"], **options})
    async with db.transaction(tenant) as tx:
        made = await keys.create_as_operator(tx, tenant, wanted)
    return str(made["key"])


# What a test model does is in its provider name: see lantern_dev.model.
MODELS = {
    "small": "small:tokens=12;inter_ms=1",
    "slow": "slow:tokens=400;inter_ms=20",
    "silent": "silent:fault=silent",
}


def model_settings(fake: FakeModel, **more: str) -> list[dict[str, Any]]:
    """`[[models]]` for the fake model server."""
    return [
        {
            "name": name,
            "base_url": fake.url,
            "model": wire,
            "input_usd_per_mtok": 1,
            "output_usd_per_mtok": 2,
        }
        for name, wire in {**MODELS, **more}.items()
    ]


@pytest.fixture(scope="session")
async def fake() -> AsyncIterator[FakeModel]:
    """A model server on a real socket."""
    async with FakeModel() as running:
        yield running


@pytest.fixture(scope="session")
async def server(dsn: str, db: Database, fake: FakeModel) -> AsyncIterator[Server]:
    """The product's server on this worker's database."""
    owner = await new_tenant(db)
    running = InProcess(dsn, models=model_settings(fake))
    await asyncio.to_thread(running.__enter__)
    yield Server(running.url, owner.key, running)
    await asyncio.to_thread(running.__exit__)


@pytest.fixture
async def api(server: Server, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the admin key of a new tenant."""
    headers = {"Authorization": f"Bearer {tenant.key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).parents[1]
