"""The proof of routing under load: processes that assign at the same time, die, ask again, while
members come and go. `python -m routing.proofs 20000` (or `make proofs`) runs it in full.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from lantern.core import clock, ids, jobs, migrate, postgres
from lantern.core.db import Database, Row, Tx
from lantern.gate.auth import Call, Door
from lantern.routing import explanation, rotation, service
from lantern.routing.models import AssignRequest
from lantern.settings import DatabaseSettings
from routing.lay import lay_pool

PROCESSES = 8
DUPLICATES, RETRIES, CHANGES = 0.15, 0.03, 0.02  # of the calls
KILLED = 9
# Name, weights in base order, how many of the first stay all the time.
POOLS = (
    ("seventeen", [1] * 17, 9),
    ("five", [1] * 5, 2),
    ("textbook", [5, 1, 1], 2),
    ("uneven", [3, 2, 2, 1, 4, 1], 3),
)


# ---------------------------------------------------------------- one process
@dataclass
class Plan:
    """What a process is to do. `steps`: (pool, record, how) or (pool, member, change)."""

    tenants: dict[str, int]  # of each pool
    pools: dict[str, str]  # their ids
    steps: list[list[str]]
    journal: str


async def work(dsn: str, plan: Plan) -> None:
    """Do what the journal does not name yet; write each step there after its commit."""
    db = Database(dsn, DatabaseSettings(pool_size=2))
    await db.open()
    path = Path(plan.journal)
    done = path.read_text().splitlines() if path.exists() else []
    with path.open("a", buffering=1) as journal:
        for number, (pool, what, how) in enumerate(plan.steps[len(done) :], len(done)):
            if how in ("active", "out_of_office"):
                await change(db, plan, pool, (what, how))
                journal.write("-\n")
                continue
            answers = [await assign(db, plan.tenants[pool], pool, what)]
            died = path.with_suffix(".died")
            if how == "die" and not died.exists():
                died.write_text(str(number))
                os._exit(KILLED)  # after the commit: nobody has heard of it
            if how == "retry":
                answers.append(await assign(db, plan.tenants[pool], pool, what))
            told = {(row["assignment_id"], row["assigned_to"]) for row in answers}
            assert len(told) == 1, f"a retry was answered otherwise: {told}"
            verdict = answers[-1]["verdict"]
            journal.write(f"{pool} {what} {told.pop()[0]} {verdict} {len(answers)}\n")
    await db.close()


async def assign(db: Database, tenant: int, pool: str, record: str) -> Row:
    """As the route does it: one statement that commits itself."""
    async with db.session() as tx:
        return await decide(tx, db, tenant, (pool, record))


async def decide(tx: Tx, db: Database, tenant: int, what: tuple[str, str]) -> Row:
    """The same on a connection of the caller's."""
    pool, record = what
    door = Door("routing", 0, {}, "write", True, "127.0.0.1", 0)
    call = Call(ids.new("req"), door, None, db, tenant, "key_proofs", tags={"proof": pool})
    body = AssignRequest(object="lead", sf_id=record, pool=pool)
    return (await service.assign(tx, call, body, charge_size=False)).row


async def change(db: Database, plan: Plan, pool: str, what: tuple[str, str]) -> None:
    """A member comes or goes, in step with the decisions."""
    user, column = what
    turned = (
        "not active"
        if column == "active"
        else (
            "case when out_of_office = '{}' then tstzmultirange(tstzrange(now(), null)) else '{}' end"
        )
    )
    async with db.transaction(plan.tenants[pool]) as tx:
        pool_id = plan.pools[pool]
        await tx.run("select from routing_rotations where pool_id = %s for update", (pool_id,))
        await tx.run(
            f"update routing_members set {column} = {turned} where pool_id = %s and user_id = %s",
            (pool_id, user),
        )


