"""How much: grants, charges and reservations of credits.

Rows are only added, and a balance moves in the same statement as its row: `ledger_move` in the
migrations, which everything here comes down to. Each statement first locks the tenant's balance, so call these last before the commit: what comes after waits for nobody
but holds up everybody else of the tenant. A `ref` names one movement; the same call with the same
`ref` moves nothing and returns the first result, so a job that runs twice pays once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import orjson

from lantern.core import log, timers
from lantern.core.db import Row, Tx
from lantern.core.errors import BadRequest, Conflict, LanternError, NotFound, OutOfCredits

TTL = timedelta(minutes=15)
BATCH = 500

# What a charge is made of: {"item", "credits"}, `times` where it is not 1, and whatever explains it.
Step = Mapping[str, Any]

_PLACES = Decimal("0.0001")
_LIMIT = Decimal(10) ** 14  # NUMERIC(18,4)
_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Use:
    """What credits are spent on; reports of usage filter by it, receipts show the steps."""

    operation: str
    run_id: str | None = None
    key_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    workflow_id: str | None = None
    steps: Sequence[Step] = ()


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


_MOVE = "select * from ledger_move(%s, %s, %s, %s, %s, %s::jsonb)"
_RESERVE = "select * from ledger_reserve(%s, %s, %s, %s, %s::jsonb)"
_CLOSE = "select * from ledger_close(%s, %s, %s, %s, %s::jsonb, %s)"


class CapReached(OutOfCredits):
    """A cap of the tenant's own stands below the balance; `details.cap` says which."""

    def __init__(self, required: Decimal, remaining: Decimal, cap: dict[str, Any]) -> None:
        message = f"The {cap['scope']}'s cap does not cover this request"
        super().__init__(required, remaining, f"{cap['scope']}_cap", message)
        self.details["cap"] = cap


async def grant(tx: Tx, tenant: int, amount: Decimal | int, ref: str) -> Movement:
    """Add credits. Raises `BadRequest` for an amount that is not above 0."""
    exact = _amount(amount)
    if exact <= 0:
        raise BadRequest.field("amount", "must be above 0")
    return await _move(tx, tenant, "grant", exact, ref, Use("grant"))


async def charge(tx: Tx, tenant: int, amount: Decimal | int, ref: str, use: Use) -> Movement:
    """Pay at once, for calls of one step; an amount of 0 leaves no row. Raises `OutOfCredits`."""
    return await _move(tx, tenant, "charge", -_amount(amount), ref, use)


async def reserve(
    tx: Tx, tenant: int, amount: Decimal | int, ref: str, use: Use, ttl: timedelta = TTL
) -> Reservation:
    """Set credits aside before a paid step; settle or release them after it.

    Raises `OutOfCredits`. A repeated call returns the first reservation, also when it is closed.
    """
    exact = _amount(amount)
    row = await tx.one(_RESERVE, (tenant, exact, ref, ttl, _json(use)))
    moved = _moved(row, tenant, ref, -exact)
    assert row is not None
    return Reservation(ref, -moved.amount, row["expires_at"], row["is_open"])


async def settle(
    tx: Tx, tenant: int, ref: str, actual: Decimal | int, steps: Sequence[Step] | None = None
) -> Movement:
    """Pay what the step took: the rest comes back, what it took above is taken as well.

    `steps`: what was paid for in the end; default as reserved. Raises `OutOfCredits` where balance
    or caps do not cover the part above (nothing moves then), `Conflict` when the reservation was
    released or has expired, `NotFound`.
    """
    return await _close(tx, tenant, "settle", ref, _amount(actual), steps)


async def release(tx: Tx, tenant: int, ref: str) -> Movement:
    """Give all of it back: the step failed. Raises `Conflict` when it is settled, `NotFound`."""
    return await _close(tx, tenant, "release", ref, Decimal(0))


async def refund(tx: Tx, tenant: int, ref: str) -> Movement:
    """Give a charge back, once: what was paid for turned out void. Raises NotFound."""
    past = await tx.one(
        "select amount from credit_ledger where tenant_id = %s and ref = %s and kind = 'charge'",
        (tenant, ref),
    )
    if past is None:
        raise NotFound(f"No charge {ref}")
    row = await tx.one(_MOVE, (tenant, "release", -past["amount"], past["amount"], ref, None))
    return _moved(row, tenant, ref, -past["amount"])


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


