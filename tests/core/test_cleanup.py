"""What is over its time goes, what is not stays, however much there is."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from parts import clone_database, opened

from lantern.core import cleanup, postgres, timers
from lantern.core.db import Database
from lantern.settings import RetentionSettings


@pytest.fixture(scope="module")
def dsn(pg: postgres.Server) -> str:
    """A database of its own: the node of another test's server has timers of its own."""
    return clone_database(pg)


@pytest.fixture(scope="module")
async def db(dsn: str) -> AsyncIterator[Database]:
    async with opened(dsn) as database:
        yield database


async def count(db: Database, tenant: int, table: str) -> int:
    async with db.transaction(tenant) as tx:
        row = await tx.one(f"select count(*) as n from {table}")
    assert row is not None
    return int(row["n"])


async def answers(tx: Any, tenant: int, number: int, age: str) -> None:
    await tx.run(
        "insert into idempotency (tenant_id, key_id, route, key, body_hash, created_at)"
        " select %s, 'key', 'route', %s || n, '', now() - %s::interval"
        " from generate_series(1, %s) n",
        (tenant, age, age, number),
    )


async def run(tx: Any, tenant: int, name: str, age: str, closed: bool) -> None:
    await tx.run(
        "insert into runs (id, tenant_id, kind, status, input, closed, finished_at)"
        " values (%s, %s, 'agent', 'completed', '{}', %s, now() - %s::interval)",
        (name, tenant, closed, age),
    )
    await tx.run(
        "insert into run_events select %s, %s, n, n, '[]' from generate_series(1, 5) n",
        (tenant, name),
    )


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "BATCH", 3)


@pytest.mark.usefixtures("_small_batches")
async def test_old_rows_go_in_batches(db, tenant):
    async with db.transaction(tenant.id) as tx:
        await answers(tx, tenant.id, 10, "25 hours")
        await answers(tx, tenant.id, 2, "23 hours")
        await run(tx, tenant.id, f"run_old_{tenant.id}", "31 days", closed=True)
        await run(tx, tenant.id, f"run_new_{tenant.id}", "29 days", closed=True)
        await run(tx, tenant.id, f"run_open_{tenant.id}", "31 days", closed=False)
    await db.run(
        "insert into nodes (id, role, host, pid, version, beat)"
        " values ('node_old', 'server', 'h', 1, '0', now() - interval '2 days')"
    )
    await cleanup.clean_up(db, answers_hours=24, events_days=30)
    assert await count(db, tenant.id, "idempotency") == 2
    assert await count(db, tenant.id, "run_events") == 10
    assert await count(db, tenant.id, "runs") == 3  # the run itself is not an event
    assert await db.one("select 1 from nodes where id = 'node_old'") is None
    await cleanup.clean_up(db, answers_hours=24, events_days=30)
    assert await count(db, tenant.id, "idempotency") == 2


async def test_the_timer_follows_the_settings(db):
    async with db.transaction() as tx:
        await cleanup.schedule(tx, RetentionSettings(answers_hours=48, cleanup_cron="0 4 * * *"))
        row = await tx.one("select * from timers where key = 'cleanup'")
        assert row is not None
        assert (row["cron"], row["job"]) == ("0 4 * * *", "cleanup")
        assert row["args"] == {"answers_hours": 48, "events_days": 30, "outbox_days": 30}
        await timers.cancel(tx, "cleanup")