# ---------------------------------------------------------------- all of them
def plans(assignments: int, seed: int) -> list[list[list[str]]]:
    """The steps of each process: every record once, some by others too, some twice in a row."""
    dice = random.Random(seed)
    steps: list[list[list[str]]] = [[] for _ in range(PROCESSES)]
    for number in range(assignments):
        pool, weights, steady = POOLS[number % len(POOLS)]
        record = f"00Q{number:012d}"
        mine = dice.randrange(PROCESSES)
        steps[mine].append([pool, record, "retry" if dice.random() < RETRIES else "once"])
        if dice.random() < DUPLICATES:
            twin = dice.randrange(PROCESSES)
            steps[twin].append([pool, record, "once"])
        if dice.random() < CHANGES:
            member = f"{pool}-{dice.randrange(steady, len(weights))}"
            steps[mine].append([pool, member, dice.choice(["active", "out_of_office"])])
    for own in steps:
        place = dice.randrange(len(own) // 4, len(own) // 2)
        while own[place][2] != "once":
            place += 1
        own[place][2] = "die"
    return steps


async def prove(dsn: str, assignments: int, folder: Path, seed: int = 1) -> str:
    """Run it and check everything; the summary. Raises AssertionError."""
    began = time.monotonic()
    db = Database(dsn, DatabaseSettings(pool_size=4))
    await db.open()
    tenants, pool_ids = {}, {}
    for number, (pool, weights, _) in enumerate(POOLS):
        if number % 2 == 0:
            row = await db.one("select create_tenant('proofs', 'team', %s) as id", (assignments,))
        assert row is not None
        members = [{"user_id": f"{pool}-{i}", "weight": w} for i, w in enumerate(weights)]
        tenants[pool] = row["id"]
        pool_ids[pool] = await lay_pool(db, row["id"], pool, members)
    steps = plans(assignments, seed)
    jobs_of = [
        Plan(tenants, pool_ids, own, str(folder / f"journal-{n}")) for n, own in enumerate(steps)
    ]
    deaths = sum(await asyncio.gather(*(run_to_the_end(dsn, plan) for plan in jobs_of)))
    took = time.monotonic() - began
    facts = await check(db, tenants, pool_ids, jobs_of)
    await db.close()
    assert facts["assignments"] == assignments
    assert deaths == PROCESSES
    return (
        f"{PROCESSES} processes, {len(POOLS)} pools, {assignments:,} assignments in"
        f" {facts['calls']:,} calls ({facts['repeated']:,} of them repeats, {deaths} clients died"
        f" after the commit), {facts['changes']:,} changes of members, {took:.0f} s:"
        f" sequences gapless; no record twice; {facts['windows']:,} windows in {facts['phases']:,}"
        f" phases exact; equal weights at most {facts['apart']} apart; {assignments:,} of"
        f" {assignments:,} explained; {facts['charged']} credits charged = credits of the"
        " assignments = change of the balances"
    )


async def run_to_the_end(dsn: str, plan: Plan) -> int:
    """One process, started again when it dies; how often it did."""
    deaths = 0
    given = json.dumps({"dsn": dsn, "plan": vars(plan)}).encode()
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    while True:
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "routing.proofs",
            "worker",
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        _, errors = await running.communicate(given)
        if running.returncode == 0:
            return deaths
        assert running.returncode == KILLED, errors.decode()
        deaths += 1


# ---------------------------------------------------------------- what must be true
async def check(
    db: Database, tenants: dict[str, int], pool_ids: dict[str, str], done: list[Plan]
) -> dict[str, Any]:
    """Every promise, over every stored row."""
    lines = [line.split() for plan in done for line in Path(plan.journal).read_text().splitlines()]
    answers = [line for line in lines if line[0] != "-"]
    facts: dict[str, Any] = {
        "assignments": 0,
        "windows": 0,
        "phases": 0,
        "apart": 0,
        "charged": Decimal(0),
        "changes": len(lines) - len(answers),
        "calls": sum(int(line[4]) for line in answers) + PROCESSES,
    }
    made: dict[tuple[str, str], str] = {}
    for pool, weights, _ in POOLS:
        async with db.transaction(tenants[pool]) as tx:
            rows = await tx.all(
                "select * from routing_assignments where pool_id = %s order by sequence",
                (pool_ids[pool],),
            )
        assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1)), "gapless"
        assert len({row["record"] for row in rows}) == len(rows), "a record was assigned twice"
        for row in rows:
            assert explanation.recompute(row) == row["assigned_to"], row
        made |= {(pool, row["sf_id"]): row["id"] for row in rows}
        facts["assignments"] += len(rows)
        exact_windows(rows, weights, facts)
        if set(weights) == {1}:
            facts["apart"] = max(facts["apart"], apart(rows))
    assert facts["apart"] <= 1
    for pool, record, assignment, *_ in answers:
        assert made[pool, record] == assignment, "all callers heard the same"
    facts["repeated"] = facts["calls"] - facts["assignments"]
    for tenant in set(tenants.values()):
        facts["charged"] += await paid(db, tenant)
    return facts


