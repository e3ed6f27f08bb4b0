"""Assignments as people look at them: lists with filters, over however many there are."""

from dataclasses import dataclass
from typing import Any

from lantern.core.db import Tx
from lantern.core.sfids import record_key
from lantern.routing import service, store


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which assignments; None: any. `record`: its 15 or its 18 characters."""

    pool: str | None = None
    record: str | None = None
    owner: str | None = None
    status: str | None = None

    def given(self) -> dict[str, str]:
        """What is asked for."""
        named = {"pool": self.pool, "owner": self.owner, "status": self.status}
        named["record"] = record_key(self.record) if self.record else None
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Part:
    """A page of a list. `older`: where the next one begins, None at the end.

    `cut`: no more were looked at for this page, older ones may match too.
    """

    assignments: list[dict[str, Any]]
    older: str | None
    cut: bool


async def browse(tx: Tx, wanted: Wanted, after: str | None, limit: int) -> Part:
    """A page of the assignments behind one of them, newest first."""
    position = await store.position(tx, after) if after else None
    rows, cut = await store.browse(tx, wanted.given(), position, limit + 1)
    shown = [service.shown(row) for row in rows[:limit]]
    if len(rows) > limit:
        return Part(shown, rows[limit - 1]["id"], cut=False)
    return Part(shown, cut, cut=cut is not None)


async def count(tx: Tx, wanted: Wanted, most: int) -> int | None:
    """How many there are, counted up to `most`; None: only a long look would tell."""
    return await store.count(tx, wanted.given(), most)
