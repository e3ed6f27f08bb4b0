"""The registry of tools: one table that agents, MCP and the command line read."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from lantern.core.errors import NotFound

Call = Callable[[int, dict[str, Any]], Awaitable[Any]]


@dataclass(frozen=True)
class Tool:
    """An operation that an agent may call. `schema` is the JSON Schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]
    call: Call  # (tenant, arguments) -> JSON
    writes: bool = False  # may need approval
    price_credits: Decimal = Decimal(0)


_tools: dict[str, Tool] = {}


def register(tool: Tool) -> None:
    """Make a tool known; the same name twice is a mistake of ours."""
    if tool.name in _tools:
        raise ValueError(f"tool {tool.name} is registered twice")
    _tools[tool.name] = tool


def get(name: str) -> Tool:
    """The tool, or NotFound."""
    if name not in _tools:
        raise NotFound(f"Tool '{name}' not found")
    return _tools[name]


def all_tools() -> list[Tool]:
    """Every tool, by name."""
    return [_tools[name] for name in sorted(_tools)]
