"""Runs of this process: starts them at once, claims what has nobody, stops what was cancelled."""

import asyncio
from contextlib import suppress
from typing import Any

import orjson

from lantern.core import events, fencing, kinds, log
from lantern.core.bus import TROUBLE, Bus
from lantern.core.db import ConnectionLost, Database, Row
from lantern.core.errors import Unavailable
from lantern.core.kinds import RunFailed, RunRow
from lantern.core.nodes import Node
from lantern.llm import ModelError, Models, NoModel, UnknownModel
from lantern.runs import store
from lantern.runs.work import Lost, Working
from lantern.settings import RunSettings

_log = log.get(__name__)

MOST_ATTEMPTS = 50  # a run that takes its node down each time must end some day
AWAY = (ConnectionLost, Unavailable, OSError)  # the database, for now
CLAIM = 100  # runs taken over at a time


class Engine:
    """Executes runs of every registered kind, at most `max_active` at once."""

    def __init__(self, node: Node, bus: Bus, models: Models, settings: RunSettings) -> None:
        self.node = node
        self.db: Database = node.db
        self.bus = bus
        self.settings = settings
        self.parts: dict[type[Any], Any] = {Models: models, Database: self.db}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stops: dict[str, str] = {}  # run id -> why its task was cancelled
        self._draining = False
        self.only: str | None = None  # a command works on its own run and on no other

    def attach(self) -> None:
        """Hook into the node's loop and the bus."""
        self.bus.node = self.node.id
        self.node.on_return.append(self._renamed)
        self.node.each_second += [self._claim, self._check]
        self.node.on_suspend.append(self._suspend)
        self.node.before_return.append(self._rescue)
        self.bus.on_notice["queued"] = lambda _rest: self.node.wake()
        self.bus.on_notice["cancel"] = self.stop_cancelled

    @property
    def room(self) -> int:
        """How many more runs this process takes."""
        if self._draining or not self.node.alive:
            return 0
        return max(0, self.settings.max_active - len(self._tasks))

    @property
    def active(self) -> int:
        """Runs at work here."""
        return len(self._tasks)

    def start(self, run: RunRow, opening: events.Item | None = None) -> None:
        """Work on a run that this node owns. `opening`: its first event, durable already."""
        if run.id in self._tasks:
            return  # it took so long to come back that the loop has claimed it again
        work = Working(run, self.db, self.bus, self.parts)
        if opening is not None:
            work.open_with(opening)
        task = asyncio.create_task(self._execute(work), name=run.id)
        self._tasks[run.id] = task
        task.add_done_callback(lambda _task: self._tasks.pop(run.id, None))

    def stop_cancelled(self, run_id: str) -> None:
        """Abort the model call of a cancelled run, if it is here."""
        self._stop(run_id, "cancelled")

    async def drain(self, seconds: float) -> None:
        """Take nothing new, let runs end for a while, hand the rest on."""
        self._draining = True
        if self._tasks and seconds > 0:
            await asyncio.wait(list(self._tasks.values()), timeout=seconds)
        await self._suspend()

    def _stop(self, run_id: str, why: str) -> None:
        task = self._tasks.get(run_id)
        if task and run_id not in self._stops:
            self._stops[run_id] = why
            task.cancel()

    # ---------------------------------------------------------------- node loop
    async def _claim(self) -> None:
        """Take runs that have nobody."""
        self.bus.others = not self.node.alone
        if not self.room:
            return
        dead = self.node.dead_after if self.node.may_judge else None
        room = min(self.room, CLAIM)
        node = self.node.id
        wanted = fencing.Wanted(list(self._tasks), room, self.only)
        rows = await fencing.claim(self.db, node, dead, wanted)
        if not self.node.alive or self.node.id != node:
            return  # suspended meanwhile: these belong to a dead id now, and are claimed again
        for row in rows:
            if row["attempt"] > 1:
                _log.info("run.taken_over", run_id=row["id"], attempt=row["attempt"])
            self._begin(row)

    def _begin(self, row: Row) -> None:
        run = RunRow(
            id=row["id"],
            tenant=row["tenant_id"],
            kind=row["kind"],
            agent_id=row["agent_id"],
            agent_name=row["agent_name"],
            input=orjson.loads(row["input"]),
            attempt=row["attempt"],
        )
        if row["status"] == "cancelled":
            self._stops[run.id] = "cancelled"  # its owner died before the last event
        self.start(run)

    async def _check(self) -> None:
        """Find runs that were cancelled or taken over while their notice was lost."""
        held = list(self._tasks)
        if not held:
            return
        for row in await fencing.lost(self.db, self.node.id, held):
            cancelled = row["mine"] and row["status"] == "cancelled"
            self._stop(row["id"], "cancelled" if cancelled else "lost")

    async def _suspend(self) -> None:
        """This node may be taken for dead: stop all work, write nothing more under this id."""
        tasks = dict(self._tasks)
        for run_id, task in tasks.items():
            self._stops[run_id] = "lost"  # also what waits for the database to write its end
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _rescue(self) -> None:
        """The database is back: keep the tokens that were shown, while the runs are still ours.

        Raises while the pool has broken connections to throw away; the node comes back after that.
        """
        await self.bus.flush()

    async def _renamed(self) -> None:
        self.bus.node = self.node.id

    # ---------------------------------------------------------------- one run
    async def _execute(self, work: Working) -> None:
        run = work.run
        try:
            if self._stops.get(run.id) == "cancelled":
                raise Lost
            await self._attempt(work)
        except asyncio.CancelledError:
            await self._stopped(work, self._stops.get(run.id, "lost"))
        except Lost:
            await self._stopped(work, await self._why_lost(run))
        except TROUBLE as error:
            # The database; this node, or another, begins the run again.
            _log.warning("run.interrupted", run_id=run.id, error=type(error).__name__)
        finally:
            self._stops.pop(run.id, None)
            if not work.live.final:
                work.live.lose()  # its readers look at the database, whatever became of the run

    async def _attempt(self, work: Working) -> None:
        """Run the kind and write how it ended."""
        run = work.run
        try:
            if run.attempt > MOST_ATTEMPTS:
                raise RunFailed("internal_error", f"The run was begun {MOST_ATTEMPTS} times")
            if run.attempt > 1:
                async with self.db.transaction(run.tenant) as tx:
                    work.done = await store.finished_steps(tx, run.id)
            async with asyncio.timeout(self.settings.max_seconds):
                output = await kinds.get(run.kind).execute(work)
        except RunFailed as error:
            await work.fail(error.code, error.message)
        except (ModelError, NoModel, UnknownModel) as error:
            code = "model_error" if isinstance(error, ModelError) else "no_model"
            await work.fail(code, error.message)
        except TimeoutError:
            await work.fail("timeout", f"The run took over {self.settings.max_seconds} s")
        except (Lost, *AWAY):
            raise
        except Exception:
            _log.exception("run.broken", run_id=run.id)
            await work.fail("internal_error", "Internal error; the log has the story")
        else:
            await work.complete(output)

    async def _why_lost(self, run: RunRow) -> str:
        if known := self._stops.get(run.id):
            return known
        with suppress(*TROUBLE):
            rows = await fencing.lost(self.db, self.node.id, [run.id])
            if rows and rows[0]["mine"] and rows[0]["status"] == "cancelled":
                return "cancelled"
        return "lost"

    async def _stopped(self, work: Working, why: str) -> None:
        if why == "cancelled":
            with suppress(Lost):
                await work.cancelled()
