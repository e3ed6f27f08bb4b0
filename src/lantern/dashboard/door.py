"""The door of the dashboard: session, scope, token, transaction, errors and headers of one request.

As at the API's edge (gate/edge.py): who is told before the form is read, one transaction, and its
commit before the answer starts.
"""

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any
from urllib.parse import parse_qsl, quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route as Place

from lantern.core import http, ids, log
from lantern.core.db import ConnectionLost
from lantern.core.errors import (
    BadRequest,
    Forbidden,
    LanternError,
    NotFound,
    Unauthorized,
    Unavailable,
)
from lantern.core.http import EventStream
from lantern.dashboard import static
from lantern.dashboard.nav import HOME, NAV, Nav
from lantern.dashboard.routes import ROUTES, Route
from lantern.dashboard.view import View
from lantern.gate import handling, sessions
from lantern.gate.auth import Call
from lantern.gate.body import read_body

COOKIE = "lantern_session"
MOST_FIELDS = 2000
_GZIP_FROM = 1400  # one packet
_log = log.get(__name__)

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none';"
        " form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Refused(Exception):
    """An action's answer that shall write nothing."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


def mount(routes: list[Any]) -> None:
    """Add every page, action and stream to the application's routes."""
    for route in sorted(ROUTES, key=_exactness):
        method = "POST" if route.kind == "action" else "GET"
        routes.append(
            Place(route.path, _endpoint(route), methods=[method], include_in_schema=False)
        )
    files = f"{HOME}/static/{{digest}}/{{name:path}}"
    routes.append(Place(files, static.serve, methods=["GET"], include_in_schema=False))
    routes.append(Place(f"{HOME}/{{rest:path}}", _nowhere, include_in_schema=False))


def _exactness(route: Route) -> list[bool]:
    """Words before names: `/agents/new` is no agent."""
    return ["{" in part for part in route.path.split("/")]


def _endpoint(route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        doors = request.app.state.doors
        door = doors.browser(request.scope, route.scope, account=route.account)
        call = Call(ids.new("req"), door, None, request.app.state.db)
        view = View(request, call, None, {})
        try:
            answer = await _answer(route, view)
        except Exception as error:
            answer = _refusal(view, error)
        return _sent(request, answer)

    return endpoint


async def _nowhere(request: Request) -> Response:
    door = request.app.state.doors.browser(request.scope, None, account=False)
    view = View(request, Call(ids.new("req"), door, None, request.app.state.db), None, {})
    return _sent(request, view.page("error.html", 404, error=NotFound("No such page")))


async def _answer(route: Route, view: View) -> Response:
    if route.scope is not None:
        view.session = await sessions.admit(view.call, view.request.cookies.get(COOKIE, ""))
        view.nav = _within_reach(view)
    if route.kind == "action":
        view.form = await _form(view.request)
        _check_source(view)
    if route.kind == "stream":
        source: AsyncIterator[bytes] = await route.handler(view)
        return EventStream(_quiet(source), view.settings.runs.stall_seconds)
    if not route.tx:
        answer: Response = await route.handler(view)
        return answer
    return await _in_transaction(route, view)


def _within_reach(view: View) -> Nav:
    """The bar without the pages that this session may not open."""
    whole = view.call.agents == ["*"]
    open_to = {
        route.path
        for route in ROUTES
        if route.kind == "page" and view.may(route.scope or "") and (whole or not route.account)
    }
    found = [(group, tuple(e for e in entries if e.path in open_to)) for group, entries in NAV]
    return tuple((group, entries) for group, entries in found if entries)


async def _in_transaction(route: Route, view: View) -> Response:
    call = view.call
    try:
        async with call.db.transaction(call.tenant) as tx:
            call.open_tx = tx
            answer: Response = await route.handler(view)
            if route.kind == "action" and answer.status_code >= 400:
                raise Refused(answer)
    except Refused as refused:
        return refused.answer
    finally:
        call.open_tx = None
    for after in call.after_commit:
        result = after()
        if result is not None:
            await result
    return answer


async def _form(request: Request) -> dict[str, list[str]]:
    """The fields of a form. Raises BadRequest."""
    most = request.app.state.settings.server.max_body_bytes
    body = await read_body(request.scope, request.receive, most)
    try:
        found = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise BadRequest("The form cannot be read") from None
    form: dict[str, list[str]] = {}
    for name, value in found:
        if "\0" in value:
            raise BadRequest.field(name[:100], "May not contain the character NUL")
        form.setdefault(name, []).append(value)
    return form


def _check_source(view: View) -> None:
    """Whether this write comes from a page of ours. Raises Forbidden."""
    if view.request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("This form was sent from another site")
    if view.session is not None and not view.session.accepts(view.field("csrf")):
        raise Forbidden("This page is too old to be sent: load it again")


async def _quiet(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A stream ends, and says nothing, when what it shows is gone."""
    try:
        async with aclosing(source) as lines:  # type: ignore[type-var]
            async for line in lines:
                yield line
    except (LanternError, ConnectionLost) as error:
        _log.info("dashboard.stream_ended", error=type(error).__name__)


# ---------------------------------------------------------------- refusals and headers
def _refusal(view: View, error: Exception) -> Response:
    if isinstance(error, Unauthorized):
        return _to_sign_in(view.request)
    fact = _fact(error)
    if fact.status >= 500:
        _log.error("dashboard.failed", request_id=view.call.request_id, **handling.story(error))
    if view.request.headers.get("hx-request"):
        return view.partial("_toast.html", fact.status, said=fact.message, bad=True)
    return view.page("error.html", fact.status, error=fact)


def _fact(error: Exception) -> LanternError:
    if isinstance(error, ConnectionLost):
        return Unavailable("The database does not answer; try again")
    return http.as_fact(error)


def _to_sign_in(request: Request) -> Response:
    if request.headers.get("hx-request"):
        return Response("", 401, headers={"hx-redirect": f"{HOME}/sign-in"})
    where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    back = "" if request.method != "GET" or where == HOME else f"?next={quote(where, safe='')}"
    return RedirectResponse(f"{HOME}/sign-in{back}", 303)


def _sent(request: Request, answer: Response) -> Response:
    headers = answer.headers
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if isinstance(answer, EventStream):
        return answer
    takes = "gzip" in request.headers.get("accept-encoding", "")
    if takes and len(answer.body) >= _GZIP_FROM and "content-encoding" not in headers:
        answer.body = gzip.compress(bytes(answer.body), 5, mtime=0)
        headers["content-encoding"] = "gzip"
        headers["content-length"] = str(len(answer.body))
    headers["vary"] = "accept-encoding, cookie"
    return answer


def remember(answer: Response, raw: str, request: Request) -> Response:
    """The session's cookie: out of reach of scripts, for this site and the dashboard alone."""
    state = request.app.state
    answer.set_cookie(
        COOKIE,
        raw,
        max_age=state.settings.dashboard.session_hours * 3600,
        path=HOME,
        secure=state.doors.secure(request.scope),
        httponly=True,
        samesite="lax",
    )
    return answer
