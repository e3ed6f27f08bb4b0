"""The ledger against a model of it in plain Python, over any order of calls."""

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from parts import clone_database

from lantern import credits
from lantern.core import postgres
from lantern.core.db import ConnectionLost, Database
from lantern.core.errors import Conflict, LanternError, NotFound, OutOfCredits
from lantern.gate import ledger
from lantern.gate.ledger import Use
from lantern.settings import DatabaseSettings

AMOUNTS = st.decimals("0", "40", places=4)
PAID = st.decimals("0.0001", "40", places=4)
REFS = st.sampled_from(["a", "b", "c", "d", "e"])
TAGS = st.sampled_from([{}, {"team": "east"}, {"team": "west"}])
START = Decimal(100)
# What a call is told: nothing is wrong, a kind of error, or why there are not enough credits.
Told = type[LanternError] | str | None


@dataclass
class Cap:
    """A cap of the account ('') or a tag, for a day or for ever."""

    subject: str
    period: str
    credits: Decimal
    day: int  # on which it was made


@dataclass
class Row:
    """A movement, and the day whose caps it counts against."""

    amount: Decimal
    used: Decimal
    tags: dict[str, str]
    day: int


class Model:
    """What the ledger promises: first answers by (kind, ref), open reservations, caps."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {
            ("grant", "welcome"): Row(START, Decimal(0), {}, 0)
        }
        self.open: set[str] = set()
        self.caps: dict[str, Cap] = {}
        self.day = 0

    @property
    def balance(self) -> Decimal:
        return sum((row.amount for row in self.rows.values()), Decimal(0))

    @property
    def used(self) -> Decimal:
        return sum((row.used for row in self.rows.values()), Decimal(0))

    def counted(self, cap: Cap, day: int) -> Decimal:
        """What counts against a cap, from the movements alone."""
        matching = (
            -row.amount
            for (kind, _), row in self.rows.items()
            if kind != "grant"
            and (cap.period == "total" or row.day == day)
            and cap.subject in ("", *(f"{k}={v}" for k, v in row.tags.items()))
        )
        return sum(matching, Decimal(0))

    def move(self, kind: str, ref: str, row: Row) -> Told:
        if kind == "charge" and row.amount == 0:
            return None
        if (kind, ref) in self.rows:
            return None if self.rows[kind, ref].amount == row.amount else Conflict
        if self.balance + row.amount < 0:
            return "account_balance"
        if kind != "grant" and row.amount < 0 and (cap := self.full(row)):
            return cap
        self.rows[kind, ref] = row
        if kind == "reserve":
            self.open.add(ref)
        return None

    def full(self, row: Row) -> str | None:
        subjects = ("", *(f"{k}={v}" for k, v in row.tags.items()))
        passed = {
            "tag_cap" if cap.subject else "account_cap"
            for cap in self.caps.values()
            if cap.subject in subjects
            and (cap.period == "total" or cap.day <= row.day)
            and self.counted(cap, row.day) - row.amount > cap.credits
        }
        return max(passed, default=None)  # the narrower one

    def close(self, kind: str, ref: str, actual: Decimal) -> Told:
        held = self.rows.get(("reserve", ref))
        if held is None:
            return NotFound
        row = Row(-held.amount - actual, actual, held.tags, held.day)
        if ref not in self.open and (kind, ref) not in self.rows:
            return Conflict
        told = self.move(kind, ref, row)
        if told is None:
            self.open.discard(ref)
        return told

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

    async def call(self, name: str, *args: Any) -> Told:
        try:
            async with self.db.transaction(self.tenant) as tx:
                await getattr(ledger, name)(tx, self.tenant, *args)
        except OutOfCredits as error:
            return str(error.details["reason"])
        except LanternError as error:
            return type(error)
        return None

    def row(self, amount: Decimal, used: Decimal = Decimal(0), tags: Any = None) -> Row:
        return Row(amount, used, tags or {}, self.model.day)

    @rule(ref=REFS, amount=PAID)
    def grant(self, ref: str, amount: Decimal) -> None:
        told = self.model.move("grant", ref, self.row(amount))
        assert self.run(self.call("grant", amount, ref)) == told

    @rule(ref=REFS, amount=AMOUNTS, tags=TAGS)
    def charge(self, ref: str, amount: Decimal, tags: dict[str, str]) -> None:
        told = self.model.move("charge", ref, self.row(-amount, amount, tags))
        assert self.run(self.call("charge", amount, ref, Use("model", tags=tags))) == told

    @rule(ref=REFS, amount=AMOUNTS, tags=TAGS)
    def reserve(self, ref: str, amount: Decimal, tags: dict[str, str]) -> None:
        told = self.model.move("reserve", ref, self.row(-amount, tags=tags))
        assert self.run(self.call("reserve", amount, ref, Use("model", tags=tags))) == told

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

    @rule(ref=REFS, amount=PAID, killed=st.booleans())
    def crash(self, ref: str, amount: Decimal, killed: bool) -> None:
        """A transaction that fails, or whose connection dies, before its commit."""
        use = Use("model", tags={"team": "east"})

        async def crash() -> None:
            async with self.db.transaction(self.tenant) as tx:
                for name, more in (("charge", (amount, ref, use)), ("reserve", (amount, ref, use)),
                                   ("release", (ref,))):  # fmt: skip
                    try:
                        await getattr(ledger, name)(tx, self.tenant, *more)
                    except LanternError:
                        continue  # a refusal leaves the transaction as good as it was
                if killed:
                    await tx.run("set local role none")
                    await tx.run("select pg_terminate_backend(pg_backend_pid())")
                raise ZeroDivisionError

        with pytest.raises(ConnectionLost if killed else ZeroDivisionError):
            self.run(crash())

    @rule(
        subject=st.sampled_from(["", "team=east"]), period=st.sampled_from(["day", "total"]),
        amount=AMOUNTS,
    )  # fmt: skip
    def add_cap(self, subject: str, period: Any, amount: Decimal) -> None:
        if any((c.subject, c.period) == (subject, period) for c in self.model.caps.values()):
            return
        scope: Any = "tag" if subject else "account"
        cap = credits.CapCreate(scope=scope, subject=subject or None, period=period, credits=amount)

        async def add() -> Any:
            async with self.db.transaction(self.tenant) as tx:
                return await credits.add_cap(tx, self.tenant, cap)

        made = self.run(add())
        self.model.caps[made["id"]] = Cap(subject, period, amount, self.model.day)

    @rule(number=st.integers(0, 3))
    def remove_cap(self, number: int) -> None:
        async def remove(cap_id: str) -> None:
            async with self.db.transaction(self.tenant) as tx:
                await credits.remove_cap(tx, self.tenant, cap_id)

        if number < len(self.model.caps):
            cap_id = list(self.model.caps)[number]
            self.run(remove(cap_id))
            del self.model.caps[cap_id]

    @rule()
    def a_day_goes_by(self) -> None:
        async def shift() -> None:
            async with self.db.transaction(self.tenant) as tx:
                await tx.run("set local role lantern_system")
                for table in ("credit_ledger", "credit_caps"):
                    await tx.run(
                        f"update {table} set created_at = created_at - interval '1 day'"
                        " where tenant_id = %s", (self.tenant,),
                    )  # fmt: skip
                # By way of another age: two days in a row may not meet on the way.
                for days in (-1001, 1000):
                    await tx.run(
                        "update credit_cap_uses u set starts = starts + make_interval(days => %s)"
                        " from credit_caps c where c.id = u.cap_id and c.period = 'day'"
                        " and c.tenant_id = %s", (days, self.tenant),
                    )  # fmt: skip

        self.run(shift())
        self.model.day += 1

    async def look(self) -> tuple[Any, dict[str, Decimal]]:
        async with self.db.transaction(self.tenant) as tx:
            row = await tx.one(
                "select balance, granted, (select sum(amount) from credit_ledger) as sum, (select"
                " sum(amount) from credit_ledger where kind = 'grant') as grants, (select sum(used)"
                " from credit_ledger) as used from credit_balances"
            )
            caps, _ = await credits.caps(tx, self.tenant, 100, 0)
            return row, {cap["id"]: cap["used"] for cap in caps}

    @invariant()
    def it_adds_up(self) -> None:
        row, caps = self.run(self.look())
        assert row["balance"] == row["sum"] == self.model.balance >= 0
        assert row["granted"] == row["grants"]
        assert row["used"] == self.model.used
        today = self.model.day
        assert caps == {name: self.model.counted(c, today) for name, c in self.model.caps.items()}


def test_the_ledger_is_its_model(pg: postgres.Server) -> None:
    with asyncio.Runner() as runner:
        database = Database(clone_database(pg), DatabaseSettings(pool_size=2))
        runner.run(database.open())
        machine = type("Bound", (Ledger,), {"runner": runner, "db": database})
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=50,
                    stateful_step_count=30,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(database.close())
