"""Many callers at once, on real connections, some of which die: nothing is lost, nothing passed."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from parts import clone_database

from lantern import credits
from lantern.core import postgres
from lantern.core.db import ConnectionLost, Database
from lantern.core.errors import Conflict, NotFound, OutOfCredits
from lantern.gate import ledger
from lantern.gate.ledger import Use
from lantern.settings import DatabaseSettings

CALLERS = 50


@pytest.fixture(scope="module")
async def db(pg: postgres.Server) -> AsyncIterator[Database]:
    """A database of its own (no server's timer releases here), a connection for each caller."""
    database = Database(clone_database(pg), DatabaseSettings(pool_size=CALLERS))
    await database.open()
    yield database
    await database.close()


async def new_tenant(db: Database, amount: int) -> int:
    row = await db.one("select create_tenant('parallel', 'team', %s) as id", (amount,))
    assert row is not None
    return int(row["id"])


async def test_fifty_callers_on_ten_credits(db):
    """Exactly ten succeed, each on a connection of its own, all of them at the same moment."""
    tenant = await new_tenant(db, 10)
    ready = asyncio.Barrier(CALLERS)

    async def call(number: int) -> bool:
        async with db.transaction(tenant) as tx:
            row = await tx.one("select pg_backend_pid() as pid")
            assert row is not None
            backends.add(row["pid"])
            await ready.wait()
            try:
                await ledger.charge(tx, tenant, 1, f"call-{number}", Use("x"))
            except OutOfCredits as error:
                refusals.append((error.required, error.remaining))
                return False
            return True

    backends: set[int] = set()
    refusals: list[tuple[Decimal, Decimal]] = []
    served = await asyncio.gather(*(call(number) for number in range(CALLERS)))
    assert (served.count(True), served.count(False), len(backends)) == (10, 40, CALLERS)
    assert set(refusals) == {(1, 0)}
    async with db.transaction(tenant) as tx:
        assert (await ledger.balance(tx, tenant)).remaining == 0
        found, total = await credits.receipts(tx, tenant, {}, 100, 0)
    assert total == 11
    assert Counter(row["kind"] for row in found) == {"charge": 10, "grant": 1}


class Crowd:
    """Callers that reserve, settle, release, charge, expire and crash in any order."""

    def __init__(self, db: Database, tenant: int, seed: int) -> None:
        self.db = db
        self.tenant = tenant
        self.dice = random.Random(seed)
        self.done: Counter[str] = Counter()

    async def caller(self, number: int) -> None:
        for turn in range(12):
            ref = f"ref-{self.dice.randrange(40)}"
            step = self.dice.choice(["charge", "reserve", "reserve", "settle", "release", "expire"])
            end = self.dice.choice(["commit"] * 6 + ["raise", "kill"])
            try:
                await self.turn(step, ref if step != "charge" else f"c-{number}-{turn}", end)
                self.done[step] += 1
            except OutOfCredits as error:
                self.done[error.details["reason"]] += 1
            except (Conflict, NotFound):
                self.done["no reservation"] += 1
            except (ConnectionLost, ZeroDivisionError):
                self.done["crashed"] += 1

    async def turn(self, step: str, ref: str, end: str) -> None:
        team = self.dice.choice(["east", "west"])
        use = Use("x", tags={"team": team})
        if step == "expire":
            async with self.db.transaction(self.tenant) as tx:
                await tx.run(
                    "update credit_reservations set expires_at = clock_timestamp() where ref = %s",
                    (ref,),
                )
            async with self.db.transaction() as tx:
                await ledger.release_expired(tx)
            return
        async with self.db.transaction(self.tenant) as tx:
            match step:
                case "charge":
                    await ledger.charge(tx, self.tenant, self.dice.randint(0, 5), ref, use)
                case "reserve":
                    await ledger.reserve(tx, self.tenant, 7, ref, use)
                case "settle":
                    await ledger.settle(tx, self.tenant, ref, self.dice.randint(0, 12))
                case "release":
                    await ledger.release(tx, self.tenant, ref)
            if end == "kill":
                await tx.run("set local role none")
                await tx.run("select pg_terminate_backend(pg_backend_pid())")
            if end == "raise":
                raise ZeroDivisionError


START = 180
CAPS = {"": Decimal(160), "team=east": Decimal(70), "team=west": Decimal(80)}


@pytest.mark.parametrize("seed", range(3))
async def test_a_crowd_that_crashes(db, seed):
    tenant = await new_tenant(db, START)
    async with db.transaction(tenant) as tx:
        for subject, most in CAPS.items():
            cap = {"scope": "tag", "subject": subject} if subject else {"scope": "account"}
            body = credits.CapCreate.model_validate({**cap, "period": "total", "credits": most})
            await credits.add_cap(tx, tenant, body)
    crowd = Crowd(db, tenant, seed)
    await asyncio.gather(*(crowd.caller(number) for number in range(CALLERS)))
    assert crowd.done["crashed"] > 20
    assert crowd.done["tag_cap"] > 0
    assert crowd.done["settle"] > 0
    async with db.transaction(tenant) as tx:
        rows = await tx.all("select * from credit_ledger order by id")
        counters = await tx.all(
            "select subject, used from credit_caps c join credit_cap_uses u on u.cap_id = c.id"
        )
        held = await tx.all("select ref, amount, closed_at from credit_reservations")
        balance = (await ledger.balance(tx, tenant)).remaining
        span = credits.span("2000-01-01", "2999-01-01")
        used = await credits.usage(tx, tenant, credits.Filters().within(span), "tag:team")
    check_rows(rows, balance)
    assert {row["subject"]: row["used"] for row in counters} == counted(rows)
    assert used["credits_used"] == sum(row["used"] for row in rows)
    assert sum(group["credits"] for group in used["groups"]) == used["credits_used"]
    # No reservation is lost: each is open, or closed by exactly one row.
    closed = Counter(row["ref"] for row in rows if row["kind"] in ("settle", "release"))
    assert {row["ref"]: 1 for row in held if row["closed_at"]} == closed
    assert {row["ref"] for row in held} == {r["ref"] for r in rows if r["kind"] == "reserve"}
    # What was spent, what is set aside and what is left are what was granted.
    aside = sum(row["amount"] for row in held if row["closed_at"] is None)
    assert balance + aside + used["credits_used"] == START


def check_rows(rows: list, balance: Decimal) -> None:
    """Row by row: the balance follows the amounts, is never below nothing, and no cap is passed."""
    after, caps = Decimal(0), dict.fromkeys(CAPS, Decimal(0))
    for row in rows:
        after += row["amount"]
        assert row["balance_after"] == after >= 0
        for subject in subjects(row):
            caps[subject] -= row["amount"]
            assert caps[subject] <= CAPS[subject]
    assert balance == after


def counted(rows: list) -> dict[str, Decimal]:
    """What counts against each cap."""
    return {
        name: -sum((row["amount"] for row in rows if name in subjects(row)), Decimal(0))
        for name in CAPS
    }


def subjects(row: dict) -> tuple[str, ...]:
    return () if row["kind"] == "grant" else ("", *(f"{k}={v}" for k, v in row["tags"].items()))
