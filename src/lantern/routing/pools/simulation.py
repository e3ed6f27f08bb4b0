"""What if: who would have got the assignments of the past, had the pool been another.

Pure, and heavy: it runs in a thread.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lantern.core import clock
from lantern.core.db import Row
from lantern.core.sfids import record_key
from lantern.routing import rotation
from lantern.routing.pools.pool import Pool
from lantern.routing.pools.replay import Held, Replay

MOST_EXAMPLES = 100


def simulate(pool: Pool, history: Sequence[Row]) -> dict[str, Any]:
    """Who got what, who would have got what, and which assignments would have gone elsewhere."""
    replay = Replay(pool)
    got: Counter[str] = Counter()
    would: Counter[str] = Counter()
    names: dict[str, str] = {}
    tally: Counter[str] = Counter()
    examples: list[dict[str, Any]] = []
    for row, held in replay.run(history):
        key, other = record_key(row["assigned_to"]), record_key(held.user or "")
        names.setdefault(key, row["assigned_to"])
        got[key] += 1
        tally["unassigned"] += held.user is None
        tally["repeated"] += held.why == "repeated"
        if held.user is not None and held.why != "repeated":
            names.setdefault(other, held.user)
            would[other] += 1
        if key != other:
            tally["changed"] += 1
            if len(examples) < MOST_EXAMPLES:
                examples.append(_example(row, held, _why(replay, key, held)))
    order = [someone.key for someone in pool.members]
    order += sorted(names.keys() - set(order))
    names |= {someone.key: someone.user_id for someone in pool.members}
    total = max(1, len(history))
    return {
        "assignments": len(history),
        "members": [
            {
                "user_id": names[key],
                "got": got[key],
                "would_get": would[key],
                "share": round(got[key] / total, 4),
                "would_share": round(would[key] / total, 4),
            }
            for key in order
        ],
        **{name: tally[name] for name in ("unassigned", "repeated", "changed")},
        "examples": examples,
    }


def _why(replay: Replay, key: str, held: Held) -> str:
    """Why not the one who got it: its own reason, else how the other was decided on."""
    place = replay.places.get(key)
    if place is None:
        return "not_a_member"
    if held.why in ("repeated", "escalation"):
        return held.why
    reason = replay.reasons[place]
    return held.why if reason in (None, rotation.BACK_SOON) else reason


def _example(row: Row, held: Held, why: str) -> dict[str, Any]:
    return {
        "assignment_id": row["id"],
        "sequence": row["sequence"],
        "at": clock.iso(row["created_at"]),
        "sf_id": row["sf_id"],
        "got": row["assigned_to"],
        "would_get": held.user,
        "why": why,
    }
