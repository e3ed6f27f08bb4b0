"""What was done to records: one row for each assignment, conversion, merge and enrichment.

Rows are only added, in the transaction of what they tell of. gate/seals.py chains them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson

from lantern.core.db import Tx

Action = Literal["assign", "convert", "merge", "enrich"]
ACTIONS: tuple[Action, ...] = ("assign", "convert", "merge", "enrich")
OBJECTS = ("Lead", "Contact", "Account", "Opportunity")


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the log. `diff`: field -> {"old", "new"}; what does not apply stays None."""

    at: datetime
    action: Action
    object: str
    object_id: str
    pool: str | None = None
    assigned_to: str | None = None
    prev_owner: str | None = None
    sequence: int | None = None
    reason: str | None = None
    request_id: str | None = None
    idempotency_key: str | None = None
    diff: Mapping[str, Any] | None = None


async def write(tx: Tx, tenant: int, entry: Entry) -> int:
    """Add a row; its id. SQL functions call `log_route` themselves."""
    diff = None if entry.diff is None else orjson.dumps(dict(entry.diff)).decode()
    row = await tx.one(
        "select log_route(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) as id",
        (
            tenant, entry.at, entry.action, entry.object.capitalize(), entry.object_id, entry.pool,
            entry.assigned_to, entry.prev_owner, entry.sequence, entry.reason, entry.request_id,
            entry.idempotency_key, diff,
        ),
    )  # fmt: skip
    assert row is not None
    return int(row["id"])


async def make_months(tx: Tx, ahead: int = 2) -> list[str]:
    """Make the tables of this month and the next ones; the names of the new ones."""
    row = await tx.one("select make_log_months(%s) as made", (ahead,))
    return list(row["made"]) if row else []


async def drop_months(tx: Tx) -> list[str]:
    """Drop the tables of past months of which no tenant keeps a row; their names."""
    row = await tx.one("select drop_log_months() as dropped")
    return list(row["dropped"]) if row else []
