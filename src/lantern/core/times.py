"""Moments that a query names: ISO-8601 dates and date-times, UTC where they name no zone."""

import re
from datetime import UTC, datetime, timedelta

from lantern.core.errors import BadRequest

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
# A `+` that nobody escaped arrives as a space.
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)(?:(Z)|([ +-]\d\d:?\d\d))?"
)


def moment(name: str, text: str, *, end: bool = False, after: bool = False) -> datetime:
    """The moment, or a date's first one. Raises BadRequest naming the query's field.

    As an `end`, which is outside of the period, a date counts whole; so does, with `after`, the
    moment itself.
    """
    try:
        if _DATE.fullmatch(text):
            day = datetime.fromisoformat(text).replace(tzinfo=UTC)
            return day + timedelta(days=1) if end else day
        if found := _TIME.fullmatch(text):
            zone = (found[3] or "+00:00").replace(" ", "+")
            exact = datetime.fromisoformat(found[1] + zone).astimezone(UTC)
            return exact + datetime.resolution if end and after else exact
    except (ValueError, OverflowError):
        raise BadRequest.field(name, "is no moment of the calendar", "query") from None
    raise BadRequest.field(name, "must be an ISO-8601 date or date-time", "query")
