"""Credits as people look at them: use by day and capability, when it runs out, receipts by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from lantern.core import clock, lookback
from lantern.core.db import Tx
from lantern.credits import service, store

LATE = timedelta(hours=1)  # after its end a day is added up: no charge of it is under way then
MEAN_DAYS = 7
MOST_DAYS = 90  # that are looked back: a first look adds up no more than these
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Day:
    """What a day used, by operation; days are UTC."""

    day: date
    used: dict[str, Decimal]

    @property
    def total(self) -> Decimal:
        """All of it."""
        return sum(self.used.values(), ZERO)


@dataclass(frozen=True, slots=True)
class Pace:
    """The mean of the last MEAN_DAYS full days, and the day on which nothing is left at that pace."""

    a_day: Decimal
    run_out: date | None


async def daily(tx: Tx, tenant: int, days: int) -> list[Day]:
    """Use of the last days, MOST_DAYS at most, today last. Days that are over are added up once."""
    now, days = clock.now(), min(days, MOST_DAYS)
    over = (now - LATE).date()
    last = await store.last_day(tx, tenant)
    if last is None or last < over - timedelta(days=1):
        horizon = over - timedelta(days=MOST_DAYS + 1)
        await store.add_up(tx, tenant, max(last or horizon, horizon), over)
        last = await store.last_day(tx, tenant)
    first = now.date() - timedelta(days=days - 1)
    found = {first + timedelta(days=n): Day(first + timedelta(days=n), {}) for n in range(days)}
    for row in await store.by_day(tx, tenant, first, last):
        if row["day"] in found:
            found[row["day"]].used[row["operation"]] = row["used"]
    return list(found.values())


def pace(days: Sequence[Day], remaining: Decimal) -> Pace:
    """How long the balance lasts, if every day is like the mean of the last full ones."""
    full = days[:-1][-MEAN_DAYS:]
    a_day = sum((day.total for day in full), ZERO) / max(1, len(full))
    if a_day <= 0 or remaining / a_day > 3650:
        return Pace(a_day, None)
    return Pace(a_day, days[-1].day + timedelta(days=int(remaining / a_day)))


async def browse(
    tx: Tx, tenant: int, filters: dict[str, Any], after: str | None, limit: int
) -> tuple[list[dict[str, Any]], lookback.Page]:
    """A page of receipts, newest first, and where it stands."""
    page = await lookback.page(tx, store.newest(tenant, filters), after, limit)
    return [service.shown(row) for row in page.rows], page
