"""API keys: made and shown once, revoked at once, brought back within five minutes."""

from datetime import timedelta
from typing import Any

from starlette.responses import Response

from lantern import agents, keys
from lantern.core import clock
from lantern.core.errors import BadRequest, LanternError
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
    draft: dict[str, Any] = {
        "name": view.field("name").strip(),
        "scopes": view.fields("scopes"),
        "agents": forms.lines(view.field("agents")) or list(view.call.agents),
        "days": view.field("days"),
        "until": view.field("expires_at").strip(),
    }
    try:
        body = {name: draft[name] for name in ("name", "scopes", "agents")}
        body["expires_at"] = _ends(draft["days"], draft["until"])
        made = await keys.create(view.call, forms.read(keys.KeyCreate, body))
    except LanternError as error:
        return await _page(view, draft=draft, error=error)
    return await _page(view, made=made)


@action("/settings/keys/{key_id}/revoke", "admin")
async def revoke(view: View) -> Response:
    """End a key at once, on every node."""
    key_id = view.arg("key_id")
    await keys.revoke(view.call, key_id)
    if key_id == view.call.key_id:  # nobody is signed in any more who could take it back
        return view.go("/sign-in", "Revoked, and this session ended with it")
    undo = (f"/settings/keys/{key_id}/restore", "Undo")
    return view.go("/settings/keys", "Revoked: the next call with it is refused", undo=undo)


@action("/settings/keys/{key_id}/restore", "admin")
async def restore(view: View) -> Response:
    """Take a revocation back."""
    key = await keys.restore(view.call, view.arg("key_id"))
    return view.go("/settings/keys", f"{key['name']} is in force again")


def _ends(days: str, until: str) -> str | None:
    """When a key ends: at the end of a day (UTC), or in so many days. Raises BadRequest."""
    if until:
        return f"{until}T23:59:59Z"
    if days not in LASTS:
        raise BadRequest.field("days", f"must be one of {', '.join(filter(None, LASTS))}, or empty")
    return clock.iso(clock.now() + timedelta(days=int(days))) if days else None


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
        draft=draft or {"name": "", "scopes": ["write"], "agents": [], "days": "", "until": ""},
        errors=forms.faults(error) if error else {},
        scopes=SCOPES,
        lasts=LASTS,
        names=[agent["name"] for agent in named],
    )
