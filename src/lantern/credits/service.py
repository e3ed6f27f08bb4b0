"""Rules of credits: times and filters of reports, prices, caps, estimates. None of it costs credits."""

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from lantern.core import clock, http, ids
from lantern.core.db import Row, Tx
from lantern.core.errors import BadRequest, Conflict, Forbidden, LanternError, NotFound
from lantern.credits import store
from lantern.credits.models import CapCreate, Estimate, Line, PriceChange
from lantern.gate import audit, flat, ledger, tariff
from lantern.gate.auth import Call

MOST_GROUPS = 1000
MOST_CAPS = 1000
DAYS = 30  # of own history that an estimate rests on,
MOST_CHARGES = 10_000  # and how many of its charges
RECEIPT_ID = re.compile(r"rcpt_(\d{1,18})")


# ---------------------------------------------------------------- usage and receipts
async def usage(
    tx: Tx, tenant: int, filters: dict[str, Any], group_by: str | None = None
) -> dict[str, Any]:
    """`credits_used`, and its parts where `group_by` is given."""
    if group_by is None:
        return {"credits_used": (await store.used(tx, tenant, filters))["credits"]}
    rows = await store.used_by(tx, tenant, filters, _group(group_by), MOST_GROUPS)
    groups = [
        {"value": row["value"], "credits": row["credits"]}
        | ({"others": row["groups"]} if row["groups"] > 1 else {})
        for row in rows
    ]
    return {"credits_used": sum((g["credits"] for g in groups), Decimal(0)), "groups": groups}


def _group(text: str) -> tuple[str, str | None]:
    name, colon, tag = text.partition(":")
    if name not in store.GROUPS or (name == "tag") != bool(colon) or (colon and not tag):
        raise BadRequest.field(
            "group_by", "is none of day, operation, key, workflow, tag:<key>", "query"
        )
    if "\0" in tag:
        raise BadRequest.field("group_by", "May not contain the character NUL", "query")
    return name, tag or None


async def receipts(
    tx: Tx, tenant: int, filters: dict[str, Any], limit: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """A page of receipts, newest first, and how many there are."""
    rows, total = await store.receipts(tx, tenant, filters, limit, offset)
    return [shown(row) for row in rows], total


async def receipt(tx: Tx, tenant: int, receipt_id: str) -> dict[str, Any]:
    """One receipt. Raises NotFound."""
    number = RECEIPT_ID.fullmatch(receipt_id)
    row = await store.receipt(tx, tenant, int(number[1])) if number else None
    if row is None:
        raise NotFound("Receipt not found")
    return shown(row)


def shown(row: Row) -> dict[str, Any]:
    """A receipt as answers show it."""
    return {
        "id": f"rcpt_{row['id']}",
        **{name: row[name] for name in ("kind", "amount", "used", "balance_after", "ref")},
        "operation": row["operation"],
        "workflow_id": row["workflow_id"],
        "workflow_run_id": row["run_id"],
        "key_id": row["key_id"],
        "tags": row["tags"],
        "steps": [_whole(step) for step in row["steps"]],
        "created_at": clock.iso(row["created_at"]),
    }


def _whole(step: dict[str, Any]) -> dict[str, Any]:
    # JSON of the database reads 1.0000 as a float; whole credits are integers on the wire.
    return {k: http.plain(Decimal(str(v))) if isinstance(v, float) else v for k, v in step.items()}


# ---------------------------------------------------------------- prices
async def prices(tx: Tx) -> list[dict[str, Any]]:
    """Every price that holds for the tenant of this transaction."""
    return await store.tariff(tx)


async def set_price(
    tx: Tx, tenant: int, name: tuple[str, str], change: PriceChange, by: Call | None = None
) -> dict[str, Any]:
    """Give the tenant a price of its own for (operation, item). `by` None: the operator."""
    await _price(tx, name)
    await store.set_price(tx, tenant, name, change.model_dump(include={"credits", "charge_on"}))
    made = await _price(tx, name)
    price = {"credits": str(made["credits"]), "charge_on": made["charge_on"]}
    await _note(tx, tenant, by, ("tariff.set", "price", "/".join(name)), price)
    return made


async def unset_price(
    tx: Tx, tenant: int, name: tuple[str, str], by: Call | None = None
) -> dict[str, Any]:
    """Back to the default; also where there is no price of its own."""
    if (await _price(tx, name))["own"]:
        await store.unset_price(tx, tenant, *name)
        await _note(tx, tenant, by, ("tariff.unset", "price", "/".join(name)))
    return await _price(tx, name)


def check_may_price(allowed: bool) -> None:
    """Raise Forbidden where the operator alone sets prices."""
    if not allowed:
        raise Forbidden(
            "Prices are the operator's here: `tenants_set_prices` is false in `[credits]`"
        )


async def _price(tx: Tx, name: tuple[str, str]) -> Row:
    row = None if "\0" in "".join(name) else await store.price(tx, *name)
    if row is None:
        raise NotFound(f"No price '{name[0]}/{name[1]}': GET /v1/credits/tariff lists all")
    return row


# ---------------------------------------------------------------- caps
async def caps(tx: Tx, tenant: int, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """A page of caps with what is used and left of each, and how many there are."""
    rows, total = await store.caps(tx, tenant, limit, offset)
    return [_cap(row) for row in rows], total


async def add_cap(tx: Tx, tenant: int, cap: CapCreate, by: Call | None = None) -> dict[str, Any]:
    """Add a cap; it counts what its running period has seen. Conflict: there is one like it."""
    subject = await _subject(tx, cap)
    values = cap.model_dump(include={"scope", "period", "credits"})
    await store.hold_balance(tx, tenant)
    if await store.count_caps(tx, tenant) >= MOST_CAPS:
        raise Conflict(f"There are {MOST_CAPS} caps, which is the limit")
    row = await store.add_cap(tx, tenant, {**values, "id": ids.new("cap"), "subject": subject})
    if row is None:
        raise Conflict("There is a cap for this subject and period; remove it first")
    made = _cap(row)
    shown = {name: made[name] for name in ("scope", "period")} | {"credits": str(cap.credits)}
    if cap.scope != "tag":  # a tag may name a person
        shown["subject"] = made["subject"]
    await _note(tx, tenant, by, ("cap.create", "cap", made["id"]), shown)
    return made


async def remove_cap(tx: Tx, tenant: int, cap_id: str, by: Call | None = None) -> None:
    """Remove a cap. Raises NotFound."""
    await store.hold_balance(tx, tenant)
    if "\0" in cap_id or await store.remove_cap(tx, tenant, cap_id) is None:
        raise NotFound("Cap not found")
    await _note(tx, tenant, by, ("cap.delete", "cap", cap_id))


async def _subject(tx: Tx, cap: CapCreate) -> str:
    """'' for the account, a key's id, or a tag as key=value."""
    if cap.scope == "account":
        if cap.subject is not None:
            raise BadRequest.field("subject", "a cap of the account has none")
        return ""
    if cap.subject is None:
        raise BadRequest.field("subject", "a key's id, or a tag as key=value, is required")
    if cap.scope == "key":
        if not await store.has_key(tx, cap.subject):
            raise BadRequest.field("subject", "no such key")
        return cap.subject
    key, equals, value = cap.subject.partition("=")
    try:
        flat.Body(metadata={key: value})
    except ValueError:
        equals = ""
    if not equals:
        raise BadRequest.field("subject", "is no tag: key=value")
    return cap.subject


def _cap(row: Row) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("id", "scope", "subject", "period", "credits", "used")},
        "left": max(row["credits"] - row["used"], Decimal(0)),
        "period_started_at": None if row["period"] == "total" else clock.iso(row["starts"]),
        "created_at": clock.iso(row["created_at"]),
    }


