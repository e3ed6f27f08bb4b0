"""How a run spent its time, and its figures."""

from datetime import UTC, datetime, timedelta

import pytest

from lantern import runs
from lantern.core import clock
from lantern.gate import auth
from lantern.runs.reading import Span, spans

BEGAN = datetime(2026, 5, 4, 12, tzinfo=UTC)


def at(ms):
    return BEGAN + timedelta(milliseconds=ms)


def mark(kind, step, ms):
    return {"type": kind, "step": step, "at": clock.to_micros(at(ms)) // 1000}


def run(status="completed", started=5, finished=3000):
    return {
        "created_at": BEGAN,
        "started_at": None if started is None else at(started),
        "finished_at": None if finished is None else at(finished),
        "status": status,
    }


def step(name, start, took, status="completed", attempt=1):
    return {
        "name": name, "started_at": at(start), "duration_ms": took, "status": status, "attempt": attempt,
    }  # fmt: skip


def test_waiting_stands_apart_from_work():
    marks = [mark("step.start", "plan", 5), mark("step.start", "write", 805)]
    found = spans(run(), [step("plan", 5, 800), step("write", 805, 2000)], marks)
    assert found == [
        Span("", "queued", 0, 0, 5, "queued"),
        Span("plan", "work", 1, 5, 805, "completed"),
        Span("write", "work", 1, 805, 2805, "completed"),
    ]


def test_each_try_of_a_step_is_a_span_of_its_own():
    marks = [
        mark("step.start", "write", 5),
        mark("step.restart", "write", 700),
        mark("step.restart", "write", 1500),
    ]
    # The step's own clock began with its first try, in the attempt that finished it.
    found = spans(run(), [step("write", 1500, 900)], marks)
    assert [(s.part, s.attempt, s.start_ms, s.end_ms) for s in found[1:]] == [
        ("void", 1, 5, 700),
        ("void", 2, 700, 1500),
        ("work", 3, 1500, 2400),
    ]


def test_a_step_at_work_has_no_end_and_one_that_was_cancelled_has():
    marks = [mark("step.start", "write", 5)]
    assert spans(run("running", finished=None), [], marks)[1].end_ms is None
    cancelled = spans(run("cancelled", finished=900), [], marks)[1]
    assert (cancelled.end_ms, cancelled.status) == (900, "cancelled")


def test_a_queued_run_waits_and_nothing_else():
    assert spans(run("queued", None, None), [], []) == [Span("", "queued", 0, 0, None, "queued")]


def test_without_events_the_steps_tell():
    found = spans(run(), [step("plan", 10, 100, attempt=2)], [])
    assert found[1] == Span("plan", "work", 2, 10, 110, "completed")


@pytest.fixture
async def past(db, tenant):
    """Runs of an hour: four went well, one failed, one is queued."""
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "insert into runs (id, tenant_id, kind, agent_name, status, input, closed, cost_usd,"
            " tokens_in, tokens_out, created_at, started_at, finished_at)"
            " select 'run_' || %(t)s || 'x' || n, %(t)s, 'agent', 'a' || n %% 2,"
            " case when n = 5 then 'failed' when n = 6 then 'queued' else 'completed' end, '{}', n < 6,"
            " 0.5, 10, 20, now(), now(), case when n < 6 then now() + n * interval '1 s' end"
            " from generate_series(1, 6) n",
            {"t": tenant.id},
        )
    return clock.now() - timedelta(hours=1)


async def test_figures_add_up(db, tenant, past):
    async with db.transaction(tenant.id) as tx:
        call = auth.operator(db, tx, tenant.id)
        found = await runs.figures(call, past)
        assert (found["runs"], found["failed"], found["open"]) == (6, 1, 1)
        assert (found["p50_ms"], float(found["cost_usd"])) == (2500, 3.0)
        assert found["tokens"] == 180
        assert sum(hour["runs"] for hour in found["hours"]) == 6
        call.agents = ["a0"]
        assert (await runs.figures(call, past))["runs"] == 3
        assert (await runs.figures(call, clock.now()))["p50_ms"] is None


async def test_a_count_stops_where_it_is_told_to(db, tenant, past):
    async with db.transaction(tenant.id) as tx:
        call = auth.operator(db, tx, tenant.id)
        assert await runs.count(call, runs.Wanted(), 4) == 4
        assert await runs.count(call, runs.Wanted(), 100) == 6
        assert await runs.count(call, runs.Wanted(status="failed"), 100) == 1
