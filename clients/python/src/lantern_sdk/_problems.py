"""Error answers, read: the nested body, the flat body, and bodies that are neither.

Nested, most routes:  {"error": {"code", "message", "request_id", "details"}}
Flat, the records half: {"success": false, "error": "message", "code", "request_id", "details",
                         "retry_after", "credits_required", "credits_remaining"}
"""

from collections.abc import Mapping
from typing import Any

import httpx

from ._errors import Problem
from ._rate_limit import RateLimit

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    402: "insufficient_credits",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    429: "rate_limited",
    502: "upstream_error",
    503: "unavailable",
    504: "upstream_timeout",
}


def read(response: httpx.Response) -> Problem:
    """What an error answer says. Never raises: a proxy's HTML page gives a Problem as well."""
    status, headers = response.status_code, response.headers
    said = _fields(response)
    details = said.get("details")
    money = {**(details if isinstance(details, dict) else {}), **said}
    header = _number(headers.get("retry-after"))
    return Problem(
        status=status,
        code=_text(said.get("code")) or _code(status),
        message=_text(said.get("message")) or f"HTTP {status} {response.reason_phrase}".strip(),
        request_id=_text(said.get("request_id")) or headers.get("x-request-id"),
        details=details,
        retry_after=header if header is not None else _number(said.get("retry_after")),
        credits_required=_number(money.get("credits_required")),
        credits_remaining=_number(money.get("credits_remaining")),
        rate_limit=RateLimit.read(headers),
    )


def _fields(response: httpx.Response) -> Mapping[str, Any]:
    """Both bodies as one mapping with `message`; empty when the body is something else."""
    try:
        body = response.json()
    except ValueError:
        return {}
    if not isinstance(body, dict):
        return {}
    error = body.get("error")
    if isinstance(error, dict):
        return {**body, **error}
    return {**body, "message": error}


def _code(status: int) -> str:
    return _CODES.get(status, "internal_error" if status >= 500 else "unknown")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> float | None:
    """Seconds or credits, from a header's text or a body's number; None for what is neither."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < float("inf") else None
