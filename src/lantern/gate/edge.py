"""The door: admit before the body is read, one transaction, commit before the answer starts.

A pure ASGI layer around the router. It knows each route's policy, holds back the answer until the
commit has succeeded, and gives a stream no connection to hold (docs/adr/0001).
"""

import asyncio
import traceback
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import orjson
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lantern.core import clock, http, ids, log
from lantern.core.db import RETRYABLE, ConnectionLost, DatabaseError, facts
from lantern.core.errors import (
    Internal,
    LanternError,
    MethodNotAllowed,
    NotFound,
    Unavailable,
)
from lantern.gate import flat, idempotency
from lantern.gate.auth import Call, bearer
from lantern.gate.body import read_body, replayed
from lantern.gate.hot import HotRoute
from lantern.gate.limits import Doors, Policy, credits_text
from lantern.settings import Settings

_log = log.get(__name__)

UNKNOWN = Policy("read")


def _ours(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


class Answer:
    """An answer held back until it may go out."""

    def __init__(self) -> None:
        self.start: Message | None = None
        self.body = b""

    async def __call__(self, message: Message) -> None:
        """Collect what the router sends."""
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.body += message.get("body", b"")

    @property
    def status(self) -> int:
        """The status; 500 when there was no answer at all."""
        return int(self.start["status"]) if self.start else 500


class Edge:
    """ASGI middleware for everything below `/v1`."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self.app = app
        self.routes = [r for r in routes if isinstance(r, Route) and _ours(r.path)]
        if open_doors := [r.path for r in self.routes if not hasattr(r.endpoint, "policy")]:
            raise RuntimeError(f"these routes do not say what they need: {open_doors}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not _ours(scope["path"]):
            await self.app(scope, receive, send)
            return
        state = scope["app"].state
        route, path = self._match(scope)
        agent = path.get("name") if route and "/agents/{name}" in route.path else None
        policy: Policy = getattr(route.endpoint, "policy") if route else UNKNOWN  # noqa: B009
        doors: Doors = state.doors
        call = Call(
            request_id=ids.new("req"),
            door=doors.door(scope, policy.scope if route else None, agent),
            key=bearer(scope["headers"]),
            db=state.db,
        )
        scope["lantern.call"] = call
        handling = _Handling(self, call, policy, (route, path), state.settings)
        began = clock.monotonic()
        try:
            await handling.run(scope, receive, send)
        except Exception as error:
            await handling.refuse(error, scope, send)
        if state.settings.log.requests:
            took = round((clock.monotonic() - began) * 1000)
            _log.info("request", method=scope["method"], ms=took, **handling.facts())

    def _match(self, scope: Scope) -> tuple[Route | None, dict[str, str]]:
        # The route that answers, and what its path names.
        for route in self.routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                return route, child.get("path_params", {})
        return None, {}

    def nowhere(self, scope: Scope) -> LanternError:
        """Why no route answers: the method, or the path."""
        allowed: set[str] = set()
        for route in self.routes:
            if route.matches(scope)[0] is Match.PARTIAL:
                allowed |= route.methods or set()
        if not allowed:
            return NotFound("No such path")
        names = ", ".join(sorted(allowed))
        return MethodNotAllowed(f"Allowed here: {names}", headers={"Allow": names})


class _Handling:
    """One request on its way."""

    def __init__(
        self,
        edge: Edge,
        call: Call,
        policy: Policy,
        found: tuple[Route | None, dict[str, str]],
        settings: Settings,
    ) -> None:
        self.edge = edge
        self.app = edge.app
        self.call = call
        self.policy = policy
        self.route, self.path = found
        self.settings = settings
        self.status = 0
        self.started = False  # the answer is on its way: nothing else may be sent

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.call.key is None and (ticket := self._ticket(scope)):
            await self.call.admit_ticket(ticket, self.path.get("run_id", ""))
        elif not self.policy.folds or self.call.key is None:
            await self.call.admit()
        if self.route is None:
            raise self.edge.nowhere(scope)
        self._tags(scope)
        if self.policy.stream:
            await self._through(scope, receive, send)
        elif self.policy.folds:
            await self._folded(scope, receive, send)
        else:
            body = await self._body(scope, receive)
            await self._send(await self._transaction(scope, body), send)
            for action in self.call.after_commit:
                result = action()
                if result is not None:
                    await result

    def _ticket(self, scope: Scope) -> str | None:
        if not self.policy.ticket:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("ticket")
        return given[0] if given else None

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        body = await read_body(scope, receive, self.settings.server.max_body_bytes)
        self._idempotency(scope)
        return body

    def _tags(self, scope: Scope) -> None:
        if self.call.door.account:
            for name, value in scope["headers"]:
                if name == b"x-lantern-tags":
                    self.call.tags |= flat.header_tags(value.decode("latin-1"))

    def _idempotency(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            if name == b"idempotency-key" and scope["method"] == "POST":
                self.call.idempotency_key = idempotency.check(value.decode("latin-1"))

    async def _folded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The route's own statement admits and commits; what it never got to see admits here."""
        try:
            body = await self._body(scope, receive)
            await self._through(scope, replayed(body, receive), send, body)
        except Exception:
            if not self.call.admitted:
                await self.call.admit()
            raise

    async def _through(self, scope: Scope, receive: Receive, send: Send, body: bytes = b"") -> None:
        """Straight through: this answer goes out as it comes."""
        if isinstance(self.route, HotRoute):
            answer = await self.route.fast(self.call, scope, receive, body, self.path)
            if answer is not None:
                await answer(scope, receive, self._with_headers(send))
                return
        await self.app(scope, receive, self._with_headers(send))

    async def _transaction(self, scope: Scope, body: bytes) -> Answer:
        # One that lost against another transaction is run again from the start.
        for last in (False, False, True):
            self.call.after_commit.clear()
            try:
                return await self._once(dict(scope), body)
            except RETRYABLE:
                if last:
                    raise
                await asyncio.sleep(0.02)
        raise Internal("unreachable")

    async def _once(self, scope: Scope, body: bytes) -> Answer:
        call = self.call
        answer = Answer()
        try:
            async with call.db.transaction(call.tenant) as tx:
                call.open_tx = tx
                if call.idempotency_key and (replay := await self._claim(scope, body)):
                    return replay
                await self.app(scope, replayed(body), answer)  # an error leaves as an exception
                if call.idempotency_key:
                    route, secrets = self._route_id(), self.policy.secrets
                    await idempotency.store(call, route, (answer.status, answer.body), secrets)
        finally:
            call.open_tx = None
        return answer

    async def _claim(self, scope: Scope, body: bytes) -> Answer | None:
        mark = idempotency.fingerprint(scope["raw_path"], scope["query_string"], body)
        stored = await idempotency.claim(self.call, self._route_id(), mark)
        if stored is None:
            return None
        status, text = stored
        replay = Answer()
        flat = http.family(scope["method"], scope["path"]) is not None
        replay.body = idempotency.as_replay(text, flat=flat)
        headers = [(b"content-type", b"application/json"), (b"idempotent-replayed", b"true")]
        replay.start = {"type": "http.response.start", "status": status, "headers": headers}
        return replay

    def facts(self) -> dict[str, Any]:
        """What the log may know of a request: the route's template, never the path itself."""
        route, request_id = self._route_id() or "unknown", self.call.request_id
        return {"route": route, "status": self.status, "request_id": request_id}

    def _route_id(self) -> str:
        return self.route.path if self.route else ""

    def _with_headers(self, send: Send) -> Send:
        async def wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.started, self.status = True, message["status"]
                message = {**message, "headers": [*message["headers"], *self._headers()]}
            await send(message)

        return wrapped

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = {"X-Request-ID": self.call.request_id, **self.call.limit_headers}
        if self.call.credits is not None:
            headers["X-Credits-Remaining"] = credits_text(self.call.credits)
        return [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def _send(self, answer: Answer, send: Send) -> None:
        self.started, self.status = True, answer.status
        start = answer.start or {"type": "http.response.start", "status": 500, "headers": []}
        kept = [(n, v) for n, v in start["headers"] if n != b"content-length"]
        if answer.status != 204:
            kept.append((b"content-length", str(len(answer.body)).encode()))
        await send({**start, "headers": [*kept, *self._headers()]})
        await send({"type": "http.response.body", "body": answer.body})

    async def refuse(self, error: Exception, scope: Scope, send: Send) -> None:
        """Answer an exception, in the family of the route."""
        if self.started:
            _log.warning("answer.broken", **self._story(error))
            return
        if isinstance(error, ConnectionLost):
            fact: LanternError = Unavailable("The database does not answer; try again")
        else:
            fact = http.as_fact(error)
        if fact.status >= 500:
            _log.error("request.failed", **self._story(error))
        answer = Answer()
        flat = wants_flat(scope)
        headers = [(b"content-type", b"application/json")]
        headers += [(k.lower().encode(), v.encode()) for k, v in fact.headers.items()]
        answer.start = {"type": "http.response.start", "status": fact.status, "headers": headers}
        body = http.error_body(fact, self.call.request_id, flat=flat)
        answer.body = orjson.dumps(body, default=http.plain)
        await self._send(answer, send)

    def _story(self, error: Exception) -> dict[str, Any]:
        """What the log tells of an error. Postgres quotes rows in its messages: not those."""
        story = {"request_id": self.call.request_id, "path": self._route_id() or "unknown"}
        story["error"] = type(error).__name__
        if isinstance(error, DatabaseError):
            stack = "".join(traceback.format_tb(error.__traceback__))
            return {**story, **facts(error), "stack": stack}
        return story if isinstance(error, LanternError) else {**story, "exc_info": error}


def wants_flat(scope: Scope) -> bool:
    """The error form: by route family, or as `X-Lantern-Error-Format` says."""
    for name, value in scope["headers"]:
        if name == b"x-lantern-error-format" and value in (b"flat", b"nested"):
            return bool(value == b"flat")
    return http.family(scope["method"], scope["path"]) is not None
