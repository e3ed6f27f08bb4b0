"""`lantern credits`: what a tenant has, what it used, what things cost, and caps."""

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Any

import typer

from lantern import credits
from lantern.cli import common, credit_caps, options, store
from lantern.core import ids
from lantern.core.db import Database, Tx
from lantern.core.errors import NotFound
from lantern.gate import audit, ledger
from lantern.gate.limits import credits_text

app = options.group("Grant credits, show balances and receipts, set prices and caps.")
app.add_typer(credit_caps.app, name="caps", help="List, add and remove caps.")
COMMANDS = {"credits": app}

From = Annotated[str | None, typer.Option("--from", help="ISO date or time.")]
To = Annotated[str | None, typer.Option("--to", help="ISO date or time; a date: its whole day.")]


class ChargeOn(StrEnum):
    """Whether a miss is charged too."""

    query = "query"
    success = "success"


class Kind(StrEnum):
    """Kinds of receipts."""

    grant = "grant"
    charge = "charge"
    reserve = "reserve"
    settle = "settle"
    release = "release"


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


@app.command("tariff")
def tariff(  # noqa: PLR0913 - one parameter for each option
    prices: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPERATION/ITEM=CREDITS", help="A new price; repeatable."),
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option("--unset", metavar="OPERATION/ITEM", help="Its default again; repeatable."),
    ] = None,
    charge_on: Annotated[
        ChargeOn | None,
        typer.Option("--charge-on", help="With --set: is a miss charged too (query) or not."),
    ] = None,
    tenant: Annotated[
        int | None,
        typer.Option("--tenant", min=1, help="Its own prices. [default: those of all tenants]"),
    ] = None,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """List prices, after changing them."""
    wanted: list[tuple[tuple[str, str], credits.PriceChange | None]] = []
    wanted += [_price(text, charge_on) for text in prices or []]
    wanted += [(_name(text), None) for text in unset or []]

    async def work(db: Database) -> list[dict[str, Any]]:
        async with db.transaction(tenant) as tx:
            for name, price in wanted:
                await _set_price(tx, tenant, name, price)
            return await credits.prices(tx)

    found = common.with_database(options.load(data_dir, config), work, tenant)
    if json:
        common.print_json({"tenant": tenant, "tariff": found})
    else:
        names = ["operation", "item", "credits", "charge_on", "own", "description"]
        common.print_table(names, found)


@app.command("usage")
def usage(  # noqa: PLR0913 - one parameter for each option
    start: From = None,
    end: To = None,
    group_by: Annotated[
        str | None,
        typer.Option("--group-by", help="day, operation, key, workflow or tag:KEY."),
    ] = None,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Show what a tenant used, in all or in groups."""
    within = credits.Filters().within(credits.span(start, end, ("--from", "--to")))

    async def work(db: Database) -> dict[str, Any]:
        async with db.transaction(tenant) as tx:
            return await credits.usage(tx, tenant, within, group_by)

    found = common.with_database(options.load(data_dir, config), work, tenant)
    if json:
        common.print_json({"tenant": tenant, "from": start, "to": end, **found})
        return
    if "groups" in found:
        common.print_table(["value", "credits"], [_named(group) for group in found["groups"]])
    print(f"{credits_text(found['credits_used'])} credits used")


@app.command("receipts")
def receipts(  # noqa: PLR0913 - one parameter for each option
    kind: Annotated[Kind | None, typer.Option("--kind", help="Only of this kind.")] = None,
    operation: Annotated[
        str | None, typer.Option("--operation", help="Only of this operation.")
    ] = None,
    start: From = None,
    end: To = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="The newest ones.")] = 20,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """List what moved a balance, newest first."""
    filters = credits.Filters(kind=kind.value if kind else None, operation=operation)
    within = filters.within(credits.span(start, end, ("--from", "--to")))

    async def work(db: Database) -> tuple[list[dict[str, Any]], int]:
        async with db.transaction(tenant) as tx:
            return await credits.receipts(tx, tenant, within, limit, 0)

    found, total = common.with_database(options.load(data_dir, config), work, tenant)
    if json:
        common.print_json({"receipts": found, "total": total})
    else:
        names = ["id", "created_at", "kind", "operation", "amount", "used", "balance_after"]
        common.print_table(names, found)


async def _set_price(
    tx: Tx, tenant: int | None, name: tuple[str, str], price: credits.PriceChange | None
) -> None:
    if tenant is None:
        given = (None, None) if price is None else (price.credits, price.charge_on)
        if not await store.set_default_price(tx, name, *given):
            raise NotFound(f"No price '{'/'.join(name)}': `lantern credits tariff` lists all")
    elif price is None:
        await credits.unset_price(tx, tenant, name)
    else:
        await credits.set_price(tx, tenant, name, price)


def _price(text: str, charge_on: ChargeOn | None) -> tuple[tuple[str, str], credits.PriceChange]:
    name, _, amount = text.partition("=")
    on = charge_on.value if charge_on else None
    return _name(name), credits.PriceChange.model_validate({"credits": amount, "charge_on": on})


def _name(text: str) -> tuple[str, str]:
    operation, slash, item = text.partition("/")
    if not slash:
        raise typer.BadParameter(f"{text!r} is not OPERATION/ITEM")
    return operation, item


def _named(group: dict[str, Any]) -> dict[str, Any]:
    others = group.get("others")
    return {**group, "value": f"({others} others)"} if others else group


def _show(found: ledger.Balance, tenant: int, json: bool) -> None:
    if json:
        common.print_json(
            {"tenant": tenant, "remaining": found.remaining, "granted": found.granted}
        )
    else:
        print(f"{credits_text(found.remaining)} of {credits_text(found.granted)} credits left")
