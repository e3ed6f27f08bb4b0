"""The outbox on a real database: promised with the transaction, delivered in order, by one node."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest
from parts import Tenant, clone_database, new_tenant, opened

from lantern.core import cleanup, outbox, outbox_loop, postgres
from lantern.core.db import Database
from lantern.core.errors import Conflict, RateLimited, Upstream
from lantern.core.nodes import Node
from lantern.core.outbox import Delivery, Final, Retry
from lantern.core.outbox_loop import Outbox, judge, pause
from lantern.settings import NodeSettings


class Receiver:
    """What the deliveries of the test topics reach."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []  # order key, id: as they ended
        self.now: dict[str, int] = defaultdict(int)
        self.together = 0  # most of one key at once
        self.most = 0  # most of all at once
        self.plan: dict[str, list[Exception]] = {}
        self.pause = 0.0
        self.hold: dict[str, asyncio.Event] = {}

    async def take(self, delivery: Delivery) -> None:
        key = delivery.payload["key"]
        self.now[key] += 1
        self.together = max(self.together, self.now[key])
        self.most = max(self.most, sum(self.now.values()))
        try:
            if delivery.id in self.hold:
                await self.hold[delivery.id].wait()
            await asyncio.sleep(self.pause * random.random())
            if self.plan.get(delivery.id):
                raise self.plan[delivery.id].pop(0)
            self.got.append((key, delivery.id))
        finally:
            self.now[key] -= 1

    def ids(self, key: str) -> list[str]:
        return [id for k, id in self.got if k == key]


receiver = Receiver()
may = {"ready": True}


@outbox.topic("test.each")
async def each(delivery: Delivery) -> None:
    await receiver.take(delivery)


@outbox.topic("test.latest", latest_wins=True)
async def latest(delivery: Delivery) -> None:
    await receiver.take(delivery)


@outbox.topic("test.later", ready=lambda: may["ready"])
async def later(delivery: Delivery) -> None:
    await receiver.take(delivery)


@pytest.fixture(scope="module")
def dsn(pg: postgres.Server) -> str:
    """A database of its own: the node of another test's server has an outbox of its own."""
    return clone_database(pg)


@pytest.fixture(scope="module")
async def db(dsn: str) -> AsyncIterator[Database]:
    async with opened(dsn) as database:
        yield database


