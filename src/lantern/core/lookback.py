"""Lists of any length, newest first: each page looks through a bounded number of rows.

A filter that few rows pass would else read a whole table for one page. Where the bound was reached
the page says how far back it has looked, and the next one goes on from there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lantern.core import clock
from lantern.core.db import Row, Tx
from lantern.core.errors import BadRequest

MOST_ROWS = 50_000  # that a request looks through
MOST_COUNTED = 10_001  # that it counts

Position = tuple[datetime, int]


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from. `at` is the column of their moment; (at, id) is their order.

    `within` is what an index with that order serves; `filters` is what each row is asked after it.
    `chosen` selects from `page`, which has the moment as `at` and the id, what a page shows.
    """

    table: str
    at: str
    within: str
    chosen: str
    filters: str = "true"
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, how many there are from here on (at least, where `looked_back_to` is a moment).

    `older`: where the next page begins, None at the end. `cut`: this page ends where looking did.
    """

    rows: list[Row]
    count: int
    older: str | None
    looked_back_to: datetime | None
    cut: bool


async def page(tx: Tx, source: Source, after: str | None, limit: int) -> Page:
    """Rows behind a position, `limit` at most. Raises BadRequest for a position that is none."""
    start = position(after)
    found = await _found(tx, source, start, limit + 1)
    count = found[0]["counted"] if found else 0
    rows = found[:limit]
    end = None if count >= MOST_COUNTED else await _horizon(tx, source, start)
    looked_back_to = end[0] if end else None
    if len(found) > limit:
        last = rows[-1]
        return Page(rows, count, token((last["at"], last["id"])), looked_back_to, cut=False)
    return Page(rows, count, end and token(end), looked_back_to, cut=end is not None)


def token(place: Position) -> str:
    """A position as an address holds it."""
    return f"{clock.to_micros(place[0])}.{place[1]}"


def position(text: str | None) -> Position | None:
    """What a token stands for. Raises BadRequest."""
    if not text:
        return None
    micros, _, row_id = text.partition(".")
    good = all(part.isascii() and part.isdigit() for part in (micros, row_id))
    if not good or len(micros) > 16 or len(row_id) > 18:
        raise BadRequest.field("after", "not a place of this list", "query")
    return clock.from_micros(int(micros)), int(row_id)


async def _found(tx: Tx, source: Source, start: Position | None, limit: int) -> list[Row]:
    """The page's rows, each with `counted`: how many there are, MOST_COUNTED at most."""
    inner, params = _inner(source, start)
    return await tx.all(
        f"with found as materialized (select {source.at} as at, id from ({inner}"
        f"  limit {MOST_ROWS}) r where {source.filters} order by {source.at} desc, id desc"
        f"  limit {MOST_COUNTED}),"
        f" page as materialized (select at, id, (select count(*) from found) as counted"
        f"  from found order by at desc, id desc limit {int(limit)})"
        f" {source.chosen} order by page.at desc, page.id desc",
        params,
    )


async def _horizon(tx: Tx, source: Source, start: Position | None) -> Position | None:
    """The last row that is looked at; None: all are."""
    inner, params = _inner(source, start, f"{source.at} as at, id")
    rows = await tx.all(f"{inner} offset {MOST_ROWS - 1} limit 2", params)
    return (rows[0]["at"], rows[0]["id"]) if len(rows) == 2 else None


def _inner(
    source: Source, start: Position | None, columns: str = "*"
) -> tuple[str, dict[str, Any]]:
    params, behind = dict(source.params), ""
    if start:
        behind = f" and ({source.at}, id) < (%(start_at)s, %(start_id)s)"
        params |= {"start_at": start[0], "start_id": start[1]}
    return (
        f"select {columns} from {source.table} where {source.within}{behind}"
        f" order by {source.at} desc, id desc",
        params,
    )
