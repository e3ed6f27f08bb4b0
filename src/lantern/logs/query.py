"""What a reader of the log asks for: a period and filters."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from lantern.core.errors import BadRequest
from lantern.gate.route_log import ACTIONS, OBJECTS

MOST_ROWS = 10_000
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
# A `+` that nobody escaped arrives as a space.
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)(?:(Z)|([ +-]\d\d:?\d\d))?"
)
_SHORT = re.compile(r"[A-Za-z0-9]{15}")
_LONG = re.compile(r"[A-Za-z0-9]{18}")
_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


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


def moment(name: str, text: str, *, end: bool = False) -> datetime:
    """A date (its start or, with `end`, its end) or a date-time; without a zone it is UTC."""
    try:
        if _DATE.fullmatch(text):
            day = datetime.fromisoformat(text).replace(tzinfo=UTC)
            return day + timedelta(days=1) if end else day
        if found := _TIME.fullmatch(text):
            zone = (found[3] or "+00:00").replace(" ", "+")
            return datetime.fromisoformat(found[1] + zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest.field(name, "is no moment of the calendar", "query") from None
    raise BadRequest.field(name, "must be an ISO-8601 date or date-time", "query")


def ids_of(object_id: str) -> list[str]:
    """A record's id in the forms it may have in the log: 15 and 18 characters are the same record."""
    if _SHORT.fullmatch(object_id):
        return [object_id, object_id + _suffix(object_id)]
    if _LONG.fullmatch(object_id) and object_id[15:] == _suffix(object_id[:15]):
        return [object_id, object_id[:15]]
    return [object_id]


def _suffix(short: str) -> str:
    # Five characters give one: which of them are capitals.
    fives = (short[start : start + 5] for start in (0, 5, 10))
    return "".join(
        _SUFFIX[sum(1 << place for place, letter in enumerate(five) if letter.isupper())]
        for five in fives
    )


def _text(name: str, value: str) -> str:
    if not 0 < len(value) <= 200 or "\0" in value:
        raise BadRequest.field(name, "must have 1 to 200 characters", "query")
    return value


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise BadRequest.field(name, f"must be one of {', '.join(allowed)}", "query")
    return value