@pytest.fixture(autouse=True)
async def _fresh(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.__init__()  # type: ignore[misc]
    may["ready"] = True
    monkeypatch.setattr(outbox_loop, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(outbox_loop, "LONGEST_PAUSE_SECONDS", 0.1)
    await as_owner(dsn, "delete from lantern.outbox")


async def as_owner(dsn: str, sql: str, params: Any = None) -> list[Any]:
    """Over all tenants, as the database's superuser."""
    async with await psycopg.AsyncConnection.connect(
        dsn, autocommit=True, row_factory=psycopg.rows.dict_row
    ) as connection:
        cursor = await connection.execute(sql, params)
        return await cursor.fetchall() if cursor.description else []


@asynccontextmanager
async def running(db: Database) -> AsyncIterator[Outbox]:
    """An outbox that looks every 20 ms; its node is in no list."""
    box = Outbox(Node(db, NodeSettings(), "worker"))
    await box.open()

    async def tend() -> None:
        while True:
            await box.tend()
            await asyncio.sleep(0.02)

    task = asyncio.create_task(tend())
    try:
        yield box
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await box.close()


async def put(db: Database, tenant: Tenant, topic: str, id: str, key: str = "k") -> None:
    async with db.transaction(tenant.id) as tx:
        await outbox.add(tx, tenant.id, topic, id, key, {"key": key})


async def state(db: Database, tenant: Tenant, topic: str, id: str) -> str | None:
    async with db.transaction(tenant.id) as tx:
        return await outbox.state(tx, topic, id)


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def settled(dsn: str, seconds: float = 30) -> list[Any]:
    """All rows, once none is pending."""

    async def none_pending() -> bool:
        return not await as_owner(dsn, "select 1 from lantern.outbox where state = 'pending'")

    await until(none_pending, seconds)
    return await as_owner(dsn, "select * from lantern.outbox order by seq")


async def test_rolled_back_nothing_committed_once(db, dsn, tenant):
    async with running(db):
        with suppress(ZeroDivisionError):
            async with db.transaction(tenant.id) as tx:
                await outbox.add(tx, tenant.id, "test.each", "never", "k", {"key": "k"})
                raise ZeroDivisionError
        for _ in range(3):
            await put(db, tenant, "test.each", "once")
        await settled(dsn)
        await put(db, tenant, "test.each", "once")  # done, and remembered
        await asyncio.sleep(0.1)
    assert receiver.got == [("k", "once")]
    assert await state(db, tenant, "test.each", "once") == "done"
    assert await state(db, tenant, "test.each", "never") is None


@pytest.mark.parametrize("seed", range(3))
async def test_one_key_in_order_and_one_at_a_time_on_three_nodes(db, dsn, tenant, seed):
    chance = random.Random(seed)
    receiver.pause = 0.01
    keys = [f"k{n}" for n in range(6)]
    promised: dict[str, list[str]] = defaultdict(list)
    async with running(db), running(db), running(db):
        for n in range(120):
            key, id = chance.choice(keys), f"a{n}"
            promised[key].append(id)
            receiver.plan[id] = [
                chance.choice([Retry("later"), OSError("broken"), Upstream("away")])
                for _ in range(chance.choice([0, 0, 0, 1, 2]))
            ]
            await put(db, tenant, "test.each", id, key)
        rows = await settled(dsn)
    assert {key: receiver.ids(key) for key in promised} == promised
    assert receiver.together == 1
    assert {row["state"] for row in rows} == {"done"}
    assert all(row["attempts"] >= 1 and row["finished_at"] for row in rows)


@pytest.mark.parametrize("seed", range(3))
async def test_where_the_latest_wins_none_goes_after_a_newer_one(db, dsn, tenant, seed):
    chance = random.Random(seed)
    receiver.pause = 0.02
    keys = [f"k{n}" for n in range(4)]
    promised: dict[str, list[str]] = defaultdict(list)
    async with running(db), running(db):
        for n in range(100):
            key, id = chance.choice(keys), f"a{n}"
            promised[key].append(id)
            receiver.plan[id] = [Retry("later")] * chance.choice([0, 0, 1, 3])
            await put(db, tenant, "test.latest", id, key)
        rows = await settled(dsn)
    for key, ids in promised.items():
        got = receiver.ids(key)
        assert got == sorted(got, key=ids.index)
        assert got[-1] == ids[-1]
    assert receiver.together == 1
    by_state = defaultdict(set)
    for row in rows:
        by_state[row["state"]].add(row["id"])
    assert by_state["done"] == {id for _, id in receiver.got}
    assert by_state["superseded"]
    assert set(by_state) == {"done", "superseded"}


async def test_a_newer_one_does_not_wait_for_the_older_ones_next_try(db, dsn, tenant, monkeypatch):
    receiver.plan["old"] = [Retry("later", 3600)]
    async with running(db):
        await put(db, tenant, "test.latest", "old")
        await until(lambda: attempted(dsn, "old"))
        await put(db, tenant, "test.latest", "new")
        await settled(dsn, 5)
    assert receiver.got == [("k", "new")]
    assert await state(db, tenant, "test.latest", "old") == "superseded"


async def test_what_was_committed_late_does_not_overwrite_the_newer_one(db, dsn, tenant):
    async with running(db):
        async with db.transaction(tenant.id) as tx:
            await outbox.add(tx, tenant.id, "test.latest", "first", "k", {"key": "k"})
            await put(db, tenant, "test.latest", "second")

            async def done() -> bool:
                return await state(db, tenant, "test.latest", "second") == "done"

            await until(done)
        await settled(dsn)
    assert receiver.got == [("k", "second")]
    assert await state(db, tenant, "test.latest", "first") == "superseded"


async def attempted(dsn: str, id: str) -> bool:
    return bool(
        await as_owner(
            dsn,
            "select 1 from lantern.outbox where id = %s and attempts > 0 and claimed_by is null",
            (id,),
        )
    )


async def test_retry_after_is_respected(db, dsn, tenant):
    receiver.plan["a"] = [Retry("busy", 1.0)]
    async with running(db):
        await put(db, tenant, "test.each", "a")
        await until(lambda: attempted(dsn, "a"))
        (row,) = await as_owner(
            dsn, "select *, extract(epoch from next_try_at - now()) as wait from lantern.outbox"
        )
        assert 0.5 < row["wait"] <= 1.0
        assert (row["state"], row["error"]) == ("pending", "busy")
        await settled(dsn)
    assert receiver.ids("k") == ["a"]


async def test_final_refusals_give_up_and_let_the_next_go(db, dsn, tenant):
    receiver.plan["a"] = [Final("record_gone")]
    receiver.plan["b"] = [Conflict("never")]
    async with running(db):
        for id in "abc":
            await put(db, tenant, "test.each", id)
        rows = await settled(dsn)
    assert [(r["state"], r["error"], r["attempts"]) for r in rows] == [
        ("failed", "record_gone", 1), ("failed", "never", 1), ("done", None, 1),
    ]  # fmt: skip


async def test_after_a_day_it_is_given_up(db, dsn, tenant):
    receiver.plan["a"] = [Retry("away")] * 99
    await put(db, tenant, "test.each", "a")
    await as_owner(
        dsn, "update lantern.outbox set attempts = 50, first_try_at = now() - interval '25 hours'"
    )
    async with running(db):
        (row,) = await settled(dsn)
    assert (row["state"], row["error"], row["attempts"]) == ("failed", "away", 51)


async def test_errors_that_are_kept_say_nothing_of_a_person_or_a_secret(db, dsn, tenant):
    receiver.plan["a"] = [Final("no ada@example.com, password=hunter2")]
    receiver.plan["b"] = [ValueError("payload of Ada Lovelace"), Final("end")]
    async with running(db):
        await put(db, tenant, "test.each", "b")
        await until(lambda: attempted(dsn, "b"))
        (row,) = await as_owner(dsn, "select error from lantern.outbox where id = 'b'")
        assert row["error"] in ("ValueError", "end")
        await put(db, tenant, "test.each", "a")
        rows = await settled(dsn)
    assert rows[1]["error"] == "no [email], [redacted]"


async def test_a_row_is_left_to_its_node_while_the_lease_holds(db, dsn, tenant, monkeypatch):
    monkeypatch.setattr(outbox_loop, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(outbox_loop, "MARGIN_SECONDS", 0.1)
    receiver.hold["a"] = asyncio.Event()
    async with running(db) as victim:
        await put(db, tenant, "test.each", "a")

        async def taken() -> bool:
            return receiver.now["k"] == 1

        await until(taken)
        # Dead: it neither works nor says so.
        await victim.suspend()
        receiver.hold.clear()
        async with running(db):
            await asyncio.sleep(0.5)
            assert receiver.got == []
            (row,) = await settled(dsn, 5)
    assert receiver.got == [("k", "a")]
    assert (row["state"], row["attempts"]) == ("done", 2)


async def test_a_suspended_node_stops_and_works_again_under_its_new_id(db, dsn, tenant):
    async with running(db) as box:
        await box.suspend()
        await put(db, tenant, "test.each", "a")
        await asyncio.sleep(0.2)
        assert receiver.got == []
        box.node.id = "node_again"
        await settled(dsn)
    assert receiver.got == [("k", "a")]


async def test_a_node_that_no_longer_holds_a_row_cannot_say_what_became_of_it(db, dsn, tenant):
    await put(db, tenant, "test.each", "a")
    claim = "select * from outbox_turn(%s, %s::jsonb, '{test.each}', '{}', %s, '1 hour')"
    (row,) = await db.all(claim, ("node_a", "[]", 1))
    said = (
        f'[{{"tenant_id": {tenant.id}, "topic": "test.each", "id": "a", "attempt": %s,'
        ' "state": "done", "delay": 0, "error": null}]'
    )
    for node, attempt in (("node_b", 1), ("node_a", 0), ("node_a", 2)):
        assert await db.all(claim, (node, said % attempt, 1)) == []
        assert await state(db, tenant, "test.each", "a") == "pending"
    await db.all(claim, ("node_a", said % row["attempt"], 0))
    assert await state(db, tenant, "test.each", "a") == "done"


async def test_at_most_so_many_at_once(db, dsn, tenant):
    receiver.pause = 0.02
    for n in range(40):
        await put(db, tenant, "test.each", f"a{n}", f"k{n}")
    async with running(db):
        await settled(dsn)
    assert receiver.most == outbox_loop.WIDTH
    assert len(receiver.got) == 40


async def test_a_delivery_that_hangs_is_cut_off_before_its_lease_ends(db, dsn, tenant, monkeypatch):
    monkeypatch.setattr(outbox_loop, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(outbox_loop, "MARGIN_SECONDS", 0.7)
    receiver.hold["a"] = asyncio.Event()
    async with running(db):
        await put(db, tenant, "test.each", "a")
        await until(lambda: attempted(dsn, "a"))
        (row,) = await as_owner(dsn, "select * from lantern.outbox")
        assert row["error"] == "out of time"
        receiver.hold.clear()
        await settled(dsn)
    assert receiver.together == 1


async def test_a_node_that_stops_hands_on_what_it_has_not_finished(db, dsn, tenant):
    receiver.hold["a"] = asyncio.Event()
    async with running(db):
        await put(db, tenant, "test.each", "a")

        async def taken() -> bool:
            return receiver.now["k"] == 1

        await until(taken)
    receiver.hold.clear()
    async with running(db):
        (row,) = await settled(dsn, 5)  # not after the lease, which is longer
    assert (row["state"], row["attempts"]) == ("done", 2)


async def test_a_topic_waits_for_a_node_that_can_deliver_it(db, dsn, tenant):
    may["ready"] = False
    async with running(db):
        await put(db, tenant, "test.later", "a")
        await asyncio.sleep(0.2)
        assert receiver.got == []
        may["ready"] = True
        await settled(dsn)
    assert receiver.got == [("k", "a")]


async def test_tenants_do_not_meet(db, dsn, tenant):
    other = await new_tenant(db)
    receiver.plan["same"] = [Retry("later", 3600)]
    async with running(db):
        await put(db, tenant, "test.each", "same")
        await until(lambda: attempted(dsn, "same"))
        await put(db, other, "test.each", "same")  # neither the id nor the key is theirs

        async def done() -> bool:
            return await state(db, other, "test.each", "same") == "done"

        await until(done)
    assert await state(db, tenant, "test.each", "same") == "pending"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with db.transaction(tenant.id) as tx:
            await outbox.add(tx, other.id, "test.each", "theirs", "k", {})
    for sql in ("update outbox set state = 'done'", "delete from outbox"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await db.run(sql)


async def test_finished_rows_go_after_their_time_and_what_nobody_delivers_is_given_up(
    db, dsn, tenant, monkeypatch
):
    monkeypatch.setattr(cleanup, "BATCH", 3)
    for n in range(8):
        await put(db, tenant, "test.each", f"done{n}", f"k{n}")
    async with running(db):
        await settled(dsn)
    await put(db, tenant, "test.nobody", "stuck")
    await put(db, tenant, "test.nobody", "young")
    await as_owner(
        dsn,
        "update lantern.outbox set finished_at = finished_at - interval '8 days',"
        " created_at = created_at - interval '8 days' where id not in ('young', 'done7')",
    )
    await cleanup.clean_up(db, answers_hours=24, events_days=30, outbox_days=7)
    rows = await as_owner(dsn, "select id, state, error from lantern.outbox order by seq")
    assert [(r["id"], r["state"]) for r in rows] == [
        ("done7", "done"), ("stuck", "failed"), ("young", "pending"),
    ]  # fmt: skip
    assert rows[1]["error"] == "no node could deliver it"


def test_pauses_grow_with_full_jitter_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(outbox_loop, "FIRST_PAUSE_SECONDS", 1.0)
    monkeypatch.setattr(outbox_loop, "LONGEST_PAUSE_SECONDS", 300.0)
    for attempt, longest in ((1, 1), (2, 2), (5, 16), (9, 256), (10, 300), (10_000, 300)):
        drawn = [pause(attempt, OSError()) for _ in range(400)]
        assert 0 <= min(drawn) < longest * 0.1
        assert longest * 0.9 < max(drawn) <= longest
    assert pause(1, Retry("busy", 50)) == 50
    assert pause(1, RateLimited(20)) == 20
    assert pause(1, Retry("busy", 1e9)) == outbox_loop.LONGEST_AFTER_SECONDS


def test_what_a_failed_try_means(db):
    def given(age: float) -> Delivery:
        return Delivery(1, "t", "a", 1, {}, 3, age, db)

    young, old = given(10), given(outbox_loop.GIVE_UP_SECONDS)
    for error in (Retry("x"), Upstream("x"), RateLimited(1), OSError("x"), KeyError("x")):
        assert judge(error, young)["state"] == "pending"
        assert judge(error, old)["state"] == "failed"
    for error in (Final("x"), Conflict("x")):
        assert judge(error, young)["state"] == "failed"
    assert len(judge(Final("x" * 9999), young)["error"]) == 200
