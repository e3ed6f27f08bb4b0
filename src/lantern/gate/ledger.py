"""How much: grants, charges and reservations of credits. All SQL of the ledger is here.

Rows are only added, and a balance moves in the same statement as its row. Each statement first
locks the tenant's balance, so call these last before the commit: what comes after waits for nobody
but holds up everybody else of the tenant. A `ref` names one movement; the same call with the same
`ref` moves nothing and returns the first result, so a job that runs twice pays once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import orjson

from lantern.core import log, timers
from lantern.core.db import Row, Tx
from lantern.core.errors import BadRequest, Conflict, NotFound, OutOfCredits

TTL = timedelta(minutes=15)
BATCH = 500

_STEP = Decimal("0.0001")
_LIMIT = Decimal(10) ** 14  # NUMERIC(18,4)
_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Use:
    """What credits are spent on; reports of usage filter by it."""

    operation: str
    run_id: str | None = None
    key_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Movement:
    """A row of the ledger. `amount` is signed: what it did to the balance."""

    ref: str
    amount: Decimal
    balance: Decimal  # right after it
    repeated: bool  # the row was there before this call, which moved nothing


@dataclass(frozen=True, slots=True)
class Reservation:
    """Credits set aside until they are settled, released, or have expired."""

    ref: str
    amount: Decimal
    expires_at: datetime
    open: bool


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left, and the sum of all grants."""

    remaining: Decimal
    granted: Decimal


# `held` waits for the balance and reads its newest value, also when another transaction changed it
# while this statement waited; only then is the row added, and the balance set to what it says.
_HELD = """
held as materialized (
    select balance from credit_balances where tenant_id = %(tenant)s for update
)"""
_ADD = """
row as (
    insert into credit_ledger (tenant_id, kind, amount, balance_after, ref, operation, run_id,
        key_id, tags)
    select %(tenant)s, %(kind)s, %(amount)s, balance + %(amount)s, %(ref)s, %(operation)s,
        %(run_id)s, %(key_id)s, %(tags)s::jsonb
    from held where balance + %(amount)s >= 0
    on conflict (tenant_id, ref, kind) do nothing
    returning amount, balance_after
), moved as (
    update credit_balances set balance = row.balance_after,
        granted = granted + case when %(kind)s = 'grant' then row.amount else 0 end
    from row where tenant_id = %(tenant)s
)"""
_ANSWER = """
select held.balance, row.amount, row.balance_after from held left join row on true"""

_MOVE = f"with {_HELD}, {_ADD} {_ANSWER}"
_RESERVE = f"""
with {_HELD}, {_ADD}, kept as (
    insert into credit_reservations (tenant_id, ref, amount, operation, run_id, expires_at)
    select %(tenant)s, %(ref)s, -row.amount, %(operation)s, %(run_id)s, clock_timestamp() + %(ttl)s
    from row
) {_ANSWER}"""
# The second lock, after the balance's: a reservation is closed once, by whoever comes first.
_CLOSE = f"""
with {_HELD}, opened as materialized (
    select r.amount as reserved, held.balance from held
    join credit_reservations r on r.tenant_id = %(tenant)s and r.ref = %(ref)s
        and r.closed_at is null and (not %(expired)s or r.expires_at < clock_timestamp())
    for update of r
), row as (
    insert into credit_ledger (tenant_id, kind, amount, balance_after, ref, operation, run_id,
        key_id, tags)
    select %(tenant)s, %(kind)s, o.reserved - %(actual)s, o.balance + o.reserved - %(actual)s,
        %(ref)s, w.operation, w.run_id, w.key_id, w.tags
    from opened o, credit_ledger w
    where w.tenant_id = %(tenant)s and w.ref = %(ref)s and w.kind = 'reserve'
        and o.balance + o.reserved - %(actual)s >= 0
    returning amount, balance_after
), moved as (
    update credit_balances set balance = row.balance_after from row where tenant_id = %(tenant)s
), closed as (
    update credit_reservations r set closed_at = clock_timestamp()
    from row where r.tenant_id = %(tenant)s and r.ref = %(ref)s
)
select held.balance, opened.reserved, row.amount, row.balance_after
from held left join opened on true left join row on true"""
_PAST = """
select kind, amount, balance_after from credit_ledger
where tenant_id = %s and ref = %s and kind = any (%s)"""
_RESERVATION = """
select amount, expires_at, closed_at from credit_reservations where tenant_id = %s and ref = %s"""


async def grant(tx: Tx, tenant: int, amount: Decimal | int, ref: str) -> Movement:
    """Add credits. Raises `BadRequest` for an amount that is not above 0."""
    return await _move(tx, tenant, "grant", _MOVE, _params(_above_zero(amount), ref))


async def charge(tx: Tx, tenant: int, amount: Decimal | int, ref: str, use: Use) -> Movement:
    """Pay at once, for calls of one step. Raises `OutOfCredits`."""
    return await _move(tx, tenant, "charge", _MOVE, _params(-_above_zero(amount), ref, use))


async def reserve(
    tx: Tx, tenant: int, amount: Decimal | int, ref: str, use: Use, ttl: timedelta = TTL
) -> Reservation:
    """Set credits aside before a paid step; settle or release them after it.

    Raises `OutOfCredits`. A repeated call returns the first reservation, also when it is closed.
    """
    params = _params(-_above_zero(amount), ref, use) | {"ttl": ttl}
    await _move(tx, tenant, "reserve", _RESERVE, params)
    return await _reservation(tx, tenant, ref)


async def settle(tx: Tx, tenant: int, ref: str, actual: Decimal | int) -> Movement:
    """Pay what the step took: the rest comes back, what it took above is taken as well.

    Raises `OutOfCredits` where the balance does not cover the part above (nothing moves then),
    `Conflict` when the reservation was released or has expired, `NotFound`.
    """
    return await _close(tx, tenant, "settle", ref, _amount(actual))


