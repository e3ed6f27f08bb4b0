"""Durable timers on our own table: cron lines and single moments, each fired by one node.

A fired timer either queues a job (core/jobs.py) or runs a short function registered here, in the
transaction that moves the timer on or deletes it: rolled back, it is due again; committed, it
happened once. What was missed while no node ran is made up for once, not once for each tick.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, available_timezones

import orjson
from cronsim import CronSim, CronSimError

from lantern.core import clock, jobs, log
from lantern.core.db import ConnectionLost, Database, Row, Tx
from lantern.core.errors import BadRequest, Unavailable

BUDGET_SECONDS = 0.5  # of one look: it shares a loop with the heartbeat
_MAX_CRON = 200
_CRON = re.compile(r"[0-9A-Za-z*,/#-]+( +[0-9A-Za-z*,/#-]+){4}")
_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Fire:
    """One firing: the timer's key, its arguments (ids only), the moment it was due."""

    key: str
    args: dict[str, Any]
    due_at: datetime


Local = Callable[[Tx, Fire], Awaitable[object]]
L = TypeVar("L", bound=Local)
_locals: dict[str, Local] = {}


def local(name: str) -> Callable[[L], L]:
    """Register a function that runs in the firing transaction itself: short, and no network."""

    def register(function: L) -> L:
        _locals[name] = function
        return function

    return register


async def every(
    tx: Tx,
    cron: str,
    job: str,
    key: str | None = None,
    timezone: str = "UTC",
    args: dict[str, Any] | None = None,
) -> datetime:
    """Fire on each tick of `cron`; returns the next. `key` defaults to the job's name.

    Called again with the same line it changes nothing, so a restart does not put a tick off.
    Raises `BadRequest` naming `cron` or `timezone`.
    """
    _known(job)
    row = await tx.one(
        """
        insert into timers as t (key, job, args, cron, timezone, due_at)
        values (%(key)s, %(job)s, %(args)s::jsonb, %(cron)s, %(timezone)s, %(due)s)
        on conflict (key) do update set job = excluded.job, args = excluded.args,
            cron = excluded.cron, timezone = excluded.timezone,
            due_at = case when (t.cron, t.timezone) = (excluded.cron, excluded.timezone)
                then t.due_at else excluded.due_at end
        returning due_at
        """,
        {
            "key": key or job,
            "job": job,
            "args": _json(args),
            "cron": cron,
            "timezone": timezone,
            "due": next_fire(cron, timezone, clock.now()),
        },
    )
    assert row is not None
    due: datetime = row["due_at"]
    return due


async def at(
    tx: Tx, when: datetime, job: str, key: str, args: dict[str, Any] | None = None
) -> None:
    """Fire once, at an aware moment or as soon after it as a node runs; `key` again moves it."""
    _known(job)
    await tx.run(
        "insert into timers (key, job, args, due_at) values (%s, %s, %s::jsonb, %s)"
        " on conflict (key) do update set job = excluded.job, args = excluded.args,"
        " cron = null, due_at = excluded.due_at",
        (key, job, _json(args), when),
    )


async def upcoming(tx: Tx, limit: int = 20) -> list[Row]:
    """Cron timers of nobody or of the transaction's tenant, the next first: key, cron, timezone, due_at."""
    return await tx.all(
        "select key, job, cron, timezone, due_at from timers where cron is not null"
        " and coalesce(args ->> 'tenant', tenant()::text) = tenant()::text"
        " order by due_at limit %s",
        (limit,),
    )


async def cancel(tx: Tx, key: str) -> bool:
    """Forget a timer; False when there is none, any more."""
    return await tx.run("delete from timers where key = %s", (key,)) > 0


async def stop(tx: Tx, key: str) -> None:
    """Forget a timer that fires once, unless it fires at this moment: its function must look itself.

    Whoever holds what that function waits for would wait for the timer in a circle.
    """
    await tx.run(
        "delete from timers where key ="
        " (select key from timers where key = %s for update skip locked)",
        (key,),
    )


