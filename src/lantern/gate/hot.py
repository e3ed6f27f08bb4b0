"""Routes so busy that a good request of theirs goes round the framework.

FastAPI's routing, dependency solving and body parsing cost as much CPU as all of ours on a run's
two requests, or on an assignment. A request that is plainly well formed is bound here to the same endpoint; anything
else (a query, an odd header, a body that does not validate) takes the usual way and its errors.
"""

from collections.abc import Callable
from typing import Any

from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from lantern.core import http
from lantern.gate.auth import Call

_JSON = (b"application/json", b"application/json; charset=utf-8")


class HotRoute(APIRoute):
    """An `APIRoute` whose endpoint takes call, the path's names, a request and a body if it wants."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        kinds = endpoint.__annotations__
        self.wants_request = "request" in kinds
        body = kinds.get("body")
        self.model = body if isinstance(body, type) and issubclass(body, http.Model) else None

    async def fast(
        self, call: Call, scope: Scope, receive: Receive, body: bytes, path: dict[str, str]
    ) -> Response | None:
        """The endpoint's answer, or None for a request that must take the usual way."""
        if scope["query_string"] or not _plain(scope["headers"], needs_json=self.model is not None):
            return None
        given: dict[str, Any] = {"call": call, **path}
        if self.wants_request:
            given["request"] = Request(scope, receive)
        if self.model is not None:
            try:
                given["body"] = self.model.model_validate_json(body)
            except ValidationError:
                return None  # the usual way says what is wrong with it
        answer: Response = await self.endpoint(**given)
        return answer


def _plain(headers: list[tuple[bytes, bytes]], *, needs_json: bool) -> bool:
    json = not needs_json
    for name, value in headers:
        if name == b"last-event-id":
            return False
        if name == b"content-type" and needs_json:
            json = value.lower() in _JSON
    return json
