"""Signing in and out: by a one-time link, or by an API key."""

from dataclasses import replace

from starlette.responses import RedirectResponse, Response

from lantern.core.errors import Forbidden, RateLimited, Unauthorized
from lantern.dashboard.door import COOKIE, remember
from lantern.dashboard.nav import HOME
from lantern.dashboard.routes import action, page
from lantern.dashboard.view import View
from lantern.gate import sessions
from lantern.gate.auth import key_hash

NO_LINK = "This link was used already, or is too old. Ask for another one."
NO_KEY = "There is no such key in force"


@page("/sign-in", None, tx=False)
async def sign_in(view: View) -> Response:
    """The form; with a link behind `#` the page sends it by itself."""
    return _form(view, {})


@action("/enter", None, tx=False)
async def enter(view: View) -> Response:
    """Use a one-time link up."""
    seconds = _seconds(view)
    raw = await sessions.enter_by_link(view.call.db, view.field("link"), seconds)
    return _in(view, raw) if raw else _form(view, {"": NO_LINK}, 401)


@action("/sign-in", None, tx=False)
async def by_key(view: View) -> Response:
    """Sign in with an API key; wrong ones count against the address."""
    call = view.call
    given = view.field("key").strip()
    call.key = key_hash(given) if given.startswith("lnt_") else key_hash("")
    call.door = replace(call.door, scope="read")
    try:
        await call.admit()
    except (Unauthorized, Forbidden):
        return _form(view, {"key": NO_KEY if not call.key_id else "This key may not read"}, 401)
    except RateLimited as error:
        return _form(view, {"": f"Too many tries: wait {error.retry_after} s"}, 429)
    async with call.db.transaction(call.tenant) as tx:
        call.open_tx = tx
        raw = await sessions.enter_by_key(tx, call, _seconds(view))
        call.open_tx = None
    return _in(view, raw)


@action("/sign-out", tx=False, scope="read")
async def sign_out(view: View) -> Response:
    """End the session, here and for whoever has a copy of its cookie."""
    if view.session:
        await sessions.leave(view.call.db, view.session.raw)
    answer = RedirectResponse(f"{HOME}/sign-in", 303)
    answer.delete_cookie(COOKIE, path=HOME)
    return answer


def _seconds(view: View) -> int:
    return view.settings.dashboard.session_hours * 3600


def _form(view: View, errors: dict[str, str], status: int = 200) -> Response:
    back = view.field("next") or view.query("next")
    return view.page("sign-in.html", status, errors=errors, next=back if _ours(back) else "")


def _in(view: View, raw: str) -> Response:
    back = view.field("next")
    answer = RedirectResponse(back if _ours(back) else HOME, 303)
    return remember(answer, raw, view.request)


def _ours(path: str) -> bool:
    """Whether a path leads to a page of the dashboard and not to another site."""
    return path == HOME or (path.startswith(f"{HOME}/") and "\\" not in path)
