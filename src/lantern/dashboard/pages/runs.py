"""Runs: the list with its filters, live."""

from collections.abc import AsyncIterator
from datetime import timedelta

from starlette.responses import Response

from lantern import runs
from lantern.core import clock
from lantern.core.errors import BadRequest
from lantern.dashboard import live, render
from lantern.dashboard.routes import page, stream
from lantern.dashboard.view import View

PER_PAGE = 50
STATES = ("queued", "running", "paused", "completed", "failed", "cancelled")
PERIODS = {"1h": "last hour", "24h": "last 24 hours", "7d": "last 7 days", "30d": "last 30 days"}
_HOURS = {"1h": 1, "24h": 24, "7d": 168, "30d": 720}


@page("/runs")
async def listed(view: View) -> Response:
    """The runs that the filters of the address let through, newest first."""
    return view.page("runs/list.html", states=STATES, periods=PERIODS, table=await _table(view))


@stream("/runs/live")
async def following(view: View) -> AsyncIterator[bytes]:
    """The first page of the list, again whenever it has changed."""
    return live.watch(view, "#runs", _table)


async def _table(view: View) -> str:
    wanted = wanted_runs(view)
    found, older = await runs.browse(view.call, wanted, view.query("after") or None, PER_PAGE)
    total = await runs.count(view.call, wanted, render.MANY + 1)
    return view.draw("runs/_table.html", runs=found, older=older, total=total)


def wanted_runs(view: View) -> runs.Wanted:
    """The filters of the address. Raises BadRequest."""
    status, since = view.query("status"), view.query("since")
    if status and status not in STATES:
        raise BadRequest.field("status", f"must be one of {', '.join(STATES)}", "query")
    if since and since not in PERIODS:
        raise BadRequest.field("since", f"must be one of {', '.join(PERIODS)}", "query")
    first = clock.now() - timedelta(hours=_HOURS[since]) if since else None
    return runs.Wanted(view.query("agent") or None, status or None, first)