async def obstacle(tx: Tx, tenant: int, amount: Decimal, use: Use) -> LanternError | None:
    """What would refuse this charge at this moment; moves nothing, holds nothing."""
    subjects = ["", use.key_id, *(f"{key}={value}" for key, value in use.tags.items())]
    row = await tx.one(
        "select balance, case when capped"
        " then full_cap(tenant_id, %s, %s, clock_timestamp()) end as cap"
        " from credit_balances where tenant_id = %s",
        (subjects, amount, tenant),
    )
    if row is None:
        return refusal({"verdict": "no_tenant"}, tenant, amount)
    short = row["balance"] < amount
    verdict = "account_balance" if short else "cap" if row["cap"] else "moved"
    return refusal({**row, "verdict": verdict}, tenant, amount)


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
        await tx.act_for(tenant)
        closed = await tx.one(_CLOSE, (tenant, "release", row["ref"], 0, None, True))
        if closed is not None and closed["verdict"] == "moved":
            released += 1
    if released:
        _log.info("credits.expired", reservations=released)
    return released


def refusal(row: Row, tenant: int, required: Decimal) -> LanternError | None:
    """The error behind a verdict of `ledger_move`; None for `moved` and `repeated`."""
    match row["verdict"]:
        case "account_balance":
            return OutOfCredits(required, row["balance"], "account_balance")
        case "cap":
            return CapReached(required, row["balance"], row["cap"])
        case "no_tenant":
            return NotFound(f"Tenant {tenant} has no balance")
    return None


async def _move(tx: Tx, tenant: int, kind: str, amount: Decimal, ref: str, use: Use) -> Movement:
    used = -amount if kind == "charge" else Decimal(0)
    row = await tx.one(_MOVE, (tenant, kind, amount, used, ref, _json(use)))
    return _moved(row, tenant, ref, amount)


async def _close(
    tx: Tx,
    tenant: int,
    kind: str,
    ref: str,
    actual: Decimal,
    steps: Sequence[Step] | None = None,
) -> Movement:
    paid_for = None if steps is None else _dumps(list(steps))
    row = await tx.one(_CLOSE, (tenant, kind, ref, actual, paid_for, False))
    if row is None or row["verdict"] == "no_reservation":
        raise NotFound(f"No reservation {ref}")
    if row["verdict"] == "closed":
        raise Conflict(f"Reservation {ref} is closed already")
    return _moved(row, tenant, ref, row["reserved"] - actual)


def _moved(row: Row | None, tenant: int, ref: str, amount: Decimal) -> Movement:
    assert row is not None
    if error := refusal(row, tenant, -amount):
        raise error
    if row["amount"] != amount:
        raise Conflict(f"{ref} was used for another amount", details={"ref": ref})
    return Movement(ref, row["amount"], row["balance"], repeated=row["verdict"] == "repeated")


async def _reservation(tx: Tx, tenant: int, ref: str) -> Reservation:
    row = await tx.one(
        "select amount, expires_at, closed_at from credit_reservations"
        " where tenant_id = %s and ref = %s",
        (tenant, ref),
    )
    if row is None:
        raise NotFound(f"No reservation {ref}")
    return Reservation(ref, row["amount"], row["expires_at"], row["closed_at"] is None)


def _json(use: Use) -> str:
    return _dumps(
        {
            "operation": use.operation,
            "run_id": use.run_id,
            "workflow_id": use.workflow_id,
            "key_id": use.key_id,
            "tags": dict(use.tags),
            "steps": list(use.steps),
        }
    )


def _dumps(value: Any) -> str:
    return orjson.dumps(value, default=_exact).decode()


def _exact(value: Any) -> Any:
    # A Decimal reaches the database digit by digit.
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:f}")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _amount(amount: Decimal | int) -> Decimal:
    # A float has no place in a ledger; the type says so, and this where types are not checked.
    if isinstance(amount, float):
        raise TypeError("credits are Decimal or int, never float")
    try:
        exact = Decimal(amount).quantize(_PLACES, ROUND_HALF_UP)
    except InvalidOperation:
        exact = Decimal("NaN")
    if not exact.is_finite() or not 0 <= exact < _LIMIT:
        raise BadRequest.field("amount", f"must be between 0 and {_LIMIT:f}")
    return exact