async def release(tx: Tx, tenant: int, ref: str) -> Movement:
    """Give all of it back: the step failed. Raises `Conflict` when it is settled, `NotFound`."""
    return await _close(tx, tenant, "release", ref, Decimal(0))


async def extend(tx: Tx, tenant: int, ref: str, ttl: timedelta = TTL) -> Reservation:
    """Keep a reservation open for `ttl` from now. Raises `Conflict` when it is closed."""
    extended = await tx.run(
        "update credit_reservations set expires_at = greatest(expires_at, clock_timestamp() + %s)"
        " where tenant_id = %s and ref = %s and closed_at is null",
        (ttl, tenant, ref),
    )
    reservation = await _reservation(tx, tenant, ref)
    if not extended:
        raise Conflict(f"Reservation {ref} is closed")
    return reservation


async def balance(tx: Tx, tenant: int) -> Balance:
    """What the tenant has. Raises `NotFound`."""
    row = await tx.one(
        "select balance, granted from credit_balances where tenant_id = %s", (tenant,)
    )
    if row is None:
        raise NotFound(f"Tenant {tenant} has no balance")
    return Balance(row["balance"], row["granted"])


async def schedule(tx: Tx) -> None:
    """Set the timer that gives back what nobody settles, each minute."""
    await timers.every(tx, "* * * * *", "credits.release_expired")


@timers.local("credits.release_expired")
async def release_expired(tx: Tx, _fire: timers.Fire | None = None) -> int:
    """Give back what nobody settled in time, over all tenants; returns how many there were.

    The one transaction that touches several tenants: it takes their balances one by one, and no
    other transaction ever holds one while it waits for a second.
    """
    rows = await tx.all("select * from expired_reservations(%s)", (BATCH,))
    released = 0
    for row in sorted(rows, key=lambda row: (row["tenant_id"], row["ref"])):
        tenant = row["tenant_id"]
        await tx.run("select set_config('app.tenant', %s, true)", (str(tenant),))
        closed = await _try_close(tx, tenant, "release", row["ref"], Decimal(0), expired=True)
        if closed is not None and closed["amount"] is not None:
            released += 1
    if released:
        _log.info("credits.expired", reservations=released)
    return released


async def _move(tx: Tx, tenant: int, kind: str, sql: str, params: dict[str, Any]) -> Movement:
    row = await tx.one(sql, params | {"tenant": tenant, "kind": kind})
    if row is None:
        raise NotFound(f"Tenant {tenant} has no balance")
    ref, amount = params["ref"], params["amount"]
    if row["amount"] is not None:
        return Movement(ref, row["amount"], row["balance_after"], repeated=False)
    past = await _past(tx, tenant, ref, kind)
    if past is None:
        raise OutOfCredits(-amount, row["balance"], "account_balance")
    return _first(ref, past, amount)


async def _close(tx: Tx, tenant: int, kind: str, ref: str, actual: Decimal) -> Movement:
    row = await _try_close(tx, tenant, kind, ref, actual)
    if row is not None and row["amount"] is not None:
        return Movement(ref, row["amount"], row["balance_after"], repeated=False)
    if row is not None and row["reserved"] is not None:
        raise OutOfCredits(actual - row["reserved"], row["balance"], "account_balance")
    reservation = await _reservation(tx, tenant, ref)
    past = await _past(tx, tenant, ref, "settle", "release")
    if past is None or past["kind"] != kind:
        raise Conflict(f"Reservation {ref} is closed already")
    return _first(ref, past, reservation.amount - actual)


async def _try_close(
    tx: Tx, tenant: int, kind: str, ref: str, actual: Decimal, *, expired: bool = False
) -> Row | None:
    params = {"tenant": tenant, "kind": kind, "ref": ref, "actual": actual, "expired": expired}
    return await tx.one(_CLOSE, params)


async def _past(tx: Tx, tenant: int, ref: str, *kinds: str) -> Row | None:
    return await tx.one(_PAST, (tenant, ref, list(kinds)))


def _first(ref: str, past: Row, amount: Decimal) -> Movement:
    if past["amount"] != amount:
        raise Conflict(f"{ref} was used for another amount", details={"ref": ref})
    return Movement(ref, past["amount"], past["balance_after"], repeated=True)


async def _reservation(tx: Tx, tenant: int, ref: str) -> Reservation:
    row = await tx.one(_RESERVATION, (tenant, ref))
    if row is None:
        raise NotFound(f"No reservation {ref}")
    return Reservation(ref, row["amount"], row["expires_at"], row["closed_at"] is None)


def _params(amount: Decimal, ref: str, use: Use | None = None) -> dict[str, Any]:
    use = use or Use("grant")
    return {
        "amount": amount,
        "ref": ref,
        "operation": use.operation,
        "run_id": use.run_id,
        "key_id": use.key_id,
        "tags": orjson.dumps(dict(use.tags)).decode(),
    }


def _above_zero(amount: Decimal | int) -> Decimal:
    exact = _amount(amount)
    if exact <= 0:
        raise BadRequest.field("amount", "must be above 0")
    return exact


def _amount(amount: Decimal | int) -> Decimal:
    # A float has no place in a ledger; the type says so, and this where types are not checked.
    if isinstance(amount, float):
        raise TypeError("credits are Decimal or int, never float")
    try:
        exact = Decimal(amount).quantize(_STEP, ROUND_HALF_UP)
    except InvalidOperation:
        exact = Decimal("NaN")
    if not exact.is_finite() or not 0 <= exact < _LIMIT:
        raise BadRequest.field("amount", f"must be between 0 and {_LIMIT:f}")
    return exact
