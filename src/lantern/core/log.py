"""JSON lines on standard error. Values that could be a secret or a person never get there."""

import io
import logging
import re
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from lantern.settings import LogSettings

_SECRET_NAMES = re.compile(r"key|token|secret|password|authorization|cookie|ticket", re.IGNORECASE)
_SECRET_VALUES = re.compile(
    r"(lnt|tick)_[0-9A-Za-z]{8,}"  # ours
    r"|\bsk-[\w-]{8,}"  # those of model providers
    r"|\b(bearer|basic)\s+\S+"
    r"|\b(password|passwd|pwd|secret|api[_-]?key)\s*[=:]\s*\S+"
    r"|://[^/\s:@]+:[^@\s]+@",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_PLAIN = {"key_id", "tokens", "tokens_in", "tokens_out"}


class _StandardError(io.TextIOBase):
    """Standard error as it is now. What it does not take is lost: a log holds up no work."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # a reader that went away, a stream that was closed
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def get(name: str) -> Any:
    """A logger; bind facts as keywords, not into the message."""
    return structlog.get_logger(module=name)


def configure(settings: LogSettings) -> None:
    """Set up structlog and route the standard library's loggers through it."""
    level = getattr(logging, settings.level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _StandardError())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(_StandardError())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=structlog.processors.JSONRenderer(),
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))


def redact(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Replace what looks like a secret or an e-mail address, by field name and by value."""
    return {name: _clean(name, value) for name, value in event.items()}


def _clean(name: str, value: Any) -> Any:
    if name not in _PLAIN and _SECRET_NAMES.search(name):
        return "[redacted]"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(k): _clean(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_clean(name, item) for item in value]
    return scrub(value if isinstance(value, str) else repr(value))


def scrub(text: str) -> str:
    """The text without keys, bearer tokens, passwords in URLs and e-mail addresses."""
    return _EMAIL.sub("[email]", _SECRET_VALUES.sub("[redacted]", text))
