"""One pool: whose turn it is, got against due, its members and its policy."""

from typing import Any

from starlette.responses import Response

from lantern import routing
from lantern.core.errors import BadRequest, Conflict, LanternError
from lantern.dashboard import forms
from lantern.dashboard.pages.routing import place
from lantern.dashboard.routes import action, page
from lantern.dashboard.view import View

RECENT = 20
BARS = 40  # members that the chart draws; the table has all
SKIPS = (
    ("forfeit", "are passed on"),
    ("catch_up", "are kept, up to a number"),
    ("hold", "are given although away, where they are back soon"),
)
BREACHES = (
    ("reassign", "the next member gets it"),
    ("escalate", "one person gets it"),
    ("queue", "the fallback queue gets it"),
)
CHOICES: dict[str, Any] = {"skips": SKIPS, "breaches": BREACHES}
REASONS = {
    "inactive": ("cancelled", "inactive"),
    "out_of_office": ("paused", "out of office"),
    "holiday": ("paused", "on holiday"),
    "outside_hours": ("paused", "outside hours"),
    "cap_hour": ("warn", "cap of the hour"),
    "cap_day": ("warn", "cap of the day"),
    "cap_week": ("warn", "cap of the week"),
    "cap_open": ("warn", "cap of open ones"),
    "bad_fit": ("failed", "bad fit"),
    "held_before": ("cancelled", "held it before"),
    "back_soon": ("queued", "back soon"),
    "not_a_member": ("cancelled", "not a member"),
}


@page("/routing/pools/{pool}", account=True)
async def shown(view: View) -> Response:
    """A pool as it stands."""
    return await drawn(view)


async def drawn(view: View, status: int = 200, **dialog: Any) -> Response:
    """The pool's page. `dialog`: `edited` or `imported`, which is open on it."""
    name = view.arg("pool")
    pool = await routing.pools.show(view.tx, name)
    fair = await routing.pools.fairness(view.tx, name)
    recent = await routing.browse(view.tx, routing.Wanted(pool=name), None, RECENT)
    shares = fair.shares
    if len(shares) > BARS:
        shares = sorted(shares, key=lambda share: -abs(share.off))[:BARS]
    context = {"edited": None, "imported": None, "errors": {}} | dialog
    return view.page(
        "routing/pool.html",
        status,
        pool=pool,
        fair=fair,
        shares=shares,
        most=max((max(share.got, share.due) for share in shares), default=0) or 1,
        names={m["user_id"]: m["name"] for m in pool["members"]},
        facts=facts(pool["policy"]),
        recent=recent.assignments,
        reasons=REASONS,
        **context,
    )


@action("/routing/pools/{pool}/delete", account=True)
async def delete(view: View) -> Response:
    """End a pool; its assignments stay."""
    name = view.arg("pool")
    await routing.pools.delete(view.call, name)
    return view.go("/routing", f"Pool {name} is deleted; its assignments stay readable")


# ---------------------------------------------------------------- policy
@page("/routing/pools/{pool}/policy", "write", account=True)
async def policy(view: View) -> Response:
    """The form of the policy's common fields."""
    pool = await routing.pools.show(view.tx, view.arg("pool"))
    return view.page(
        "routing/policy.html", pool=pool, draft=_draft(pool["policy"]), errors={}, **CHOICES
    )


@action("/routing/pools/{pool}/policy", account=True)
async def change_policy(view: View) -> Response:
    """Change the fields of the form; every other one stays as it is."""
    name, version = view.arg("pool"), view.field("version")
    pool = await routing.pools.show(view.tx, name)
    try:
        body = forms.read(routing.pools.Policy, pool["policy"] | _typed(view, pool["policy"]))
        stands = int(version) if version.isascii() and version.isdigit() else 0
        await routing.pools.change_policy(view.call, name, body, stands)
    except (BadRequest, Conflict) as error:
        return view.page(
            "routing/policy.html",
            error.status,
            pool=pool,
            draft={field: view.field(field) for field in _draft(pool["policy"])},
            errors=_faults(error),
            **CHOICES,
        )
    return view.go(place(name), "The policy is changed: it holds for the next assignment")


