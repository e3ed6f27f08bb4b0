"""Why somebody got a record: the decision made again from what was stored, and told in a sentence."""

from typing import Any

from lantern.core.db import Row, Tx
from lantern.routing import rotation, service, store


async def explain(tx: Tx, assignment: str) -> dict[str, Any]:
    """The decision recomputed by routing/rotation.py from the stored waits and exclusions."""
    row = await service.fetch(tx, assignment)
    ring, turns = await store.gap_lengths(tx, row["pool_id"])
    picked = recompute(row)
    agrees = picked == row["assigned_to"]
    return {
        "assignment": service.shown(row),
        "summary": _sentence(row),
        "candidates": [
            {
                "user_id": user,
                # In turns of the member itself, by the ring that the pool has today.
                "wait": round(wait * turns.get(user, 1) / ring, 4),
                "eligible": reason in (None, rotation.BACK_SOON),
                "reason": reason,
                "picked": user == row["assigned_to"],
            }
            for user, wait, reason in zip(row["users"], row["waits"], row["reasons"], strict=True)
        ],
        "recomputed": picked,
        "agrees": agrees,
        "pool_version": row["pool_version"],
        "crm_write": await service.crm_write(tx, assignment),
    }


def recompute(row: Row) -> str | None:
    """Who must have got it. A sticky owner must be eligible; a fallback needs that nobody was."""
    at = rotation.decide(row["waits"], row["reasons"])
    owner = row["assigned_to"]
    match row["method"]:
        case "escalation":
            return str(owner) if row["hop"] > 0 else None
        case "fallback":
            return str(owner) if at is None or row["hop"] > 0 else None
        case "sticky":
            free = dict(zip(row["users"], row["reasons"], strict=True)).get(owner, "not a member")
            return str(owner) if free in (None, rotation.BACK_SOON) else None
    return None if at is None else str(row["users"][at])


def _sentence(row: Row) -> str:
    owner, size = row["assigned_to"], row["pool_size"]
    said = {
        "rotation": f"{owner} had the shortest wait of {row['eligible_size']} eligible members",
        "top": f"{owner} had been placed at the top",
        "hold": f"{owner} was next and will be back within the pool's holding time",
        "sticky": f"{owner} owned the record already and was eligible",
        "fallback": f"nobody of {size} active members was eligible: the pool's fallback {owner}",
        "escalation": f"nobody took it up in time: escalated to {owner}",
    }[row["method"]]
    if row["hop"] and row["method"] != "escalation":
        said += f", after {row['hop']} owners had let it lie"
    return f"Number {row['sequence']} of pool '{row['pool']}': {said}."
