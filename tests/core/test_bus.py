"""Events between the process that makes them and everyone who reads."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parts import Tenant

from lantern.core import events
from lantern.core.bus import Bus, Remote
from lantern.core.db import Database
from lantern.core.events import ATTEMPT, Item
from lantern.settings import RunSettings


@pytest.fixture
async def run_id(db: Database, tenant: Tenant) -> str:
    """A running run of node `node_bus`, in its first attempt."""
    name = f"run_bus{tenant.id}"
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "insert into runs (id, tenant_id, kind, status, input, owner, attempt)"
            " values (%s, %s, 'nothing', 'paused', '{}', 'node_bus', 1)",
            (name, tenant.id),
        )
    return name


async def rows(db: Database, run_id: str) -> list[tuple[int, int]]:
    found = await db.all("select * from events_after(%s, %s, 100)", ([run_id], [0]))
    return [(row["seq_from"], row["seq_to"]) for row in found]


def a_bus(db: Database, **settings: Any) -> Bus:
    bus = Bus(db, RunSettings(**settings))
    bus.node = "node_bus"
    return bus


async def test_four_kilobytes_do_not_wait(db: Database, tenant: Tenant, run_id: str) -> None:
    bus = a_bus(db, flush_ms=1000)
    await bus.open()
    live = bus.begin(run_id, tenant.id, None, 1)
    bus.tokens(live, ["x" * 5000])
    await asyncio.sleep(0.3)
    assert await rows(db, run_id) == [(1, 1)]
    bus.tokens(live, ["y"])
    await asyncio.sleep(0.3)
    assert await rows(db, run_id) == [(1, 1)], "a few bytes wait for company"
    await bus.close()
    assert await rows(db, run_id) == [(1, 1), (2, 2)]


async def test_what_a_commit_carries_is_not_written_twice(
    db: Database, tenant: Tenant, run_id: str
) -> None:
    """Two rows with one first seq: the second would be lost, and with it the last event."""
    bus = a_bus(db)
    live = bus.begin(run_id, tenant.id, None, 1)
    bus.tokens(live, ["a"])
    live.committing = True
    assert live.draft([events.event("run.complete")])[:2] == (1, 2)
    bus.tokens(live, ["late"])
    await bus.flush()
    assert await rows(db, run_id) == []


async def test_a_reader_without_a_node_is_told(db: Database, tenant: Tenant, run_id: str) -> None:
    bus, reader = a_bus(db), a_bus(db)
    for each in (bus, reader):
        await each.open()
    bus.tokens(bus.begin(run_id, tenant.id, None, 1), ["a"])
    assert not bus.tell_others
    await asyncio.sleep(0.2)
    await reader.announce_reader()
    await asyncio.sleep(0.2)
    assert bus.tell_others
    for each in (bus, reader):
        await each.close()


async def test_only_the_owner_of_the_attempt_appends(
    db: Database, tenant: Tenant, run_id: str
) -> None:
    for node, attempt in (("node_other", 1), ("node_bus", 2)):
        bus = a_bus(db)
        bus.node = node
        bus.tokens(bus.begin(run_id, tenant.id, None, attempt), ["stale"])
        await bus.flush()
    assert await rows(db, run_id) == []


async def test_rows_go_again_with_the_same_bounds_after_a_restart(
    db: Database, tenant: Tenant, run_id: str
) -> None:
    bus = a_bus(db)
    live = bus.begin(run_id, tenant.id, None, 1)
    for text in ("a", "b", "c"):
        bus.tokens(live, [text])
        await bus.flush()
    async with db.transaction(tenant.id) as tx:
        await tx.run("delete from run_events where run_id = %s and seq_from > 1", (run_id,))
    db.epoch += 1  # what a new connection to a restarted server does
    await bus.flush()
    assert await rows(db, run_id) == [(1, 1), (2, 2), (3, 3)]


ITEMS: list[Item] = [[0, f"t{n}"] for n in range(1, 13)]
SECOND: list[Item] = [events.event("step.restart", step="s", attempt=2), [0, "u1"]]


@given(st.permutations(range(4)), st.integers(0, 12))
def test_a_reader_takes_rows_in_any_order_once_and_without_a_gap(
    order: list[int], seen: int
) -> None:
    """Rows become visible in any order; each pass offers all of them, sorted, as the reader does."""
    chunks = [(1, ITEMS[:3]), (4, ITEMS[3:8]), (9, ITEMS[8:]), (ATTEMPT + 1, SECOND)]
    remote = Remote("run_x", seen)
    visible: list[tuple[int, list[Item]]] = []
    for index in sorted(order[:3]) if 3 in order[:3] else order:
        visible.append(chunks[index])
    for chunk in chunks:
        if chunk not in visible:
            visible.append(chunk)
    shown = []
    for end in range(1, len(visible) + 1):
        # The second attempt is only written once the first one's rows are all there, or lost.
        batch = sorted(visible[:end])
        for seq_from, items in batch:
            if seq_from > ATTEMPT and end < len(visible):
                break
            if seq_from + len(items) - 1 > remote.seen and not remote.take(
                seq_from, events.pack(items)
            ):
                break
        shown += remote.frames
        remote.frames = []
    ids = [int(frame.split(b"\n")[0][4:]) for frame in shown]
    assert ids == [*range(seen + 1, 13), ATTEMPT + 1, ATTEMPT + 2]


@given(st.text(max_size=30))
def test_a_token_is_one_line_of_json_whatever_it_says(text: str) -> None:
    frame = events.frame("run_x", 7, [1_700_000_000_123, text])
    head, data, end, rest = frame.split(b"\n")
    assert (head, end, rest) == (b"id: 7", b"", b"")
    wire = events.as_object("run_x", 7, [1_700_000_000_123, text])
    assert events.orjson.loads(data.removeprefix(b"data: ")) == wire
    assert wire["timestamp"] == "2023-11-14T22:13:20.123Z"
