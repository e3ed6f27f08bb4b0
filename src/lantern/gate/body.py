"""The body of a request: read against its limit, checked, and given to the router once more."""

import json
from contextlib import suppress
from typing import NoReturn

from starlette.types import Message, Receive, Scope

from lantern.core.errors import BadRequest, TooLarge


def _declared_size(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. TooLarge over `limit` bytes, whether it said so before or not."""
    if _declared_size(scope) > limit:
        raise TooLarge(f"The body is over {limit} bytes")
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("The caller hung up before the body was complete")
        body += bytes(message.get("body", b""))
        if len(body) > limit:
            raise TooLarge(f"The body is over {limit} bytes")
        if not message.get("more_body", False):
            _check_numbers(body)
            return body


def _check_numbers(body: bytes) -> None:
    """Refuse what Python's parser takes for JSON and nobody else does: NaN and Infinity."""
    if b"NaN" in body or b"Infinity" in body:
        with suppress(ValueError, RecursionError):  # other faults are named where it is validated
            json.loads(body, parse_constant=_no_number)


def _no_number(_text: str) -> NoReturn:
    raise BadRequest("The body is not valid JSON")


def replayed(body: bytes, then: Receive | None = None) -> Receive:
    """The body that was read, then what the socket says next."""
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            return await then() if then else {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
