"""API keys: made and shown once, revoked at once, brought back within five minutes."""

from datetime import timedelta
from typing import Any

from starlette.responses import Response

from lantern import agents, keys
from lantern.core import clock
from lantern.core.errors import LanternError
from lantern.dashboard import forms
from lantern.dashboard.routes import action, page
from lantern.dashboard.view import View

PER_PAGE = 50
SCOPES = {
    "read": "see runs, agents, pools, logs and credits",
    "write": "also start runs, change agents and pools, assign",
    "admin": "everything, keys too",
    "forms": "send forms, nothing else",
    "workflows": "call workflows, nothing else",
}
LASTS = {"": "until it is revoked", "30": "30 days", "90": "90 days", "365": "a year"}


@page("/settings/keys", "admin")
async def listed(view: View) -> Response:
    """The keys in force that reach no further than the session."""
    return await _page(view)


@action("/settings/keys", "admin")
async def create(view: View) -> Response:
    """Make a key; this answer alone shows it."""
    days = view.field("days")
    expires = clock.now() + timedelta(days=int(days)) if days in LASTS and days else None
    draft: dict[str, Any] = {
        "name": view.field("name").strip(),
        "scopes": view.fields("scopes"),
        "agents": forms.lines(view.field("agents")) or list(view.call.agents),
        "expires_at": expires and clock.iso(expires),
    }
    try:
        made = await keys.create(view.call, forms.read(keys.KeyCreate, draft))
    except LanternError as error:
        return await _page(view, draft=draft, error=error)
    return await _page(view, made=made)


@action("/settings/keys/{key_id}/revoke", "admin")
async def revoke(view: View) -> Response:
    """End a key at once, on every node."""
    key_id = view.arg("key_id")
    await keys.revoke(view.call, key_id)
    undo = (f"/settings/keys/{key_id}/restore", "Undo")
    return view.go("/settings/keys", "Revoked: the next call with it is refused", undo=undo)


@action("/settings/keys/{key_id}/restore", "admin")
async def restore(view: View) -> Response:
    """Take a revocation back."""
    key = await keys.restore(view.call, view.arg("key_id"))
    return view.go("/settings/keys", f"{key['name']} is in force again")


async def _page(
    view: View,
    *,
    draft: dict[str, Any] | None = None,
    made: dict[str, Any] | None = None,
    error: LanternError | None = None,
) -> Response:
    number = view.number("page", 1)
    found, total = await keys.table(view.tx, PER_PAGE, (number - 1) * PER_PAGE, view.call.agents)
    named, _ = await agents.table(view.call, 100, 0)
    return view.page(
        "settings/keys.html",
        error.status if error else 200,
        keys=found,
        total=total,
        number=number,
        more=number * PER_PAGE < total,
        made=made,
        draft=draft or {"name": "", "scopes": ["write"], "agents": []},
        errors=forms.faults(error) if error else {},
        scopes=SCOPES,
        lasts=LASTS,
        names=[agent["name"] for agent in named],
    )
