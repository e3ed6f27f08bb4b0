"""The door: which route a request means, what that route asks for, and who lets it in.

A pure ASGI layer around the router. It knows each route's policy and hands the request over to
`handling`, which admits, opens the transaction and sends the answer (docs/adr/0001).
"""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lantern.core import clock, ids, log
from lantern.core.errors import LanternError, MethodNotAllowed, NotFound
from lantern.gate.auth import Call, bearer
from lantern.gate.handling import Found, Handling
from lantern.gate.limits import Doors, Policy

_log = log.get(__name__)

UNKNOWN = Policy("read")


def _ours(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


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
        found = self._match(scope)
        route = found.route
        agent = found.path.get("name") if route and "/agents/{name}" in route.path else None
        policy: Policy = getattr(route.endpoint, "policy") if route else UNKNOWN  # noqa: B009
        doors: Doors = state.doors
        call = Call(
            request_id=ids.new("req"),
            door=doors.door(scope, policy.scope if route else None, agent),
            key=bearer(scope["headers"]),
            db=state.db,
        )
        scope["lantern.call"] = call
        handling = Handling(self.app, call, policy, found, state.settings)
        began = clock.monotonic()
        try:
            await handling.run(scope, receive, send)
        except Exception as error:
            await handling.refuse(error, scope, send)
        if state.settings.log.requests:
            took = round((clock.monotonic() - began) * 1000)
            _log.info("request", method=scope["method"], ms=took, **handling.facts())

    def _match(self, scope: Scope) -> Found:
        for route in self.routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                return Found(route, child.get("path_params", {}))
        return Found(None, {}, self._nowhere(scope))

    def _nowhere(self, scope: Scope) -> LanternError:
        # Why no route answers: the method, or the path.
        allowed: set[str] = set()
        for route in self.routes:
            if route.matches(scope)[0] is Match.PARTIAL:
                allowed |= route.methods or set()
        if not allowed:
            return NotFound("No such path")
        names = ", ".join(sorted(allowed))
        return MethodNotAllowed(f"Allowed here: {names}", headers={"Allow": names})
