"""Whose turn it is: smooth weighted round robin in which each member has a clock of its own.

Pure, integers only. The SQL function `assign_owner` decides; this model lays the rings, explains,
simulates, and is what the tests hold the function against. docs/routing.md tells it in words.

A ring is one round, played once with smooth weighted round robin. A member's gaps are the
distances between its places on the ring; its wait counts down to its next place. Whose wait is
shortest is next. A member who is out keeps its wait: its clock stands still.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd
from typing import Literal

UNIT = 65_536  # between two neighbouring slots of a ring
MOST_WORK = 200_000  # slots times members: above this nobody plays the round, places are even

AWAY = frozenset({"out_of_office", "holiday", "outside_hours"})  # the schedule says no
ASIDE = frozenset({"bad_fit", "held_before"})  # not for this object; the clock runs on
BACK_SOON = "back_soon"  # away, and picked all the same: skip policy `hold`

Method = Literal["rotation", "top", "hold"]


@dataclass(frozen=True, slots=True)
class Seat:
    """What a ring needs to know of a member; seats are given in base order."""

    weight: int
    active: bool = True


@dataclass(frozen=True, slots=True)
class Ring:
    """A round of `length` units; each member's gaps sum to it, `seats` are the first places."""

    length: int
    gaps: tuple[tuple[int, ...], ...]
    seats: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class State:
    """Where a rotation stands. Tuples are aligned with the ring; places and cursors from 1."""

    last: int
    waits: tuple[int, ...]
    cursors: tuple[int, ...]
    turns: tuple[int, ...]
    at_top: tuple[int, ...] = ()  # members (from 0) placed at the top and not served, newest first


@dataclass(frozen=True, slots=True)
class Pick:
    """A decision: the member (from 0), how, and the waits that it was made from."""

    member: int
    method: Method
    waits: tuple[int, ...]


