"""Money: never below zero, never twice, and the balance is always the sum of its rows."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal

import pytest
from parts import clone_database

from lantern.core import ids, postgres
from lantern.core.db import Database, DatabaseError
from lantern.core.errors import BadRequest, Conflict, NotFound, OutOfCredits
from lantern.gate import ledger
from lantern.gate.ledger import Use

USE = Use("test", run_id="run_1", key_id="key_1", tags={"team": "east"})


@pytest.fixture(scope="module")
def dsn(pg: postgres.Server) -> str:
    """A database of its own: the node of another test's server releases what has expired."""
    return clone_database(pg)


@pytest.fixture(scope="module")
async def db(dsn: str) -> AsyncIterator[Database]:
    database = Database(dsn)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def account(db, tenant):
    """Each call of a ledger function in a transaction of its own."""

    class Account:
        id = tenant.id

        def __getattr__(self, name):
            async def call(*args, **named):
                async with db.transaction(tenant.id) as tx:
                    return await getattr(ledger, name)(tx, tenant.id, *args, **named)

            return call

        async def remaining(self) -> Decimal:
            return (await self.balance()).remaining

        async def rows(self):
            async with db.transaction(tenant.id) as tx:
                return await tx.all("select * from credit_ledger order by id")

    return Account()


async def expire(db: Database, tenant: int, ref: str) -> None:
    async with db.transaction(tenant) as tx:
        await tx.run(
            "update credit_reservations set expires_at = now() - interval '1 s' where ref = %s",
            (ref,),
        )


async def release_expired(db: Database) -> int:
    async with db.transaction() as tx:
        return await ledger.release_expired(tx)


async def test_fifty_callers_on_a_balance_for_twenty(db, tenant, account):
    """Exactly twenty are served, and nothing is left, not less than nothing."""

    calls = (account.charge(Decimal(50), f"call-{number}", USE) for number in range(50))
    served = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in served if isinstance(answer, OutOfCredits)]
    assert len(refused) == 30
    assert sum(isinstance(answer, ledger.Movement) for answer in served) == 20
    for error in refused:
        assert (error.required, error.remaining) == (50, 0)
        assert error.details == {"reason": "account_balance"}
    assert await account.remaining() == 0
    assert sum(row["amount"] for row in await account.rows()) == 0


async def test_fifty_reservations_on_a_balance_for_twenty(account):
    async def hold(number: int) -> bool:
        try:
            await account.reserve(50, f"hold-{number}", USE)
        except OutOfCredits:
            return False
        await account.settle(f"hold-{number}", 50)
        return True

    served = await asyncio.gather(*(hold(number) for number in range(50)))
    assert served.count(True) == 20
    assert await account.remaining() == 0


async def test_the_same_ref_at_once_pays_once(account):
    moves = await asyncio.gather(*(account.charge(7, "once", USE) for _ in range(12)))
    assert {move.amount for move in moves} == {Decimal(-7)}
    assert {move.balance for move in moves} == {Decimal(993)}
    assert sorted(move.repeated for move in moves) == [False] + [True] * 11
    assert await account.remaining() == 993


async def test_the_same_ref_with_another_amount_is_a_conflict(account):
    await account.charge(7, "a", USE)
    await account.reserve(7, "b", USE)
    await account.settle("b", 3)
    await account.grant(7, "c")
    for again in (
        account.charge(8, "a", USE),
        account.reserve(8, "b", USE),
        account.settle("b", 4),
        account.grant(8, "c"),
    ):
        with pytest.raises(Conflict):
            await again
    assert await account.remaining() == 1000 - 7 - 3 + 7


async def test_a_replay_on_an_empty_account_still_has_its_answer(account):
    await account.charge(1000, "all", USE)
    again = await account.charge(1000, "all", USE)
    assert again.repeated
    assert again.balance == 0


async def test_settling_below_and_above_the_reservation(account):
    await account.reserve(100, "below", USE)
    assert await account.remaining() == 900
    below = await account.settle("below", Decimal("12.34567"))
    assert (below.amount, below.balance) == (Decimal("87.6543"), Decimal("987.6543"))

    await account.reserve(100, "above", USE)
    above = await account.settle("above", 150)
    assert (above.amount, above.balance) == (Decimal(-50), Decimal("837.6543"))

    await account.reserve(10, "nothing", USE)
    assert (await account.settle("nothing", 0)).balance == Decimal("837.6543")

    await account.reserve(10, "exact", USE)
    exact = await account.settle("exact", 10)
    assert (exact.amount, exact.balance) == (0, Decimal("827.6543"))


