"""One request on its way: admit before the body is read, one transaction, commit before the answer.

It holds back the answer until the commit has succeeded, and gives a stream no connection to hold
(docs/adr/0001).
"""

import asyncio
import traceback
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lantern.core import http, log
from lantern.core.db import RETRYABLE, ConnectionLost, DatabaseError, Tx, facts
from lantern.core.errors import Internal, LanternError, Unavailable
from lantern.gate import flat, idempotency
from lantern.gate.auth import Call
from lantern.gate.body import read_body, replayed
from lantern.gate.hot import HotRoute
from lantern.gate.limits import Policy, credits_text
from lantern.settings import Settings

_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """The route that answers, what its path names; or why there is none."""

    route: Route | None
    path: dict[str, str]
    missing: LanternError | None = None


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


class Handling:
    """One request on its way."""

    def __init__(
        self,
        app: ASGIApp,
        call: Call,
        policy: Policy,
        found: Found,
        settings: Settings,
    ) -> None:
        self.app = app
        self.call = call
        self.policy = policy
        self.route, self.path, self.missing = found.route, found.path, found.missing
        self.settings = settings
        self.status = 0
        self.started = False  # the answer is on its way: nothing else may be sent

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """From the key to the last byte; what goes wrong is raised, for `refuse`."""
        if self.call.key is None and (ticket := self._ticket(scope)):
            await self.call.admit_ticket(ticket, self.path.get("run_id", ""))
        elif not self.policy.folds or self.call.key is None:
            await self.call.admit()
        if self.missing:
            raise self.missing
        if self.policy.stream:
            await self._through(scope, receive, send)
        elif self.policy.folds:
            await self._folded(scope, receive, send)
        else:
            body = await self._body(scope, receive)
            if self.policy.before is not None:
                self.call.prepared = await self.policy.before(self.call, body, self.settings)
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
        for name, value in scope["headers"]:
            if name == b"idempotency-key" and scope["method"] == "POST":
                self.call.idempotency_key = idempotency.check(value.decode("latin-1"))
            elif name == b"x-lantern-tags" and self.call.door.account:
                self.call.tags |= flat.header_tags(value.decode("latin-1"))
        return body

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
        await self._dispatch(scope, receive, self._with_headers(send), body)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
        if isinstance(self.route, HotRoute):
            answer = await self.route.fast(self.call, scope, receive, body, self.path)
            if answer is not None:
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)

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
            async with self._opened() as tx:
                call.open_tx = tx
                if call.idempotency_key and (replay := await self._claim(scope, body)):
                    return replay
                try:
                    await self._dispatch(scope, replayed(body), answer, body)
                except LanternError as error:
                    if not error.keeps:
                        raise
                    answer = self._refusal(error, scope)
                if call.idempotency_key:
                    route, secrets = self._route_id(), self.policy.secrets
                    await idempotency.store(call, route, (answer.status, answer.body), secrets)
        finally:
            call.open_tx = None
        return answer

    def _opened(self) -> AbstractAsyncContextManager[Tx]:
        # A route of one statement that commits itself: the pool's row is not held over a round trip.
        if self.policy.single and not self.call.idempotency_key:
            return self.call.db.session()
        return self.call.db.transaction(self.call.tenant)

    async def _claim(self, scope: Scope, body: bytes) -> Answer | None:
        mark = idempotency.fingerprint(scope["raw_path"], scope["query_string"], body)
        stored = await idempotency.claim(self.call, self._route_id(), mark)
        if stored is None:
            return None
        status, text = stored
        replay = Answer()
        is_flat = http.family(scope["method"], scope["path"]) is not None
        replay.body = idempotency.as_replay(text, flat=is_flat)
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
        await self._send(self._refusal(fact, scope), send)

    def _refusal(self, fact: LanternError, scope: Scope) -> Answer:
        answer = Answer()
        headers = [(b"content-type", b"application/json")]
        headers += [(k.lower().encode(), v.encode()) for k, v in fact.headers.items()]
        answer.start = {"type": "http.response.start", "status": fact.status, "headers": headers}
        body = http.error_body(fact, self.call.request_id, flat=wants_flat(scope))
        answer.body = orjson.dumps(body, default=http.plain)
        return answer

    def _story(self, error: Exception) -> dict[str, Any]:
        request = {"request_id": self.call.request_id, "path": self._route_id() or "unknown"}
        return {**request, **story(error)}


def story(error: Exception) -> dict[str, Any]:
    """What the log tells of an error. Postgres quotes rows in its messages: not those."""
    name = {"error": type(error).__name__}
    if isinstance(error, DatabaseError):
        stack = "".join(traceback.format_tb(error.__traceback__))
        return {**name, **facts(error), "stack": stack}
    return name if isinstance(error, LanternError) else {**name, "exc_info": error}


def wants_flat(scope: Scope) -> bool:
    """The error form: by route family, or as `X-Lantern-Error-Format` says."""
    for name, value in scope["headers"]:
        if name == b"x-lantern-error-format" and value in (b"flat", b"nested"):
            return bool(value == b"flat")
    return http.family(scope["method"], scope["path"]) is not None
