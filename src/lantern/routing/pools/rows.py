"""Pools as rows: every column of a pool, its members and its rotation, both ways."""

from collections.abc import Sequence
from typing import Any

from lantern.core.db import Row
from lantern.routing.eligibility import Caps, Person
from lantern.routing.pools.models import Fallback, Policy, Sla
from lantern.routing.pools.pool import Member, Pool
from lantern.routing.rotation import Ring, State

POLICY = [
    "fallback",
    "fallback_kind",
    "skip_policy",
    "max_catch_up",
    "hold_minutes",
    "respect_schedule",
    "sticky_owner",
    "sticky_counts",
    "dedupe_minutes",
    "reset_reasons",
    "sla_minutes",
    "sla_on_breach",
    "sla_max_hops",
    "sla_escalate_to",
    "sla_refund_turn",
]


def member_row(pool: Pool, place: int) -> dict[str, Any]:
    """A member at a place (from 0) with its gaps."""
    member = pool.members[place]
    person, caps = member.person, member.person.caps
    away = [(f'"{a.isoformat()}"', f'"{b.isoformat()}"') for a, b in person.out_of_office]
    return {
        "user_id": member.user_id,
        "user_key": member.key,
        "name": member.name,
        "place": place + 1,
        "active": person.active,
        "weight": member.weight,
        "order": member.order,
        "timezone": person.timezone,
        "hours": None if person.hours is None else _ranges(person.hours),
        "holidays": sorted(person.holidays),
        "out_of_office": _ranges(away),
        "cap_hour": caps.hour,
        "cap_day": caps.day,
        "cap_week": caps.week,
        "cap_open": caps.open,
        "credit_back": member.credit_back,
        "crm_active": person.crm_active,
        "gaps": pool.ring.gaps[place],
        "seat": pool.ring.seats[place],
    }


def _ranges(pairs: Sequence[tuple[Any, Any]]) -> str:
    return "{" + ",".join(f"[{a},{b})" for a, b in pairs) + "}"


def rotation(pool: Pool) -> dict[str, Any]:
    """The aligned arrays of the rotation's row."""
    state = pool.state
    return {
        "users": [member.user_id for member in pool.members],
        "waits": list(state.waits),
        "cursors": list(state.cursors),
        "turns": list(state.turns),
        "at_top": [pool.members[i].user_id for i in state.at_top],
        "last": state.last,
    }


def columns(policy: Policy) -> dict[str, Any]:
    """A policy as the columns of `POLICY`."""
    fallback, sla = policy.fallback, policy.sla
    kind = None if fallback is None else "user" if fallback.user_id else "queue"
    same = ("max_catch_up", "hold_minutes", "respect_schedule", "sticky_owner", "sticky_counts")
    return {
        "fallback": fallback and (fallback.user_id or fallback.queue_id),
        "fallback_kind": kind,
        "skip_policy": policy.skip,
        **{name: getattr(policy, name) for name in same},
        "dedupe_minutes": policy.dedupe_minutes,
        "reset_reasons": policy.reset_reasons,
        "sla_minutes": sla and sla.minutes,
        "sla_on_breach": sla and sla.on_breach,
        "sla_max_hops": sla.max_hops if sla else Sla(minutes=1).max_hops,
        "sla_escalate_to": sla and sla.escalate_to,
        "sla_refund_turn": sla is not None and sla.refund_turn,
    }


def _policy(row: Row) -> Policy:
    fallback = row["fallback_kind"] and Fallback(**{f"{row['fallback_kind']}_id": row["fallback"]})
    same = ("max_catch_up", "hold_minutes", "respect_schedule", "sticky_owner", "sticky_counts")
    sla = None
    if row["sla_minutes"] is not None:
        names = ("minutes", "on_breach", "max_hops", "escalate_to", "refund_turn")
        sla = Sla(**{name: row[f"sla_{name}"] for name in names})
    return Policy(
        fallback=fallback,
        skip=row["skip_policy"],
        **{name: row[name] for name in same},
        dedupe_minutes=row["dedupe_minutes"],
        reset_reasons=row["reset_reasons"],
        sla=sla,
    )


def pool(rows: list[Row]) -> Pool:
    """A pool from one row for each member; of an empty pool one row without a member."""
    first = rows[0]
    rows = [row for row in rows if row["user_id"] is not None]
    users = [row["user_id"] for row in rows]
    state = State(
        first["last"],
        tuple(row["wait"] for row in rows),
        tuple(row["cursor"] for row in rows),
        tuple(row["turns"] for row in rows),
        tuple(users.index(user) for user in first["at_top"]),
    )
    gaps = tuple(tuple(row["gaps"]) for row in rows)
    return Pool(
        id=first["id"],
        name=first["pool"],
        policy=_policy(first),
        members=tuple(_member(row) for row in rows),
        ring=Ring(first["ring"], gaps, tuple(row["seat"] for row in rows)),
        state=state,
        version=first["version"],
        sequence=first["sequence"],
        epoch=first["epoch"],
        times={name: first[name] for name in ("created_at", "updated_at")},
    )


def _member(row: Row) -> Member:
    hours = row["hours"]
    person = Person(
        active=row["active"],
        crm_active=row["crm_active"],
        timezone=row["timezone"],
        hours=None if hours is None else tuple((span.lower, span.upper) for span in hours),
        holidays=frozenset(row["holidays"]),
        out_of_office=tuple((span.lower, span.upper) for span in row["out_of_office"]),
        caps=Caps(row["cap_hour"], row["cap_day"], row["cap_week"], row["cap_open"]),
    )
    same = ("user_id", "name", "order", "weight", "credit_back")
    return Member(**{name: row[name] for name in same}, person=person)
