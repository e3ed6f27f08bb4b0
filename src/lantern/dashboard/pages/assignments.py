"""Assignments: the list with its filters, and one with why it came about."""

from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from lantern import routing
from lantern.core.errors import BadRequest, Conflict
from lantern.dashboard import forms, render
from lantern.dashboard.pages.pool import REASONS
from lantern.dashboard.routes import action, page
from lantern.dashboard.view import View

PER_PAGE = 50
CRM = {
    "off": "not connected then",
    "pending": "to be written",
    "done": "written",
    "failed": "could not be written",
    "superseded": "left to a later assignment",
}
STATES = ("assigned", "accepted", "void", "bad_fit", "rerouted")


@page("/routing/assignments", account=True)
async def listed(view: View) -> Response:
    """The assignments that the filters of the address let through, newest first."""
    wanted = _wanted(view)
    part = await routing.browse(view.tx, wanted, view.query("after") or None, PER_PAGE)
    named = await routing.pools.names(
        view.tx,
        {row["pool"] for row in part.assignments},
        {row["assigned_to"] for row in part.assignments},
    )
    total = await routing.count(view.tx, wanted, render.MANY + 1)
    return view.page(
        "routing/assignments.html",
        part=part,
        names=named,
        total=total,
        looked=routing.LOOKED,
        states=STATES,
        filtered=bool(wanted.given()),
    )


def _wanted(view: View) -> routing.Wanted:
    status = view.query("status")
    if status and status not in STATES:
        raise BadRequest.field("status", f"must be one of {', '.join(STATES)}", "query")
    names = ("pool", "record", "owner")
    return routing.Wanted(**{n: view.query(n) or None for n in names}, status=status or None)


@page("/routing/assignments/{id}", account=True)
async def shown(view: View) -> Response:
    """One assignment: the decision made again from what was stored."""
    return await _drawn(view, 200, {})


@action("/routing/assignments/{id}/accept", account=True)
async def accept(view: View) -> Response:
    """The owner has taken it up."""
    row = await routing.accept(view.tx, view.call, view.arg("id"))
    return _back(view, f"{row['assigned_to']} has accepted it")


@action("/routing/assignments/{id}/void", account=True)
async def void(view: View) -> Response:
    """Take it back; the reason may be left out."""
    try:
        typed = forms.given({"reason": view.field("reason").strip()})
        body = forms.read(routing.VoidRequest, typed)
        await routing.void(view.tx, view.call, view.arg("id"), body.reason)
    except (BadRequest, Conflict) as error:
        return await _drawn(view, error.status, forms.faults(error))
    return _back(view, "Void: its number stays, the turn went back")


def _back(view: View, said: str) -> Response:
    return view.go(f"/routing/assignments/{quote(view.arg('id'), safe='')}", said)


async def _drawn(view: View, status: int, errors: dict[str, str]) -> Response:
    why: dict[str, Any] = await routing.explain(view.tx, view.arg("id"))
    users = {candidate["user_id"] for candidate in why["candidates"]}
    made = why["assignment"]
    users |= {made["assigned_to"], made["prev_owner"] or ""}
    waits = [abs(candidate["wait"]) for candidate in why["candidates"]]
    return view.page(
        "routing/assignment.html",
        status,
        why=why,
        made=made,
        names=await routing.pools.names(view.tx, {made["pool"]}, users),
        longest=max(waits, default=0) or 1,
        reasons=REASONS,
        crm=CRM,
        errors=errors,
    )
