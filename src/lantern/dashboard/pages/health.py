"""Health: nodes, database, queue, deliveries; what is wrong says what to do."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.responses import Response

from lantern import __version__, logs, runs
from lantern.core import clock, nodes, outbox, timers
from lantern.core.db import Database
from lantern.dashboard import live
from lantern.dashboard.routes import page, stream
from lantern.dashboard.view import View

GIGABYTE = 1_000_000_000
SLOW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong, and its mend."""

    state: str
    text: str
    mend: str


@page("/health", account=True)
async def shown(view: View) -> Response:
    """The state of this installation; without admin scope, of the tenant alone."""
    return view.page("health.html", body=await _body(view))


@stream("/health/live", account=True)
async def following(view: View) -> AsyncIterator[bytes]:
    """The same, again whenever it has changed."""
    return live.watch(view, "#health", _body)


async def _body(view: View) -> str:
    waiting = await outbox.waiting(view.tx)
    open_runs = {
        status: await runs.count(view.call, runs.Wanted(status=status), 1001)
        for status in ("queued", "running")
    }
    oldest = await runs.oldest(view.call, runs.Wanted(status="queued"))
    own = {
        "waiting": waiting,
        "open_runs": open_runs,
        "oldest": oldest,
        "unsealed": await logs.unsealed(view.tx),
    }
    machine = await _machine(view) if view.may("admin") else None
    troubles = _of_tenant(waiting, oldest) + (_of_machine(machine) if machine else [])
    return view.draw("_health.html", **own, machine=machine, troubles=troubles)


async def _machine(view: View) -> dict[str, Any]:
    db: Database = view.part.db  # asked in the page's own transaction: one connection a request
    embedded = view.settings.database_url is None
    disk = None
    if embedded:
        disk = (await asyncio.to_thread(shutil.disk_usage, view.settings.data_dir)).free
    engine = view.part.engine
    return {
        "nodes": await nodes.known(view.tx, view.settings.nodes.dead_seconds),
        "here": view.node.id,
        "alive": view.node.alive,
        "active": engine.active,
        "most": view.settings.runs.max_active,
        "pool": db.use(),
        "database": await view.tx.server(),
        "embedded": embedded,
        "disk": disk,
        "timers": await timers.upcoming(view.tx, 8),
        "version": __version__,
    }


def _late(since: datetime | None) -> bool:
    return since is not None and (clock.now() - since).total_seconds() > SLOW_SECONDS


def _of_tenant(waiting: dict[str, Any], oldest: datetime | None) -> list[Trouble]:
    found = []
    if _late(oldest):
        text = "Runs have been queued for more than a minute"
        found.append(Trouble("warn", text, "start another node with `lantern worker`"))
    if waiting["failed"]:
        text = f"{waiting['failed']} deliveries to the CRM were given up in the last day"
        found.append(
            Trouble("fail", text, "see that `[crm] url` answers, then void or assign again")
        )
    if _late(waiting["oldest"]):
        text = f"{waiting['pending']} deliveries to the CRM wait: {waiting['error'] or 'no answer yet'}"
        found.append(
            Trouble("warn", text, "see that `[crm] url` answers; they are tried for a day")
        )
    return found


def _of_machine(machine: dict[str, Any]) -> list[Trouble]:
    found = []
    for node in machine["nodes"]:
        if node["dead"]:
            text = f"Node {node['id']} on {node['host']} (pid {node['pid']}) fell silent"
            found.append(Trouble("warn", text, "its runs go on elsewhere; look why it ended"))
    if machine["disk"] is not None and machine["disk"] < GIGABYTE:
        text = f"{machine['disk'] / GIGABYTE:.1f} GB are free for the database"
        found.append(Trouble("fail", text, "free some space: Postgres stops on a full disk"))
    if machine["pool"]["waiting"]:
        text = f"{machine['pool']['waiting']} requests wait for a database connection"
        found.append(Trouble("warn", text, "raise `[database] pool_size`"))
    return found