async def test_a_settlement_never_takes_what_is_not_there(account):
    await account.reserve(900, "step", USE)
    with pytest.raises(OutOfCredits) as refusal:
        await account.settle("step", Decimal("1000.0001"))
    assert refusal.value.required == Decimal("100.0001")
    assert refusal.value.remaining == 100
    assert await account.remaining() == 100
    # The reservation is as it was: it can be settled with what there is.
    assert (await account.settle("step", 1000)).balance == 0


async def test_release_gives_all_back_once(account):
    await account.reserve(100, "step", USE)
    first = await account.release("step")
    again = await account.release("step")
    assert (first.amount, first.balance, first.repeated) == (100, 1000, False)
    assert (again.amount, again.balance, again.repeated) == (100, 1000, True)
    with pytest.raises(Conflict):
        await account.settle("step", 1)
    with pytest.raises(Conflict):
        await account.extend("step")
    assert await account.remaining() == 1000
    assert not (await account.reserve(100, "step", USE)).open  # the first answer, not a new one
    assert await account.remaining() == 1000


async def test_what_is_settled_is_not_released(account):
    await account.reserve(100, "step", USE)
    await account.settle("step", 60)
    with pytest.raises(Conflict):
        await account.release("step")
    assert (await account.settle("step", 60)).repeated
    assert await account.remaining() == 940


async def test_a_step_that_settles_while_it_expires_does_one_of_both(db, account):
    for number in range(10):
        ref = f"race-{number}"
        await account.reserve(10, ref, USE)
        await expire(db, account.id, ref)
        before = await account.remaining()
        settled, _ = await asyncio.gather(
            account.settle(ref, 10), release_expired(db), return_exceptions=True
        )
        paid = not isinstance(settled, Conflict)
        assert await account.remaining() == before + (0 if paid else 10)


async def test_expired_reservations_come_back_exactly_once(db, account):
    for ref in ("gone", "kept", "done"):
        await account.reserve(10, ref, USE)
    await account.settle("done", 10)
    for ref in ("gone", "kept", "done"):
        await expire(db, account.id, ref)
    kept = await account.extend("kept", timedelta(hours=1))
    assert kept.open
    assert sum(await asyncio.gather(release_expired(db), release_expired(db))) == 1
    assert await account.remaining() == 980
    assert [row["kind"] for row in await account.rows() if row["ref"] == "gone"] == [
        "reserve",
        "release",
    ]
    with pytest.raises(Conflict):
        await account.settle("gone", 10)


async def test_extending_never_shortens(account):
    first = await account.reserve(10, "step", USE, timedelta(hours=2))
    again = await account.extend("step")
    assert again.expires_at == first.expires_at
    longer = await account.extend("step", timedelta(hours=3))
    assert longer.expires_at > first.expires_at


async def test_what_is_unknown_is_not_found(db, account):
    for call in (account.settle("no", 1), account.release("no"), account.extend("no")):
        with pytest.raises(NotFound):
            await call
    async with db.transaction(account.id + 10_000_000) as tx:
        with pytest.raises(NotFound):
            await ledger.balance(tx, account.id + 10_000_000)
        with pytest.raises(NotFound):
            await ledger.charge(tx, account.id + 10_000_000, 1, "x", USE)


FREE = (0, Decimal("0.00004"))  # no grant, but a price


@pytest.mark.parametrize(
    "amount", [0, -1, Decimal("0.00004"), Decimal("NaN"), Decimal("-Infinity"), Decimal("1e14")]
)
async def test_amounts_that_are_none(account, amount):
    calls = [account.grant(amount, "x")]
    if amount not in FREE:
        calls += [account.charge(amount, "x", USE), account.reserve(amount, "x", USE)]
    for call in calls:
        with pytest.raises(BadRequest) as refusal:
            await call
        assert refusal.value.details[0]["loc"] == ["body", "amount"]
    with pytest.raises(TypeError):
        await account.grant(1.5, "x")
    assert len(await account.rows()) == 1


async def test_amounts_have_four_places(account):
    assert (await account.charge(Decimal("0.00005"), "half", USE)).amount == Decimal("-0.0001")
    assert (await account.balance()).remaining == Decimal("999.9999")


