"""Tenants: where the operator goes from one to another."""

from starlette.responses import Response

from lantern.core.errors import Forbidden, NotFound
from lantern.dashboard.routes import action, page
from lantern.dashboard.view import View
from lantern.gate import sessions


@page("/tenants", "admin")
async def tenants(view: View) -> Response:
    """Every tenant; for the operator alone."""
    _check(view)
    found = await sessions.tenants(view.call.db)
    return view.page("tenants.html", tenants=found)


@action("/tenants", "admin", tx=False)
async def move(view: View) -> Response:
    """Go to another tenant."""
    _check(view)
    number = view.field("tenant")
    known = number.isascii() and number.isdigit() and len(number) < 10
    if view.session is None or not known:
        raise NotFound("Tenant not found")
    if not await sessions.move(view.call.db, view.session, int(number)):
        raise NotFound("Tenant not found")
    return view.go("", f"You see tenant {number} now")


def _check(view: View) -> None:
    if view.session is None or not view.session.roams:
        raise Forbidden("This session stays with its tenant: `lantern dashboard link` opens all")
