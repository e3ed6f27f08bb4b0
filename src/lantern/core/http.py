"""What every HTTP answer has in common: JSON, error bodies of both families, paging, SSE."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from decimal import Decimal
from typing import Annotated, Any, Protocol

import orjson
from fastapi import Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lantern.core.errors import (
    BadRequest,
    Internal,
    LanternError,
    MethodNotAllowed,
    NotFound,
    OutOfCredits,
    RateLimited,
)

# Routes at or below these answer errors in the flat form; all others in the nested one.
FLAT = (
    "enrich",
    "match",
    "salesforce",
    "routing",
    "triggers",
    "logs",
    "credits",
    "workflows",
    "forms",
    "records",
    "privacy",
)
MOST_DETAILS = 20  # of a body with a thousand wrong fields
_WORDS = {
    "extra_forbidden": "Unknown field",
    "model_attributes_type": "Input should be a JSON object",
    "model_type": "Input should be a JSON object",
    "dict_type": "Input should be a JSON object",
}
BATCHES = frozenset({"phone", "email", "phone-email", "research", "deep-research"})


class Model(BaseModel):
    """A request body: unknown fields are refused, and so is what Postgres cannot keep.

    That is the character NUL (pydantic itself refuses lone surrogates). A field of any JSON, such
    as a run's input, is kept as JSON text, which can hold it.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)

    @field_validator("*")
    @classmethod
    def _can_be_kept(cls, value: Any, info: ValidationInfo) -> Any:
        free = dict[str, Any]
        if cls.model_fields[str(info.field_name)].annotation != free and _holds_nul(value):
            raise PydanticCustomError("nul", "May not contain the character NUL")
        return value


def _holds_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case list():
            return any(_holds_nul(item) for item in value)
        case dict():
            return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
    return False


class Json(Response):
    """JSON by orjson; whole Decimals become integers."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode."""
        return orjson.dumps(content, default=plain)


def plain(value: Any) -> Any:
    """What orjson cannot encode by itself."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def family(method: str, path: str) -> str | None:
    """The flat family of a path (`enrich`, `batches`, ...); None for the nested half."""
    parts = path.split("/", 4)
    if len(parts) < 3 or parts[1] != "v1":
        return None
    if parts[2] in FLAT:
        return parts[2]
    if method == "POST" and parts[2] == "agents" and len(parts) == 4 and parts[3] in BATCHES:
        return "batches"
    return None


def error_body(error: LanternError, request_id: str, *, flat: bool) -> dict[str, Any]:
    """The body of an error: flat with `error` as text, or nested with `error` as an object."""
    if not flat:
        nested = {"code": error.code, "message": error.message, "request_id": request_id}
        if error.details is not None:
            nested["details"] = error.details
        return {"error": nested}
    short = error if isinstance(error, OutOfCredits) else None
    return {
        "success": False,
        "error": error.message,
        "code": error.code,
        "details": error.details,
        "request_id": request_id,
        "credits_required": short.required if short else None,
        "credits_remaining": short.remaining if short else None,
        "retry_after": error.retry_after if isinstance(error, RateLimited) else None,
    }


def as_fact(error: Exception) -> LanternError:
    """Any exception as an error of ours. What we did not foresee is `Internal` and says nothing."""
    if isinstance(error, LanternError):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        if error.status_code == 404:
            return NotFound("No such path")
        if error.status_code == 405:
            return MethodNotAllowed("Method not allowed", headers=dict(error.headers or {}))
        if error.status_code < 500:
            return BadRequest(str(error.detail))
    return Internal("Internal error")


def words(fault: Mapping[str, Any]) -> str:
    """What a fault of validation says, where pydantic speaks of Python and not of JSON."""
    return _WORDS.get(fault["type"], str(fault["msg"]))


def _invalid(error: RequestValidationError) -> BadRequest:
    details = []
    for item in error.errors()[:MOST_DETAILS]:
        # A part of `loc` is the caller's own text where a field is unknown: as long as they like.
        loc = [part[:100] if isinstance(part, str) else part for part in item["loc"]]
        details.append({"loc": loc, "msg": words(item), "type": item["type"]})
    first = details[0]
    if first["loc"] == ["body"] and first["type"] in ("model_attributes_type", "dict_type"):
        hint = "body: a JSON object with `Content-Type: application/json` is expected"
        return BadRequest(hint, details=details)
    if first["type"] == "json_invalid":
        return BadRequest("The body is not valid JSON", details=details)
    name = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    return BadRequest(f"{name}: {first['msg']}", details=details)


class Page(BaseModel):
    """A page of a list."""

    page: int
    per_page: int

    @property
    def offset(self) -> int:
        """Rows before this page."""
        return (self.page - 1) * self.per_page


async def page(
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page:
    """`?page=&per_page=`: 1-based, 20 a page, 100 at most."""
    return Page(page=page, per_page=per_page)


class EventStream(Response):
    """Server-sent events. A reader that takes nothing for `stall` seconds is dropped."""

    media_type: str | None = "text/event-stream"

    def __init__(self, source: AsyncIterator[bytes], stall: float) -> None:
        self.source = source
        self.stall = stall
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until the source ends or the reader goes."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        writing = asyncio.ensure_future(self._write(send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            writing.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)
        if not writing.cancelled() and (error := writing.exception()):
            raise error

    async def _write(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        async for data in self.source:
            if not data:
                continue
            # A write that waits is a reader whose buffers are full.
            stalled = loop.call_later(self.stall, task.cancel) if task else None
            await send({"type": "http.response.body", "body": data, "more_body": True})
            if stalled:
                stalled.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Source(Protocol):
    """A body in the making, which holds something until it is closed."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...  # noqa: D102


class FileStream(EventStream):
    """Any other body that goes out as it is made; its source is closed when the reader is gone."""

    media_type = None

    def __init__(self, source: Source, stall: float, kind: str, headers: dict[str, str]) -> None:
        super().__init__(aiter(source), stall)
        self.closing = source
        self.media_type = kind
        self.init_headers({"cache-control": "no-store", **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until the source ends or the reader goes."""
        async with aclosing(self.closing):
            await super().__call__(scope, receive, send)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
