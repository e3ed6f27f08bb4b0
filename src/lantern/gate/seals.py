"""The chain over the log: what seals rows, what removes them and leaves their seals.

Every node calls `seal` each second; the holder of a lock in the database does it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from lantern.core import clock
from lantern.core.db import Database, Tx

BATCH = 1000
BUDGET_SECONDS = 0.3  # of one look, of two a second: a large backlog leaves room for others


@dataclass(frozen=True, slots=True)
class Removed:
    """Rows that left the log: how many, for which actions, at which places of the chain."""

    count: int
    by_action: dict[str, int]
    ranges: str | None  # an int8multirange as text


async def seal(db: Database) -> int:
    """Seal what was committed, for a third of a second at most; how many rows. Each in its turn."""
    started, sealed = clock.monotonic(), 0
    while clock.monotonic() - started < BUDGET_SECONDS:
        row = await db.one("select seal_logs(%s) as sealed", (BATCH,))
        done = row["sealed"] if row else None
        sealed += done or 0
        if done is None or done < BATCH:
            break
    return sealed


async def erase_objects(tx: Tx, tenant: int, objects: Sequence[str], limit: int) -> Removed:
    """Remove rows about these records; their seals stay."""
    return await _erase(tx, (tenant, list(objects), None, "{}", limit))


async def expire(
    tx: Tx, tenant: int, before: datetime, actions: Mapping[str, datetime], limit: int
) -> Removed:
    """Remove rows older than `before`, or than what `actions` says for theirs."""
    cutoffs = orjson.dumps({name: at.isoformat() for name, at in actions.items()}).decode()
    return await _erase(tx, (tenant, None, before, cutoffs, limit))


async def _erase(tx: Tx, params: tuple[Any, ...]) -> Removed:
    row = await tx.one(
        "select gone, by_action, ranges::text from erase_logs(%s, %s, %s, %s::jsonb, %s)", params
    )
    assert row is not None
    return Removed(row["gone"], row["by_action"] or {}, row["ranges"])


async def cut(tx: Tx, tenant: int, upto: int, limit: int) -> int:
    """Drop seals that a checkpoint stands for; how many."""
    row = await tx.one("select cut_log_seals(%s, %s, %s) as cut", (tenant, upto, limit))
    return int(row["cut"]) if row else 0


async def tenants_to_clean(tx: Tx) -> list[int]:
    """Tenants with a log whose clean-up is the common one."""
    return [row["tenant_id"] for row in await tx.all("select tenant_id from logs_to_clean()")]
