"""From what a provider says went wrong to a ModelError. Its own words stay out: they may quote the
prompt or the key. Its error type and code are short names and pass.
"""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson

from lantern.core import clock
from lantern.core.errors import BadRequest
from lantern.llm.types import Kind, ModelError

_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,60}")
_SECONDS = re.compile(r"\d{1,9}(\.\d+)?")
_STATUS: dict[int, Kind] = {401: "auth", 402: "auth", 403: "auth", 408: "timeout", 429: "rate"}
_WORDS: tuple[tuple[str, Kind], ...] = (
    ("auth", "auth"),
    ("api_key", "auth"),
    ("permission", "auth"),
    ("billing", "auth"),
    ("rate", "rate"),
    ("quota", "rate"),
    ("timeout", "timeout"),
    ("invalid", "bad_request"),
    ("not_found", "bad_request"),
    ("too_large", "bad_request"),
    ("context_length", "bad_request"),
)


# What reading JSON of an unexpected shape may raise.
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)


def checked(text: Any) -> str:
    """The value, when it is text. Raises TypeError, one of UNREADABLE."""
    if type(text) is not str:
        raise TypeError
    return text


def unreadable(model: str) -> ModelError:
    """An event that is no JSON, or JSON of another protocol."""
    return ModelError(model, "garbage", "the provider sent no readable event")


def from_status(model: str, status: int, headers: Mapping[str, str], body: bytes) -> ModelError:
    """An HTTP answer other than 200; `headers` are looked up without regard to case."""
    kind = _STATUS.get(status) or ("server" if status >= 500 else "bad_request")
    names = _names(_error_of(body))
    said = f" ({names})" if names else ""
    return ModelError(
        model,
        kind,
        f"the provider answered {status}{said}",
        retry_after=_retry_after(headers.get("Retry-After")),
    )


def from_event(model: str, error: Any) -> ModelError:
    """An error in the middle of the stream: an object, or bare text."""
    names = _names(error)
    kind: Kind = next((kind for word, kind in _WORDS if word in names.lower()), "server")
    if isinstance(error, dict) and isinstance(status := error.get("code"), int):
        kind = _STATUS.get(status, kind)
    return ModelError(model, kind, f"the provider broke off ({names or 'no reason given'})")


def from_exception(model: str, error: Exception) -> ModelError:
    """No answer at all. The exception itself may name internal addresses and stays the cause."""
    if isinstance(error, TimeoutError):
        return ModelError(model, "timeout", "its address does not answer")
    if isinstance(error, aiohttp.InvalidURL):
        return ModelError(model, "bad_request", "its base_url is not a valid address")
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        return ModelError(model, "garbage", "its address does not speak HTTP")
    if isinstance(error, aiohttp.ClientConnectorError | BadRequest):
        return ModelError(model, "server", "its address cannot be reached")
    return ModelError(model, "hangup", "the connection was closed without an answer")


def _error_of(body: bytes) -> Any:
    try:
        parsed = orjson.loads(body)
    except ValueError:
        return None
    if isinstance(parsed, list):  # one provider wraps its errors so
        parsed = parsed[0] if parsed else None
    return parsed.get("error") if isinstance(parsed, dict) else None


def _names(error: Any) -> str:
    if not isinstance(error, dict):
        return ""
    values = [str(error.get(field)) for field in ("type", "code", "param") if error.get(field)]
    return ", ".join(value for value in values if _NAME.fullmatch(value))


def _retry_after(value: str | None) -> float | None:
    """Seconds from now; the header holds seconds or a date. None when it is neither."""
    if not value:
        return None
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - clock.now()).total_seconds())
