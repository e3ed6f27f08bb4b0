"""Rules of assignments: decide, accept, void, look back. The decision itself is one SQL function."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from lantern.core import clock, crm, ids, outbox, timers
from lantern.core.db import Row, Tx
from lantern.core.errors import BadRequest, Conflict, LanternError, NotFound
from lantern.core.sfids import record_key
from lantern.gate import audit, ledger
from lantern.gate.auth import Call
from lantern.routing import store
from lantern.routing.models import AssignRequest

_SHOWN = (
    "pool",
    "sequence",
    "object",
    "sf_id",
    "assigned_to",
    "method",
    "status",
    "prev_owner",
    "reason",
    "pool_size",
    "eligible_size",
    "hop",
    "rerouted_from",
    "credits",
)
# Decisions that took a turn in the rotation: only such a turn can be given back.
TOOK_A_TURN = frozenset({"rotation", "top", "hold"})


class NoEligibleUser(Conflict):
    """Nobody in the pool may be picked now, and it has no fallback; the sequence stays."""

    code = "no_eligible_user"


@dataclass(frozen=True, slots=True)
class Decision:
    """Who got a record, and what the decision cost."""

    row: Row
    credits: Decimal
    cached: bool


async def assign(
    tx: Tx, call: Call, body: AssignRequest, *, charge_size: bool, at: datetime | None = None
) -> Decision:
    """Give the record to the pool's next member. `at`: when it is decided; None: now.

    Raises NotFound (pool), BadRequest (reset rules), NoEligibleUser, OutOfCredits.
    """
    asked = _asked(call, body) | {"size_price": charge_size}
    row = await store.assign(tx, call.tenant, asked, at)
    if refusal := _refusal(row, call, body):
        raise refusal
    call.credits = row["balance"]
    return Decision(row, row["credits"], cached=row["verdict"] == "repeated")


def _asked(call: Call, body: AssignRequest) -> dict[str, Any]:
    reset = body.reset_rules
    top = reset.place_user_at_top if reset else None
    return {
        "id": ids.new("asg"),
        "pool": body.pool,
        "object": body.object,
        "title": body.object.capitalize(),
        "sf_id": body.sf_id,
        "record": record_key(body.sf_id),
        "exclude_inactive": body.exclude_inactive,
        "reset": reset is not None,
        "reason": reset.reason if reset else None,
        "top": record_key(top) if top else None,
        "owner": body.current_owner,
        "owner_key": record_key(body.current_owner) if body.current_owner else None,
        "key_id": call.key_id,
        "request_id": call.request_id,
        "idempotency_key": call.idempotency_key,
        "tags": {**call.tags, **body.metadata},
        "crm": crm.connected(call.tenant),
    }


def _refusal(row: Row, call: Call, body: AssignRequest) -> LanternError | None:
    match row["verdict"]:
        case "no_pool":
            return NotFound(f"Pool '{body.pool}' not found")
        case "bad_reason":
            return BadRequest.field("reset_rules.reason", "is not one that this pool allows")
        case "not_member":
            return BadRequest.field("reset_rules.place_user_at_top", "is not in the pool")
        case "no_eligible_user":
            call.credits = row["balance"]
            text = f"Nobody in pool '{body.pool}' may be picked now"
            if not row["users"]:
                text = f"Pool '{body.pool}' has no members"
            error = NoEligibleUser(text, details={"skipped": skipped(row)})
            error.keeps = row["credits"] > 0  # the tariff charges misses
            return error
        case "out_of_credits":
            facts = row["facts"]
            facts["balance"] = Decimal(str(facts["remaining"] or 0))
            return ledger.refusal(facts, call.tenant, Decimal(str(facts["required"])))
    return None


def told(made: Decision, *, explain: bool) -> dict[str, Any]:
    """A decision as answers tell it; with `explain` also how it came about."""
    row = made.row
    fields = {
        "assigned_to": row["assigned_to"],
        "sequence": row["sequence"],
        "pool_size": row["pool_size"],
        "timestamp": clock.iso(row["at"]),
    }
    if not explain:
        return fields
    return fields | {
        "assignment_id": row["assignment_id"],
        "method": row["method"],
        "eligible_size": row["eligible_size"],
        "rotation_epoch": row["epoch"],
        "crm_write": row["crm_write"],
        "skipped": skipped(row),
    }


def skipped(row: Row) -> list[dict[str, str]]:
    """The members that could not be picked, and why."""
    pairs = zip(row["users"] or [], row["reasons"] or [], strict=True)
    return [{"user_id": u, "reason": why} for u, why in pairs if why not in (None, "back_soon")]


async def fetch(tx: Tx, assignment: str, *, hold: bool = False) -> Row:
    """One assignment, or NotFound; with `hold` its pool decides nothing meanwhile."""
    known = assignment.startswith("asg_") and "\0" not in assignment
    read = store.fetch_locked if hold else store.fetch
    row = await read(tx, assignment) if known else None
    if row is None:
        raise NotFound("Assignment not found" + ("" if known else ": its id begins with asg_"))
    return row


async def accept(tx: Tx, call: Call, assignment: str) -> Row:
    """The owner has taken it up: the SLA timer stops. Twice is as good as once."""
    row = await fetch(tx, assignment, hold=True)
    if not await store.accept(tx, assignment):
        raise Conflict(f"The assignment is {row['status']}")
    await timers.stop(tx, sla_key(assignment))
    if row["status"] == "assigned":
        await audit.record(call, "assignment.accept", "assignment", assignment)
    return await fetch(tx, assignment)


async def void(tx: Tx, call: Call, assignment: str, why: str | None) -> Row:
    """Take it back: the number stays, the turn goes back to the member. Twice changes nothing."""
    row = await fetch(tx, assignment, hold=True)
    if row["status"] != "void":
        if not await end(tx, row, "void", why or "void", give_back=True):
            raise Conflict(f"The assignment is {row['status']}")
        await audit.record(call, "assignment.void", "assignment", assignment)
    else:  # the write that was under way when it became void may be waiting for its next try
        await outbox.withdraw(tx, crm.TOPIC, assignment)
    return await fetch(tx, assignment)


async def end(tx: Tx, row: Row, status: str, why: str, *, give_back: bool) -> bool:
    """End an assignment whose pool is locked; False when it has ended. The timer stops."""
    if not await store.end(tx, row["id"], status, why):
        return False
    await timers.stop(tx, sla_key(row["id"]))
    await outbox.withdraw(tx, crm.TOPIC, row["id"])
    if give_back and row["method"] in TOOK_A_TURN:
        await store.give_turn_back(tx, row)
    return True


def sla_key(assignment: str) -> str:
    """The key of an assignment's timer."""
    return f"routing.sla:{assignment}"


async def crm_write(tx: Tx, assignment: str) -> str:
    """How far the owner has come: `off`, `pending`, `done`, `failed` or `superseded`."""
    return await outbox.state(tx, crm.TOPIC, assignment) or "off"


def shown(row: Row) -> dict[str, Any]:
    """An assignment as answers show it."""
    times = ("breach_at", "accepted_at", "ended_at")
    return {
        "assignment_id": row["id"],
        **{name: row[name] for name in _SHOWN},
        "rotation_epoch": row["epoch"],
        "timestamp": clock.iso(row["created_at"]),
        **{name: clock.iso(row[name]) if row[name] else None for name in times},
        "ended_why": row["ended_why"],
        "request_id": row["request_id"],
    }
