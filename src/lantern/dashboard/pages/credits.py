"""Credits: the balance, use by day, caps."""

from typing import Any

from starlette.responses import Response

from lantern import credits
from lantern.core.errors import LanternError
from lantern.dashboard import forms
from lantern.dashboard.charts import columns
from lantern.dashboard.routes import action, page
from lantern.dashboard.view import View
from lantern.gate import ledger

DAYS = 30
LARGEST = 4  # operations with a colour of their own; the others share one
MOST_CAPS = 100
SCOPES = (
    ("account", "the whole account"),
    ("key", "one key: its id"),
    ("tag", "one tag: key=value"),
)
PERIODS = (("day", "a day"), ("month", "a month"), ("total", "for ever"))


@page("/credits", account=True)
async def shown(view: View) -> Response:
    """What is left, what was used for what, when it runs out."""
    return await _page(view)


@action("/credits/caps", "admin", account=True)
async def add_cap(view: View) -> Response:
    """Add a cap."""
    names = ("scope", "subject", "period", "credits")
    draft = {name: view.field(name).strip() for name in names}
    try:
        body = forms.read(credits.CapCreate, forms.given(draft))
        await credits.add_cap(view.tx, view.call.tenant, body, view.call)
    except LanternError as error:
        return await _page(view, draft, error)
    return view.go("/credits", "The cap is set: it counts what its period has seen")


@action("/credits/caps/{cap_id}/remove", "admin", account=True)
async def remove_cap(view: View) -> Response:
    """Remove a cap."""
    await credits.remove_cap(view.tx, view.call.tenant, view.arg("cap_id"), view.call)
    return view.go("/credits", "The cap is gone")


async def _page(
    view: View, draft: dict[str, str] | None = None, error: LanternError | None = None
) -> Response:
    tenant = view.call.tenant
    balance = await ledger.balance(view.tx, tenant)
    days = await credits.daily(view.tx, tenant, DAYS)
    caps, all_caps = await credits.caps(view.tx, tenant, MOST_CAPS, 0)
    series, rows = _stacked(days)
    return view.page(
        "credits/credits.html",
        error.status if error else 200,
        balance=balance,
        days=days,
        week=sum(day.total for day in days[-7:]),
        month=sum(day.total for day in days),
        pace=credits.pace(days, balance.remaining),
        mean_days=credits.MEAN_DAYS,
        series=series,
        chart=columns(rows, list(series)),
        caps=caps,
        all_caps=all_caps,
        draft=draft or {"scope": "account", "period": "month"},
        errors=forms.faults(error) if error else {},
        scopes=SCOPES,
        periods=PERIODS,
    )


def _stacked(
    days: list[credits.Day],
) -> tuple[dict[str, str], list[tuple[str, dict[str, Any]]]]:
    """The series' names by their colour, largest first, and a row for each day."""
    totals: dict[str, Any] = {}
    for day in days:
        for operation, used in day.used.items():
            totals[operation] = totals.get(operation, 0) + used
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    colours = {name: f"s{at}" for at, name in enumerate(ranked[:LARGEST], 1)}
    series = {colour: name or "no operation" for name, colour in colours.items()}
    if len(ranked) > LARGEST:
        series["s5"] = "others"
    rows = []
    for day in days:
        values: dict[str, Any] = {}
        for operation, used in day.used.items():
            colour = colours.get(operation, "s5")
            values[colour] = values.get(colour, 0) + used
        rows.append((day.day.strftime("%b %-d"), values))
    return series, rows
