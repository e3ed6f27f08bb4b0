"""Who may write a run: claims of what has nobody, and commits that only the owner can make.

The SQL functions of migrations/0001 do it in one statement each; the two that look across tenants
are SECURITY DEFINER (docs/adr/0008), which is why they are called from here and nowhere else.
"""

from dataclasses import astuple, dataclass
from datetime import timedelta

from lantern.core.db import Database, Row


@dataclass(frozen=True, slots=True)
class Commit:
    """A finished step, its events, the next step, the final state; in the function's order.

    `step` and `final` are JSON or None; `expect` is the status the run must have.
    """

    tenant: int
    run: str
    node: str
    attempt: int
    expect: str
    step: str | None
    following: str | None
    final: str | None
    seq_from: int
    seq_to: int
    data: str
    notify: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a node may take: up to `room` runs beside those it holds, or `only` one."""

    held: list[str]
    room: int
    only: str | None = None


async def claim(db: Database, node: str, dead: timedelta | None, wanted: Wanted) -> list[Row]:
    """Take runs that have nobody. `dead` None: queued ones alone, judging no peer.

    Nor does a node judge whose own beat is old when the statement runs: it waited for a database
    that was away, and every beat is old then, this node's too, which would take its own runs.
    """
    return await db.all(
        "select * from claim_runs(%(node)s, %(dead)s, %(judges)s and exists ("
        " select from nodes where id = %(node)s and beat >= clock_timestamp() - %(dead)s"
        "), %(held)s, %(room)s, %(only)s)",
        {
            "node": node,
            "dead": dead or timedelta(0),
            "judges": dead is not None,
            "held": wanted.held,
            "room": wanted.room,
            "only": wanted.only,
        },
    )


async def lost(db: Database, node: str, held: list[str]) -> list[Row]:
    """Runs of `held` that are no longer this node's to work on: id, status, and whether `mine`."""
    return await db.all("select * from lost_runs(%s, %s)", (node, held))


async def commit(db: Database, given: Commit) -> bool:
    """True when it is durable, also when an earlier try of the same commit made it so."""
    row = await db.one(
        "select commit_step(%s, %s, %s, %s, %s, %s::jsonb, %s, %s::jsonb, %s, %s, %s, %s) as mine",
        astuple(given),
    )
    return bool(row and row["mine"])
