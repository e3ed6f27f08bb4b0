"""All SQL of reading the log; gate/ writes, seals and erases it."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import orjson

from lantern.core import lookback
from lantern.core.db import Row, Tx
from lantern.logs.query import Query, ids_of

COLUMNS = (
    "at, object, object_id, action, pool, assigned_to, prev_owner, sequence, reason, request_id,"
    " idempotency_key"
)
Rows = AsyncGenerator[list[tuple[Any, ...]], None]


def _where(query: Query) -> tuple[str, dict[str, Any]]:
    within, filters, params = _parts(query)
    return f"{within} and {filters}", params


def _parts(query: Query) -> tuple[str, str, dict[str, Any]]:
    """What an index serves, and what each row is asked after it."""
    params: dict[str, Any] = {"since": query.period.since, "until": query.period.until}
    # Tenant first, as in the index; row-level security says the same.
    within = ["tenant_id = tenant() and at >= %(since)s and at < %(until)s"]
    filters = ["true"]
    for name, value in query.filters.items():
        if name == "object_id":
            within.append("object_id = any (%(object_id)s)")
            params[name] = ids_of(value)
        else:
            filters.append(f"{name} = %({name})s")
            params[name] = value
    return " and ".join(within), " and ".join(filters), params


def newest(query: Query) -> lookback.Source:
    """The rows asked for, newest first, each with its place in the chain (null: not sealed yet)."""
    within, filters, params = _parts(query)
    named = ", ".join(f"r.{name.strip()}" for name in COLUMNS.split(","))
    chosen = (
        f"select {named}, r.id, r.diff, s.chain_seq, page.counted from page"
        " join route_log r on r.tenant_id = tenant() and r.at = page.at and r.id = page.id"
        " left join log_seals s on s.tenant_id = tenant() and s.row_id = page.id"
    )
    return lookback.Source("route_log", "at", within, chosen, filters, params)


def rows(tx: Tx, query: Query) -> Rows:
    """The rows asked for, ascending; `diff` is last and is not read where it is not wanted."""
    where, params = _where(query)
    diff = "diff" if query.include_diff else "null"
    sql = f"select {COLUMNS}, {diff} from route_log where {where} order by at, id"
    if query.limit is not None:
        sql += f" limit {int(query.limit)}"
    return tx.stream(sql, params)


async def count(tx: Tx, query: Query) -> int:
    """How many rows there are, whatever the limit."""
    where, params = _where(query)
    row = await tx.one(f"select count(*) as n from route_log where {where}", params)
    return row["n"] if row else 0


async def has_more(tx: Tx, query: Query) -> bool:
    """Whether there are rows behind the limit."""
    where, params = _where(query)
    sql = f"select 1 from route_log where {where} order by at, id offset %(limit)s limit 1"
    return await tx.one(sql, {**params, "limit": query.limit}) is not None


async def statistics(tx: Tx, query: Query) -> list[Row]:
    """Counts: one row with the total, one for each action, object, pool, user, day."""
    where, params = _where(query)
    return await tx.all(
        "select action, object, pool, assigned_to, day, count(*) as n,"
        " grouping(action, object, pool, assigned_to, day) as level from ("
        "  select action, object, pool, assigned_to, (at at time zone 'UTC')::date as day"
        f"  from route_log where {where}) r"
        " group by grouping sets ((), (action), (object), (pool), (assigned_to), (day))"
        " order by n desc, day limit 20000",
        params,
    )


# ---------------------------------------------------------------- retention
async def retention(tx: Tx) -> Row | None:
    """The tenant's own retention; None: nobody has set or used it."""
    return await tx.one("select * from log_retention where tenant_id = tenant()")


async def set_retention(tx: Tx, days: int, cron: str | None, actions: dict[str, int]) -> None:
    """Keep a tenant's retention."""
    await tx.run(
        "insert into log_retention (tenant_id, retention_days, cleanup_cron, per_action)"
        " values (tenant(), %s, %s, %s::jsonb) on conflict (tenant_id) do update"
        " set retention_days = excluded.retention_days, cleanup_cron = excluded.cleanup_cron,"
        " per_action = excluded.per_action",
        (days, cron, orjson.dumps(actions).decode()),
    )


async def set_cleaned(tx: Tx, at: datetime, deleted: int) -> None:
    """Keep when the last clean-up was and what it removed."""
    await tx.run(
        "insert into log_retention (tenant_id, last_cleanup_at, deleted_last_run)"
        " values (tenant(), %s, %s) on conflict (tenant_id) do update"
        " set last_cleanup_at = excluded.last_cleanup_at,"
        " deleted_last_run = excluded.deleted_last_run",
        (at, deleted),
    )


async def expired(tx: Tx, before: datetime, actions: dict[str, datetime]) -> dict[str, int]:
    """How many rows of each action a clean-up would remove."""
    rows = await tx.all(
        "select action, count(*) as n from route_log where tenant_id = tenant()"
        " and at < (select max(t) from unnest(%(cuts)s::timestamptz[] || %(before)s::timestamptz) t)"
        " and at < coalesce((%(actions)s::jsonb ->> action)::timestamptz, %(before)s)"
        " group by action order by action",
        {
            "before": before,
            "cuts": list(actions.values()),
            "actions": orjson.dumps({k: v.isoformat() for k, v in actions.items()}).decode(),
        },
    )
    return {row["action"]: row["n"] for row in rows}


