"""Fair and exact with many processes at once; `make proofs` is the same with 20,000 assignments."""

import asyncio
import os

import pytest
from callers import caller, code_of, make_key
from parts import clone_database, new_tenant

from lantern.core.db import Database
from lantern.routing import explanation
from routing.lay import lay_pool
from routing.proofs import decide, prove

ASSIGNMENTS = int(os.environ.get("LANTERN_PROOFS", "6000"))


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_eight_processes_are_exact_while_clients_die_and_members_come_and_go(
    dsn, tmp_path, capsys
):
    summary = await prove(dsn, ASSIGNMENTS, tmp_path)
    with capsys.disabled():
        print(f"\n{summary}")


async def test_of_fifty_callers_on_ten_credits_exactly_ten_succeed(server, db):
    tenant = await new_tenant(db)
    async with db.transaction(tenant.id) as tx:
        await tx.run("select ledger_move(%s, 'charge', -990, 990, 'rest', '{}')", (tenant.id,))
    pool = await lay_pool(db, tenant.id, "hot", [{"user_id": f"u{i}"} for i in range(4)])
    key = await make_key(db, tenant.id)
    async with caller(server.url, key) as api:

        async def one(number: int):
            body = {"object": "lead", "sf_id": f"r{number}", "pool": "hot"}
            return await api.post("/v1/routing/assign", json=body)

        answers = await asyncio.gather(*(one(number) for number in range(50)))
    given = [a.json() for a in answers if a.status_code == 200]
    refused = [a for a in answers if a.status_code == 402]
    assert (len(given), len(refused)) == (10, 40)
    assert sorted(body["sequence"] for body in given) == list(range(1, 11))
    assert sorted(body["credits_remaining"] for body in given) == list(range(10))
    for answer in refused:
        assert code_of(answer) == "insufficient_credits"
        body = answer.json()
        assert (body["credits_required"], body["credits_remaining"]) == (1, 0)
        assert body["details"] == {"reason": "account_balance"}
    async with db.transaction(tenant.id) as tx:
        row = await tx.one(
            "select r.sequence, b.balance from routing_rotations r, credit_balances b"
            " where r.pool_id = %s",
            (pool,),
        )
        rows = await tx.all("select * from routing_assignments")
    assert row == {"sequence": 10, "balance": 0}
    assert all(explanation.recompute(r) == r["assigned_to"] for r in rows)


async def test_a_decision_reads_no_more_rows_as_the_table_grows(pg):
    """On a table that was never analysed, with the plans of its first rows."""
    dsn = clone_database(pg)
    database = Database(dsn)
    await database.open()
    tenant = await new_tenant(database)
    await lay_pool(database, tenant.id, "team", [{"user_id": f"u{i}"} for i in range(4)])
    read = []
    async with database.solo() as tx:
        for _ in range(2):
            for number in range(150):
                await decide(tx, database, tenant.id, ("team", f"{len(read)}-{number}"))
            await tx.one("select pg_stat_force_next_flush()")
            row = await tx.one(
                "select idx_tup_fetch + seq_tup_read as n from pg_stat_user_tables"
                " where relname = 'routing_assignments'"
            )
            assert row is not None
            read.append(row["n"])
    await database.close()
    assert read[1] - read[0] <= 2 * 150, read
