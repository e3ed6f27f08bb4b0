"""What delivers the outbox on a node: claims with a lease, bounded concurrency, retries.

No row lock and no transaction is held while a receiver is called. A node that dies keeps its rows
until their lease ends; every delivery is over before that, so nobody else has the row meanwhile.
"""

import asyncio
import random
from contextlib import suppress
from datetime import timedelta
from typing import Any

import orjson

from lantern.core import clock, log, outbox
from lantern.core.bus import TROUBLE
from lantern.core.db import Row, facts
from lantern.core.errors import LanternError, RateLimited
from lantern.core.nodes import Node
from lantern.core.outbox import Delivery, Final, Retry

WIDTH = 8  # deliveries of one process at once
LEASE_SECONDS = 30.0
MARGIN_SECONDS = 5.0  # a delivery is cut off this long before its lease ends
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 300.0
LONGEST_AFTER_SECONDS = 3600.0  # the most that `Retry-After` can ask for
GIVE_UP_SECONDS = 86_400.0  # after the first try
TELL_SECONDS = 60.0  # between two lines about deliveries that do not get through
_MAX_REASON = 200
_chance = random.Random()  # noqa: S311 - spreads tries, guards nothing
_log = log.get(__name__)


class Outbox:
    """The deliveries of this process, tended by the loop of its node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._as = node.id  # under which id rows are claimed
        self._may_work = True
        self._closing = False
        self._wanted = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: list[dict[str, Any]] = []
        self._worker: asyncio.Task[None] | None = None
        self._delayed = 0
        self._told = -TELL_SECONDS

    async def open(self) -> None:
        """Start to deliver."""
        self._worker = asyncio.create_task(self._work(), name="outbox")

    async def tend(self) -> None:
        """Look for work: a hook for `Node.each_second`."""
        if self._as != self.node.id:  # back under a new id: the old one's rows end with their lease
            self._as = self.node.id
            self._may_work = True
        self.wake()

    def wake(self) -> None:
        """Look now, such as right after the commit that promised something."""
        self._wanted.set()

    async def suspend(self) -> None:
        """Stop the work, for `Node.on_suspend`: others may take this node for dead by now."""
        self._may_work = False
        self._results.clear()
        for task in self._tasks:
            task.cancel()

    async def close(self, drain_seconds: float = 0) -> None:
        """Take nothing more, give deliveries `drain_seconds`, hand the rest to other nodes."""
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=drain_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._worker:
            self.wake()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._worker, MARGIN_SECONDS)

    # ------------------------------------------------------------------ turns
    async def _work(self) -> None:
        while not (self._closing and not self._tasks and not self._results):
            await self._wanted.wait()
            self._wanted.clear()
            try:
                while await self._turn():
                    pass
            except TROUBLE as error:  # the results are kept for the next turn
                _log.warning("outbox.turn_failed", error=type(error).__name__)
            except Exception as error:
                _log.error("outbox.turn_broken", error=type(error).__name__, **facts(error))

    async def _turn(self) -> bool:
        """Report and claim in one statement; whether more may be due."""
        results, self._results = self._results, []
        topics = outbox.ready_topics() if self._may_work and not self._closing else {}
        room = WIDTH - len(self._tasks) if topics else 0
        if not results and not room:
            return False
        end = asyncio.get_running_loop().time() + LEASE_SECONDS - MARGIN_SECONDS
        owner = self._as
        try:
            rows = await self._exchange(results, topics, room)
        except BaseException:
            if owner == self._as and self._may_work:
                self._results = results + self._results
            raise
        if owner != self._as or not self._may_work or self._closing:
            return False  # claimed too late: the lease runs out
        for row in rows:
            if row["state"] == "pending":
                self._begin(row, topics[row["topic"]], end)
        return bool(rows)

    async def _exchange(
        self, results: list[dict[str, Any]], topics: dict[str, outbox.Topic], room: int
    ) -> list[Row]:
        return await self.node.db.all(
            "select * from outbox_turn(%s, %s::jsonb, %s::text[], %s::text[], %s, %s)",
            (
                self._as,
                orjson.dumps(results).decode(),
                list(topics),
                [name for name, found in topics.items() if found.latest_wins],
                room,
                timedelta(seconds=LEASE_SECONDS),
            ),
        )

    def _begin(self, row: Row, how: outbox.Topic, end: float) -> None:
        row.pop("state")
        tenant = row.pop("tenant_id")
        delivery = Delivery(tenant=tenant, db=self.node.db, **row)
        task = asyncio.create_task(self._deliver(delivery, how, end), name="outbox.delivery")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.wake()

    # ------------------------------------------------------------------ one delivery
    async def _deliver(self, delivery: Delivery, how: outbox.Topic, end: float) -> None:
        owner = self._as
        try:
            async with asyncio.timeout_at(end):
                await how.deliver(delivery)
            said = {"state": "done", "delay": 0, "error": None}
        except asyncio.CancelledError:
            if self._closing:  # another node need not wait for the lease
                self._say(delivery, {"state": "pending", "delay": 0, "error": "the node stopped"})
            raise
        except Exception as error:
            said = judge(error, delivery)
            self._note(delivery, said)
        if owner == self._as and self._may_work:
            self._say(delivery, said)

    def _say(self, delivery: Delivery, said: dict[str, Any]) -> None:
        self._results.append(
            {
                "tenant_id": delivery.tenant,
                "topic": delivery.topic,
                "id": delivery.id,
                "attempt": delivery.attempt,
                **said,
            }
        )

    def _note(self, delivery: Delivery, said: dict[str, Any]) -> None:
        if said["state"] == "failed":
            _log.warning(
                "outbox.given_up", topic=delivery.topic, id=delivery.id, error=said["error"]
            )
            return
        self._delayed += 1
        now = clock.monotonic()
        if now - self._told >= TELL_SECONDS:  # a receiver that is away must not fill the log
            _log.warning(
                "outbox.delayed", topic=delivery.topic, tries=self._delayed, error=said["error"]
            )
            self._told, self._delayed = now, 0


def judge(error: Exception, delivery: Delivery) -> dict[str, Any]:
    """What a failed try means: `{state, delay, error}`."""
    if isinstance(error, Retry | Final | LanternError):
        reason = log.scrub(str(error))[:_MAX_REASON]
    else:  # the text of a stranger may quote anything
        reason = "out of time" if isinstance(error, TimeoutError) else type(error).__name__
    final = isinstance(error, Final) or (
        isinstance(error, LanternError)
        and error.status < 500
        and not isinstance(error, RateLimited)
    )
    if final or delivery.age >= GIVE_UP_SECONDS:
        return {"state": "failed", "delay": 0, "error": reason}
    return {"state": "pending", "delay": pause(delivery.attempt, error), "error": reason}


def pause(attempt: int, error: Exception) -> float:
    """Seconds until the next try: exponential with full jitter, not before the receiver asks."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(attempt - 1, 30))
    after = 0.0
    if isinstance(error, Retry):
        after = error.after or 0.0
    elif isinstance(error, RateLimited):
        after = error.retry_after
    return max(_chance.uniform(0, longest), min(after, LONGEST_AFTER_SECONDS))
