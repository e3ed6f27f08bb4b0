"""`lantern credits`: what a tenant has, and more of it."""

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from lantern.cli import common, options
from lantern.core import ids
from lantern.core.db import Database
from lantern.gate import audit, ledger
from lantern.gate.limits import credits_text

app = options.group("Grant credits and show a balance.")
COMMANDS = {"credits": app}


@app.command("grant")
def grant(
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="Above 0, 4 decimals at most.")],
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Add credits to a tenant."""
    try:
        exact = Decimal(amount)
    except InvalidOperation:
        raise typer.BadParameter(f"AMOUNT: {amount!r} is not a number") from None

    async def work(db: Database) -> ledger.Balance:
        ref = ids.new("grant")
        async with db.transaction(tenant) as tx:
            await audit.record_command(tx, tenant, "credits.grant", "grant", ref)
            await ledger.grant(tx, tenant, exact, ref)
            return await ledger.balance(tx, tenant)

    _show(common.with_database(options.load(data_dir, config), work, tenant), tenant, json)


@app.command("balance")
def balance(
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Show what a tenant has left, and the sum of all grants."""

    async def work(db: Database) -> ledger.Balance:
        async with db.transaction(tenant) as tx:
            return await ledger.balance(tx, tenant)

    _show(common.with_database(options.load(data_dir, config), work, tenant), tenant, json)


def _show(found: ledger.Balance, tenant: int, json: bool) -> None:
    if json:
        common.print_json(
            {"tenant": tenant, "remaining": found.remaining, "granted": found.granted}
        )
    else:
        print(f"{credits_text(found.remaining)} of {credits_text(found.granted)} credits left")
