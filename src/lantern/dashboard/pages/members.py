"""Members of a pool: changed one by one, taken out, brought in as lines or CSV."""

from typing import Any

from starlette.responses import Response

from lantern import routing
from lantern.core.errors import BadRequest, Conflict, NotFound
from lantern.dashboard import forms
from lantern.dashboard.pages.pool import drawn
from lantern.dashboard.pages.routing import place, rows_refused, sheet
from lantern.dashboard.routes import action, page
from lantern.dashboard.view import View

_CAPS = ("hour", "day", "week", "open")
_PATH = "/routing/pools/{pool}/members"


@page(_PATH, "write", account=True)
async def edit(view: View) -> Response:
    """The dialog of one member (`?user=`): alone for htmx, else open on the pool's page."""
    name, user = view.arg("pool"), view.query("user")
    pool = await routing.pools.show(view.tx, name)
    found = [member for member in pool["members"] if member["user_id"] == user]
    if not found:
        raise NotFound("No such member in this pool")
    caps = {f"caps.{cap}": found[0]["caps"][cap] for cap in _CAPS}
    draft = {name: "" if value is None else value for name, value in {**found[0], **caps}.items()}
    if view.request.headers.get("hx-request"):
        return view.partial("routing/_member.html", pool=pool, edited=draft, errors={})
    return await drawn(view, edited=draft)


@action(_PATH, account=True)
async def change(view: View) -> Response:
    """Change a member: every field of the dialog."""
    name, user = view.arg("pool"), view.field("user_id")
    try:
        body = forms.read(routing.pools.MemberChange, _typed(view))
        await routing.pools.change_member(view.call, name, user, body)
    except (BadRequest, Conflict) as error:
        draft = {n: view.field(n) for n in _FIELDS}
        return await drawn(view, error.status, edited=draft, errors=forms.faults(error))
    return view.go(place(name), f"{view.field('name').strip() or user} is changed")


_NUMBERS = ("weight", "order")
_TICKS = ("active", "credit_back")
_FIELDS = ("user_id", "name", "timezone", *_NUMBERS, *_TICKS, *(f"caps.{cap}" for cap in _CAPS))


def _typed(view: View) -> dict[str, Any]:
    return {
        "name": view.field("name").strip() or None,
        "timezone": view.field("timezone").strip() or "UTC",
        **{name: view.field(name).strip() for name in _NUMBERS},
        **{name: bool(view.field(name)) for name in _TICKS},
        "caps": {cap: view.field(f"caps.{cap}").strip() or None for cap in _CAPS},
    }


@action(f"{_PATH}/remove", account=True)
async def remove(view: View) -> Response:
    """Take a member out."""
    name, user = view.arg("pool"), view.field("user_id")
    await routing.pools.remove_member(view.call, name, user)
    return view.go(place(name), f"{user} is out; the turns of the others go on")


@action(f"{_PATH}/import", account=True)
async def bring_in(view: View) -> Response:
    """Add and change members by lines or CSV; `mode` replace takes out who is not among them."""
    name, text = view.arg("pool"), view.field("csv")
    rules = routing.pools.FileRules(replace=view.field("mode") == "replace")
    try:
        if not text.strip():
            raise BadRequest.field("csv", "No line is there")
        did = await routing.pools.import_members(view.call, name, sheet(text), rules)
    except (BadRequest, Conflict) as error:
        errors = {"csv": rows_refused(error, text) if text.strip() else error.message}
        return await drawn(
            view, 400, imported={"csv": text, "mode": view.field("mode")}, errors=errors
        )
    counts = ", ".join(f"{did[kind]} {kind}" for kind in ("added", "updated", "removed"))
    return view.go(place(name), counts)
