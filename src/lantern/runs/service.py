"""Rules of runs: starting, reading, cancelling."""

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import orjson

from lantern import agents
from lantern.core import bus, clock, events, ids, kinds
from lantern.core.db import Row, Tx
from lantern.core.errors import BadRequest, Conflict, LanternError, NotFound
from lantern.core.kinds import RunRow
from lantern.gate import audit, idempotency
from lantern.gate.auth import Call, key_hash
from lantern.runs import store
from lantern.runs.models import RunCreate

RUN_ID = re.compile(r"run_[0-9a-z]{4,64}")
TICKET_SECONDS = 60
EVENTS_PAGE = 500


async def start(call: Call, agent: str, body: RunCreate, launch: "Launch") -> dict[str, Any]:
    """Admit, insert, start: one statement, then the run begins in this process.

    The same idempotency key gives the same run back.
    """
    run_id = ids.new("run")
    text = _json("input", body.input)
    labels = _json("labels", body.labels)
    key = body.idempotency_key or call.idempotency_key
    if body.idempotency_key and call.idempotency_key not in (None, key):
        raise BadRequest.field("idempotency_key", "differs from the Idempotency-Key header")
    step = kinds.get("agent").first_step(body.input)
    opening = events.event("step.start", step=step)
    call.door.agent = agent
    row = await store.start(
        call.db,
        {
            "hash": call.key,
            "door": call.door.json(),
            "run": run_id,
            "node": launch.node if launch.room else None,
            "input": text,
            "labels": labels,
            "key": key,
            "body_hash": _fingerprint(agent, text, labels) if key else None,
            "step": step if launch.room else None,
            "event": events.pack([opening]),
            "request": call.request_id,
        },
    )
    call.let_in(row)
    if refused := _refusal(agent, row):
        raise refused
    if launch.room and row["outcome"] != "replay":
        run = RunRow(run_id, call.tenant, "agent", row["agent"]["id"], agent, body.input, 1)
        run.agent = row["agent"]
        launch.begin(run, opening)
    made = {"run_id": row["run_id"], "agent": agent, "status": row["status"]}
    return {**made, "created_at": clock.iso(row["created_at"]), "id": row["run_id"]}


class Launch:
    """Where a new run begins: this process, or (without room) whichever has some."""

    def __init__(self, node: str, room: bool, begin: Callable[[RunRow, events.Item], None]) -> None:
        self.node = node
        self.room = room
        self.begin = begin


async def start_as_operator(tx: Tx, tenant: int, agent: str, run_input: dict[str, Any]) -> str:
    """Queue a run from the command line; raises what the API would answer."""
    run_id = await _queue(tx, tenant, agent, run_input, {})
    await audit.record_command(tx, tenant, "run.create", "run", run_id)
    return run_id


async def queue(
    call: Call, agent: str, run_input: dict[str, Any], labels: dict[str, str] | None = None
) -> str:
    """Queue a run in the caller's transaction; it starts after the commit, where there is room."""
    call.check_agent(agent)
    run_id = await _queue(call.tx, call.tenant, agent, run_input, labels or {})
    await audit.record(call, "run.create", "run", run_id)
    return run_id


async def _queue(
    tx: Tx, tenant: int, agent: str, run_input: dict[str, Any], labels: dict[str, str]
) -> str:
    found = await agents.get(tx, agent)
    row = await agents.of_run(tx, found["id"])
    if row["status"] == "paused" or row["refuses"]:
        verdict = "paused" if row["status"] == "paused" else "refuses"
        raise agents.refusal(agent, verdict, row["refuses"])
    _json("input", run_input)
    of_agent = (found["id"], agent)
    return await kinds.start(tx, tenant, "agent", run_input, agent=of_agent, labels=labels)


async def fetch(tx: Tx, run_id: str, covers: Callable[[str | None], bool]) -> dict[str, Any]:
    """A whole run, or NotFound."""
    row = await visible(tx, run_id, covers)
    steps = [_step(step) for step in await store.steps(tx, run_id)]
    if row["step"] and row["status"] in ("running", "paused"):
        started = clock.iso(row["step_started_at"])
        steps.append({"name": row["step"], "status": "running", "started_at": started})
    own = {name: row[name] for name in ("input", "output", "error")}
    return {**line(row), "steps": steps, **own}


async def visible(tx: Tx, run_id: str, covers: Callable[[str | None], bool]) -> Row:
    """The run's row; NotFound also for a run of an agent outside the key's list."""
    row = await store.fetch(tx, run_id) if RUN_ID.fullmatch(run_id) else None
    if row is None or not covers(row["agent_name"]):
        raise not_found(run_id)
    return row


