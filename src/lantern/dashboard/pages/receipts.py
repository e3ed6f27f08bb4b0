"""Receipts and prices: what moved the balance, and what things cost."""

from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from lantern import credits
from lantern.core import lookback
from lantern.core.errors import BadRequest, LanternError
from lantern.dashboard import forms
from lantern.dashboard.routes import action, page
from lantern.dashboard.view import View

PER_PAGE = 50
KINDS = ("grant", "charge", "reserve", "settle", "release")


@page("/credits/receipts", account=True)
async def listed(view: View) -> Response:
    """Rows of the ledger that the filters of the address let through, newest first."""
    try:
        filters = _filters(view)
    except BadRequest as error:
        return view.page(
            "credits/receipts.html",
            error.status,
            receipts=[],
            found=None,
            call=None,
            kinds=KINDS,
            faults=forms.faults(error),
            most_rows=lookback.MOST_ROWS,
        )
    after = view.query("after") or None
    rows, found = await credits.browse(view.tx, view.call.tenant, filters, after, PER_PAGE)
    return view.page(
        "credits/receipts.html",
        receipts=rows,
        found=found,
        call=_call(view),
        kinds=KINDS,
        faults={},
        most_rows=lookback.MOST_ROWS,
    )


@page("/credits/receipts/{receipt_id}", account=True)
async def shown(view: View) -> Response:
    """One row of the ledger with its steps."""
    receipt = await credits.receipt(view.tx, view.call.tenant, view.arg("receipt_id"))
    return view.page("credits/receipt.html", receipt=receipt)


@page("/credits/tariff", account=True)
async def tariff(view: View) -> Response:
    """Every price that holds."""
    return await _tariff(view)


@action("/credits/tariff/{operation}/{item}", "admin", account=True)
async def set_price(view: View) -> Response:
    """Give the tenant a price of its own, or take it back."""
    name = (view.arg("operation"), view.arg("item"))
    credits.check_may_price(view.settings.credits.tenants_set_prices)
    if view.field("unset"):
        await credits.unset_price(view.tx, view.call.tenant, name, view.call)
        return view.go("/credits/tariff", f"{name[0]}, {name[1]}: the default holds again")
    try:
        given = {name: view.field(name).strip() for name in ("credits", "charge_on")}
        body = forms.read(credits.PriceChange, forms.given(given))
        await credits.set_price(view.tx, view.call.tenant, name, body, view.call)
    except BadRequest as error:
        return await _tariff(view, name, error)
    return view.go("/credits/tariff", f"{name[0]}, {name[1]}: the new price holds from now on")


async def _tariff(
    view: View, name: tuple[str, str] | None = None, error: LanternError | None = None
) -> Response:
    may = view.settings.credits.tenants_set_prices and view.may("admin")
    return view.page(
        "credits/tariff.html",
        error.status if error else 200,
        prices=await credits.prices(view.tx),
        may=may,
        wrong=name,
        errors=forms.faults(error) if error else {},
    )


def _call(view: View) -> str | None:
    """The API's call for the same rows; None: it has no such filter."""
    if any(view.query(name) for name in ("workflow_id", "run_id")):
        return None
    given = {name: view.query(name) for name in ("kind", "operation", "key_id", "from", "to")}
    query = urlencode({name: value for name, value in given.items() if value})
    return "/v1/credits/receipts" + (f"?{query}" if query else "")


def _filters(view: View) -> dict[str, Any]:
    """The filters of the address. Raises BadRequest."""
    kind = view.query("kind")
    if kind and kind not in KINDS:
        raise BadRequest.field("kind", f"must be one of {', '.join(KINDS)}", "query")
    period = credits.span(view.query("from") or None, view.query("to") or None, ("from", "to"))
    names = ("operation", "key_id", "workflow_id", "run_id")
    given = {name: view.query(name) or None for name in names}
    return credits.Filters(kind=kind or None, **given).within(period)
