"""The rotation is fair: exact in every window, never more than one apart, from any history."""

import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from lantern.routing.rotation import (
    MOST_WORK,
    UNIT,
    Ring,
    Seat,
    State,
    begin_again,
    carry_over,
    count_turn,
    decide,
    fresh,
    lay,
    place_at_top,
    step,
    take_back,
)

weights = st.lists(st.integers(1, 6), min_size=1, max_size=8)
numbers = st.integers(0, sys.maxsize)


def classic(weights: list[int], turns: int) -> list[int]:
    """Smooth weighted round robin as it is usually written."""
    current, picks = [0] * len(weights), []
    for _ in range(turns):
        current = [c + w for c, w in zip(current, weights, strict=True)]
        picks.append(best := current.index(max(current)))
        current[best] -= sum(weights)
    return picks


def ring_of(weights: list[int]) -> Ring:
    return lay([Seat(weight) for weight in weights])


def out(count: int, absent: set[int], why: str = "outside_hours") -> list[str | None]:
    return [why if i in absent else None for i in range(count)]


def play(
    ring: Ring, state: State, turns: int, absent: frozenset[int] = frozenset(), catch_up: int = 0
) -> tuple[State, list[int]]:
    picks = []
    for _ in range(turns):
        state, pick = step(ring, state, out(len(ring.seats), set(absent)), catch_up)
        assert pick is not None
        picks.append(pick.member)
    return state, picks


def absences(count: int) -> st.SearchStrategy[list[tuple[set[int], int]]]:
    """A history: who was out, and for how many turns."""
    members = st.sets(st.integers(0, count - 1), max_size=max(0, count - 1))
    return st.lists(st.tuples(members, st.integers(1, 9)), max_size=25)


def lived(ring: Ring, history: list[tuple[set[int], int]]) -> State:
    state = fresh(ring)
    for absent, turns in history:
        if len(absent) < len(ring.seats):
            state, _ = play(ring, state, turns, frozenset(absent))
    return state


@given(weights)
def test_a_fresh_pool_follows_classic_smooth_weighted_round_robin(weights):
    ring = ring_of(weights)
    turns = 3 * sum(weights)
    assert play(ring, fresh(ring), turns)[1] == classic(weights, turns)


def test_the_textbook_example():
    ring = ring_of([5, 1, 1])
    assert "".join("abc"[i] for i in play(ring, fresh(ring), 14)[1]) == "aabacaa" * 2


@given(weights)
def test_gaps_are_whole_and_sum_to_the_round(weights):
    ring = ring_of(weights)
    for gaps, seat in zip(ring.gaps, ring.seats, strict=True):
        assert sum(gaps) == ring.length
        assert all(isinstance(gap, int) and gap > 0 for gap in gaps)
        assert 0 <= seat < ring.length
    assert all(type(wait) is int for wait in play(ring, fresh(ring), 5)[0].waits)


@settings(max_examples=300)
@given(st.data())
def test_every_window_is_exact_while_eligibility_is_constant(data):
    """From any reachable state, for any set of members: each gets its weight in each window."""
    given_weights = data.draw(weights)
    count = len(given_weights)
    ring = ring_of(given_weights)
    state = lived(ring, data.draw(absences(count)))
    absent = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    exact_windows(ring, state, absent)


def exact_windows(ring: Ring, state: State, absent: set[int]) -> None:
    shares = {i: len(gaps) for i, gaps in enumerate(ring.gaps) if i not in absent}
    window = sum(shares.values())
    _, picks = play(ring, state, 3 * window, frozenset(absent))
    for start in range(2 * window + 1):
        seen = picks[start : start + window]
        assert {i: seen.count(i) for i in shares} == shares, (start, picks)


