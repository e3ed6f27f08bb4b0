"""What the go-to-market half has in common on the wire: one place fills its answers and reads its tags.

Every body may carry `metadata`, every request the header `X-Lantern-Tags: key=value,key2=value2`;
both become tags of what the call spends (`GET /v1/credits/usage` filters by them).
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator

from lantern.core import clock, http
from lantern.core.errors import BadRequest
from lantern.gate.auth import Call

MOST_TAGS = 10
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_CHARACTERS = 256  # of a tag's value


def _check(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > MOST_TAGS:
        raise ValueError(f"at most {MOST_TAGS} tags")
    for key, value in tags.items():
        if not _KEY.fullmatch(key):
            raise ValueError("a tag's key has 1 to 64 letters, digits, '_', '.' or '-'")
        if len(value) > _MOST_CHARACTERS or not value.isprintable():
            raise ValueError(f"a tag's value has at most {_MOST_CHARACTERS} printable characters")
    return tags


class Body(http.Model):
    """A request body of this half."""

    metadata: Annotated[dict[str, str], AfterValidator(_check)] = {}


def header_tags(value: str) -> dict[str, str]:
    """Tags of `X-Lantern-Tags`. Raises BadRequest naming the header."""
    tags: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        key, equals, text = part.partition("=")
        if not equals:
            raise BadRequest.field("X-Lantern-Tags", "must be key=value,key2=value2", "header")
        tags[key.strip()] = text.strip()
    try:
        return _check(tags)
    except ValueError as error:
        raise BadRequest.field("X-Lantern-Tags", str(error), "header") from None


def answer(fields: dict[str, Any], status: int = 200) -> http.Json:
    """An answer that costs nothing: `success`, then the fields."""
    return http.Json({"success": True, **fields}, status)


def paid(
    call: Call, fields: dict[str, Any], credits: Decimal | int, *, cached: bool = False
) -> http.Json:
    """The answer of an operation with a price, after its charge moved `call.credits`."""
    return answer(
        {
            **fields,
            "credits_consumed": credits,
            "credits_remaining": call.credits,
            "processing_time_ms": round((clock.monotonic() - call.began) * 1000),
            "cached": cached,
        }
    )
