"""What went wrong, as one line for the terminal."""

import re
import sys
from typing import Any

from typer.exceptions import TyperException

FAILED, USAGE = 1, 2


def explain(error: Exception) -> tuple[str, int]:
    """The line and the exit code."""
    if isinstance(error, TyperException):
        text = error.format_message()
        wants_help = text.startswith("Usage:")  # a group was called without a command
        return (text if wants_help else f"error: {text}"), error.exit_code
    text, code = _explain(error)
    return f"error: {' '.join(text.split())}", code


def _explain(error: Exception) -> tuple[str, int]:
    # By the names of what is imported: an import of pydantic or psycopg would take longer than
    # the command that failed without them.
    if _is(error, "pydantic", "ValidationError"):
        return _field(error), USAGE
    if _is(error, "lantern.core.errors", "LanternError"):
        return str(error), FAILED
    if _is(error, "psycopg", "Error"):
        # A connection string that libpq cannot read is quoted in its complaint.
        return f"the database says: {_without_password(str(error))}", FAILED
    if isinstance(error, OSError | ValueError):
        wrong_file = str(error).startswith("configuration file")
        return str(error), USAGE if wrong_file else FAILED
    return f"{type(error).__name__}: {error} (--debug shows where)", FAILED


def _is(error: Exception, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(error, kind)


def _without_password(text: str) -> str:
    return re.sub(r"[^\s\"]+@", "...@", text)


def _field(error: Any) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    return f"{name}: {first['msg']}" if name else str(first["msg"])