@settings(max_examples=300)
@given(st.data())
def test_windows_stay_exact_after_the_pool_was_changed(data):
    """Weights, order and membership change in mid-round: what follows is exact at once."""
    before = data.draw(weights)
    ring = ring_of(before)
    state = lived(ring, data.draw(absences(len(before))))
    was = data.draw(st.permutations([*range(len(before)), None, None]))
    was = was[: data.draw(st.integers(1, len(was)))]
    now = lay([Seat(data.draw(st.integers(1, 6))) for _ in was])
    exact_windows(now, carry_over(ring, state, now, was), set())


@settings(max_examples=300)
@given(st.integers(2, 9), st.data())
def test_equal_weights_never_differ_by_more_than_one(count, data):
    """Between two members who were eligible all the time, whatever the others did."""
    ring = ring_of([1] * count)
    steady = data.draw(st.sets(st.integers(0, count - 1), min_size=2))
    state, had = fresh(ring), [0] * count
    for absent, turns in data.draw(absences(count)):
        for _ in range(turns):
            state, pick = step(ring, state, out(count, absent - steady))
            assert pick is not None
            had[pick.member] += 1
            turns_of_steady = [had[i] for i in steady]
            assert max(turns_of_steady) - min(turns_of_steady) <= 1
    assert tuple(had) == state.turns


@settings(max_examples=200)
@given(st.data())
def test_nobody_starves_while_others_flap(data):
    """Who stays eligible waits for less than two of everybody's rounds, however others come and go."""
    given_weights = data.draw(weights)
    count = len(given_weights)
    ring = ring_of(given_weights)
    steady = data.draw(st.integers(0, count - 1))
    state, since = fresh(ring), 0
    for number in data.draw(st.lists(numbers, max_size=150)):
        absent = {i for i in range(count) if number >> i & 1 and i != steady}
        state, pick = step(ring, state, out(count, absent))
        assert pick is not None
        since = 0 if pick.member == steady else since + 1
        assert since < 2 * sum(len(gaps) for gaps in ring.gaps)


def test_plain_counters_that_freeze_break_the_window_and_clocks_do_not():
    """Four equal members, two are served, one of them leaves: the others must all be next."""
    current, picks = [0] * 4, []
    for turn in range(7):
        members = range(4) if turn < 2 else (1, 2, 3)
        for i in members:
            current[i] += 1
        picks.append(best := max(members, key=current.__getitem__))
        current[best] -= len(members)
    assert picks[2:] == [2, 3, 2, 3, 1]

    ring = ring_of([1] * 4)
    state, _ = play(ring, fresh(ring), 2)
    _, after = play(ring, state, 6, frozenset({0}))
    assert all(sorted(after[i : i + 3]) == [1, 2, 3] for i in range(4))