def lay(members: Sequence[Seat]) -> Ring:
    """Lay a round for members in base order."""
    shared = gcd(*(member.weight for member in members)) or 1
    weights = [member.weight // shared for member in members]
    playing = [i for i, member in enumerate(members) if member.active]
    slots = sum(weights[i] for i in playing) or sum(weights) or 1
    length = slots * UNIT
    places: dict[int, list[int]] = {}
    if slots * len(playing) <= MOST_WORK:
        places = _play(playing, weights, slots)
    gaps, seats = [], []
    for i, weight in enumerate(weights):
        if i in places:
            own = [slot * UNIT for slot in places[i]]
            gaps.append(_distances([*own, own[0] + length]))
            seats.append(own[0])
        else:
            gaps.append(_distances([k * length // weight for k in range(weight + 1)]))
            seats.append(gaps[i][0] // 2)
    return Ring(length, tuple(gaps), tuple(seats))


def _play(playing: list[int], weights: list[int], slots: int) -> dict[int, list[int]]:
    """One round of smooth weighted round robin: each member's slots."""
    places: dict[int, list[int]] = {i: [] for i in playing}
    current = dict.fromkeys(playing, 0)
    for slot in range(slots if playing else 0):
        for i in playing:
            current[i] += weights[i]
        best = max(playing, key=current.__getitem__)  # the first of equals
        current[best] -= slots
        places[best].append(slot)
    return places


def _distances(stops: list[int]) -> tuple[int, ...]:
    return tuple(b - a for a, b in pairwise(stops))


def fresh(ring: Ring) -> State:
    """A rotation that nobody has used."""
    count = len(ring.seats)
    return State(0, ring.seats, (1,) * count, (0,) * count)


def step(
    ring: Ring, state: State, reasons: Sequence[str | None], catch_up: int = 0
) -> tuple[State, Pick | None]:
    """Give the next turn; no Pick, and the same state, when nobody may have it.

    `reasons`: why a member may not be picked, None or `back_soon`: it may. `catch_up`: for how many
    turns at most the clocks of members who are away run on (0: they stand still).
    """
    free = [i for i, reason in enumerate(reasons) if reason is None or reason == BACK_SOON]
    if not free:
        return state, None
    waits = list(state.waits)
    _nudge(ring, state, free, waits)
    top = next((i for i in state.at_top if i in free), None)
    owed = 0
    if top is not None:
        owed, waits[top] = min(0, waits[top]), min(0, *waits) - 1
    before = tuple(waits)
    chosen = min(free, key=waits.__getitem__)  # the first of equals
    _pass(ring, reasons, waits, (max(0, waits[chosen]), catch_up))
    if top is not None:
        # Being at the top is a turn besides one's own, not the turns that others are owed.
        waits[top] = owed
    rest = tuple(i for i in state.at_top if i != top)
    moved = _turn(ring, replace(state, waits=tuple(waits), at_top=rest), chosen)
    method: Method = "hold" if reasons[chosen] == BACK_SOON else "rotation"
    pick = Pick(chosen, "top" if top is not None else method, before)
    return replace(moved, last=chosen + 1), pick


def _nudge(ring: Ring, state: State, free: list[int], waits: list[int]) -> None:
    # A clock that stood still may name a moment on which its member was already passed over, or
    # already served, in this walk through the base order: one unit sets it on the right side.
    for i in free:
        if waits[i] == 0 and i + 1 <= state.last:
            waits[i] = 1
        elif 0 < state.last < i + 1 and waits[i] == _gap_before(ring, i, state.cursors[i]):
            waits[i] -= 1


def _pass(
    ring: Ring, reasons: Sequence[str | None], waits: list[int], time: tuple[int, int]
) -> None:
    """Let `time[0]` units pass, for those who are away down to `time[1]` turns owed."""
    elapsed, catch_up = time
    if elapsed == 0:
        return
    for i, reason in enumerate(reasons):
        if reason is None or reason == BACK_SOON or reason in ASIDE:
            waits[i] -= elapsed
        elif catch_up and reason in AWAY:
            most = -(catch_up * ring.length // len(ring.gaps[i]))
            waits[i] = max(waits[i] - elapsed, min(waits[i], most))


def count_turn(ring: Ring, state: State, member: int) -> State:
    """A turn outside the rotation that counts all the same (a sticky owner's)."""
    return _turn(ring, state, member)


def _turn(ring: Ring, state: State, member: int) -> State:
    gaps, cursor = ring.gaps[member], state.cursors[member]
    return replace(
        state,
        waits=_with(state.waits, member, state.waits[member] + gaps[cursor - 1]),
        cursors=_with(state.cursors, member, cursor % len(gaps) + 1),
        turns=_with(state.turns, member, state.turns[member] + 1),
    )


def place_at_top(state: State, member: int) -> State:
    """The member is next as soon as it may be picked; of several the one placed last."""
    return replace(state, at_top=(member, *(i for i in state.at_top if i != member)))


def take_back(ring: Ring, state: State, member: int) -> State:
    """Undo the member's last pick: it has that turn ahead of it again."""
    gaps = ring.gaps[member]
    cursor = (state.cursors[member] - 2) % len(gaps) + 1
    return replace(
        state,
        waits=_with(state.waits, member, state.waits[member] - gaps[cursor - 1]),
        cursors=_with(state.cursors, member, cursor),
        turns=_with(state.turns, member, state.turns[member] - 1),
    )


def begin_again(ring: Ring, state: State) -> State:
    """A new round from the base order; what each has had stays counted."""
    return replace(fresh(ring), turns=state.turns)


def carry_over(old: Ring, state: State, new: Ring, was: Sequence[int | None]) -> State:
    """The rotation on a changed pool. `was`: who each member of the new ring was; None: new.

    Who stays keeps its turns and its share of a wait; who is new waits a full turn.
    """
    if all(i is None for i in was):
        return fresh(new)
    waits, cursors, turns = [], [], []
    for now, before in enumerate(was):
        cursor = 1 if before is None else (state.cursors[before] - 1) % len(new.gaps[now]) + 1
        gap = _gap_before(new, now, cursor)
        cursors.append(cursor)
        turns.append(0 if before is None else state.turns[before])
        waits.append(gap if before is None else _rescaled(old, state, (before, gap), new, now))
    stays = {before: now for now, before in enumerate(was) if before is not None}
    return State(
        stays.get(state.last - 1, -1) + 1,
        tuple(waits),
        tuple(cursors),
        tuple(turns),
        tuple(stays[i] for i in state.at_top if i in stays),
    )


def _rescaled(old: Ring, state: State, at: tuple[int, int], new: Ring, now: int) -> int:
    before, gap = at
    wait = state.waits[before]
    if wait >= 0:
        return -(-wait * gap // _gap_before(old, before, state.cursors[before]))
    # Turns owed stay turns owed, rounded towards none.
    return -(-wait * len(old.gaps[before]) * new.length // (old.length * len(new.gaps[now])))


def decide(waits: Sequence[int], reasons: Sequence[str | None]) -> int | None:
    """The member (from 0) that a stored decision must have picked; None: nobody was eligible."""
    free = [i for i, reason in enumerate(reasons) if reason is None or reason == BACK_SOON]
    return min(free, key=waits.__getitem__, default=None)


def _gap_before(ring: Ring, member: int, cursor: int) -> int:
    return ring.gaps[member][cursor - 2]  # cyclic: before the first comes the last


def _with(values: tuple[int, ...], place: int, value: int) -> tuple[int, ...]:
    return (*values[:place], value, *values[place + 1 :])
