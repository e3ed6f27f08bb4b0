"""Who may be picked at a moment, and why not: active, at work, under its caps, not for this object.

Pure. The SQL of `assign_owner` asks the same questions in the same order; days, weeks and working
hours are those of the member's own time zone.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from lantern.core import timers
from lantern.routing.rotation import BACK_SOON

WEEK = 7 * 1440  # minutes
_STEP = timedelta(minutes=5)  # how finely `back_soon` looks ahead


@dataclass(frozen=True, slots=True)
class Caps:
    """How many assignments at most: in the hour, day and week of the member's clock, and open."""

    hour: int | None = None
    day: int | None = None
    week: int | None = None
    open: int | None = None


NO_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class Person:
    """What eligibility needs to know of a member. `hours`: minutes of the local week, half-open."""

    active: bool = True
    crm_active: bool | None = None  # None: the CRM was never asked
    timezone: str = "UTC"
    hours: tuple[tuple[int, int], ...] | None = None  # None: always
    holidays: frozenset[date] = frozenset()
    out_of_office: tuple[tuple[datetime, datetime], ...] = ()
    caps: Caps = NO_CAPS


@dataclass(frozen=True, slots=True)
class Rules:
    """What the call and the pool's policy say."""

    exclude_inactive: bool = True
    respect_schedule: bool = True
    hold_minutes: int = 0  # 0: the skip policy is not `hold`


class Counts(NamedTuple):
    """Assignments of a member in its pool: since the starts of its hour, day, week; and open."""

    hour: int = 0
    day: int = 0
    week: int = 0
    open: int = 0


class Starts(NamedTuple):
    """When the local hour, day and ISO week began, as UTC."""

    hour: datetime
    day: datetime
    week: datetime


NOTHING = Counts()


def reason(
    person: Person,
    at: datetime,
    counts: Counts = NOTHING,
    rules: Rules | None = None,
    aside: str | None = None,
) -> str | None:
    """Why the member may not be picked at `at`; None or `back_soon`: it may.

    `aside`: `bad_fit` or `held_before` where the member is out for this object alone.
    """
    rules = rules or Rules()
    if rules.exclude_inactive and not counted_active(person):
        return "inactive"
    away = schedule_reason(person, at) if rules.respect_schedule else None
    if away and not _back_soon(person, at, rules.hold_minutes):
        return away
    return cap_reason(person.caps, counts) or aside or (BACK_SOON if away else None)


def counted_active(person: Person) -> bool:
    """Active in the pool, and not known as inactive by the CRM."""
    return person.active and person.crm_active is not False


def schedule_reason(person: Person, at: datetime) -> str | None:
    """Why the member is not at work at a moment; None: at work."""
    if any(start <= at < end for start, end in person.out_of_office):
        return "out_of_office"
    local = at.astimezone(zone(person.timezone))
    if local.date() in person.holidays:
        return "holiday"
    if person.hours is not None:
        minute = local.weekday() * 1440 + local.hour * 60 + local.minute
        if not any(start <= minute < end for start, end in person.hours):
            return "outside_hours"
    return None


def cap_reason(caps: Caps, counts: Counts) -> str | None:
    """Which cap is reached; None: none."""
    for name in ("hour", "day", "week", "open"):
        most = getattr(caps, name)
        if most is not None and getattr(counts, name) >= most:
            return f"cap_{name}"
    return None


def _back_soon(person: Person, at: datetime, minutes: int) -> bool:
    steps = range(1, minutes // 5 + 1)
    return any(schedule_reason(person, at + i * _STEP) is None for i in steps)


def starts(at: datetime, timezone: str) -> Starts:
    """When the hour, the day and the ISO week of `at` began there: `local_start` of the SQL."""
    local = at.astimezone(zone(timezone))
    # An hour keeps its offset; a midnight has the offset of its own.
    hour = at - timedelta(
        minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    return Starts(
        hour.astimezone(UTC),
        _midnight(local.date(), local.tzinfo),
        _midnight(local.date() - timedelta(days=local.weekday()), local.tzinfo),
    )


def _midnight(day: date, there: tzinfo | None) -> datetime:
    """Of two midnights the first, of none the moment when the clocks went over it."""
    # Both are the reading with the offset that held before the clocks changed.
    return datetime(day.year, day.month, day.day, tzinfo=there, fold=0).astimezone(UTC)


@cache
def zones() -> frozenset[str]:
    """The zones a member may have: UTC and Area/Place.

    Postgres reads short names such as MET as abbreviations, with one offset all the year.
    """
    return frozenset(name for name in timers.zones() if "/" in name or name == "UTC")


@cache
def zone(name: str) -> tzinfo:
    """An IANA time zone that was checked when the member was stored."""
    return UTC if name == "UTC" else ZoneInfo(name)
