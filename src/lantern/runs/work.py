"""A run at work in this process: its steps, each finished once, and the events they make."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import orjson

from lantern.core import clock, events, fencing, kinds
from lantern.core.bus import Bus
from lantern.core.db import ConnectionLost, Database
from lantern.core.errors import Unavailable
from lantern.core.events import Item
from lantern.core.fencing import Commit
from lantern.core.kinds import Body, Part, RunRow, StepResult
from lantern.core.live import Live

Answer = TypeVar("Answer")


class Lost(Exception):
    """The run is no longer this node's to work on: cancelled, or taken over."""


class Working:
    """Implements `kinds.Work` and `kinds.Step`.

    A finished step waits for its commit until the next one begins or the run ends, so that both
    go in one statement.
    """

    def __init__(self, run: RunRow, db: Database, bus: Bus, parts: Mapping[type[Any], Any]) -> None:
        self.run = run
        self.db = db
        self.bus = bus
        self.live: Live = bus.begin(run.id, run.tenant, run.agent_name, run.attempt)
        self.done: dict[int, StepResult] = {}  # finished before this attempt
        self._parts = parts
        self._n = 0
        self._name: str | None = None  # the step at work
        self._text: list[str] = []
        self._started_at = clock.now()
        self._clock = clock.monotonic()
        self._finished: dict[str, Any] | None = None
        self._announced: str | None = None  # a step whose start is already in the database
        self._fresh = True  # nothing of this attempt has been written
        self._tries = 1
        self._unsure = False  # a commit was interrupted: it may, or may not, be in the database

    def open_with(self, opening: Item) -> None:
        """The start of the first step went into the database together with the run."""
        if isinstance(opening, dict):
            self._announced = opening["step"]
        self.live.publish([opening])

    # ---------------------------------------------------------------- kinds.Work
    def part(self, kind: type[Part]) -> Part:
        """A part of this process by its type."""
        part: Part = self._parts[kind]
        return part

    async def step(self, name: str, body: Body) -> StepResult:
        """Run a named step once."""
        n, self._n = self._n, self._n + 1
        if n in self.done:
            return self.done[n]
        await self._begin(name)
        result = await body(self)
        result.output = _storable(result.output)
        self._finished = {**self._record(n, "completed"), **_fields(result)}
        self._name = None
        return result

    # ---------------------------------------------------------------- kinds.Step
    def tokens(self, deltas: list[str]) -> None:
        """Show text as it comes."""
        deltas = [_storable(text) for text in deltas]
        self._text += deltas
        self.bus.tokens(self.live, deltas)

    async def restart(self) -> None:
        """The text shown so far in this step is void."""
        self._tries += 1
        self._text.clear()
        item = events.event("step.restart", step=self._name, attempt=self._tries)
        await self._commit([item], following=self._name)

    # ---------------------------------------------------------------- the end
    async def complete(self, output: dict[str, Any]) -> None:
        """The run succeeded."""
        items = [*self._closing(), events.event("run.complete", run_id=self.run.id)]
        final = {"status": "completed", "output": orjson.dumps(output).decode()}
        await self._commit(items, final=final)

    async def fail(self, code: str, message: str) -> None:
        """The run failed; what was written so far stays in its step."""
        items = self._closing()
        at_work = self._name if self._finished is None else None
        if at_work is not None:
            items.append(events.event("step.failed", step=at_work, error=message))
            self._finished = {**self._record(self._n - 1, "failed"), "error": message}
        error = {"code": code, "message": message, "step": at_work}
        items.append(events.event("run.failed", run_id=self.run.id, error=error))
        await self._commit(items, final={"status": "failed", "error": error})

    async def cancelled(self) -> None:
        """Somebody cancelled the run: write its last event."""
        items = self._closing()
        if self._name is not None and self._finished is None:
            self._finished = self._record(self._n - 1, "cancelled")
        items.append(events.event("run.cancelled", run_id=self.run.id))
        await self._commit(items, final={"status": "cancelled"}, expect="cancelled")

    # ---------------------------------------------------------------- inside
    async def _begin(self, name: str) -> None:
        items = self._closing()
        self._name, self._tries = name, 1
        self._text.clear()
        self._started_at, self._clock = clock.now(), clock.monotonic()
        if self._announced == name:
            self._announced, self._fresh = None, False
            return
        if self._fresh and self.run.attempt > 1:
            items.append(events.event("step.restart", step=name, attempt=self.run.attempt))
        else:
            items.append(events.event("step.start", step=name))
        await self._commit(items, following=name)

    def _closing(self) -> list[Item]:
        """The event of a finished step that is not committed yet."""
        if self._finished is None or self._finished["status"] != "completed":
            return []
        name, took = self._finished["name"], self._finished["duration_ms"]
        return [events.event("step.complete", step=name, duration_ms=took)]

    def _record(self, n: int, status: str) -> dict[str, Any]:
        return {
            "n": n,
            "name": self._name,
            "status": status,
            "duration_ms": round((clock.monotonic() - self._clock) * 1000),
            "output": "".join(self._text),
            "started_at": clock.iso(self._started_at),
        }

    async def _commit(
        self,
        items: list[Item],
        *,
        following: str | None = None,
        final: dict[str, Any] | None = None,
        expect: str = "running",
    ) -> None:
        """Make a finished step and its events durable, then show the events.

        Raises Lost, also after a commit whose outcome is not known: the same seqs must not be
        written twice, so the next attempt goes on from what is there.
        """
        if self._unsure:
            raise Lost
        epoch = self.db.epoch
        await _insist(lambda: self.bus.settle(self.live))
        seq_from, seq_to, data = self.live.draft(items)
        given = Commit(
            tenant=self.run.tenant,
            run=self.run.id,
            node=self.bus.node,
            attempt=self.run.attempt,
            expect=expect,
            step=orjson.dumps(self._finished, default=str).decode() if self._finished else None,
            following=following,
            final=orjson.dumps(final).decode() if final else None,
            seq_from=seq_from,
            seq_to=seq_to,
            data=data,
            notify=self.bus.tell_others,
        )
        self.live.committing = self._unsure = True
        try:
            if not await _insist(lambda: fencing.commit(self.db, given)):
                self._unsure = False
                raise Lost
            if self.db.epoch != epoch:
                await _insist(self.bus.flush)  # rows of this step died with the server
            self._unsure = False
            self._finished, self._fresh = None, False
            self.live.publish(items)
        finally:
            self.live.committing = False


async def _insist(action: Callable[[], Awaitable[Answer]]) -> Answer:
    """Try until the database answers; a node that cannot reach it is suspended meanwhile."""
    while True:
        try:
            return await action()
        except (ConnectionLost, Unavailable):
            await asyncio.sleep(0.1)


def _storable(text: str) -> str:
    """Postgres keeps no NUL in text; the sign for what cannot be shown stands in its place."""
    return text.replace("\0", "\ufffd")


def _fields(result: StepResult) -> dict[str, Any]:
    return {
        "output": result.output,
        "model_used": result.model_used,
        "why": result.why,
        "notes": result.notes or None,
        "tokens_in": result.tokens_in,
        "tokens_out": result.tokens_out,
        "cost_usd": result.cost_usd,
    }


_check: type[kinds.Work] = Working  # mypy: the promise above holds
