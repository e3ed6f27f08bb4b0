"""One request of a browser, as the pages see it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lantern.core.bus import Bus
from lantern.core.db import Tx
from lantern.core.errors import BadRequest
from lantern.core.nodes import Node
from lantern.dashboard import render
from lantern.dashboard.nav import HOME, Nav
from lantern.gate.auth import Call
from lantern.gate.sessions import Session
from lantern.settings import Settings

FLASH = "lantern_flash"
MOST_TEXT = 4000  # of a value in an address


class View:
    """A request with its session: what was asked for, and how to answer."""

    def __init__(
        self, request: Request, call: Call, session: Session | None, form: dict[str, list[str]]
    ) -> None:
        self.request = request
        self.call = call
        self.session = session
        self.form = form
        self.nav: Nav = ()  # what this session may open

    # ---------------------------------------------------------------- what was asked for
    @property
    def tx(self) -> Tx:
        """The transaction of this request."""
        return self.call.tx

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """One that the handler opens itself (`tx=False`); it commits at the end."""
        async with self.call.db.transaction(self.call.tenant) as tx:
            self.call.open_tx = tx
            try:
                yield tx
            finally:
                self.call.open_tx = None

    @property
    def settings(self) -> Settings:
        """The server's settings."""
        settings: Settings = self.request.app.state.settings
        return settings

    @property
    def bus(self) -> Bus:
        """Live events."""
        bus: Bus = self.request.app.state.bus
        return bus

    @property
    def node(self) -> Node:
        """This process among its peers."""
        node: Node = self.request.app.state.node
        return node

    @property
    def part(self) -> Any:
        """The parts of the node by their names in `node.Parts`."""
        return self.request.app.state

    def arg(self, name: str) -> str:
        """A part of the path; none holds NUL, which Postgres has no text for."""
        return str(self.request.path_params[name]).replace("\0", "\ufffd")

    def query(self, name: str, default: str = "") -> str:
        """A value of the query, stripped; '' and `default` where it is not there."""
        text = self.request.query_params.get(name, "").strip().replace("\0", "\ufffd")
        if len(text) > MOST_TEXT:
            raise BadRequest.field(name, f"is longer than {MOST_TEXT} characters", "query")
        return text or default

    def number(self, name: str, default: int, least: int = 1, most: int = 1_000_000) -> int:
        """A whole number of the query. Raises BadRequest."""
        text = self.query(name)
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or not least <= int(text[:12]) <= most:
            raise BadRequest.field(name, f"is not a number from {least} to {most}", "query")
        return int(text)

    def field(self, name: str) -> str:
        """A field of the form; '' where it is not there."""
        return self.form.get(name, [""])[-1]

    def fields(self, name: str) -> list[str]:
        """Every value of a field that may be there more than once."""
        return self.form.get(name, [])

    @property
    def origin(self) -> str:
        """`http://host:port` as this browser reaches the server, for examples to copy."""
        url = self.request.url
        scheme = "https" if self.part.doors.secure(self.request.scope) else url.scheme
        return f"{scheme}://{url.netloc}"

    # ---------------------------------------------------------------- how to answer
    def page(self, template: str, /, status: int = 200, **context: Any) -> Response:
        """A whole page."""
        flash = self.request.cookies.get(FLASH)
        html = render.template(template, **self._shell(flash), **context)
        answer = Response(html, status, media_type="text/html")
        if flash is not None:
            answer.delete_cookie(FLASH, path=HOME)
        return answer

    def partial(self, template: str, /, status: int = 200, **context: Any) -> Response:
        """A part of a page, for htmx to put in its place."""
        return Response(self.draw(template, **context), status, media_type="text/html")

    def draw(self, template: str, /, **context: Any) -> str:
        """A part of a page as text."""
        return render.template(template, **self._shell(None), **context)

    def snippet(self, name: str) -> str:
        """An example of snippets/ for this host."""
        return render.snippet(name, self.origin)

    def curl(self, method: str, path: str, body: str | None = None) -> str:
        """The API call that a page mirrors, for a terminal with LANTERN_KEY set."""
        verb = "" if method == "GET" else f" -X {method}"
        text = f'curl{verb} "{self.origin}{path}" -H "Authorization: Bearer $LANTERN_KEY"'
        if body is None:
            return text
        return f"{text} -H \"Content-Type: application/json\" -d '{body}'"

    def digest(self, html: str) -> str:
        """What tells two states of a live place apart; the words of relative times do not."""
        return render.digest(html)

    def go(
        self, path: str, said: str = "", undo: tuple[str, str] | None = None, **query: str
    ) -> Response:
        """Go to another page of the dashboard, which says what was done.

        `undo`: the address of an action that takes it back, and its label.
        """
        where = f"{HOME}{path}" + (f"?{urlencode(query)}" if query else "")
        answer = RedirectResponse(where, 303)
        if said:
            told = {"said": said, "undo": undo and {"path": f"{HOME}{undo[0]}", "label": undo[1]}}
            value = orjson.dumps(told).hex()
            answer.set_cookie(FLASH, value, max_age=60, path=HOME, httponly=True, samesite="lax")
        return answer

    def url(self, changes: Mapping[str, str | None], path: str | None = None) -> str:
        """This page's address, or `path`, with other values in the query; None takes one out."""
        found = {**dict(self.request.query_params), "seen": None, **changes}
        text = urlencode({k: v for k, v in found.items() if v})
        return (f"{HOME}{path}" if path else self.request.url.path) + (f"?{text}" if text else "")

    def live(self, path: str) -> str:
        """The address of the stream that keeps this page true, with the page's own query."""
        return self.url({}, path)

    def may(self, scope: str) -> bool:
        """Whether the session's key has a scope: admin reaches all, write reaches read."""
        have = self.call.scopes
        return "admin" in have or scope in have or (scope == "read" and "write" in have)

    def _shell(self, flash: str | None) -> dict[str, Any]:
        """What every template may use."""
        return {
            "view": self,
            "nav": self.nav,
            "home": HOME,
            "path": self.request.url.path,
            "session": self.session,
            "flash": _flash(flash),
        }


def _flash(value: str | None) -> dict[str, Any] | None:
    """What the last action said; nothing for a value that is not ours."""
    try:
        found = orjson.loads(bytes.fromhex(value or ""))
        undo = found["undo"]
        if undo is not None and not str(undo["path"]).startswith(f"{HOME}/"):
            return None
        return {"said": str(found["said"])[:300], "undo": undo}
    except (ValueError, LookupError, TypeError):
        return None