def exact_windows(rows: list[Row], weights: list[int], facts: dict[str, Any]) -> None:
    """While eligibility is constant each member has its weight in every window of their sum."""
    phase: list[str] = []
    eligible = None
    for row in [*rows, None]:
        now = row and tuple(why in (None, rotation.BACK_SOON) for why in row["reasons"])
        if now != eligible and eligible is not None:
            shares = {
                user: weight
                for user, weight, free in zip(rows[0]["users"], weights, eligible, strict=True)
                if free
            }
            size = sum(shares.values())
            facts["phases"] += 1
            for start in range(len(phase) - size + 1):
                window = phase[start : start + size]
                assert {user: window.count(user) for user in shares} == shares, (window, shares)
                facts["windows"] += 1
            phase = []
        eligible = now
        phase += [row["assigned_to"]] if row else []


def apart(rows: list[Row]) -> int:
    """The largest difference, at any time, between members who were eligible throughout."""
    users = rows[0]["users"]
    steady = [u for i, u in enumerate(users) if all(row["reasons"][i] is None for row in rows)]
    assert len(steady) >= 2
    had, most = dict.fromkeys(steady, 0), 0
    for row in rows:
        if row["assigned_to"] in had:
            had[row["assigned_to"]] += 1
            most = max(most, max(had.values()) - min(had.values()))
    return most


async def paid(db: Database, tenant: int) -> Decimal:
    """What a tenant was charged: the same by the ledger, the assignments and the balance."""
    async with db.transaction(tenant) as tx:
        row = await tx.one(
            "select (select sum(used) from credit_ledger) as used,"
            " (select -sum(amount) from credit_ledger where kind = 'charge') as charges,"
            " (select count(*) from credit_ledger where kind = 'charge') as n,"
            " (select sum(credits) from routing_assignments) as credits,"
            " (select count(*) from routing_assignments a join credit_ledger l on l.ref = a.id) as m,"
            " (select count(*) from route_log) as logged,"
            " (select granted - balance from credit_balances) as moved"
        )
    assert row is not None
    assert row["used"] == row["charges"] == row["credits"] == row["moved"], row
    assert row["n"] == row["m"] == row["logged"], row
    used: Decimal = row["used"]
    return used.normalize()


def main() -> None:
    """`worker` (plan on stdin), or the whole proof on a Postgres of its own."""
    if sys.argv[1:] == ["worker"]:
        given = json.load(sys.stdin)
        asyncio.run(work(given["dsn"], Plan(**given["plan"])))
        return
    count = int(sys.argv[1]) if sys.argv[1:] else 20_000
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with postgres.acquire(base / "postgres", fsync=False, die_with_parent=True) as server:
            migrate.apply(server.dsn)
            jobs.migrate_jobs(server.dsn)
            seed = int(clock.now().timestamp())
            print(f"seed {seed}")
            print(asyncio.run(prove(server.dsn, count, base, seed)))


if __name__ == "__main__":
    main()
