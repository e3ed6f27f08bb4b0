"""A record for a pool's next member, by hand: the same call as the API's, at the same price."""

from typing import Any

from starlette.responses import Response

from lantern import routing
from lantern.core.errors import BadRequest, Conflict, LanternError, OutOfCredits
from lantern.dashboard import forms, render
from lantern.dashboard.pages.pool import REASONS, span
from lantern.dashboard.routes import action, page
from lantern.dashboard.view import View
from lantern.gate import tariff

_PATH = "/routing/pools/{pool}/assign"
_OPERATION = "routing.assign"


@page(_PATH, "write", account=True)
async def asked(view: View) -> Response:
    """The form, with the price."""
    return await _form(view)


@action(_PATH, account=True, tx=False)
async def assign(view: View) -> Response:
    """Give the record to whose turn it is, and go to the assignment."""
    pool = view.arg("pool")
    refusal: LanternError | None = None
    try:
        body = forms.read(routing.AssignRequest, _typed(view, pool))
        sent = body.model_dump_json(exclude_unset=True).encode()
        charge = await routing.before_assign(view.call, sent, view.settings)
        async with view.transaction() as tx:
            try:
                made = await routing.assign(tx, view.call, body, charge_size=charge)
            except Conflict as error:
                if not error.keeps:
                    raise
                refusal = error
    except (BadRequest, Conflict, OutOfCredits) as error:
        refusal = error
    if refusal:
        async with view.transaction():
            return await _form(view, refusal)
    return await _landed(view, pool, made)


async def _landed(view: View, pool: str, made: routing.Decision) -> Response:
    told = routing.told(made, explain=True)
    user, where = told["assigned_to"], f"/routing/assignments/{told['assignment_id']}"
    async with view.transaction() as tx:
        names = await routing.pools.names(tx, {pool}, {user})
    who = names.get(user, user)
    if made.cached:
        return view.go(where, f"{who} has it from before: nothing was charged")
    spent = f"{render.credits_text(made.credits)} credit{'' if made.credits == 1 else 's'}"
    left = render.credits_text(view.call.credits)
    return view.go(where, f"{who} got number {told['sequence']}: {spent}, {left} left")


def _typed(view: View, pool: str) -> dict[str, Any]:
    rules = forms.given(
        {
            "reason": view.field("reset_rules.reason").strip(),
            "place_user_at_top": view.field("reset_rules.place_user_at_top"),
        }
    )
    typed = forms.given(
        {
            "current_owner": view.field("current_owner").strip(),
            "reset_rules": rules or None,
        }
    )
    record = view.field("sf_id").strip()
    return {"object": view.field("object"), "sf_id": record, "pool": pool, **typed}


async def _form(view: View, refusal: LanternError | None = None) -> Response:
    pool = await routing.pools.show(view.tx, view.arg("pool"))
    errors = forms.faults(refusal) if refusal else {}
    skipped = (refusal.details or {}).get("skipped", []) if isinstance(refusal, Conflict) else []
    return view.page(
        "routing/assign.html",
        refusal.status if refusal else 200,
        pool=pool,
        prices=await tariff.prices(view.tx, _OPERATION),
        kinds=[(name, name) for name in routing.OBJECTS],
        skipped=skipped,
        names={m["user_id"]: m["name"] for m in pool["members"]},
        reasons=REASONS,
        within=span(pool["policy"]["dedupe_minutes"]),
        errors=errors,
    )