# ---------------------------------------------------------------- estimates
async def estimate(call: Call, body: Estimate) -> dict[str, Any]:
    """What `count` calls would cost: at most, and as the tenant's own past has it."""
    operation = tariff.find(body.operation)
    most = operation.items(body.request)
    prices = await tariff.prices(call.tx, operation.name)
    charges, means = await _means(call.tx, call.tenant, operation.name)
    lines = []
    for item, times in most.items():
        price = prices[item]
        at_most = expected = price.credits * times * body.count
        if charges and item not in operation.certain:
            usual = price.credits * means.get(item, Decimal(0)) * body.count
            expected = min(at_most, round(usual, 4))
        lines.append(Line(item, price.credits, price.charge_on, at_most, expected))
    total = sum((line.at_most for line in lines), Decimal(0))
    use = ledger.Use(operation.name, key_id=call.key_id, tags={**call.tags, **body.metadata})
    refusal = await ledger.obstacle(call.tx, call.tenant, total, use)
    return {
        "operation": operation.name,
        "count": body.count,
        "at_most_credits": total,
        "expected_credits": sum((line.expected for line in lines), Decimal(0)),
        "based_on": {"charges": charges, "days": DAYS},
        "items": [line._asdict() for line in lines],
        **_affordable(refusal),
    }


async def _means(tx: Tx, tenant: int, operation: str) -> tuple[int, Mapping[str, Decimal]]:
    since = clock.now() - timedelta(days=DAYS)
    charges, times = await store.history(tx, tenant, operation, since, MOST_CHARGES)
    return charges, {item: number / charges for item, number in times.items()}


def _affordable(refusal: LanternError | None) -> dict[str, Any]:
    if refusal is None:
        return {"affordable": True}
    return {"affordable": False, **refusal.details}


async def _note(
    tx: Tx,
    tenant: int,
    by: Call | None,
    what: tuple[str, str, str],
    detail: dict[str, Any] | None = None,
) -> None:
    if by is None:
        await audit.record_command(tx, tenant, *what, detail)
    else:
        await audit.record(by, *what, detail)
