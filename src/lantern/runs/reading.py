"""Runs as people look at them: lists with filters, figures, and how a run spent its time."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from lantern.core import clock, events
from lantern.core.db import Row, Tx
from lantern.gate.auth import Call
from lantern.runs import service, store

Part = Literal["queued", "work", "void"]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a run's time. `void`: text that was thrown away before another try.

    Milliseconds since the run was made; `end_ms` None: it goes on.
    """

    step: str
    part: Part
    attempt: int
    start_ms: int
    end_ms: int | None
    status: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs; None: any."""

    agent: str | None = None
    status: str | None = None
    since: datetime | None = None


async def browse(
    call: Call, wanted: Wanted, token: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of the runs that the caller covers, newest first, and the token of the next one."""
    rows = await store.page_after(call.tx, _asked(call, wanted), service.position(token), limit + 1)
    return [service.line(row) for row in rows[:limit]], service.next_token(rows, limit)


async def count(call: Call, wanted: Wanted, most: int) -> int:
    """How many there are, counted up to `most`."""
    return await store.count(call.tx, _asked(call, wanted), most)


async def oldest(call: Call, wanted: Wanted) -> datetime | None:
    """When the oldest of them was made; None: there is none."""
    return await store.oldest(call.tx, _asked(call, wanted))


async def figures(call: Call, since: datetime) -> dict[str, Any]:
    """Counts, cost and latency since then, and the counts of each hour."""
    covered = _covered(call)
    found = await store.figures(call.tx, since, covered)
    hours = await store.by_hour(call.tx, since, covered)
    p50, p95 = found.pop("took_ms") or (None, None)
    return {**found, "p50_ms": p50, "p95_ms": p95, "hours": hours}


async def of_agents(tx: Tx, agent_ids: list[str], since: datetime) -> dict[str, Row]:
    """By agent: runs, failed, cost_usd since then, and when the last one began."""
    return {row["agent_id"]: row for row in await store.by_agent(tx, agent_ids, since)}


async def model_times(tx: Tx, newest: int) -> list[Row]:
    """What each model took in the steps of the newest runs."""
    return await store.model_times(tx, newest)


async def detail(tx: Tx, run_id: str, covers: Callable[[str | None], bool]) -> dict[str, Any]:
    """A whole run with the outputs of its steps and the spans of its time. Raises NotFound."""
    row = await service.visible(tx, run_id, covers)
    steps = await store.steps(tx, run_id)
    told = [item for data in await store.turns(tx, run_id) for item in events.unpack(data)]
    run = {name: row[name] for name in ("input", "output", "error", "attempt", "owner", "kind")}
    run |= {"closed": row["closed"], "cancel_reason": row["cancel_reason"], **service.line(row)}
    return {**run, "steps": [_step(step) for step in steps], "spans": spans(row, steps, told)}


def spans(run: Row, steps: list[Row], told: list[events.Item]) -> list[Span]:
    """How a run spent its time: waiting, working, and work that a restart made void.

    From the events where they are kept, else from the steps alone.
    """
    began: datetime = run["created_at"]
    found = []
    if run["started_at"] or run["status"] == "queued":
        end = _ms(began, run["started_at"]) if run["started_at"] else None
        found.append(Span("", "queued", 0, 0, end, "queued"))
    marks = [item for item in told if isinstance(item, dict) and item["type"].startswith("step.")]
    if not marks:
        return found + [_of_row(began, step) for step in steps]
    return found + _of_marks(run, {step["name"]: step for step in steps}, marks)


def _of_marks(run: Row, steps: dict[str, Row], marks: list[dict[str, Any]]) -> list[Span]:
    began: datetime = run["created_at"]
    zero = clock.to_micros(began) // 1000
    found: list[Span] = []
    for at, mark in enumerate(marks):
        if mark["type"] not in ("step.start", "step.restart"):
            continue
        name, start = mark["step"], mark["at"] - zero
        following = next((m for m in marks[at + 1 :] if m.get("step") == name), None)
        tries = 1 + sum(span.step == name for span in found)
        if following is not None and following["type"] == "step.restart":
            found.append(Span(name, "void", tries, start, following["at"] - zero, "restarted"))
            continue
        row = steps.get(name)
        if row is not None:
            # The step's own clock: its event waits for the commit.
            begun = start if mark["type"] == "step.restart" else _ms(began, row["started_at"])
            end = _ms(began, row["started_at"]) + row["duration_ms"]
            found.append(Span(name, "work", tries, begun, max(begun, end), row["status"]))
        else:
            over = run["finished_at"] and _ms(began, run["finished_at"])
            found.append(Span(name, "work", tries, start, over, run["status"]))
    return found


def _of_row(began: datetime, step: Row) -> Span:
    start = _ms(began, step["started_at"])
    end = start + step["duration_ms"]
    return Span(step["name"], "work", step["attempt"], start, end, step["status"])


def _step(row: Row) -> dict[str, Any]:
    names = (
        "n",
        "name",
        "status",
        "attempt",
        "duration_ms",
        "model_used",
        "why",
        "output",
        "error",
    )
    tokens = {"tokens_in": row["tokens_in"] or 0, "tokens_out": row["tokens_out"] or 0}
    own = {name: row[name] for name in names}
    return {**own, **tokens, "cost_usd": row["cost_usd"], "started_at": row["started_at"]}


def _ms(began: datetime, moment: datetime) -> int:
    return max(0, (moment - began) // timedelta(milliseconds=1))


def _covered(call: Call) -> list[str] | None:
    return None if call.agents == ["*"] else call.agents


def _asked(call: Call, wanted: Wanted) -> dict[str, Any]:
    own = {"agent": wanted.agent, "status": wanted.status, "since": wanted.since}
    return {**own, "agents": _covered(call)}
