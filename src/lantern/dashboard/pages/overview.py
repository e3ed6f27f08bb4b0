"""Overview: what needs a person today, and how the last day went."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from starlette.responses import Response

from lantern import agents, runs
from lantern.core import clock
from lantern.dashboard import live
from lantern.dashboard.charts import columns
from lantern.dashboard.routes import page, stream
from lantern.dashboard.view import View
from lantern.gate import ledger

HOURS = 24
SHOWN = 6
SLOW_START_SECONDS = 60  # a run that waits longer waits for somebody to look


@page("")
async def overview(view: View) -> Response:
    """The first page of the morning."""
    return view.page("overview.html", body=await _body(view))


@stream("/live")
async def following(view: View) -> AsyncIterator[bytes]:
    """The same, again whenever it has changed."""
    return live.watch(view, "#overview", _body)


async def _body(view: View) -> str:
    since = _since()
    figures = await runs.figures(view.call, since)
    newest, _ = await runs.browse(view.call, runs.Wanted(), None, SHOWN)
    failed, _ = await runs.browse(view.call, runs.Wanted(status="failed", since=since), None, SHOWN)
    queued, _ = await runs.browse(view.call, runs.Wanted(status="queued"), None, 100)
    balance = await ledger.balance(view.tx, view.call.tenant)
    _, made = await agents.table(view.call, 1, 0)
    return view.draw(
        "_overview.html",
        figures=figures,
        chart=columns(_by_hour(since, figures["hours"]), ("s1", "bad")),
        newest=newest,
        failures=[await runs.detail(view.tx, run["run_id"], view.call.covers) for run in failed],
        waiting=[run for run in queued if _waits(run)],
        balance=balance,
        has_agents=made > 0,
    )


def _since() -> datetime:
    """The beginning of the hour, 24 columns ago."""
    hour = clock.now().replace(minute=0, second=0, microsecond=0)
    return hour - timedelta(hours=HOURS - 1)


def _by_hour(since: datetime, hours: list[dict[str, Any]]) -> list[tuple[str, dict[str, float]]]:
    """A row for each hour, those without a run too."""
    found = {row["hour"]: row for row in hours}
    rows = []
    for n in range(HOURS):
        hour = since + timedelta(hours=n)
        row = found.get(hour, {"runs": 0, "failed": 0})
        values = {"s1": row["runs"] - row["failed"], "bad": row["failed"]}
        rows.append((hour.strftime("%H:%M"), values))
    return rows


def _waits(run: dict[str, Any]) -> bool:
    age = clock.now() - clock.parse(run["created_at"])
    return age > timedelta(seconds=SLOW_START_SECONDS)