async def run_due(db: Database) -> int:
    """Fire what is due, for half a second at most; returns how many. Call it once a second.

    Any number of nodes may; each timer is claimed by one. Raises only when the database is away.
    """
    names = [*jobs.names(), *_locals]
    started, fired = clock.monotonic(), 0
    due = "select 1 from timers where due_at <= clock_timestamp() and job = any (%s) limit 1"
    if await db.one(due, (names,)) is None:
        return 0
    while clock.monotonic() - started < BUDGET_SECONDS and await _fire_one(db, names):
        fired += 1
    return fired


async def _fire_one(db: Database, names: list[str]) -> bool:
    timer = None
    try:
        async with db.transaction() as tx:
            timer = await tx.one(
                # Jobs that this version does not know are left to the nodes that do.
                "select key, job, args, cron, timezone, due_at, clock_timestamp() as now"
                " from timers where due_at <= clock_timestamp() and job = any (%s)"
                " order by due_at limit 1 for update skip locked",
                (names,),
            )
            if timer is None:
                return False
            await _move_on(tx, timer)
            await _hand_over(tx, timer["job"], Fire(timer["key"], timer["args"], timer["due_at"]))
    except (ConnectionLost, Unavailable):
        raise
    except Exception as error:
        if timer is None:
            raise
        _log.error("timer.failed", timer=timer["key"], job=timer["job"], error=repr(error))
        # One bad timer must not hold up the others; it is tried again.
        await db.run(
            "update timers set due_at = clock_timestamp() + interval '1 minute'"
            " where key = %s and due_at = %s",
            (timer["key"], timer["due_at"]),
        )
    return True


async def _move_on(tx: Tx, timer: dict[str, Any]) -> None:
    if timer["cron"] is None:
        await tx.run("delete from timers where key = %s", (timer["key"],))
        return
    due = next_fire(timer["cron"], timer["timezone"], timer["now"])
    await tx.run("update timers set due_at = %s where key = %s", (due, timer["key"]))


async def _hand_over(tx: Tx, job: str, fire: Fire) -> None:
    if job in _locals:
        await _locals[job](tx, fire)
    else:
        await jobs.enqueue(tx, job, fire.args, f"{fire.key}@{clock.iso(fire.due_at)}")


def next_fire(cron: str, timezone: str, after: datetime) -> datetime:
    """The first tick after an aware moment, in UTC. Raises `BadRequest` naming the field.

    Five fields; names, ranges and steps; Sunday is 0 or 7; day of month and day of week both set
    means either. A wall time that a clock change skips fires once at the first valid minute, one
    that comes twice fires once, `*/30` and hourly lines follow the clock.
    """
    zone = _zone(timezone)
    if len(cron) > _MAX_CRON or not _CRON.fullmatch(cron):
        raise BadRequest.field("cron", "must have five fields: minute hour day month weekday")
    try:
        # After the clocks went back, cronsim may name the earlier one of two equal wall times.
        for tick in CronSim(cron, after.astimezone(zone)):
            moment: datetime = tick.astimezone(UTC)
            if moment > after:
                return moment
    except CronSimError as error:
        raise BadRequest.field("cron", str(error)) from None
    raise BadRequest.field("cron", "never fires")


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # cronsim's fast path
    if name not in zones():
        raise BadRequest.field("timezone", f"{name[:60]!r} is not an IANA time zone")
    return ZoneInfo(name)


@cache
def zones() -> frozenset[str]:
    """The names of IANA time zones."""
    # Machine-dependent names are not IANA's.
    return frozenset(available_timezones() - {"Factory", "localtime", "posixrules"})


def _known(job: str) -> None:
    found = (job in jobs.names()) + (job in _locals)
    if found != 1:
        raise LookupError(f"{job!r} is registered {found} times, as a job or a local function")


def _json(args: dict[str, Any] | None) -> str:
    return orjson.dumps(args or {}).decode()
