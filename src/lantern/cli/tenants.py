"""`lantern tenants`: who shares this installation."""

from typing import Annotated, Any

import typer

from lantern import keys
from lantern.cli import common, options, store
from lantern.core import clock
from lantern.core.db import Database

app = options.group("Create and list tenants.")
COMMANDS = {"tenants": app}


@app.command("create")
def create(
    name: Annotated[str, typer.Option("--name", help="Its name.")],
    plan: Annotated[options.Plan, typer.Option("--plan", help="Plan of its keys.")] = (
        options.Plan.team
    ),
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Create a tenant with 1,000 credits and its first key, scope admin; the key is shown once."""

    async def work(db: Database) -> dict[str, Any]:
        tenant = await store.create_tenant(db, name, plan.value)
        key = keys.OperatorKey("admin", ["admin"], ["*"], plan.value)
        async with db.transaction(tenant) as tx:
            made = await keys.create_as_operator(tx, tenant, key)
        return {"tenant": tenant, "name": name, "plan": plan.value, "key": made["key"]}

    made = common.with_database(options.load(data_dir, config), work)
    if json:
        common.print_json(made)
    else:
        common.print_fields(made)


@app.command("list")
def table(
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """List tenants with their credits and keys."""
    rows = common.with_database(options.load(data_dir, config), store.tenants)
    if json:
        common.print_json({"tenants": [_shown(row) for row in rows]})
    else:
        common.print_table(
            ["id", "name", "plan", "balance", "keys", "created_at"], [_shown(row) for row in rows]
        )


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "balance": float(row["balance"]), "created_at": clock.iso(row["created_at"])}
