"""`lantern runs`: what agents did, and an end to what they do."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from lantern import runs
from lantern.cli import common, options
from lantern.core.db import Database

app = options.group("List, show and cancel runs.")
COMMANDS = {"runs": app}

RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="As `lantern runs list` shows it.")]


class Status(StrEnum):
    """Where a run is in its life."""

    queued = "queued"
    running = "running"
    paused = "paused"
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"


@app.command("list")
def table(  # noqa: PLR0913 - one parameter for each option
    agent: Annotated[str | None, typer.Option("--agent", help="Only runs of this agent.")] = None,
    status: Annotated[Status | None, typer.Option("--status", help="Only these.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="The newest so many.")] = (
        20
    ),
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """List runs, newest first."""

    async def work(db: Database) -> list[dict[str, Any]]:
        async with db.transaction(tenant) as tx:
            return await runs.table_as_operator(tx, agent, status and status.value, limit)

    found = common.with_database(options.load(data_dir, config), work, tenant)
    if json:
        common.print_json({"runs": found})
    else:
        names = ["run_id", "agent", "status", "tokens_in", "tokens_out", "cost_usd", "created_at"]
        common.print_table(names, found)


@app.command("get")
def get(
    run_id: RunId,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Show a run with its steps, input and output."""

    async def work(db: Database) -> dict[str, Any]:
        async with db.transaction(tenant) as tx:
            return await runs.fetch_as_operator(tx, run_id)

    found = common.with_database(options.load(data_dir, config), work, tenant)
    if json:
        common.print_json(found)
    else:
        steps = found.pop("steps")
        common.print_fields(found)
        print()
        columns = ["name", "status", "duration_ms", "model_used", "tokens", "cost_usd"]
        common.print_table(columns, [{name: s.get(name) for name in columns} for s in steps])


@app.command("cancel")
def cancel(
    run_id: RunId,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the run.")] = "",
    tenant: options.Tenant = common.FIRST_TENANT,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Cancel a run, on whichever node it is."""

    async def work(db: Database) -> None:
        async with db.transaction(tenant) as tx:
            await runs.cancel_as_operator(tx, tenant, run_id, reason or None)

    common.with_database(options.load(data_dir, config), work, tenant)
    print(f"cancelled {run_id}")
