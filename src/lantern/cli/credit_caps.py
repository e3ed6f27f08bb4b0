"""`lantern credits caps`: what the account, a key or a tag may use in a period."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from lantern import credits
from lantern.cli import common, options
from lantern.core.db import Database

app = options.group("List, add and remove caps.")

_COLUMNS = ["id", "scope", "subject", "period", "credits", "used", "left"]


class Period(StrEnum):
    """When a cap starts anew (UTC)."""

    day = "day"
    month = "month"
    total = "total"


@app.command("list")
def table(
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """List the caps of a tenant, with what is used and left of each."""

    async def work(db: Database) -> list[dict[str, Any]]:
        async with db.transaction(tenant) as tx:
            found, _ = await credits.caps(tx, tenant, 1000, 0)
            return found

    found = common.with_database(options.load(data_dir, config), work, tenant)
    if json:
        common.print_json({"caps": found})
    else:
        common.print_table(_COLUMNS, found)


@app.command("add")
def add(  # noqa: PLR0913 - one parameter for each option
    amount: Annotated[str, typer.Argument(metavar="CREDITS", help="How much at most.")],
    period: Annotated[Period, typer.Option("--per", help="When it starts anew (UTC).")],
    key: Annotated[str | None, typer.Option("--key", help="Of this key alone, by its id.")] = None,
    tag: Annotated[
        str | None, typer.Option("--tag", metavar="KEY=VALUE", help="Of this tag alone.")
    ] = None,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Cap what a tenant may use, or one of its keys or tags."""
    if key is not None and tag is not None:
        raise typer.BadParameter("--key and --tag exclude each other")
    scope = "key" if key is not None else "tag" if tag is not None else "account"
    cap = credits.CapCreate.model_validate(
        {"scope": scope, "subject": key or tag, "period": period.value, "credits": amount}
    )

    async def work(db: Database) -> dict[str, Any]:
        async with db.transaction(tenant) as tx:
            return await credits.add_cap(tx, tenant, cap)

    made = common.with_database(options.load(data_dir, config), work, tenant)
    if json:
        common.print_json(made)
    else:
        common.print_table(_COLUMNS, [made])


@app.command("remove")
def remove(
    cap_id: Annotated[str, typer.Argument(metavar="ID", help="As `caps list` shows it.")],
    tenant: options.Tenant = common.FIRST_TENANT,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Remove a cap."""

    async def work(db: Database) -> None:
        async with db.transaction(tenant) as tx:
            await credits.remove_cap(tx, tenant, cap_id)

    common.with_database(options.load(data_dir, config), work, tenant)
    print(f"removed {cap_id}")
