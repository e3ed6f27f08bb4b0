"""What if the pool had been another: its past, decided again; nothing is changed or charged."""

from typing import Any

from starlette.responses import Response

from lantern import routing
from lantern.core.errors import BadRequest, Conflict
from lantern.dashboard import forms
from lantern.dashboard.pages.pool import REASONS, SKIPS
from lantern.dashboard.pages.routing import members_of, rows_refused
from lantern.dashboard.routes import action, page
from lantern.dashboard.view import View

DAYS = 30
EXAMPLES = 25
_PATH = "/routing/pools/{pool}/simulate"
_ADDED = ("turns", "wait", "eligible", "reason", "crm_active")  # by answers


@page(_PATH, "write", account=True)
async def asked(view: View) -> Response:
    """The form, with the pool as it is."""
    pool = await routing.pools.show(view.tx, view.arg("pool"))
    return _page(view, pool, None)


@action(_PATH, account=True, tx=False)
async def simulate(view: View) -> Response:
    """Decide again; no connection is held while it computes."""
    async with view.transaction() as tx:
        pool = await routing.pools.show(tx, view.arg("pool"))
    try:
        body = forms.read(routing.pools.Simulation, _typed(view, pool))
        found = await routing.pools.simulate(view.call, pool["pool"], body)
    except (BadRequest, Conflict) as error:
        return _page(view, pool, None, error)
    return _page(view, pool, found)


def _typed(view: View, pool: dict[str, Any]) -> dict[str, Any]:
    weights = dict(zip(view.fields("user"), view.fields("weight"), strict=False))
    active = set(view.fields("active"))
    members = []
    for member in pool["members"]:
        user = member["user_id"]
        kept = {name: value for name, value in member.items() if name not in _ADDED}
        if user in weights:
            kept |= {"weight": weights[user].strip(), "active": user in active}
        members.append(kept)
    try:
        members += members_of(view.field("more"))
    except BadRequest as error:
        raise BadRequest.field("more", rows_refused(error, view.field("more"))) from None
    return {
        "days": view.field("days").strip() or DAYS,
        "members": members,
        "policy": pool["policy"] | forms.given({"skip": view.field("skip")}),
    }


def _page(
    view: View, pool: dict[str, Any], found: dict[str, Any] | None, error: Any = None
) -> Response:
    sent = bool(view.form)
    typed = dict(zip(view.fields("user"), view.fields("weight"), strict=False))
    rows = [
        {
            **member,
            "weight": typed.get(member["user_id"], member["weight"]),
            "was": member,
            "active": member["user_id"] in view.fields("active") if sent else member["active"],
        }
        for member in pool["members"]
    ]
    most = max((max(m["got"], m["would_get"]) for m in found["members"]), default=0) if found else 0
    return view.page(
        "routing/simulate.html",
        error.status if error else 200,
        pool=pool,
        rows=rows,
        found=found,
        most=most or 1,
        names={m["user_id"]: m["name"] for m in pool["members"]},
        skips=SKIPS,
        draft={
            "days": view.field("days") or str(DAYS),
            "skip": view.field("skip") or pool["policy"]["skip"],
            "more": view.field("more"),
        },
        examples=found["examples"][:EXAMPLES] if found else [],
        reasons=REASONS,
        errors=_faults(error) if error else {},
    )


def _faults(error: BadRequest | Conflict) -> dict[str, str]:
    names = {
        "policy.skip": "skip",
        "members.weight": "weight",
        "members.user_id": "more",
        "members": "",
    }
    return {names.get(name, name): text for name, text in forms.faults(error).items()}
