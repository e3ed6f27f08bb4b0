"""The events of a run for the terminal: from the node that works on it, or from one of our own."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import orjson

from lantern.cli import load
from lantern.core import home, nodes
from lantern.core.bus import Bus
from lantern.core.db import Database
from lantern.core.events import FINAL
from lantern.settings import Settings

LOOK_SECONDS = 2.0  # how often a silent run makes us look whether anybody is left to do it

Event = dict[str, Any]


async def follow(
    settings: Settings, place: home.Home, db: Database, run_id: str
) -> AsyncIterator[Event]:
    """Every event of a run to its last. With no live node this process becomes one meanwhile."""
    seen = 0
    while True:
        source: AsyncGenerator[bytes, None] = (
            _from_others(settings, db, run_id, seen)
            if await nodes.at_work(db, settings.nodes.dead_seconds)
            else load("here").work(settings, place, run_id, seen)
        )
        async with aclosing(source) as frames:
            async for data in frames:
                for event in parse(data):
                    seen = event["seq"]
                    yield event
                    if event["type"] in FINAL:
                        return


def parse(data: bytes) -> list[Event]:
    """The events of one or more server-sent frames; heartbeats are none."""
    lines = data.split(b"\n")
    return [orjson.loads(line[6:]) for line in lines if line.startswith(b"data: ")]


async def _from_others(
    settings: Settings, db: Database, run_id: str, seen: int
) -> AsyncGenerator[bytes, None]:
    """Frames of a run that lives on another node; ends when no node is left."""
    bus = Bus(db, settings.runs)
    await bus.open()
    source = cast(AsyncGenerator[bytes, None], bus.follow(run_id, seen))
    pending: asyncio.Future[bytes] | None = None
    try:
        while True:
            await bus.announce_reader()
            pending = pending or asyncio.ensure_future(anext(source))
            await asyncio.wait({pending}, timeout=LOOK_SECONDS)
            if pending.done():
                data, pending = pending.result(), None
                yield data
            elif not await nodes.at_work(db, settings.nodes.dead_seconds):
                return
    finally:
        if pending:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
        await source.aclose()
        await bus.close()
