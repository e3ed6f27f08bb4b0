"""A pool as the Python model of routing plays it: the oracle that the SQL is held against."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from lantern.routing import rotation
from lantern.routing.eligibility import Counts, Person, Rules, counted_active, reason, starts
from lantern.routing.service import TOOK_A_TURN

LIVE = ("assigned", "accepted")


@dataclass
class Member:
    """A member of a pool, in base order."""

    user: str
    weight: int
    person: Person
    credit_back: bool = True


@dataclass(frozen=True)
class Policy:
    """What the pool's policy says."""

    skip_policy: str = "forfeit"
    max_catch_up: int = 3
    hold_minutes: int = 60
    respect_schedule: bool = True
    sticky_owner: bool = False
    sticky_counts: bool = False
    dedupe_minutes: int = 1440
    fallback: str | None = None


@dataclass
class Past:
    """An assignment that was made."""

    id: str
    record: str
    user: str
    method: str
    at: datetime
    sequence: int
    epoch: int
    status: str = "assigned"


@dataclass(frozen=True)
class Ask:
    """A call of the decision."""

    id: str
    record: str
    at: datetime
    exclude_inactive: bool = True
    owner: str | None = None
    reset: str | None = None
    top: str | None = None
    held: tuple[str, ...] | None = None  # the server's own re-routing


@dataclass
class Pool:
    """The model at work."""

    members: list[Member]
    policy: Policy
    past: list[Past] = field(default_factory=list)
    sequence: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        self.ring = rotation.lay([rotation.Seat(m.weight, m.person.active) for m in self.members])
        self.state = rotation.fresh(self.ring)
        self.users = [m.user for m in self.members]

    def assign(self, ask: Ask) -> dict[str, Any]:
        """The next decision, as the SQL function tells it."""
        seen = next((p for p in reversed(self.past) if p.record == ask.record), None)
        if seen and self._repeats(seen, ask):
            return {"verdict": "repeated", "assigned_to": seen.user, "sequence": seen.sequence}
        before = (self.state, self.epoch, seen and seen.status)
        if ask.reset:
            self._reset(ask, seen)
        reasons = self.reasons(ask)
        free = [i for i, why in enumerate(reasons) if why in (None, rotation.BACK_SOON)]
        told: dict[str, Any] = {
            "reasons": reasons,
            "eligible_size": len(free),
            "pool_size": sum(counted_active(m.person) for m in self.members),
        }
        user, method, waits = self._pick(ask, free, reasons)
        if user is None:
            self.state, self.epoch, status = before
            if seen and status:
                seen.status = status
            return {"verdict": "no_eligible_user", **told}
        self.sequence += 1
        self.past.append(Past(ask.id, ask.record, user, method, ask.at, self.sequence, self.epoch))
        told |= {"assigned_to": user, "method": method, "sequence": self.sequence}
        return {"verdict": "assigned", "epoch": self.epoch, "waits": waits, **told}

    def _repeats(self, seen: Past, ask: Ask) -> bool:
        window = timedelta(minutes=self.policy.dedupe_minutes)
        free = ask.reset is None and ask.held is None
        return free and seen.status in LIVE and seen.at > ask.at - window

    def _reset(self, ask: Ask, seen: Past | None) -> None:
        if ask.top:
            self.state = rotation.place_at_top(self.state, self.users.index(ask.top))
        elif ask.reset != "bad_fit":
            self.state = rotation.begin_again(self.ring, self.state)
            self.epoch += 1
        elif seen and seen.status in LIVE:
            seen.status = "bad_fit"
            self.give_back(seen)

    def _pick(
        self, ask: Ask, free: list[int], reasons: list[str | None]
    ) -> tuple[str | None, str, tuple[int, ...]]:
        sticky = self.policy.sticky_owner and ask.reset is None and ask.held is None
        if sticky and ask.owner in self.users and self.users.index(ask.owner) in free:
            at, waits = self.users.index(ask.owner), self.state.waits
            if self.policy.sticky_counts:
                self.state = rotation.count_turn(self.ring, self.state, at)
            return ask.owner, "sticky", waits
        catch_up = self.policy.max_catch_up if self.policy.skip_policy == "catch_up" else 0
        self.state, pick = rotation.step(self.ring, self.state, reasons, catch_up)
        if pick is not None:
            return self.users[pick.member], pick.method, pick.waits
        if ask.held is not None and ask.owner == self.policy.fallback:
            return None, "", self.state.waits  # away from the fallback itself
        return self.policy.fallback, "fallback", self.state.waits

    def reasons(self, ask: Ask) -> list[str | None]:
        """Why each member may not be picked."""
        hold = self.policy.hold_minutes if self.policy.skip_policy == "hold" else 0
        rules = Rules(ask.exclude_inactive, self.policy.respect_schedule, hold)
        bad = {p.user for p in self.past if p.record == ask.record and p.status == "bad_fit"}
        return [
            reason(m.person, ask.at, self.counts(m, ask.at), rules, self._aside(m, bad, ask))
            for m in self.members
        ]

    def _aside(self, member: Member, bad: set[str], ask: Ask) -> str | None:
        if member.user in bad:
            return "bad_fit"
        return "held_before" if member.user in (ask.held or ()) else None

    def counts(self, member: Member, at: datetime) -> Counts:
        """What counts against the member's caps."""
        had = [p for p in self.past if p.user == member.user]
        since = starts(at, member.person.timezone)
        taken = [p.at for p in had if p.status in LIVE]
        hour, day, week = (sum(when >= start for when in taken) for start in since)
        return Counts(hour, day, week, sum(p.status == "assigned" for p in had))

    def give_back(self, past: Past) -> None:
        """Undo the turn of an assignment that took one."""
        now = past.epoch == self.epoch
        if now and past.method in TOOK_A_TURN and past.user in self.users:
            at = self.users.index(past.user)
            if self.members[at].credit_back:
                self.state = rotation.take_back(self.ring, self.state, at)

    def change(self, at: int, **more: Any) -> None:
        """A member comes or goes; the ring stays."""
        self.members[at].person = replace(self.members[at].person, **more)
