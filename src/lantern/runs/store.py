"""All SQL of runs, but for what a node does with them (migrations: start_run, commit_step, ...)."""

from datetime import datetime
from typing import Any

from lantern.core.db import Database, Row, Tx
from lantern.core.kinds import StepResult

LINE = (
    "id, tenant_id, agent_id, agent_name, status, labels, cost_usd, tokens_in, tokens_out,"
    " created_at, started_at, finished_at"
)


async def start(db: Database, values: dict[str, Any]) -> Row:
    """Admit the call and insert its run, in one autocommitted statement."""
    row = await db.one(
        "select (admission).*, s.verdict as outcome, s.agent as agent, s.run_id, s.status,"
        " s.created_at from start_run(%(hash)s, %(door)s::jsonb, %(run)s, %(node)s, %(input)s,"
        " %(labels)s::jsonb, %(key)s, %(body_hash)s, %(step)s, %(event)s, %(request)s) s",
        values,
    )
    return row or {}


async def fetch(tx: Tx, run_id: str) -> Row | None:
    """A run with its input and output."""
    return await tx.one(
        f"select {LINE}, input, output, error, step, step_started_at, closed"
        " from runs where id = %s",
        (run_id,),
    )


async def steps(tx: Tx, run_id: str) -> list[Row]:
    """Finished steps, in order."""
    return await tx.all(
        "select n, name, status, duration_ms, model_used, why, tokens_in, tokens_out, cost_usd,"
        " error, started_at from run_steps where run_id = %s order by n limit 1000",
        (run_id,),
    )


async def finished_steps(tx: Tx, run_id: str) -> dict[int, StepResult]:
    """Results of completed steps, for the node that goes on."""
    rows = await tx.all(
        "select n, output, model_used, why, tokens_in, tokens_out, cost_usd, notes from run_steps"
        " where run_id = %s and status = 'completed' order by n limit 1000",
        (run_id,),
    )
    return {
        row["n"]: StepResult(
            row["output"],
            row["model_used"],
            row["why"],
            row["tokens_in"],
            row["tokens_out"],
            row["cost_usd"],
            row["notes"] or {},
        )
        for row in rows
    }


async def page_of_agent(
    tx: Tx, agent_id: str, status: str | None, limit: int, offset: int
) -> tuple[list[Row], int]:
    """Runs of an agent, newest first, and how many there are."""
    where = "agent_id = %(agent)s and (%(status)s::text is null or status = %(status)s)"
    values = {"agent": agent_id, "status": status, "limit": limit, "offset": offset}
    rows = await tx.all(
        f"select {LINE} from runs where {where}"
        " order by created_at desc, id desc limit %(limit)s offset %(offset)s",
        values,
    )
    total = await tx.one(f"select count(*) as n from runs where {where}", values)
    return rows, total["n"] if total else 0


async def page_after(
    tx: Tx, wanted: dict[str, Any], after: tuple[datetime, str] | None, limit: int
) -> list[Row]:
    """Runs of the tenant behind a position, newest first. `wanted`: agent, status, agents."""
    at, run_id = after or (None, None)
    return await tx.all(
        f"select {LINE} from runs where (%(agent)s::text is null or agent_name = %(agent)s)"
        " and (%(status)s::text is null or status = %(status)s)"
        " and (%(agents)s::text[] is null or agent_name = any (%(agents)s))"
        " and (%(at)s::timestamptz is null or (created_at, id) < (%(at)s, %(id)s))"
        " order by created_at desc, id desc limit %(limit)s",
        {**wanted, "at": at, "id": run_id, "limit": limit},
    )


async def cancel(tx: Tx, run_id: str, reason: str | None) -> Row | None:
    """Set a run to cancelled unless it is final; None when it was. Tells its owner."""
    row = await tx.one(
        "update runs set status = 'cancelled', cancel_reason = %s, finished_at = clock_timestamp()"
        " where id = %s and status in ('queued', 'running', 'paused')"
        " returning owner",
        (reason, run_id),
    )
    if row:
        await tx.run("select pg_notify('lantern', %s)", (f"cancel:{run_id}",))
    return row


async def close_unowned(tx: Tx, tenant: int, run_id: str, event: str) -> None:
    """The last event of a run that nobody had started: there is no owner to write it."""
    await tx.run("update runs set closed = true where id = %s", (run_id,))
    await tx.run(
        "insert into run_events values (%s, %s, 1, 1, %s) on conflict do nothing",
        (tenant, run_id, event),
    )
    await tx.run("select pg_notify('lantern', %s)", (f"events:{run_id}:1",))


async def add_ticket(tx: Tx, values: tuple[Any, ...]) -> None:
    """A one-time ticket: (hash, tenant, run, key, expires_at)."""
    await tx.run("insert into stream_tickets values (%s, %s, %s, %s, %s)", values)
