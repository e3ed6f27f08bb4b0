"""A pool decides the past again: each stored assignment is one request, at its time, in its order.

Pure. What is not stored (requests that were refused or repeated) cannot be replayed.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lantern.core.db import Row
from lantern.core.sfids import record_key
from lantern.routing import eligibility, rotation
from lantern.routing.eligibility import NO_CAPS, Counts, Rules, Starts
from lantern.routing.pools.pool import Pool, catch_up, rules

MOST_WORK = 3_000_000  # looks at a member; fewer assignments are replayed where each needs many
_LIVE = frozenset({"assigned", "accepted"})


def affordable(pool: Pool) -> int:
    """How many assignments may be replayed with this pool."""
    held = rules(pool.policy).hold_minutes // 5
    watched = sum(_varies(pool, i) for i in range(len(pool.members)))
    return max(1, MOST_WORK // (len(pool.members) + watched * (2 + held) + 1))


def _varies(pool: Pool, member: int) -> bool:
    """Whether time or load decides on the member."""
    person = pool.members[member].person
    scheduled = person.hours is not None or person.holidays or person.out_of_office
    return bool(scheduled) or person.caps != NO_CAPS


@dataclass(slots=True)
class Held:
    """An assignment as the simulation made it. `member` None: a fallback has it, or nobody."""

    user: str | None
    member: int | None
    at: datetime
    why: str  # how it was decided: rotation, top, hold, sticky, fallback, ..., nobody
    status: str = "assigned"
    epoch: int = 0


@dataclass(slots=True)
class Past:
    """What is known of one record."""

    last: Held | None = None  # the newest assignment
    owner: str | None = None  # who had it in truth
    bad_fit: set[int] = field(default_factory=set)


class Replay:
    """A pool that decides the past again."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.state = rotation.fresh(pool.ring)
        self.catch_up = catch_up(pool.policy)
        self.places = {someone.key: i for i, someone in enumerate(pool.members)}
        self.varying = [i for i in range(len(pool.members)) if _varies(pool, i)]
        self.rules = {flag: rules(pool.policy, exclude_inactive=flag) for flag in (True, False)}
        self.steady = {flag: self._steady(self.rules[flag]) for flag in (True, False)}
        self.live: list[list[datetime]] = [[] for _ in pool.members]
        self.open = [0] * len(pool.members)
        self.epoch = 0
        self.held: dict[str, Held] = {}
        self.came_from: dict[str, str | None] = {}  # of each assignment: the one it replaced
        self.past: dict[tuple[str, str], Past] = {}
        self.reasons: list[str | None] = []
        self.begun: dict[str, Starts] = {}  # hour, day and week of this moment, by time zone
        self.misfits: set[tuple[str, str, datetime]] = set()  # when a record came back

    def _steady(self, asked: Rules) -> list[str | None]:
        inactive = [
            asked.exclude_inactive and not eligibility.counted_active(m.person)
            for m in self.pool.members
        ]
        return ["inactive" if out else None for out in inactive]

    def run(self, history: Sequence[Row]) -> Iterator[tuple[Row, Held]]:
        """Each stored assignment, oldest first, and who has it now."""
        endings, due, epoch = _endings(history), 0, None
        self.misfits = {
            (row["object"], row["record"], row["ended_at"])
            for row in history
            if row["status"] == "bad_fit"
        }
        for row in history:
            while due < len(endings) and endings[due][0] <= row["created_at"]:
                self._end(endings[due][1], endings[due][2])
                due += 1
            again = row["epoch"] != epoch if epoch is not None else _begins_again(row)
            epoch = row["epoch"]
            yield row, self._request(row, again)

    def _request(self, row: Row, again: bool) -> Held:
        past = self.past.setdefault((row["object"], row["record"]), Past())
        self.came_from[row["id"]] = row["rerouted_from"]
        repeated = self._repeated(row, past)
        if repeated is None:
            self._reset(row, past, again)
            held = self._decide(row, past)
            self._keep(row, held, past)
        else:
            held = Held(repeated.user, repeated.member, repeated.at, "repeated", repeated.status)
            self.held[row["id"]] = repeated
        past.owner = row["assigned_to"]
        return held

    def _repeated(self, row: Row, past: Past) -> Held | None:
        window = timedelta(minutes=self.pool.policy.dedupe_minutes)
        last = past.last
        if row["reason"] is not None or row["rerouted_from"] or last is None:
            return None
        return last if last.status in _LIVE and last.at > row["created_at"] - window else None

    def _reset(self, row: Row, past: Past, again: bool) -> None:
        if (row["object"], row["record"], row["created_at"]) in self.misfits:
            last = past.last
            if last is not None and last.status in _LIVE:
                self._close(last, "bad_fit", give_back=True)
                if last.member is not None:
                    past.bad_fit.add(last.member)
        elif again:
            self.state = rotation.begin_again(self.pool.ring, self.state)
            self.epoch += 1
        # Who was placed at the top is known from when it was served.
        top = self.places.get(record_key(row["assigned_to"]))
        if row["method"] == "top" and top is not None:
            self.state = rotation.place_at_top(self.state, top)

    def _decide(self, row: Row, past: Past) -> Held:
        at = row["created_at"]
        if row["rerouted_from"] and row["method"] in ("fallback", "escalation"):
            return Held(row["assigned_to"], None, at, row["method"])
        aside = self._holders(row) | dict.fromkeys(past.bad_fit, "bad_fit")
        self.reasons = self._reasons(row, aside)
        owner = self._sticky(row, past)
        if owner is not None:
            if self.pool.policy.sticky_counts:
                self.state = rotation.count_turn(self.pool.ring, self.state, owner)
            return Held(self.pool.members[owner].user_id, owner, at, "sticky")
        self.state, pick = rotation.step(self.pool.ring, self.state, self.reasons, self.catch_up)
        if pick is not None:
            return Held(self.pool.members[pick.member].user_id, pick.member, at, pick.method)
        fallback = self.pool.policy.fallback
        if fallback is not None:
            return Held(fallback.user_id or fallback.queue_id, None, at, "fallback")
        return Held(None, None, at, "nobody", "none")

    def _holders(self, row: Row) -> dict[int, str]:
        """Who held a record on its way to where it is re-routed from."""
        before, at = [], row["rerouted_from"]
        while at is not None:
            before.append(self.held.get(at))
            at = self.came_from.get(at)
        return {h.member: "held_before" for h in before if h is not None and h.member is not None}

    def _reasons(self, row: Row, aside: dict[int, str]) -> list[str | None]:
        at, asked = row["created_at"], self.rules[row["exclude_inactive"]]
        self.begun.clear()
        reasons = list(self.steady[row["exclude_inactive"]])
        for i in self.varying:
            person = self.pool.members[i].person
            reasons[i] = eligibility.reason(person, at, self._counts(i, at), asked, aside.get(i))
        for i, why in aside.items():
            reasons[i] = reasons[i] if reasons[i] not in (None, rotation.BACK_SOON) else why
        return reasons

    def _counts(self, member: int, at: datetime) -> Counts:
        person, times = self.pool.members[member].person, self.live[member]
        if person.caps == NO_CAPS:
            return eligibility.NOTHING
        since = self.begun.get(person.timezone)
        if since is None:
            since = self.begun[person.timezone] = eligibility.starts(at, person.timezone)
        hour, day, week = (len(times) - bisect_left(times, moment) for moment in since)
        return Counts(hour, day, week, self.open[member])

    def _sticky(self, row: Row, past: Past) -> int | None:
        if not self.pool.policy.sticky_owner or row["reason"] is not None or row["rerouted_from"]:
            return None
        # The owner of a request is kept where it decided, or differs from what the log knows.
        owner = row["prev_owner"]
        if owner is None or (row["method"] != "sticky" and owner == past.owner):
            return None
        place = self.places.get(record_key(owner))
        free = place is not None and self.reasons[place] in (None, rotation.BACK_SOON)
        return place if free else None

    def _keep(self, row: Row, held: Held, past: Past) -> None:
        self.held[row["id"]] = held
        if held.why == "nobody":
            return
        past.last = held
        held.epoch = self.epoch
        if held.member is not None:
            insort(self.live[held.member], held.at)
            self.open[held.member] += 1

    def _end(self, assignment: str, how: str) -> None:
        held = self.held.get(assignment)
        if held is None or held.status not in _LIVE:
            return
        if how != "accepted":
            sla = self.pool.policy.sla
            self._close(held, how, give_back=how == "void" or bool(sla and sla.refund_turn))
        elif held.status == "assigned":
            held.status = "accepted"
            if held.member is not None:
                self.open[held.member] -= 1

    def _close(self, held: Held, how: str, *, give_back: bool) -> None:
        if held.member is not None:
            times = self.live[held.member]
            del times[bisect_left(times, held.at)]
            self.open[held.member] -= held.status == "assigned"
            turn = held.why in ("rotation", "top", "hold") and held.epoch == self.epoch
            if give_back and turn and self.pool.members[held.member].credit_back:
                self.state = rotation.take_back(self.pool.ring, self.state, held.member)
        held.status = how


def _begins_again(row: Row) -> bool:
    known = row["reason"] in (None, "bad_fit") or row["method"] == "top" or row["rerouted_from"]
    return not known


def _endings(history: Sequence[Row]) -> list[tuple[datetime, str, str]]:
    """When stored assignments were accepted, voided or re-routed, in order."""
    found = []
    for row in history:
        if row["accepted_at"] is not None:
            found.append((row["accepted_at"], row["id"], "accepted"))
        if row["status"] in ("void", "rerouted") and row["ended_at"] is not None:
            found.append((row["ended_at"], row["id"], row["status"]))
    return sorted(found)
