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
        f"select {LINE}, kind, input, output, error, step, step_started_at, closed, owner, attempt,"
        " cancel_reason"
        " from runs where id = %s",
        (run_id,),
    )


async def steps(tx: Tx, run_id: str) -> list[Row]:
    """Finished steps, in order."""
    return await tx.all(
        "select n, name, status, attempt, duration_ms, model_used, why, tokens_in, tokens_out,"
        " cost_usd, output, error, started_at from run_steps where run_id = %s order by n limit 1000",
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
    """Runs of the tenant behind a position, newest first. `wanted`: see `_where`."""
    where, values = await _where(tx, wanted)
    if after:
        where += " and (created_at, id) < (%(at)s, %(id)s)"
        values |= {"at": after[0], "id": after[1]}
    return await tx.all(
        f"select {LINE} from runs where {where} order by created_at desc, id desc limit %(limit)s",
        {**values, "limit": limit},
    )


async def count(tx: Tx, wanted: dict[str, Any], most: int) -> int:
    """How many there are, counted up to `most`."""
    where, values = await _where(tx, wanted)
    row = await tx.one(
        f"select count(*) as n from (select 1 from runs where {where} limit %(most)s) r",
        {**values, "most": most},
    )
    return row["n"] if row else 0


async def oldest(tx: Tx, wanted: dict[str, Any]) -> datetime | None:
    """When the oldest one was made; None: there is none. For states that are few (`runs_open`)."""
    where, values = await _where(tx, wanted)
    row = await tx.one(
        f"select created_at from runs where {where} order by created_at limit 1", values
    )
    return row["created_at"] if row else None


async def _where(tx: Tx, wanted: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """`wanted`: agent (a name), status, agents (names that are covered), since; None: any.

    Only what is asked for stands in the condition, in the shape that an index has.
    """
    parts, values = ["tenant_id = tenant()"], {k: v for k, v in wanted.items() if v is not None}
    if "agent" in values:  # its namesakes that are archived too
        rows = await tx.all("select id from agents where name = %s", (values["agent"],))
        values["ids"] = [row["id"] for row in rows]
        values["one"] = values["ids"][0] if len(rows) == 1 else None
        parts.append("agent_id = %(one)s" if len(rows) == 1 else "agent_id = any (%(ids)s)")
    if "status" in values:
        parts.append("status = %(status)s")
        if values["status"] in ("queued", "running", "paused"):
            parts.append("not closed")
    if "agents" in values:
        parts.append("agent_name = any (%(agents)s)")
    if "since" in values:
        parts.append("created_at >= %(since)s")
    return " and ".join(parts), values


# ---------------------------------------------------------------- figures
_COVERED = "tenant_id = tenant() and created_at >= %(since)s and (%(agents)s::text[] is null or agent_name = any (%(agents)s))"


async def figures(tx: Tx, since: datetime, agents: list[str] | None) -> Row:
    """Runs since then: how many by state, cost, tokens, and how long they took (ms, p50 and p95)."""
    row = await tx.one(
        "select count(*) as runs, count(*) filter (where status = 'failed') as failed,"
        " count(*) filter (where status = 'cancelled') as cancelled,"
        " count(*) filter (where status in ('queued', 'running', 'paused')) as open,"
        " sum(cost_usd) as cost_usd, coalesce(sum(tokens_in + tokens_out), 0) as tokens,"
        " percentile_cont(array[0.5, 0.95]) within group (order by"
        "  extract(epoch from finished_at - started_at) * 1000)"
        "  filter (where status = 'completed') as took_ms"
        f" from runs where {_COVERED}",
        {"since": since, "agents": agents},
    )
    assert row is not None
    return row


async def by_hour(tx: Tx, since: datetime, agents: list[str] | None) -> list[Row]:
    """Runs of each hour since then (UTC): hour, runs, failed."""
    return await tx.all(
        "select date_trunc('hour', created_at, 'UTC') as hour, count(*) as runs,"
        f" count(*) filter (where status = 'failed') as failed from runs where {_COVERED}"
        " group by 1 order by 1 limit 1000",
        {"since": since, "agents": agents},
    )


async def by_agent(tx: Tx, agent_ids: list[str], since: datetime) -> list[Row]:
    """Runs of some agents since then: agent_id, runs, failed, cost_usd, last_at."""
    return await tx.all(
        "select a.id as agent_id, f.*, l.created_at as last_at from unnest(%(ids)s::text[]) a (id)"
        " cross join lateral (select count(*) as runs,"
        "  count(*) filter (where status = 'failed') as failed, sum(cost_usd) as cost_usd"
        "  from runs r where r.tenant_id = tenant() and r.agent_id = a.id and r.created_at >= %(since)s) f"
        " left join lateral (select created_at from runs r where r.tenant_id = tenant()"
        "  and r.agent_id = a.id order by created_at desc limit 1) l on true",
        {"ids": agent_ids, "since": since},
    )


async def model_times(tx: Tx, newest: int) -> list[Row]:
    """What models took in the steps of the newest runs: model, steps, failed, p50 and p95 in ms."""
    return await tx.all(
        "with latest as materialized (select id from runs where tenant_id = tenant()"
        "  order by created_at desc, id desc limit %s)"
        " select s.model_used as model, count(*) as steps,"
        " count(*) filter (where s.status = 'failed') as failed,"
        " percentile_cont(array[0.5, 0.95]) within group (order by s.duration_ms) as took_ms,"
        " sum(s.tokens_out) as tokens_out, sum(s.cost_usd) as cost_usd, max(s.finished_at) as last_at"
        " from latest l join run_steps s on s.run_id = l.id where s.model_used is not null"
        " group by 1 order by 2 desc limit 100",
        (newest,),
    )


async def turns(tx: Tx, run_id: str) -> list[str]:
    """The rows of a run's events that hold more than text: JSON lists, in order."""
    rows = await tx.all(
        "select data from run_events where run_id = %s and data like %s order by seq_from limit 2000",
        (run_id, '%{"type":%'),
    )
    return [row["data"] for row in rows]


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
