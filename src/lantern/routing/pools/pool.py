"""A pool in memory: members in base order, the ring laid for them, where the rotation stands."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from lantern.core import clock
from lantern.core.sfids import record_key
from lantern.routing import eligibility, rotation
from lantern.routing.eligibility import Counts, Person, Rules
from lantern.routing.pools import hours, models
from lantern.routing.pools.models import Policy
from lantern.routing.rotation import Ring, Seat, State

PREVIEW = 10  # picks that an answer looks ahead


@dataclass(frozen=True, slots=True)
class Member:
    """A member: what it is compared by, what the ring and what eligibility need to know."""

    user_id: str
    name: str | None
    order: int
    weight: int
    credit_back: bool
    person: Person

    @property
    def key(self) -> str:
        """What is compared: 15-character ids brought to 18."""
        return record_key(self.user_id)

    @property
    def seat(self) -> Seat:
        """As the ring sees it."""
        return Seat(self.weight, self.person.active)


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool with its members in base order; `ring` and `state` are aligned with them."""

    id: str
    name: str
    policy: Policy
    members: tuple[Member, ...]
    ring: Ring
    state: State
    version: int = 1
    sequence: int = 0
    epoch: int = 0
    times: dict[str, datetime] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Active members, as `pool_size` counts them."""
        return sum(eligibility.counted_active(member.person) for member in self.members)


def member(body: models.Member) -> Member:
    """A member from the wire."""
    there = eligibility.zone(body.timezone)
    blocks = body.working_hours
    person = Person(
        active=body.active,
        timezone=body.timezone,
        hours=None if blocks is None else hours.week(block.block() for block in blocks),
        holidays=frozenset(body.holidays),
        out_of_office=tuple(absence.moments(there) for absence in body.out_of_office),
        caps=eligibility.Caps(**body.caps.model_dump()),
    )
    return Member(body.user_id, body.name, body.order, body.weight, body.credit_back, person)


def wire(someone: Member) -> dict[str, Any]:
    """A member as requests and answers carry it."""
    person, caps = someone.person, someone.person.caps
    names = ("days", "from", "to")
    blocks = None if person.hours is None else hours.blocks(person.hours)
    return {
        "user_id": someone.user_id,
        "name": someone.name,
        "active": person.active,
        "weight": someone.weight,
        "order": someone.order,
        "timezone": person.timezone,
        "working_hours": blocks and [dict(zip(names, b, strict=True)) for b in blocks],
        "holidays": sorted(day.isoformat() for day in person.holidays),
        "out_of_office": [
            {"from": clock.iso(first), "to": clock.iso(last)}
            for first, last in person.out_of_office
        ],
        "caps": {name: getattr(caps, name) for name in ("hour", "day", "week", "open")},
        "credit_back": someone.credit_back,
    }


def checked(members: Sequence[Member]) -> tuple[Member, ...]:
    """Members in base order. Raises BadRequest for one who is there twice, and for too many."""
    seen: set[str] = set()
    for number, someone in enumerate(members):
        if someone.key in seen:
            raise models.wrong(("members", number, "user_id"), "is in the pool twice")
        seen.add(someone.key)
    if len(members) > models.MOST_MEMBERS:
        raise models.wrong(("members",), f"at most {models.MOST_MEMBERS} members")
    if sum(m.weight for m in members if m.person.active) > models.MOST_WEIGHT:
        raise models.wrong(
            ("members",), f"the weights of active members may sum to {models.MOST_WEIGHT:,}"
        )
    return tuple(sorted(members, key=lambda someone: someone.order))


def made(name: str, policy: Policy, members: Sequence[Member]) -> Pool:
    """A pool that nobody has used."""
    placed = checked(members)
    ring = rotation.lay([someone.seat for someone in placed])
    return Pool("", name, policy, placed, ring, rotation.fresh(ring))


def changed(pool: Pool, policy: Policy, members: Sequence[Member]) -> Pool:
    """The pool with other members: who stays keeps its turns and its share of a wait.

    It keeps the spelling of its id too: the log and the caps know it by that.
    """
    was = {someone.key: place for place, someone in enumerate(pool.members)}
    placed, before = [], []
    for someone in checked(members):
        old = was.get(someone.key)
        before.append(old)
        placed.append(someone if old is None else _same(pool.members[old], someone))
    ring = rotation.lay([someone.seat for someone in placed])
    state = rotation.carry_over(pool.ring, pool.state, ring, before)
    return replace(pool, policy=policy, members=tuple(placed), ring=ring, state=state)


def _same(old: Member, new: Member) -> Member:
    person = replace(new.person, crm_active=old.person.crm_active)
    return replace(new, user_id=old.user_id, person=person)


def rules(policy: Policy, *, exclude_inactive: bool = True) -> Rules:
    """What eligibility asks of a policy."""
    held = policy.hold_minutes if policy.skip == "hold" else 0
    return Rules(exclude_inactive, policy.respect_schedule, held)


def catch_up(policy: Policy) -> int:
    """For how many turns a clock runs on while its member is away."""
    return policy.max_catch_up if policy.skip == "catch_up" else 0


def view(pool: Pool, counts: dict[str, Counts], at: datetime) -> dict[str, Any]:
    """A pool as answers show it, with who may be picked now and who is next."""
    asked = rules(pool.policy)
    reasons = [
        eligibility.reason(m.person, at, counts.get(m.user_id, eligibility.NOTHING), asked)
        for m in pool.members
    ]
    return {
        **line(pool),
        "policy": pool.policy.model_dump(),
        "at_top": [pool.members[i].user_id for i in pool.state.at_top],
        "next": _next(pool, reasons),
        "members": [
            {
                **wire(someone),
                "crm_active": someone.person.crm_active,
                "turns": pool.state.turns[i],
                "wait": round(pool.state.waits[i] * len(pool.ring.gaps[i]) / pool.ring.length, 3),
                "eligible": reasons[i] in (None, rotation.BACK_SOON),
                "reason": reasons[i],
            }
            for i, someone in enumerate(pool.members)
        ],
    }


def line(pool: Pool) -> dict[str, Any]:
    """What a list shows of a pool."""
    return {
        "pool": pool.name,
        "id": pool.id,
        "version": pool.version,
        "sequence": pool.sequence,
        "rotation_epoch": pool.epoch,
        "pool_size": pool.size,
        **{name: clock.iso(moment) for name, moment in pool.times.items()},
    }


def _next(pool: Pool, reasons: Sequence[str | None]) -> list[str]:
    state, names = pool.state, []
    for _ in range(PREVIEW):
        state, pick = rotation.step(pool.ring, state, reasons, catch_up(pool.policy))
        if pick is not None:
            names.append(pool.members[pick.member].user_id)
    return names
