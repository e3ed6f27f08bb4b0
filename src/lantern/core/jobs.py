"""Durable jobs: queued in our own transaction, done at least once, on one node at a time.

A job is queued by a statement of the caller's transaction: rolled back, it never was; committed,
it runs, and when its node dies another one runs it again. So its effects outside Postgres carry
an idempotency key made of the job's key and the step. Arguments are plain JSON and ids only.

The engine (DBOS, behind core/jobs_dbos.py) costs over a second of CPU to import, 35 MB, and some
twenty statements a second while it runs. It is started when there is a job, and stopped after a
minute without one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from lantern.core import clock, jobs_dbos, log
from lantern.core.db import Database, Tx
from lantern.core.errors import LanternError, Unavailable
from lantern.core.nodes import Node

IDLE_SECONDS = 60.0
RETRY_SECONDS = 10.0  # after a start that failed

Job = Callable[..., Awaitable[None]]
J = TypeVar("J", bound=Job)
_log = log.get(__name__)

migrate_jobs = jobs_dbos.migrate


@dataclass(frozen=True, slots=True)
class _Job:
    run: Job
    attempts: int
    pause: float


_jobs: dict[str, _Job] = {}


def job(name: str, *, attempts: int = 5, pause: float = 1.0) -> Callable[[J], J]:
    """Register `async def f(db, **arguments)`.

    One that raises is tried again after `pause` seconds, then four times as long each time,
    `attempts` times in all. An error of ours below 500 is final.
    """

    def register(function: J) -> J:
        _jobs[name] = _Job(function, attempts, pause)
        return function

    return register


def names() -> list[str]:
    """The jobs that this process can do."""
    return list(_jobs)


async def enqueue(tx: Tx, name: str, args: dict[str, Any], key: str) -> str:
    """Queue a job within the caller's transaction; returns its id.

    Name and key make the id: queued again, it is the same job and runs once (as long as its row
    is kept, see `forget`).
    """
    if name not in _jobs:
        raise LookupError(f"no job is registered as {name!r}")
    job_id = f"{name}:{key}"
    await tx.run(
        "select dbos.enqueue_workflow(workflow_name => %s, queue_name => %s,"
        " named_args => %s::json, workflow_id => %s, app_version => %s, application_name => %s)",
        (
            name,
            jobs_dbos.QUEUE,
            orjson.dumps(args).decode(),
            job_id,
            jobs_dbos.VERSION,
            jobs_dbos.APPLICATION,
        ),
    )
    return job_id


async def forget(db: Database, days: int, batch: int) -> int:
    """Delete up to `batch` jobs that ended more than `days` ago, and their keys; how many."""
    return await db.run(
        """
        with old as materialized (
            select workflow_uuid as id from dbos.workflow_status
            where completed_at < (extract(epoch from clock_timestamp()) - %s * 86400) * 1000
            limit %s
        ), inputs as (
            delete from dbos.workflow_input using old where workflow_uuid = old.id
        ), outputs as (
            delete from dbos.workflow_output using old where workflow_uuid = old.id
        ), steps as (
            delete from dbos.operation_outputs using old where workflow_uuid = old.id
        )
        delete from dbos.workflow_status using old where workflow_uuid = old.id
        """,
        (days, batch),
    )


class Jobs:
    """The engine of this process, tended by the loop of its node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.running = False
        self._as = node.id  # under which id the engine takes on work
        self._may_work = True
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._change: asyncio.Task[None] | None = None
        self._last_work = 0.0
        self._not_before = 0.0

    async def open(self) -> None:
        """Check the schema. Raises `Unavailable` where it is missing."""
        self._loop = asyncio.get_running_loop()
        row = await self.node.db.one("select to_regclass('dbos.workflow_status') as found")
        if row is None or row["found"] is None:
            raise Unavailable("The schema of the job queue is missing: run `lantern migrate`")

    async def tend(self) -> None:
        """Start, stop, take over: a hook for `Node.each_second`. Only looks; the rest is a task."""
        if self._closed:
            return
        self._take_name()
        row = await self.node.db.one(
            # A process that left for good has no row among the nodes: its jobs count as well.
            """
            select exists (
                select from dbos.workflow_status where status in ('ENQUEUED', 'PENDING')
            ) as work, array (
                select distinct w.executor_id from dbos.workflow_status w
                where w.status = 'PENDING' and w.executor_id <> %(me)s and not exists (
                    select from nodes n where n.id = w.executor_id
                        and n.beat > clock_timestamp() - %(dead)s
                )
            ) as dead
            """,
            {"me": self._as, "dead": self.node.dead_after},
        )
        assert row is not None
        now = clock.monotonic()
        if row["work"]:
            self._last_work = now
        if self._change and not self._change.done():
            return
        if not self.running:
            if row["work"] and now >= self._not_before:
                self._begin(self._start())
        elif row["dead"] and self.node.may_judge:
            self._begin(self._take_over(row["dead"]))
        elif now - self._last_work > IDLE_SECONDS:
            self._begin(self._stop(0))

    async def recover(self, dead: Sequence[str]) -> int:
        """Queue again what these nodes had begun; returns how many jobs. The engine must run.

        Any number of nodes may do it at once, as often as they like: a job moves only as long as
        it belongs to a dead one.
        """
        jobs = await asyncio.to_thread(jobs_dbos.recover, dead)
        if jobs:
            _log.warning("jobs.taken_over", jobs=jobs, nodes=len(dead))
        return jobs

    async def suspend(self) -> None:
        """Stop the work, for `Node.on_suspend`: others may take this node for dead by now."""
        self._may_work = False
        for task in self._tasks:
            task.cancel()

    async def close(self, drain_seconds: float = 0) -> None:
        """Take nothing more, give running jobs `drain_seconds`, leave the rest to other nodes."""
        self._closed = True
        if self._change:
            await asyncio.gather(self._change, return_exceptions=True)
        if self.running:
            await self._stop(int(drain_seconds) if self._tasks else 0)

    # ------------------------------------------------------------------ the engine
    def _begin(self, change: Coroutine[Any, Any, None]) -> None:
        self._change = asyncio.create_task(change, name="jobs")

    def _take_name(self) -> None:
        # The node came back under a new id. What was begun under the old one is a dead node's.
        if self._as != self.node.id:
            self._as = self.node.id
            self._may_work = True
            if self.running:
                jobs_dbos.rename(self._as)

    async def _start(self) -> None:
        try:
            await asyncio.to_thread(
                jobs_dbos.launch, self.node.db.dsn, self._as, names(), self._deliver
            )
        except Exception as error:
            self._not_before = clock.monotonic() + RETRY_SECONDS
            _log.error("jobs.start_failed", error=repr(error))
            return
        self.running = True
        _log.info("jobs.started")

    async def _stop(self, drain_seconds: int) -> None:
        await asyncio.to_thread(jobs_dbos.destroy, drain_seconds)
        self.running = False
        _log.info("jobs.stopped")

    async def _take_over(self, dead: list[str]) -> None:
        try:
            await self.recover(dead)
        except Exception as error:
            _log.warning("jobs.takeover_failed", error=repr(error))

    # ------------------------------------------------------------------ the work
    async def _deliver(self, name: str, args: dict[str, Any]) -> None:
        # The engine calls on its own loop; pools and clients live on the loop of the process.
        future = asyncio.run_coroutine_threadsafe(self._do(name, args), self._loop)
        await asyncio.wrap_future(future)

    async def _do(self, name: str, args: dict[str, Any]) -> None:
        if not self._may_work:
            raise asyncio.CancelledError  # it stays with an id that is dead: others take it over
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await _attempts(name, self.node.db, args)
        finally:
            self._tasks.discard(task)


async def _attempts(name: str, db: Database, args: dict[str, Any]) -> None:
    job = _jobs[name]
    for attempt in range(1, job.attempts + 1):
        try:
            return await job.run(db, **args)
        except Exception as error:
            final = isinstance(error, LanternError) and error.status < 500
            last = final or attempt == job.attempts
            _log.warning("job.failed", job=name, attempt=attempt, last=last, error=repr(error))
            if last:
                raise
        await asyncio.sleep(job.pause * 4 ** (attempt - 1))
    raise AssertionError("unreachable")
