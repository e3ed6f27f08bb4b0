"""`lantern keys`: API keys, also while the server runs."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from lantern import keys
from lantern.cli import common, options
from lantern.core.db import Database
from lantern.gate.limits import FAMILIES

app = options.group("Create, list and revoke API keys.")
COMMANDS = {"keys": app}


class Scope(StrEnum):
    """What a key may do."""

    read = "read"
    write = "write"
    admin = "admin"
    forms = "forms"
    workflows = "workflows"


@app.command("create")
def create(  # noqa: PLR0913 - one parameter for each option
    name: Annotated[str, typer.Option("--name", help="What the key is for.")],
    scope: Annotated[
        list[Scope] | None, typer.Option("--scope", help="Repeatable. [default: write]")
    ] = None,
    agent: Annotated[
        list[str] | None,
        typer.Option("--agent", help="Only this agent; repeatable. [default: all]"),
    ] = None,
    plan: Annotated[options.Plan, typer.Option("--plan", help="How many requests a minute.")] = (
        options.Plan.team
    ),
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="FAMILY=N/min|off", help="A limit of its own; repeatable."),
    ] = None,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Create a key and print it; it is shown this once."""
    scopes = [one.value for one in scope or [Scope.write]]
    wanted = keys.KeyCreate.model_validate(
        {"name": name, "scopes": scopes, "agents": agent or ["*"]}
    )
    limits = dict(_limit(text) for text in limit or [])
    key = keys.OperatorKey(name, scopes, wanted.agents, plan.value, limits)

    async def work(db: Database) -> dict[str, Any]:
        async with db.transaction(tenant) as tx:
            return await keys.create_as_operator(tx, tenant, key)

    made = common.with_database(options.load(data_dir, config), work, tenant)
    if json:
        common.print_json({"key": made["key"], **made, "tenant": tenant, "limits": limits})
    else:
        print(made["key"], flush=True)


@app.command("list")
def table(
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """List the keys in force, newest first (the newest 1,000)."""

    async def work(db: Database) -> list[dict[str, Any]]:
        async with db.transaction(tenant) as tx:
            found, _ = await keys.table(tx, 1000, 0)
            return found

    found = common.with_database(options.load(data_dir, config), work, tenant)
    if json:
        common.print_json({"keys": found})
    else:
        names = ["id", "name", "prefix", "scopes", "agents", "created_at", "last_used_at"]
        common.print_table(names, found)


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `lantern keys list` shows it.")],
    tenant: options.Tenant = common.FIRST_TENANT,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Revoke a key, at once and on every node."""

    async def work(db: Database) -> None:
        async with db.transaction(tenant) as tx:
            await keys.revoke_as_operator(tx, tenant, key_id)

    common.with_database(options.load(data_dir, config), work, tenant)
    print(f"revoked {key_id}")


def _limit(text: str) -> tuple[str, int]:
    family, _, value = text.partition("=")
    number = value.removesuffix("/min")
    if family not in FAMILIES:
        raise typer.BadParameter(f"--limit: {family!r} is none of {', '.join(FAMILIES)}")
    if value == "off":
        return family, 0  # the database takes it for no limit
    if not number.isdigit() or not 0 < int(number) <= 1_000_000:
        raise typer.BadParameter(f"--limit: {text!r} is neither FAMILY=N/min nor FAMILY=off")
    return family, int(number)