def _draft(policy: dict[str, Any]) -> dict[str, Any]:
    """The policy as the form's fields."""
    fallback, sla = policy["fallback"] or {}, policy["sla"] or {}
    kinds = [kind for kind in ("user_id", "queue_id") if fallback.get(kind)]
    same = ("skip", "max_catch_up", "hold_minutes", "dedupe_minutes")
    return {
        **{name: str(policy[name]) for name in same},
        **{name: "on" * policy[name] for name in ("respect_schedule", "sticky_owner")},
        "fallback_kind": kinds[0] if kinds else "",
        "fallback": fallback[kinds[0]] if kinds else "",
        "sla.minutes": str(sla.get("minutes", "")),
        "sla.on_breach": sla.get("on_breach", "reassign"),
        "sla.escalate_to": sla.get("escalate_to") or "",
        "sla.max_hops": str(sla.get("max_hops", 3)),
    }


def _typed(view: View, was: dict[str, Any]) -> dict[str, Any]:
    kind, who = view.field("fallback_kind"), view.field("fallback").strip()
    sla = None
    if minutes := view.field("sla.minutes").strip():
        typed = {name: view.field(f"sla.{name}").strip() for name in ("on_breach", "max_hops")}
        to = view.field("sla.escalate_to").strip() or None
        sla = {**(was["sla"] or {}), **forms.given(typed), "minutes": minutes, "escalate_to": to}
    same = ("skip", "max_catch_up", "hold_minutes", "dedupe_minutes")
    return {
        **{name: view.field(name).strip() for name in same},
        **{name: bool(view.field(name)) for name in ("respect_schedule", "sticky_owner")},
        "fallback": {kind: who} if kind in ("user_id", "queue_id") else None,
        "sla": sla,
    }


def _faults(error: LanternError) -> dict[str, str]:
    if isinstance(error, Conflict):
        return {"": f"{error.message} by now, somebody was faster: load the page again"}
    found = forms.faults(error)
    names = {
        "fallback.user_id": "fallback",
        "fallback.queue_id": "fallback",
        "sla": "sla.escalate_to",
    }
    return {names.get(name, name): text for name, text in found.items()}


def facts(policy: dict[str, Any]) -> list[tuple[str, str]]:
    """A policy in words."""
    fallback, sla = policy["fallback"] or {}, policy["sla"]
    queue = fallback.get("queue_id")
    sticky = "counts as a turn" if policy["sticky_counts"] else "takes no turn"
    away = {
        "forfeit": "are passed on",
        "catch_up": f"are kept, up to {policy['max_catch_up']}",
        "hold": f"are given all the same, where they are back within {span(policy['hold_minutes'])}",
    }
    found = [
        (
            "If nobody may",
            f"queue {queue}" if queue else fallback.get("user_id") or "it is refused",
        ),
        ("Turns while away", away[policy["skip"]]),
        ("Schedules", "are kept" if policy["respect_schedule"] else "are ignored"),
        ("Same record again", f"same owner within {span(policy['dedupe_minutes'])}"),
        (
            "Its owner",
            f"keeps the record, which {sticky}" if policy["sticky_owner"] else "may change",
        ),
        ("Accepted within", _sla(sla) if sla else "any time"),
    ]
    if not policy["dedupe_minutes"]:
        found[3] = (found[3][0], "takes a new turn")
    if policy["reset_reasons"] is not None:
        found.append(("Reset reasons", ", ".join(policy["reset_reasons"]) or "none"))
    return found


def _sla(sla: dict[str, Any]) -> str:
    then = {
        "reassign": f"the next member gets it, {sla['max_hops']} times at most",
        "escalate": f"{sla['escalate_to']} gets it",
        "queue": "the fallback queue gets it",
    }
    back = "; the turn goes back" if sla["refund_turn"] else ""
    return f"{span(sla['minutes'])}, else {then[sla['on_breach']]}{back}"


def span(minutes: int) -> str:
    """Minutes as `1 d`, `2 h 30 min`."""
    parts = [(minutes // 1440, "d"), (minutes % 1440 // 60, "h"), (minutes % 60, "min")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "0 min"