@settings(max_examples=200)
@given(st.data())
def test_who_was_away_catches_up_by_no_more_than_its_cap(data):
    given_weights = data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=6))
    most = data.draw(st.integers(1, 20))
    ring = ring_of(given_weights)
    away = data.draw(st.integers(0, len(given_weights) - 1))
    state, _ = play(ring, fresh(ring), data.draw(st.integers(0, 10)))
    state, _ = play(ring, state, data.draw(st.integers(0, 400)), frozenset({away}), most)
    share = len(ring.gaps[away])
    assert state.waits[away] >= -(most * ring.length // share)
    window = ring.length // UNIT
    _, picks = play(ring, state, (most + 3) * window, catch_up=most)
    for rounds in range(1, most + 4):
        assert picks[: rounds * window].count(away) <= rounds * share + most + 1
    if window > 1:
        later = picks[(most + 2) * window :]
        assert later.count(away) == share, "the debt is paid once"


def test_who_forfeits_comes_back_without_a_flood():
    ring = ring_of([1] * 5)
    state, _ = play(ring, fresh(ring), 200, frozenset({2}))
    _, picks = play(ring, state, 10)
    assert [picks[:5].count(i) for i in range(5)] == [1] * 5


def test_a_clock_runs_on_for_who_is_out_for_one_object_alone():
    ring = ring_of([1, 1, 1])
    state = fresh(ring)
    state, pick = step(ring, state, ["bad_fit", None, None])
    assert pick is not None
    assert pick.member == 1
    state, pick = step(ring, state, [None, None, None])
    assert pick is not None
    assert pick.member == 0  # its turn was put off by one, not lost
    assert play(ring, state, 3)[1] == [2, 0, 1]


@given(st.data())
def test_a_turn_taken_back_was_never_given(data):
    ring = ring_of(data.draw(weights))
    state, _ = play(ring, fresh(ring), data.draw(st.integers(0, 30)))
    after, pick = step(ring, state, [None] * len(ring.seats))
    assert pick is not None
    back = take_back(ring, after, pick.member)
    assert (back.turns, back.cursors) == (state.turns, state.cursors)
    assert back.waits[pick.member] == 0
    again, second = step(ring, back, [None] * len(ring.seats))
    assert second is not None
    assert again.turns[pick.member] <= after.turns[pick.member]


def test_who_lost_a_bad_fit_is_next():
    ring = ring_of([1] * 4)
    state, picks = play(ring, fresh(ring), 6)
    assert picks == [0, 1, 2, 3, 0, 1]
    state = take_back(ring, state, 0)
    state, pick = step(ring, state, ["bad_fit", None, None, None])
    assert pick is not None
    assert pick.member == 2
    assert play(ring, state, 4)[1] == [0, 3, 0, 1]


def test_the_top_is_next_once_and_the_last_placed_comes_first():
    ring = ring_of([1] * 4)
    state = place_at_top(place_at_top(fresh(ring), 3), 2)
    assert state.at_top == (2, 3)
    methods, picks = [], []
    for _ in range(4):
        state, pick = step(ring, state, [None] * 4)
        assert pick is not None
        methods.append(pick.method)
        picks.append(pick.member)
        assert decide(pick.waits, [None] * 4) == pick.member
    assert (picks, methods) == ([2, 3, 0, 1], ["top", "top", "rotation", "rotation"])
    assert state.at_top == ()


def test_who_is_out_keeps_the_top_for_later():
    ring = ring_of([1] * 3)
    state = place_at_top(fresh(ring), 2)
    state, pick = step(ring, state, [None, None, "outside_hours"])
    assert pick is not None
    assert (pick.member, pick.method, state.at_top) == (0, "rotation", (2,))
    state, pick = step(ring, state, [None, None, None])
    assert pick is not None
    assert (pick.member, pick.method, state.at_top) == (2, "top", ())


def test_a_turn_that_is_held_says_so():
    ring = ring_of([1] * 2)
    pick = step(ring, fresh(ring), ["back_soon", None])[1]
    assert pick is not None
    assert (pick.member, pick.method) == (0, "hold")


def test_with_nobody_eligible_nothing_moves():
    ring = ring_of([1, 2])
    state = lived(ring, [(set(), 4)])
    assert step(ring, state, ["cap_day", "holiday"]) == (state, None)
    assert decide(state.waits, ["cap_day", "holiday"]) is None
    assert step(lay([]), fresh(lay([])), []) == (fresh(lay([])), None)


def test_beginning_again_keeps_the_count_of_turns():
    ring = ring_of([2, 1])
    state, _ = play(ring, fresh(ring), 4)
    again = begin_again(ring, place_at_top(state, 1))
    assert again == State(0, ring.seats, (1, 1), state.turns)


def test_a_turn_outside_the_rotation_counts():
    ring = ring_of([1] * 3)
    state = count_turn(ring, fresh(ring), 0)
    assert state.turns == (1, 0, 0)
    assert play(ring, state, 5)[1] == [1, 2, 0, 1, 2]


@settings(max_examples=200)
@given(st.data())
def test_each_decision_is_decided_again_from_what_it_was_made_from(data):
    given_weights = data.draw(weights)
    ring, state = ring_of(given_weights), None
    state = fresh(ring)
    whys = st.sampled_from([None, None, "back_soon", "bad_fit", "cap_day", "holiday", "inactive"])
    for _ in range(data.draw(st.integers(1, 30))):
        reasons = [data.draw(whys) for _ in given_weights]
        if data.draw(st.booleans()):
            state = place_at_top(state, data.draw(st.integers(0, len(given_weights) - 1)))
        state, pick = step(ring, state, reasons, catch_up=2)
        if pick is None:
            assert all(reason not in (None, "back_soon") for reason in reasons)
        else:
            assert decide(pick.waits, reasons) == pick.member


@given(weights, st.integers(0, 60))
def test_an_unchanged_pool_carries_its_rotation_over_unchanged(weights, turns):
    ring = ring_of(weights)
    state, _ = play(ring, fresh(ring), turns)
    assert carry_over(ring, state, ring, range(len(weights))) == state


def test_a_newcomer_waits_a_full_turn():
    old, new = ring_of([1] * 3), ring_of([1] * 4)
    state, _ = play(old, fresh(old), 100)  # 34, 33, 33
    joined = carry_over(old, state, new, [0, 1, 2, None])
    assert play(new, joined, 8)[1] == [1, 2, 3, 0] * 2


def test_debts_stay_turns_when_the_pool_changes():
    old, new = ring_of([1] * 4), ring_of([1, 1, 1, 1, 4])
    state, _ = play(old, fresh(old), 40, frozenset({1}), catch_up=2)
    assert state.waits[1] == -2 * old.length
    assert carry_over(old, state, new, [0, 1, 2, 3, None]).waits[1] == -2 * new.length


def test_who_is_not_active_lies_beside_the_round():
    ring = lay([Seat(1), Seat(2, active=False), Seat(1)])
    assert ring.length == 2 * UNIT
    assert ring.gaps == ((2 * UNIT,), (UNIT, UNIT), (2 * UNIT,))
    assert ring.seats == (0, UNIT // 2, UNIT)
    assert lay([Seat(3, active=False)]).length == UNIT


def test_shared_factors_of_weights_do_not_lengthen_the_round():
    assert ring_of([30, 10, 20]).length == 6 * UNIT
    assert ring_of([30, 10, 20]) == ring_of([3, 1, 2])


def test_large_pools_are_laid_evenly_and_stay_exact():
    ring = lay([Seat(1) for _ in range(500)])
    assert set(ring.seats) == {250 * UNIT}
    _, picks = play(ring, fresh(ring), 1000)
    assert picks == [*range(500)] * 2
    many = lay([Seat(1 + i % 100) for i in range(200)])
    assert all(sum(gaps) == many.length for gaps in many.gaps)


def test_the_largest_round_is_bounded_by_its_work():
    played = lay([Seat(99 if i else 100) for i in range(44)])  # just below the bound
    assert played.length // UNIT * 44 <= MOST_WORK
    assert sorted(played.gaps[0]) != [played.length // 100] * 100
    spaced = lay([Seat(99 if i else 100) for i in range(46)])  # just above it
    assert set(spaced.gaps[0]) <= {spaced.length // 100, spaced.length // 100 + 1}


def test_a_member_at_the_top_takes_one_turn_and_not_those_that_others_are_owed():
    # b has been away with its clock running on, down to twenty turns owed; then c goes to the top.
    ring = lay([Seat(1)] * 4)
    state = fresh(ring)
    for _ in range(100):
        state, _ = step(ring, state, [None, "holiday", None, None], 20)
    assert state.waits[1] == -20 * ring.length
    state = place_at_top(state, 2)
    picks = []
    for _ in range(25):
        state, pick = step(ring, state, [None] * 4, 20)
        assert pick is not None
        picks.append(pick.member)
    assert picks[:21] == [2] + [1] * 20
    assert picks.count(2) <= 2
