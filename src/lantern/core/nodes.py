"""This process among its peers: a heartbeat each second, and what follows when beats stop.

A node that cannot renew its beat for `dead_seconds` stops its work and comes back under a new id
when the database does. It judges others only after renewing for one full dead interval itself:
after a restart of Postgres every beat is old.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Literal

from lantern import __version__
from lantern.core import clock, ids, log
from lantern.core.bus import TROUBLE
from lantern.core.db import Database, Row, Tx
from lantern.settings import NodeSettings

_log = log.get(__name__)

Hook = Callable[[], Awaitable[None]]
Role = Literal["server", "worker", "command"]


class Node:
    """The heartbeat of this process. Hooks run in the loop, one after the other."""

    def __init__(self, db: Database, settings: NodeSettings, role: Role) -> None:
        self.db = db
        self.settings = settings
        self.role: Role = role
        self.id = ids.new("node")
        self.alive = False  # may work
        self.alone = True  # no other node renews its beat
        self.dead: list[str] = []  # peers whose beat stopped, for the engine of queued work
        self.each_second: list[Hook] = []
        self.on_suspend: list[Hook] = []
        self.before_return: list[Hook] = []  # still under the old id
        self.on_return: list[Hook] = []  # under the new one
        self.revive: Hook | None = None  # brings an embedded database back
        self._renewed = 0.0
        self._since = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._reviving: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Enter the list of nodes and start beating."""
        async with self.db.solo() as tx:
            await self._beat(tx)
        for work in (self._loop, self._hooks):
            self._tasks.append(asyncio.create_task(work(), name=f"node.{work.__name__}"))

    async def close(self) -> None:
        """Leave the list, so that nobody waits for this node's runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.alive = False
        with suppress(*TROUBLE):
            await self.db.run("delete from nodes where id = %s", (self.id,))

    def wake(self) -> None:
        """Run the hooks now instead of at the next second."""
        self._wake.set()

    @property
    def dead_after(self) -> timedelta:
        """Silence after which a node is dead."""
        return timedelta(seconds=self.settings.dead_seconds)

    async def _loop(self) -> None:
        while True:
            try:
                # Beats have a connection and a task of their own: neither a full pool nor a slow
                # hook may look like a death.
                async with self.db.solo() as tx:
                    while True:
                        async with asyncio.timeout(self.settings.dead_seconds):
                            await self._beat(tx)
                        await asyncio.sleep(self.settings.beat_seconds)
            except TROUBLE as error:
                _log.warning("node.beat_failed", node=self.id, error=type(error).__name__)
                await self._failed()
                await asyncio.sleep(self.settings.beat_seconds / 4)

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), self.settings.beat_seconds)
        self._wake.clear()

    @property
    def may_judge(self) -> bool:
        """Whether a silent peer may be taken for dead; with no other row nobody can be misjudged."""
        renewed = clock.monotonic() - self._since >= self.settings.dead_seconds
        return renewed or (self.alone and not self.dead)

    async def _hooks(self) -> None:
        while True:
            await self._pause()
            for hook in self.each_second if self.alive else ():
                try:
                    await hook()
                except TROUBLE as error:
                    _log.warning("node.hook_failed", error=type(error).__name__)
                except Exception:
                    _log.exception("node.hook_broken")  # the others must go on, each second

    async def _beat(self, tx: Tx) -> None:
        now = clock.monotonic()
        if self.alive and now - self._renewed >= self.settings.dead_seconds:
            await self._suspend()  # the process itself was paused: others have judged by now
        if not self.alive and self._renewed:
            await self._return()
        rows = await tx.all(
            """
            with mine as (
                insert into nodes (id, role, host, pid, version)
                values (%(id)s, %(role)s, %(host)s, %(pid)s, %(version)s)
                on conflict (id) do update set beat = clock_timestamp()
                returning id
            )
            select id, beat < clock_timestamp() - %(dead)s as dead from nodes
            where id <> %(id)s and beat > clock_timestamp() - interval '10 minutes'
            """,
            {
                "id": self.id,
                "role": self.role,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "version": __version__,
                "dead": self.dead_after,
            },
        )
        self._renewed = now
        if not self.alive:
            self.alive = True
            self._since = clock.monotonic()
        self.dead = [row["id"] for row in rows if row["dead"]]
        self.alone = len(self.dead) == len(rows)

    async def _return(self) -> None:
        for hook in self.before_return:
            await hook()
        self.id = ids.new("node")
        for hook in self.on_return:
            await hook()
        _log.warning("node.returned", node=self.id)

    async def _failed(self) -> None:
        if self.alive and clock.monotonic() - self._renewed >= self.settings.dead_seconds:
            await self._suspend()
        if self.revive and (self._reviving is None or self._reviving.done()):
            self._reviving = asyncio.create_task(self._revive(self.revive), name="node.revive")

    async def _revive(self, revive: Hook) -> None:
        try:
            await revive()
        except TROUBLE as error:
            _log.error("node.database_not_back", error=str(error))

    async def _suspend(self) -> None:
        self.alive = False
        _log.warning("node.suspended", node=self.id)
        for hook in self.on_suspend:
            await hook()


async def at_work(db: Database, dead_seconds: float) -> list[Row]:
    """Processes at work on this database."""
    return [row for row in await known(db, dead_seconds) if not row["dead"]]


async def known(at: Database | Tx, dead_seconds: float) -> list[Row]:
    """Processes at work on this database, and those that fell silent in the last ten minutes (`dead`)."""
    return await at.all(
        "select id, role, host, pid, version, started_at, beat,"
        " beat < clock_timestamp() - make_interval(secs => %(dead)s) as dead from nodes"
        " where beat > clock_timestamp() - interval '10 minutes' order by started_at limit 200",
        {"dead": dead_seconds},
    )
