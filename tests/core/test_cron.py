"""When a cron line fires: the classic rules, and the two nights when clocks change."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lantern.core.errors import BadRequest
from lantern.core.timers import next_fire

NEW_YORK = "America/New_York"


def ticks(cron: str, timezone: str, after: str, before: str) -> list[str]:
    """Local times of every tick between two local times, with the offset."""
    zone = ZoneInfo(timezone)
    moment = datetime.fromisoformat(after).replace(tzinfo=zone).astimezone(UTC)
    end = datetime.fromisoformat(before).replace(tzinfo=zone).astimezone(UTC)
    found = []
    while (moment := next_fire(cron, timezone, moment)) < end:
        assert moment.tzinfo is UTC
        found.append(moment.astimezone(zone).strftime("%d %H:%M %Z"))
    return found


@pytest.mark.parametrize(
    ("cron", "after", "before", "expected"),
    [
        # 8 March 2026: 02:00 to 03:00 does not exist. 1 November 2026: 01:00 to 02:00 comes twice.
        ("0 9 * * 1-5", "2026-03-06T12:00", "2026-03-10T00:00", ["09 09:00 EDT"]),
        ("0 9 * * 1-5", "2026-10-30T12:00", "2026-11-03T00:00", ["02 09:00 EST"]),
        ("30 2 * * *", "2026-03-07T12:00", "2026-03-09T00:00", ["08 03:00 EDT"]),
        ("30 1 * * *", "2026-10-31T12:00", "2026-11-02T00:00", ["01 01:30 EDT"]),
        (
            "*/30 * * * *",
            "2026-03-08T01:00",
            "2026-03-08T04:01",
            ["08 01:30 EST", "08 03:00 EDT", "08 03:30 EDT", "08 04:00 EDT"],
        ),
        (
            "*/30 * * * *",
            "2026-11-01T00:30",
            "2026-11-01T02:01",
            ["01 01:00 EDT", "01 01:30 EDT", "01 01:00 EST", "01 01:30 EST", "01 02:00 EST"],
        ),
        (
            "0 * * * *",
            "2026-11-01T00:30",
            "2026-11-01T03:01",
            ["01 01:00 EDT", "01 01:00 EST", "01 02:00 EST", "01 03:00 EST"],
        ),
    ],
)
def test_clock_changes(cron: str, after: str, before: str, expected: list[str]) -> None:
    assert ticks(cron, NEW_YORK, after, before) == expected


def test_a_late_look_in_the_repeated_hour_does_not_fire_again() -> None:
    """At 01:10 of the second pass, 01:30 of the first one is over: the next is tomorrow's."""
    second_pass = datetime(2026, 11, 1, 6, 10, tzinfo=UTC)
    assert next_fire("30 1 * * *", NEW_YORK, second_pass) == datetime(
        2026, 11, 2, 6, 30, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 12 * * 0", "2026-07-05T12:00"),  # Sunday is 0 ...
        ("0 12 * * 7", "2026-07-05T12:00"),  # ... or 7
        ("0 12 * * SUN", "2026-07-05T12:00"),
        ("0 12 * * MON-FRI", "2026-07-02T12:00"),
        ("0 9-17/2 * * *", "2026-07-01T13:00"),
        ("5/20 12 * * *", "2026-07-01T12:05"),
        ("0 0 13 * 5", "2026-07-03T00:00"),  # both set: the 13th or a Friday
        ("0 0 13 * *", "2026-07-13T00:00"),
        ("0 0 * * 5", "2026-07-03T00:00"),
        ("0 0 29 FEB *", "2028-02-29T00:00"),
        ("0  0   1 jan *", "2027-01-01T00:00"),
    ],
)
def test_the_classic_rules(cron: str, expected: str) -> None:
    after = datetime(2026, 7, 1, 12, 0, 30, tzinfo=UTC)  # a Wednesday
    assert next_fire(cron, "UTC", after).isoformat() == f"{expected}:00+00:00"


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * *",
        "* * * * * *",  # seconds
        "@daily",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "a * * * *",
        "* * * * MON-",
        "1,,2 * * * *",
        "0 0 30 2 *",  # never
        "0 0 */31 * MON#5",  # never
        "* * * *\n*",
        "* * * * ²L",
        "0," * 200 + "0 * * * *",
        "* * * * *; rm",
    ],
)
def test_what_is_no_cron_line_is_a_bad_request(cron: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        next_fire(cron, "UTC", datetime(2026, 7, 1, tzinfo=UTC))
    assert refusal.value.details[0]["loc"] == ["body", "cron"]


@pytest.mark.parametrize(
    "timezone",
    ["", "Mars/Olympus", "../etc/passwd", "Europe", "localtime", "é", "x" * 5000, "A\0b"],
)
def test_what_is_no_time_zone_is_a_bad_request(timezone: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        next_fire("* * * * *", timezone, datetime(2026, 7, 1, tzinfo=UTC))
    assert refusal.value.details[0]["loc"] == ["body", "timezone"]


def field(low: int, high: int, *names: str) -> st.SearchStrategy[str]:
    number = st.integers(low, high).map(str)
    name = st.sampled_from(names) if names else number
    span = st.tuples(st.integers(low, high), st.integers(low, high)).map(sorted)
    return st.one_of(
        st.just("*"),
        number,
        name,
        st.integers(1, high).map("*/{}".format),
        span.map(lambda ends: f"{ends[0]}-{ends[1]}"),
        st.lists(number, min_size=2, max_size=3).map(",".join),
    )


LINES = st.tuples(
    field(0, 59),
    field(0, 23),
    field(1, 28),
    field(1, 12, "JAN", "dec"),
    field(0, 7, "SUN", "wed"),
).map(" ".join)
ZONES = st.sampled_from(
    [
        "UTC",
        NEW_YORK,
        "Europe/Berlin",
        "Australia/Lord_Howe",  # changes by half an hour
        "America/Havana",  # changes at midnight
        "Asia/Kathmandu",
        "Pacific/Apia",
    ]
)
MOMENTS = st.integers(0, 6 * 366 * 86400).map(
    lambda seconds: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


@settings(max_examples=300, deadline=None)
@given(LINES, ZONES, MOMENTS)
def test_a_tick_is_later_than_what_it_follows_and_has_no_seconds(
    cron: str, timezone: str, after: datetime
) -> None:
    first = next_fire(cron, timezone, after)
    assert first > after
    assert (first.second, first.microsecond) == (0, 0)
    assert next_fire(cron, timezone, first) > first
    # Nothing is between: from just before the tick, it is still the next one.
    assert next_fire(cron, timezone, first - timedelta(seconds=1)) == first


def matches(text: str, value: int, low: int) -> bool:
    """One numeric field, read the slow way."""
    for part in text.split(","):
        if part == "*":
            return True
        if part.startswith("*/") and (value - low) % int(part[2:]) == 0:
            return True
        if "-" in part and "/" not in part:
            start, end = map(int, part.split("-"))
            if start <= value <= end:
                return True
        elif part.isdigit() and int(part) == value:
            return True
    return False


NUMBERS = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6))


@settings(max_examples=100, deadline=None)
@given(NUMBERS, MOMENTS)
def test_the_next_tick_is_the_first_minute_that_matches(
    fields: tuple[str, ...], after: datetime
) -> None:
    minute, hour, day, month, weekday = fields
    found = next_fire(" ".join(fields), "UTC", after)
    moment = after.replace(second=0, microsecond=0)
    for _ in range(3000):  # two days in minutes: farther ones are not searched
        moment += timedelta(minutes=1)
        days = [matches(day, moment.day, 1), matches(weekday, moment.isoweekday() % 7, 0)]
        either = not (day.startswith("*") or weekday.startswith("*"))
        if (
            matches(minute, moment.minute, 0)
            and matches(hour, moment.hour, 0)
            and matches(month, moment.month, 1)
            and (any(days) if either else all(days))
        ):
            assert found == moment
            return
    assert found > moment
