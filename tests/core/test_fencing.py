"""Claims: a node takes what a dead one left, and judges nobody while its own beat is old."""

from datetime import timedelta

from parts import clone_database, new_tenant, opened

from lantern.core import fencing, ids

DEAD = timedelta(seconds=3)


async def test_a_node_back_from_an_outage_takes_no_run_before_its_own_beat(pg):
    """Its claim may have waited for the database: the rows that it keeps for the run are not there."""
    async with opened(clone_database(pg)) as db:
        tenant = await new_tenant(db)
        for node in ("node_a", "node_b"):
            await db.run(
                "insert into nodes (id, role, host, pid, version, beat) values"
                " (%s, 'server', 'h', 1, '0', clock_timestamp() - interval '1 minute')",
                (node,),
            )
        held, other = ids.new("run"), ids.new("run")
        async with db.transaction(tenant.id) as tx:
            for run, owner in ((held, "node_a"), (other, "node_b")):
                await tx.run(
                    "insert into runs (tenant_id, id, kind, status, input, owner, attempt)"
                    " values (%s, %s, 'test', 'running', '{}', %s, 1)",
                    (tenant.id, run, owner),
                )
        wanted = fencing.Wanted([held], 10)
        assert await fencing.claim(db, "node_a", DEAD, wanted) == []
        await db.run("update nodes set beat = clock_timestamp() where id = 'node_a'")
        taken = await fencing.claim(db, "node_a", DEAD, wanted)
        assert [(row["id"], row["attempt"]) for row in taken] == [(other, 2)]
