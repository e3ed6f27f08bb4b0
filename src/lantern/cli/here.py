"""A command that works on its run itself, because no other node is there."""

from collections.abc import AsyncIterator

from lantern import node
from lantern.core import home
from lantern.settings import Settings


async def work(
    settings: Settings, place: home.Home, run_id: str, seen: int
) -> AsyncIterator[bytes]:
    """Frames of a run while this process is a node; it ends when the caller stops reading."""
    # Other runs are not this command's business: its environment may lack what they need.
    async with node.open_node(settings, place, "command", only=run_id) as parts:
        parts.node.wake()  # the run waits already
        async for data in parts.bus.follow(run_id, seen):
            yield data
