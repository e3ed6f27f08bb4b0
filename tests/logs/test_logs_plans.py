"""Sealing and verifying read a row a few times at most, whatever the statistics of the tables say."""

import psycopg
from entries import DAY, as_owner
from parts import clone_database, new_tenant

from lantern import logs
from lantern.core.db import Database
from lantern.gate import seals

ROWS = 3000
TABLES = "('log_unsealed', 'log_seals', 'route_log_others')"


async def reads(dsn: str) -> int:
    return int(
        await as_owner(
            dsn,
            "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_user_tables"
            f" where relname in {TABLES}",
        )
    )


async def test_a_backlog_that_no_statistics_know_of(pg, keys):
    """Analysed while its rows were not committed yet, as happens to a large import."""
    dsn = clone_database(pg)
    db = Database(dsn)
    await db.open()
    tenant = await new_tenant(db)
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "select log_route(%s, %s + n * interval '1 s', 'assign', 'Lead', 'Q' || n, 'p', 'u', null,"
            " n, 'r', 'req', null, null) from generate_series(1, %s) n",
            (tenant.id, DAY, ROWS),
        )
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as other:
            for table in ("log_unsealed", "log_seals", "route_log"):
                await other.execute(f"analyze lantern.{table}")
    before = await reads(dsn)
    async with db.solo() as tx:
        while await seals.seal(tx):
            pass
        await tx.one("select pg_stat_force_next_flush()")
    sealed = await reads(dsn)
    assert sealed - before < 10 * ROWS
    async with db.reading(tenant.id) as tx:
        report = await logs.walk(tx, tenant.id, keys)
        await tx.one("select pg_stat_force_next_flush()")
    assert (report.problem, report.rows) == (None, ROWS)
    assert await reads(dsn) - sealed < 10 * ROWS
    await db.close()
