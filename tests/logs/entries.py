"""Rows of the log, made quickly, and the ways in which somebody may spoil them."""

import datetime
from typing import Any

import psycopg

from lantern import logs
from lantern.core.db import Database
from lantern.gate import seals

DAY = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
FULL = {"from": "2026-03-01", "to": "2026-03-02"}


async def fill(db: Database, tenant: int, n: int, **given: Any) -> None:
    """`n` rows, `step` apart from `start` on."""
    values = {
        "start": DAY,
        "step": datetime.timedelta(seconds=1),
        "action": "assign",
        "object": "Lead",
        "object_id": "00QKz",
        "pool": "emea-sdr",
        "user": "005Kz",
        "reason": "round_robin",
        "diff": None,
        **given,
        "tenant": tenant,
        "n": n,
    }
    async with db.transaction(tenant) as tx:
        await tx.run(
            "select log_route(%(tenant)s, %(start)s + (n - 1) * %(step)s::interval, %(action)s, %(object)s,"
            " %(object_id)s::text || n, %(pool)s, %(user)s::text || (n %% 17), null, n,"
            " %(reason)s, 'req_' || n, null, %(diff)s) from generate_series(1, %(n)s) n",
            values,
        )


async def seal_all(db: Database) -> None:
    """Until nothing waits that another test has not just written."""
    while await seals.seal(db):
        pass


async def waiting(db: Database, tenant: int) -> int:
    async with db.transaction(tenant) as tx:
        row = await tx.one("select count(*) as n from log_unsealed")
    assert row is not None
    return int(row["n"])


async def sealed(db: Database, tenant: int) -> None:
    """Seal until this tenant's queue is empty; another sealer may be at it."""
    while await waiting(db, tenant):
        await seals.seal(db)


async def walk(db: Database, tenant: int, keys: logs.Keys, **options: Any) -> logs.Report:
    async with db.reading(tenant) as tx:
        return await logs.walk(tx, tenant, keys, **options)


async def problem(db: Database, tenant: int, keys: logs.Keys) -> tuple[str, int | None]:
    found = (await walk(db, tenant, keys)).problem
    assert found is not None
    return found.kind, found.chain_seq


async def as_owner(dsn: str, sql: str, *params: Any) -> Any:
    """What somebody with all rights on the database may do to it: its first value, or a count."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("set search_path = lantern")
        cursor = await connection.execute(sql, params)
        row = await cursor.fetchone() if cursor.description else None
        return row[0] if row else cursor.rowcount