async def table(
    call: Call, agent: str, status: str | None, limit: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """A page of an agent's runs."""
    found = await agents.get(call.tx, agent)
    rows, total = await store.page_of_agent(call.tx, found["id"], status, limit, offset)
    return [line(row) for row in rows], total


async def table_after(
    call: Call, agent: str | None, status: str | None, token: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of all runs the key covers, and the token of the next page."""
    covered = None if call.agents == ["*"] else call.agents
    wanted = {"agent": agent, "status": status, "agents": covered}
    rows = await store.page_after(call.tx, wanted, position(token), limit + 1)
    return [line(row) for row in rows[:limit]], next_token(rows, limit)


async def table_as_operator(
    tx: Tx, agent: str | None, status: str | None, limit: int
) -> list[dict[str, Any]]:
    """The tenant's runs, newest first."""
    wanted = {"agent": agent, "status": status, "agents": None}
    return [line(row) for row in await store.page_after(tx, wanted, None, limit)]


async def cancel(
    tx: Tx, run_id: str, reason: str | None, covers: Callable[[str | None], bool]
) -> None:
    """Cancel a run. Cancelled already: fine. Completed or failed: Conflict."""
    before = await visible(tx, run_id, covers)
    row = await store.cancel(tx, run_id, reason)
    if row is None:
        now = await visible(tx, run_id, covers)
        if now["status"] != "cancelled":
            raise Conflict(f"Run '{run_id}' is {now['status']}")
    elif row["owner"] is None:
        event = events.pack([events.event("run.cancelled", run_id=run_id)])
        await store.close_unowned(tx, before["tenant_id"], run_id, event)


async def cancel_run(call: Call, run_id: str, reason: str | None) -> None:
    """`cancel`, for a caller, in the audit log."""
    await cancel(call.tx, run_id, reason, call.covers)
    await audit.record(call, "run.cancel", "run", run_id)


async def cancel_as_operator(tx: Tx, tenant: int, run_id: str, reason: str | None) -> None:
    """Cancel a run from the command line."""
    await cancel(tx, run_id, reason, _all)
    await audit.record_command(tx, tenant, "run.cancel", "run", run_id)


async def fetch_as_operator(tx: Tx, run_id: str) -> dict[str, Any]:
    """A whole run of the tenant, or NotFound."""
    return await fetch(tx, run_id, _all)


async def ticket(call: Call, run_id: str) -> dict[str, str]:
    """A ticket for a client that cannot send headers."""
    await visible(call.tx, run_id, call.covers)
    raw = ids.secret("tick")
    expires_at = clock.now() + timedelta(seconds=TICKET_SECONDS)
    await store.add_ticket(call.tx, (key_hash(raw), call.tenant, run_id, call.key_id, expires_at))
    return {"ticket": raw, "expires_at": clock.iso(expires_at)}


async def stored_events(call: Call, run_id: str, after: int) -> tuple[list[dict[str, Any]], int]:
    """Stored events behind a seq, and the seq to go on from."""
    await visible(call.tx, run_id, call.covers)
    found: list[dict[str, Any]] = []
    for row in await bus.stored(call.tx, [(run_id, after)], EVENTS_PAGE):
        for seq, item in enumerate(events.unpack(row["data"]), row["seq_from"]):
            if seq > after:
                found.append(events.as_object(run_id, seq, item))
    return found, found[-1]["seq"] if found else after


def line(row: Row) -> dict[str, Any]:
    """A run in a list."""
    times = {k: _iso(row[k]) for k in ("created_at", "started_at", "finished_at")}
    return {
        "run_id": row["id"],
        "id": row["id"],
        "agent": row["agent_name"],
        "agent_id": row["agent_id"],
        "tenant_id": str(row["tenant_id"]),
        "status": row["status"],
        "labels": row["labels"],
        "cost_usd": _usd(row["cost_usd"]),
        "tokens_in": row["tokens_in"],
        "tokens_out": row["tokens_out"],
        **times,
    }


def not_found(run_id: str) -> NotFound:
    """No such run, or none that the key covers."""
    return NotFound(f"Run '{run_id}' not found")


def _all(_agent: str | None) -> bool:
    return True


def _refusal(agent: str, row: Row) -> LanternError | None:
    if row["outcome"] in ("ok", "replay"):
        return None
    if row["outcome"] == "key_reused":
        return Conflict("This idempotency key was used with another request")
    return agents.refusal(agent, row["outcome"], (row["agent"] or {}).get("refuses"))


def _step(row: Row) -> dict[str, Any]:
    step = {
        "name": row["name"],
        "status": row["status"],
        "started_at": clock.iso(row["started_at"]),
        "duration_ms": row["duration_ms"],
        "model_used": row["model_used"],
        "why": row["why"],
        "tokens": {"input": row["tokens_in"] or 0, "output": row["tokens_out"] or 0},
        "cost_usd": _usd(row["cost_usd"]),
    }
    return {**step, "error": row["error"]} if row["error"] else step


def _usd(value: Any) -> float | None:
    return None if value is None else float(value)


def _iso(moment: datetime | None) -> str | None:
    return clock.iso(moment) if moment else None


def _json(field: str, value: Any) -> str:
    # What JSON on the wire may hold and 64 bits, UTF-8 or an answer of ours may not: huge numbers,
    # lone surrogates, and nesting that is too deep one level further down.
    try:
        text = orjson.dumps(value).decode()
        orjson.dumps([[value]])
        if "null" in text:
            json.dumps(value, allow_nan=False)  # 1e999 is read as infinity and written as null
    except (TypeError, ValueError) as error:
        raise BadRequest.field(field, str(error)) from None
    return text


def _fingerprint(agent: str, text: str, labels: str) -> bytes:
    return idempotency.fingerprint(agent.encode(), text.encode(), labels.encode())


def next_token(rows: list[Row], limit: int) -> str | None:
    """The token of the page behind these rows, of which one more than `limit` was asked for."""
    if len(rows) <= limit:
        return None
    last = rows[limit - 1]
    return f"{clock.to_micros(last['created_at'])}.{last['id']}"


def position(token: str | None) -> tuple[datetime, str] | None:
    """What a token stands for. Raises BadRequest."""
    if not token:
        return None
    micros, _, run_id = token.partition(".")
    good = micros.isascii() and micros.isdigit() and len(micros) <= 16
    if not good or not RUN_ID.fullmatch(run_id):
        raise BadRequest.field("pageToken", "not a token of this list", "query")
    return clock.from_micros(int(micros)), run_id
