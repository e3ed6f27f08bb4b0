"""The ledger against a model of it in plain Python, over any order of calls."""

import asyncio
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from parts import clone_database

from lantern.core import postgres
from lantern.core.db import Database, Tx
from lantern.core.errors import Conflict, LanternError, NotFound, OutOfCredits
from lantern.gate import ledger
from lantern.gate.ledger import Use
from lantern.settings import DatabaseSettings

USE = Use("model")
AMOUNTS = st.decimals("0.0001", "40", places=4)
REFS = st.sampled_from(["a", "b", "c", "d", "e"])
START = Decimal(100)


class Model:
    """What the ledger promises: a balance, first answers by (kind, ref), open reservations."""

    def __init__(self) -> None:
        self.balance = START
        self.first: dict[tuple[str, str], Decimal] = {}
        self.reserved: dict[str, Decimal] = {}
        self.open: set[str] = set()

    def move(self, kind: str, ref: str, amount: Decimal) -> type[LanternError] | None:
        if (kind, ref) in self.first:
            return None if self.first[kind, ref] == amount else Conflict
        if self.balance + amount < 0:
            return OutOfCredits
        self.balance += amount
        self.first[kind, ref] = amount
        if kind == "reserve":
            self.reserved[ref] = -amount
            self.open.add(ref)
        return None

    def close(self, kind: str, ref: str, actual: Decimal) -> type[LanternError] | None:
        if ref not in self.reserved:
            return NotFound
        back = self.reserved[ref] - actual
        if ref not in self.open:
            return None if self.first.get((kind, ref)) == back else Conflict
        wrong = self.move(kind, ref, back)
        if wrong is None:
            self.open.discard(ref)
        return wrong

    def expire(self) -> int:
        expired = len(self.open)
        for ref in list(self.open):
            self.close("release", ref, Decimal(0))
        return expired


class Ledger(RuleBasedStateMachine):
    """The real thing beside its model."""

    runner: asyncio.Runner
    db: Database

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        row = self.run(self.db.one("select create_tenant('model', 'team', %s) as id", (START,)))
        self.tenant = row["id"]

    def run(self, call: Any) -> Any:
        return self.runner.run(call)

    async def call(self, name: str, *args: Any) -> type[LanternError] | None:
        try:
            async with self.db.transaction(self.tenant) as tx:
                await getattr(ledger, name)(tx, self.tenant, *args)
        except LanternError as error:
            return type(error)
        return None

    @rule(ref=REFS, amount=AMOUNTS)
    def grant(self, ref: str, amount: Decimal) -> None:
        assert self.run(self.call("grant", amount, ref)) == self.model.move("grant", ref, amount)

    @rule(ref=REFS, amount=AMOUNTS)
    def charge(self, ref: str, amount: Decimal) -> None:
        wrong = self.model.move("charge", ref, -amount)
        assert self.run(self.call("charge", amount, ref, USE)) == wrong

    @rule(ref=REFS, amount=AMOUNTS)
    def reserve(self, ref: str, amount: Decimal) -> None:
        wrong = self.model.move("reserve", ref, -amount)
        assert self.run(self.call("reserve", amount, ref, USE)) == wrong

    @rule(ref=REFS, actual=st.decimals("0", "60", places=4))
    def settle(self, ref: str, actual: Decimal) -> None:
        assert self.run(self.call("settle", ref, actual)) == self.model.close("settle", ref, actual)

    @rule(ref=REFS)
    def release(self, ref: str) -> None:
        wrong = self.model.close("release", ref, Decimal(0))
        assert self.run(self.call("release", ref)) == wrong

    @rule()
    def expire(self) -> None:
        async def expire() -> int:
            async with self.db.transaction(self.tenant) as tx:
                await tx.run("update credit_reservations set expires_at = now() - interval '1 s'")
            async with self.db.transaction() as tx:
                return await ledger.release_expired(tx)

        assert self.run(expire()) == self.model.expire()

    @invariant()
    def the_balance_is_the_sum_of_the_rows(self) -> None:
        async def look(tx: Tx) -> dict[str, Any] | None:
            return await tx.one(
                "select balance, granted, (select sum(amount) from credit_ledger) as sum, (select"
                " sum(amount) from credit_ledger where kind = 'grant') as grants"
                " from credit_balances"
            )

        async def at_once() -> dict[str, Any] | None:
            async with self.db.transaction(self.tenant) as tx:
                return await look(tx)

        row = self.run(at_once())
        assert row is not None
        assert row["balance"] == row["sum"] == self.model.balance
        assert row["granted"] == row["grants"]


def test_the_ledger_is_its_model(pg: postgres.Server) -> None:
    with asyncio.Runner() as runner:
        database = Database(clone_database(pg), DatabaseSettings(pool_size=2))
        runner.run(database.open())
        machine = type("Bound", (Ledger,), {"runner": runner, "db": database})
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=40,
                    stateful_step_count=30,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(database.close())