async def test_the_database_rounds_before_it_adds(db, tenant, account):
    async with db.transaction(tenant.id) as tx:
        for number in range(3):
            moved = await tx.one(
                "select * from ledger_move(%s, 'charge', -0.00006, 0.00006, %s, '{}')",
                (tenant.id, f"r{number}"),
            )
            assert (moved["verdict"], moved["amount"]) == ("moved", Decimal("-0.0001"))
    rows = await account.rows()
    assert await account.remaining() == sum(row["amount"] for row in rows) == Decimal("999.9997")
    assert sum(row["used"] for row in rows) == Decimal("0.0003")


async def test_the_total_is_the_sum_of_the_grants(account):
    await account.grant(Decimal("0.5"), "more")
    await account.charge(100, "less", USE)
    balance = await account.balance()
    assert (balance.remaining, balance.granted) == (Decimal("900.5"), Decimal("1000.5"))


async def test_a_row_says_what_for(account):
    await account.reserve(5, "step", USE)
    await account.settle("step", 3)
    for row in (await account.rows())[1:]:
        assert (row["operation"], row["run_id"], row["key_id"]) == ("test", "run_1", "key_1")
        assert row["tags"] == {"team": "east"}


async def test_rolled_back_is_not_paid(db, tenant, account):
    async def fail() -> None:
        async with db.transaction(tenant.id) as tx:
            await ledger.charge(tx, tenant.id, 5, "x", USE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await account.remaining() == 1000
    assert len(await account.rows()) == 1


async def test_everything_at_once_adds_up(db, account):
    """No deadlock between kinds of movement, and the balance is the sum of the rows."""

    async def step(number: int) -> None:
        ref = f"step-{number}"
        try:
            await account.reserve(40, ref, USE)
            if number % 5 == 0:
                await expire(db, account.id, ref)
                await release_expired(db)
            elif number % 5 == 1:
                await account.release(ref)
            else:
                await account.settle(ref, 30 + number % 20)
            await account.charge(3, f"charge-{number}", USE)
            await account.grant(2, f"grant-{number}")
        except OutOfCredits:
            pass

    await asyncio.gather(*(step(number) for number in range(60)))
    await release_expired(db)
    rows = await account.rows()
    assert await account.remaining() == sum(row["amount"] for row in rows)
    assert all(row["balance_after"] >= 0 for row in rows)
    total = Decimal(0)
    for row in rows:  # the rows of one tenant follow each other
        total += row["amount"]
        assert row["balance_after"] == total


async def test_another_tenant_sees_and_moves_nothing(db, tenant, account):
    await account.reserve(5, "step", USE)
    other = await db.one("select create_tenant('other', 'team', 50) as id")
    async with db.transaction(other["id"]) as tx:
        for table in ("credit_balances", "credit_ledger", "credit_reservations"):
            seen = await tx.all(f"select tenant_id from {table}")
            assert {row["tenant_id"] for row in seen} <= {other["id"]}
        for call in (
            ledger.balance(tx, tenant.id),
            ledger.grant(tx, tenant.id, 5, "x"),
            ledger.charge(tx, tenant.id, 5, "x", USE),
            ledger.settle(tx, tenant.id, "step", 5),
            ledger.release(tx, tenant.id, "step"),
        ):
            with pytest.raises(NotFound):
                await call
    assert await account.remaining() == 995
    assert (await db.one("select count(*) as n from credit_ledger"))["n"] == 0  # no tenant at all


async def test_rows_are_only_added(db, tenant, account):
    for sql in ("update credit_ledger set amount = 1", "delete from credit_ledger"):
        with pytest.raises(DatabaseError, match="permission denied"):
            async with db.transaction(tenant.id) as tx:
                await tx.run(sql)


async def test_the_database_itself_refuses_less_than_nothing(db, tenant):
    with pytest.raises(DatabaseError, match="check"):
        async with db.transaction(tenant.id) as tx:
            await tx.run("update credit_balances set balance = -1")


async def test_other_tenants_do_not_wait(db, tenant, account):
    """A transaction that holds one balance holds up nobody else's."""
    other = await db.one("select create_tenant('other', 'team', 50) as id")
    async with db.transaction(tenant.id) as tx:
        await ledger.charge(tx, tenant.id, 1, ids.new("ref"), USE)
        async with asyncio.timeout(2), db.transaction(other["id"]) as second:
            await ledger.charge(second, other["id"], 1, ids.new("ref"), USE)
