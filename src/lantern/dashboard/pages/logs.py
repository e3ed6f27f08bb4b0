"""Logs: an explorer over what was done to records, its export, the state of the chain."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from lantern import logs
from lantern.core import clock, lookback
from lantern.core.errors import BadRequest
from lantern.core.http import FileStream
from lantern.core.times import moment
from lantern.dashboard import forms, live
from lantern.dashboard.routes import action, page, stream
from lantern.dashboard.view import View
from lantern.gate.route_log import ACTIONS, OBJECTS

PER_PAGE = 50
DAYS = 7  # where the address names no period
PRESETS = {0: "today", 6: "7 days", 29: "30 days", 364: "a year"}
MOST_SEALS = 100_000  # that a check walks, as the API's
MOST_CHANGES = 40  # of a row that are shown
FILTERS = ("action", "object", "pool", "assigned_to", "object_id")
TYPES = {"csv": "text/csv", "json": "application/json"}


@page("/logs", account=True)
async def listed(view: View) -> Response:
    """The rows that the filters of the address let through, newest first."""
    try:
        wanted = wanted_rows(view)
    except BadRequest as error:
        return _explorer(view, error.status, faults=forms.faults(error))
    body, query = await _body(view), _query(wanted)
    presets = {text: _days_ago(days) for days, text in PRESETS.items()}
    return _explorer(view, 200, body=body, query=query, period=wanted.period, presets=presets)


@stream("/logs/live", account=True)
async def following(view: View) -> AsyncIterator[bytes]:
    """The first page and the chain, again whenever they have changed."""
    return live.watch(view, "#logs", _body)


@page("/logs/export", account=True, tx=False)
async def export(view: View) -> Response:
    """The rows of the filters and the period, all of them, as a file."""
    kind = view.query("format", "csv")
    if kind not in TYPES:
        raise BadRequest.field("format", f"must be one of {', '.join(TYPES)}", "query")
    wanted, readers = wanted_rows(view), view.part.readers
    source = logs.body(readers, view.call.tenant, wanted, kind, logs.Tally())  # type: ignore[arg-type]
    name = logs.file_name(wanted, kind)  # type: ignore[arg-type]
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    made = await logs.Body.begin(source)
    return FileStream(made, readers.settings.stall_seconds, TYPES[kind], headers)


@action("/logs/verify", "admin", account=True, tx=False)
async def verify(view: View) -> Response:
    """Walk the newest part of the chain; what was found, for its place on the page."""
    async with view.part.readers.snapshot(view.call.tenant) as tx:
        found = await logs.check_newest(tx, view.call.tenant, MOST_SEALS)
    return view.partial("logs/_verified.html", found=found, at=clock.now())


def wanted_rows(view: View) -> logs.Query:
    """Period and filters of the address. Raises BadRequest."""
    given = {name: view.query(name) or None for name in FILTERS}
    return logs.read(_period(view), limit=None, include_diff=True, **given)


def _period(view: View) -> logs.Period:
    """As the address says; without a beginning it has DAYS days, without an end it ends today."""
    first, last = view.query("from"), view.query("to")
    last = last or max(_days_ago(0), first[:10])
    if not first:
        until = moment("to", last, end=True)
        if until.year < 2:
            raise BadRequest.field("to", "has no days before it", "query")
        first = (until - timedelta(days=DAYS)).replace(tzinfo=None).isoformat(timespec="minutes")
        first = first.removesuffix("T00:00")
    return logs.period(first, last)


def _query(wanted: logs.Query) -> str:
    """The same rows in an address of the API, or of the export."""
    period = {"from": wanted.period.first, "to": wanted.period.last}
    return urlencode(period | wanted.filters)


async def _body(view: View) -> str:
    wanted = wanted_rows(view)
    found = await logs.browse(view.tx, wanted, view.query("after") or None, PER_PAGE)
    chain = await logs.chain_state(view.tx)
    untouched = not chain["chain_seq"] and not chain["waiting"]
    return view.draw(
        "logs/_body.html",
        found=found,
        changes={row["id"]: _changes(row["diff"]) for row in found.rows},
        most_changes=MOST_CHANGES,
        most_rows=lookback.MOST_ROWS,
        most_seals=MOST_SEALS,
        period=wanted.period,
        chain=chain,
        retention=await logs.retention(view.tx),
        untouched=untouched,
    )


def _changes(diff: Any) -> list[tuple[str, Any, Any]]:
    """A row's diff as (field, old, new)."""
    if not isinstance(diff, Mapping):
        return [] if diff is None else [("", None, diff)]
    return [
        (name, value.get("old"), value.get("new"))
        if isinstance(value, Mapping) and value.keys() <= {"old", "new"}
        else (name, None, value)
        for name, value in diff.items()
    ]


def _days_ago(days: int) -> str:
    return (clock.now() - timedelta(days=days)).date().isoformat()


def _explorer(view: View, status: int, **more: Any) -> Response:
    shown = {"body": None, "query": "", "period": None, "presets": {}, "faults": {}, **more}
    return view.page("logs/list.html", status, actions=ACTIONS, kinds=OBJECTS, **shown)