async def oldest(tx: Tx, before: datetime, actions: dict[str, datetime]) -> datetime | None:
    """When the oldest row was written that a clean-up keeps."""
    row = await tx.one(
        "select at from route_log where tenant_id = tenant()"
        " and at >= coalesce((%s::jsonb ->> action)::timestamptz, %s) order by at limit 1",
        (orjson.dumps({k: v.isoformat() for k, v in actions.items()}).decode(), before),
    )
    return row["at"] if row else None


# ---------------------------------------------------------------- the chain
async def chain(tx: Tx) -> Row | None:
    """The end of the tenant's chain."""
    return await tx.one("select * from log_chains where tenant_id = tenant()")


async def last_checkpoint(tx: Tx) -> Row | None:
    """What stands for the seals that are gone."""
    return await tx.one(
        "select * from log_checkpoints where tenant_id = tenant() order by chain_seq desc limit 1"
    )


def erasures(tx: Tx) -> Rows:
    """Every erasure: id, at, kind, detail, ranges as text, count, key_id, signature."""
    return tx.stream(
        "select id, at, kind, detail, ranges::text, count, key_id, signature from log_erasures"
        " where tenant_id = tenant() order by at, id",
        size=20,
    )


async def add_erasure(tx: Tx, values: tuple[Any, ...]) -> None:
    """Add what was removed: id, at, kind, detail, ranges, count, key_id, signature."""
    await tx.run(
        "insert into log_erasures (tenant_id, id, at, kind, detail, ranges, count, key_id, signature)"
        " values (tenant(), %s, %s, %s, %s, %s::int8multirange, %s, %s, %s)",
        values,
    )


async def add_checkpoint(tx: Tx, values: tuple[Any, ...]) -> None:
    """Add a checkpoint: chain_seq, link, at, key_id, signature."""
    await tx.run(
        "insert into log_checkpoints (tenant_id, chain_seq, link, at, key_id, signature)"
        " values (tenant(), %s, %s, %s, %s, %s)",
        values,
    )


async def walk(tx: Tx, after: int, limit: int | None) -> Rows:
    """Seals behind a place, in order, each with its row: see `verify` for the columns."""
    # The rows lie in the order of the seals, more or less: looking each up beats sorting all. The
    # order of the look-up leaves the primary key alone to serve it, also where the statistics are
    # of a time before a large import.
    plans = ["enable_hashjoin", "enable_mergejoin", "enable_sort", "enable_seqscan"]
    await tx.run("select set_config(name, 'off', true) from unnest(%s::text[]) name", (plans,))
    sql = (
        "select s.chain_seq, s.row_id, s.digest, s.link, r.salt, r.digest, r.tenant_id, r.id, r.at,"
        " r.action, r.object, r.object_id, r.pool, r.assigned_to, r.prev_owner, r.sequence,"
        " r.reason, r.request_id, r.idempotency_key, r.diff from log_seals s left join lateral ("
        "  select * from route_log r"
        "  where r.tenant_id = s.tenant_id and r.at = s.at and r.id >= s.row_id order by r.id limit 1"
        " ) r on r.id = s.row_id"
        " where s.tenant_id = tenant() and s.chain_seq > %s order by s.chain_seq"
    )
    return tx.stream(sql if limit is None else f"{sql} limit {int(limit)}", (after,))


async def link_at(tx: Tx, chain_seq: int) -> bytes | None:
    """The link at a place."""
    row = await tx.one(
        "select link from log_seals where tenant_id = tenant() and chain_seq = %s", (chain_seq,)
    )
    return row["link"] if row else None


async def moved(tx: Tx, row_id: int) -> bool:
    """Whether a row is there under another moment."""
    sql = "select 1 from route_log where tenant_id = tenant() and id = %s limit 1"
    return await tx.one(sql, (row_id,)) is not None


async def counts(tx: Tx) -> tuple[int, int]:
    """Rows of the log, and how many of them wait to be sealed."""
    row = await tx.one(
        "select (select count(*) from route_log where tenant_id = tenant()) as rows,"
        " (select count(*) from log_unsealed where tenant_id = tenant()) as waiting"
    )
    return (row["rows"], row["waiting"]) if row else (0, 0)


async def waiting(tx: Tx, most: int) -> int:
    """How many rows wait to be sealed, counted up to `most`."""
    row = await tx.one(
        "select count(*) as n from (select 1 from log_unsealed where tenant_id = tenant()"
        " limit %s) u",
        (most,),
    )
    return row["n"] if row else 0


async def unchained(tx: Tx) -> int | None:
    """A row that is in no seal and waits for none."""
    row = await tx.one(
        "select id from route_log r where tenant_id = tenant()"
        " and not exists (select from log_unsealed u where u.row_id = r.id)"
        " and not exists (select from log_seals s where s.tenant_id = r.tenant_id"
        " and s.row_id = r.id) order by id limit 1"
    )
    return row["id"] if row else None


async def erased_prefix(tx: Tx, before: datetime, most: int) -> int | None:
    """The last place of the first `most` seals of which all are that old and without their row."""
    row = await tx.one(
        "select max(chain_seq) as upto from ("
        "  select chain_seq, bool_and(gone) over (order by chain_seq) as all_gone from ("
        "    select s.chain_seq, s.at < %s and r.id is null as gone"
        "    from log_seals s left join route_log r on r.tenant_id = s.tenant_id"
        "      and r.at = s.at and r.id = s.row_id"
        "    where s.tenant_id = tenant() order by s.chain_seq limit %s) x) y where all_gone",
        (before, most),
    )
    return row["upto"] if row else None
