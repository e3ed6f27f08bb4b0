"""Parts that fixtures and tests share: databases, tenants, model settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from callers import make_key
from servers import InProcess

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


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Database]:
    """A pool on a database."""
    database = Database(dsn)
    await database.open()
    yield database
    await database.close()


async def new_tenant(db: Database) -> Tenant:
    """A tenant with 1,000 credits and an admin key that no limit holds back."""
    row = await db.one("select create_tenant('test', 'team', 1000) as id")
    assert row is not None
    return Tenant(row["id"], await make_key(db, row["id"]))


# What a test model does is in its provider name: see lantern_dev.model.
MODELS = {
    "small": "small:tokens=12;inter_ms=1",
    "medium": "medium:tokens=80;inter_ms=10",
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
