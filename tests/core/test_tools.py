"""The registry of tools."""

import pytest

from lantern.core import tools
from lantern.core.errors import NotFound


async def _echo(tenant: int, arguments: dict[str, object]) -> object:
    return {"tenant": tenant, **arguments}


async def test_a_tool_is_registered_once_and_found_by_name() -> None:
    made = tools.Tool("test.echo", "Says it again.", {"type": "object"}, _echo)
    tools.register(made)
    with pytest.raises(ValueError, match="registered twice"):
        tools.register(made)
    assert tools.get("test.echo") is made
    assert made in tools.all_tools()
    assert await tools.get("test.echo").call(7, {"a": 1}) == {"tenant": 7, "a": 1}
    with pytest.raises(NotFound, match=r"test\.nothing"):
        tools.get("test.nothing")
