"""Shared parts of the tests: one Postgres a run, one database a worker, a new tenant a test."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from parts import Server, Tenant, clone_database, model_settings, new_tenant, opened
from servers import InProcess

from lantern.core import postgres
from lantern.core.db import Database
from lantern_dev.model import FakeModel


@pytest.fixture(scope="session")
def pg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.Server]:
    """The run's Postgres: the product's own launcher, without fsync, gone with the run."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with postgres.acquire(shared / "postgres", fsync=False, die_with_parent=True) as server:
        yield server


@pytest.fixture(scope="session")
def dsn(pg: postgres.Server) -> str:
    """This worker's database."""
    return clone_database(pg)


@pytest.fixture(scope="session")
async def db(dsn: str) -> AsyncIterator[Database]:
    """A pool on this worker's database."""
    async with opened(dsn) as database:
        yield database


@pytest.fixture
async def tenant(db: Database) -> Tenant:
    """A new tenant with 1,000 credits."""
    return await new_tenant(db)


@pytest.fixture(scope="session")
async def fake() -> AsyncIterator[FakeModel]:
    """A model server on a real socket."""
    async with FakeModel() as running:
        yield running


@pytest.fixture(scope="session")
async def server(
    dsn: str, db: Database, fake: FakeModel, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    """The product's server on this worker's database."""
    owner = await new_tenant(db)
    data_dir = tmp_path_factory.mktemp("data")
    running = InProcess(dsn, models=model_settings(fake), data_dir=data_dir)
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
