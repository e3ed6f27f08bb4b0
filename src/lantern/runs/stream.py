"""Following a run: from memory where it is at work here, else from the database."""

import asyncio
from collections.abc import AsyncIterator

from lantern.core import clock, events
from lantern.core.bus import Bus, stored
from lantern.core.db import Database, Row
from lantern.gate.auth import Call
from lantern.runs.service import not_found, visible

LAST_EVENT_SECONDS = 10.0  # how long a final run's last event may take to be written
PAGE = 500


async def follow(bus: Bus, call: Call, run_id: str, after: int) -> AsyncIterator[bytes]:
    """Frames of a run behind `after`. Raises NotFound before the first one."""
    live = bus.live.get(run_id)
    if live is not None:
        if live.tenant != call.tenant or not call.covers(live.agent):
            raise not_found(run_id)
        return bus.follow(run_id, after)
    async with call.db.transaction(call.tenant) as tx:
        row = await visible(tx, run_id, call.covers)
    if row["closed"]:
        return _transcript(call.db, call.tenant, row, after)
    if row["status"] in ("completed", "failed", "cancelled"):
        return _with_patience(bus, call, row, after)
    return bus.follow(run_id, after)


async def _transcript(db: Database, tenant: int, row: Row, after: int) -> AsyncIterator[bytes]:
    """All that is kept of an ended run; without its last event (retention took it), a new one."""
    run_id, seen, final = row["id"], after, False
    while True:
        async with db.transaction(tenant) as tx:
            rows = await stored(tx, [(run_id, seen)], PAGE)
        for kept in rows:
            frames = []
            for seq, item in enumerate(events.unpack(kept["data"]), kept["seq_from"]):
                final = final or events.is_final(item)
                if seq > seen:
                    frames.append(events.frame(run_id, seq, item))
            seen = max(seen, kept["seq_to"])
            yield b"".join(frames)
        if len(rows) < PAGE:
            break
    if final:
        return
    if seen == after and after > 0:
        async with db.transaction(tenant) as tx:
            if await stored(tx, [(run_id, 0)], 1):
                return  # the reader had everything
    yield _epilogue(row, seen)


async def _with_patience(bus: Bus, call: Call, row: Row, after: int) -> AsyncIterator[bytes]:
    """A final run whose last event is still to come, from its owner or from who takes over."""
    give_up = clock.monotonic() + LAST_EVENT_SECONDS
    source, seen = bus.follow(row["id"], after), after
    try:
        while True:
            async with asyncio.timeout(max(0.0, give_up - clock.monotonic())):
                data = await anext(source)
            last = data.removesuffix(b"\n\n").rpartition(b"\n\n")[2]
            if last.startswith(b"id: "):
                seen = int(last[4 : last.index(b"\n")])
            yield data
    except StopAsyncIteration:
        return
    except TimeoutError:
        yield _epilogue(row, seen)


def _epilogue(row: Row, seen: int) -> bytes:
    at = clock.to_micros(row["finished_at"] or clock.now()) // 1000
    kind = {"completed": "run.complete", "failed": "run.failed"}.get(row["status"], "run.cancelled")
    item: events.Item = {"type": kind, "at": at, "run_id": row["id"]}
    if kind == "run.failed" and isinstance(item, dict):
        item["error"] = row["error"]
    return events.frame(row["id"], seen + 1, item)
