"""What a reader of the log asks for: a period and filters."""

from dataclasses import dataclass, field
from datetime import datetime

from lantern.core.errors import BadRequest
from lantern.core.sfids import record_key
from lantern.core.times import moment
from lantern.gate.route_log import ACTIONS, OBJECTS

MOST_ROWS = 10_000


@dataclass(frozen=True)
class Period:
    """From a moment to another one, which is outside; `first` and `last` as they were given."""

    first: str
    last: str
    since: datetime
    until: datetime


@dataclass(frozen=True)
class Query:
    """A period, filters (None: any), how many rows (None: all)."""

    period: Period
    filters: dict[str, str] = field(default_factory=dict)
    limit: int | None = 1000
    include_diff: bool = True


def read(period: Period, *, limit: int | None, include_diff: bool, **given: str | None) -> Query:
    """Check filters: pool, object (any case), action, object_id, assigned_to. Raises BadRequest."""
    filters = {name: _text(name, value) for name, value in given.items() if value is not None}
    if "object" in filters:
        filters["object"] = _one_of("object", filters["object"].capitalize(), OBJECTS)
    if "action" in filters:
        filters["action"] = _one_of("action", filters["action"].lower(), ACTIONS)
    return Query(period, filters, limit, include_diff)


def period(first: str, last: str) -> Period:
    """Dates or date-times; a last date counts whole. Raises BadRequest naming `from` or `to`."""
    found = Period(first, last, moment("from", first), moment("to", last, end=True))
    if found.until <= found.since:
        raise BadRequest.field("to", "must be after `from`", "query")
    return found


def ids_of(object_id: str) -> list[str]:
    """A record's id in the forms it may have in the log: 15 and 18 characters are the same record."""
    short = object_id[:15]
    if len(object_id) == 15:
        return sorted({object_id, record_key(object_id)})
    return [object_id, short] if short != object_id == record_key(short) else [object_id]


def _text(name: str, value: str) -> str:
    if not 0 < len(value) <= 200 or "\0" in value:
        raise BadRequest.field(name, "must have 1 to 200 characters", "query")
    return value


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise BadRequest.field(name, f"must be one of {', '.join(allowed)}", "query")
    return value
