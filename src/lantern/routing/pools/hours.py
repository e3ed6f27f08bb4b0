"""Working hours: blocks of days and wall times on the wire, minutes of the local week inside."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from lantern.routing.eligibility import WEEK

DAY = 1440
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Minutes = tuple[tuple[int, int], ...]
_BLOCK = re.compile(r"([a-z,\s-]+)\s(\d\d:\d\d)\s*-\s*(\d\d:\d\d)")


class Block(NamedTuple):
    """`from_` to `to` on each of these days; past midnight where `to` is not later."""

    days: tuple[str, ...]
    from_: str
    to: str


def minute(text: str) -> int:
    """The minute of the day of `HH:MM`; `24:00` is the last."""
    return int(text[:2]) * 60 + int(text[3:])


def week(blocks: Iterable[Block]) -> Minutes:
    """Half-open ranges of minutes of the week, sorted, none touching another."""
    ranges = []
    for block in blocks:
        start, end = minute(block.from_), minute(block.to)
        length = end - start if end > start else end - start + DAY
        for day in block.days:
            first = DAYS.index(day) * DAY + start
            ranges.append((first, min(first + length, WEEK)))
            if first + length > WEEK:
                ranges.append((0, first + length - WEEK))
    return _merged(ranges)


def _merged(ranges: Sequence[tuple[int, int]]) -> Minutes:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple(merged)


def blocks(ranges: Minutes) -> list[Block]:
    """The same as blocks: one for all days with the same times, in the order of the week."""
    days: dict[tuple[str, str], list[str]] = {}
    for start, end in _over_sunday(ranges):
        for first, last in _days_of(start, end):
            times = (_wall(first % DAY), _wall(last % DAY or DAY))
            days.setdefault(times, []).append(DAYS[first // DAY % 7])
    return [Block(tuple(sorted(d, key=DAYS.index)), *times) for times, d in days.items()]


def _over_sunday(ranges: Minutes) -> Minutes:
    """A night from Sunday to Monday in one piece."""
    if len(ranges) > 1 and ranges[0][0] == 0 and ranges[-1][1] == WEEK:
        night = (ranges[-1][0], WEEK + ranges[0][1])
        if night[1] - night[0] <= DAY:
            return (*ranges[1:-1], night)
    return ranges


def _days_of(start: int, end: int) -> list[tuple[int, int]]:
    if end - start <= DAY:
        return [(start, end)]
    cuts = [start, *range((start // DAY + 1) * DAY, end, DAY), end]
    return list(pairwise(cuts))


def _wall(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def parse(text: str) -> list[dict[str, object]]:
    """`mon-fri 09:00-17:30; sat 10:00-14:00` as blocks of the wire. Raises ValueError."""
    found = []
    for part in filter(None, (part.strip().lower() for part in text.split(";"))):
        block = _BLOCK.fullmatch(part)
        if not block:
            raise ValueError(f"{part[:60]!r} is not like 'mon-fri 09:00-17:30'")
        found.append({"days": _days(block[1]), "from": block[2], "to": block[3]})
    return found


def _days(text: str) -> list[str]:
    days: list[str] = []
    for part in filter(None, re.split(r"[,\s]+", text)):
        first, dash, last = part.partition("-")
        ends = [first, last] if dash else [first]
        if any(day not in DAYS for day in ends):
            raise ValueError(f"{part[:60]!r} is no day of {', '.join(DAYS)}")
        start, end = DAYS.index(ends[0]), DAYS.index(ends[-1])
        days += [DAYS[i % 7] for i in range(start, end + (1 if end >= start else 8))]
    return days
