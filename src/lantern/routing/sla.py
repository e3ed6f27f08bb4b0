"""What nobody takes up in time moves on; what the CRM refuses is taken back. By the server itself.

Both run in a transaction of the machinery (a timer's, a delivery's): once, with its commit.
"""

from typing import Any

from lantern.core import crm, ids, timers
from lantern.core.db import Row, Tx
from lantern.gate import audit, ledger
from lantern.routing import service, store


@timers.local("routing.sla")
async def breach(tx: Tx, fire: timers.Fire) -> None:
    """Nobody accepted in time: the next owner, the pool's fallback, or whom it escalates to."""
    tenant, assignment = int(fire.args["tenant"]), str(fire.args["assignment"])
    await tx.act_for(tenant)
    row = await store.fetch_locked(tx, assignment)
    pool = row and await store.pool_by_id(tx, row["pool_id"])
    if row is None or pool is None or row["status"] != "assigned":
        return
    if await store.has_later_owner(tx, row):  # a second decision gave it to somebody else
        return
    target = _target(pool, row["hop"])
    if target is None:
        await audit.record_command(tx, tenant, "assignment.breached", "assignment", assignment)
        return
    held = await store.holders(tx, assignment)
    moved = await store.assign(tx, tenant, _again(tenant, row, "sla", held=held, **target))
    if moved["verdict"] == "assigned":
        await service.end(tx, row, "rerouted", "sla", give_back=pool["sla_refund_turn"])
    else:  # nobody else is eligible, and there is no fallback: it stays where it is
        await audit.record_command(tx, tenant, "assignment.breached", "assignment", assignment)


def _target(pool: Row, hop: int) -> dict[str, str] | None:
    """Where a breach leads: {} is the next member, None nowhere."""
    fallback = {"to": pool["fallback"], "method": "fallback"} if pool["fallback"] else None
    if pool["sla_on_breach"] == "escalate" and pool["sla_escalate_to"]:
        return {"to": pool["sla_escalate_to"], "method": "escalation"}
    if pool["sla_on_breach"] == "queue" or hop >= pool["sla_max_hops"]:
        return fallback
    return {}


@crm.on_refused
async def refused(tx: Tx, tenant: int, assignment: str, why: str) -> None:
    """A deleted record: void, turn and credits go back. An inactive owner: the next one gets it."""
    row = await store.fetch_locked(tx, assignment)
    if row is None or row["status"] not in ("assigned", "accepted"):
        return
    await service.end(tx, row, "void", why, give_back=True)
    if why == "owner_inactive":
        await store.note_activity(tx, row["pool_id"], {row["assigned_to"]: False})
        if await _replaced(tx, tenant, row, why):
            return
    if paid := await store.paid(tx, assignment):
        await ledger.refund(tx, tenant, paid)


async def _replaced(tx: Tx, tenant: int, row: Row, why: str) -> bool:
    if await store.has_later_owner(tx, row):
        return False
    held = await store.holders(tx, row["id"])
    moved = await store.assign(tx, tenant, _again(tenant, row, why, held=held))
    return bool(moved["verdict"] == "assigned")


def _again(tenant: int, row: Row, why: str, **more: Any) -> dict[str, Any]:
    """The same record once more, free of charge: the first decision was paid."""
    return {
        "id": ids.new("asg"),
        "pool": row["pool"],
        "object": row["object"],
        "title": row["object"].capitalize(),
        "sf_id": row["sf_id"],
        "record": row["record"],
        "exclude_inactive": row["exclude_inactive"],
        "reset": False,
        "reason": why,
        "owner": row["assigned_to"],
        "tags": {},
        "crm": crm.connected(tenant),
        "hop": row["hop"] + (why == "sla"),
        "from": row["id"],
        "free": True,
        **more,
    }
