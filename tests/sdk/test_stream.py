"""A stream arrives once and whole, over connections that break anywhere."""

import asyncio
import json

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lantern_sdk
from lantern_sdk import (
    AsyncLantern,
    Lantern,
    NotFound,
    RunCancelled,
    RunFailed,
    StepRestartEvent,
    StreamInterrupted,
    TokenEvent,
    UnexpectedAnswer,
    UnknownEvent,
)
from lantern_sdk._follow import Follower

from .peer import frame, hang_up, reply, stream

WORDS = ["Glow", "worms ", "and ", "caf\u00e9s, ", "\u4f60\u597d, ", "line\nbreak ", "end."]


def event(seq, type_, **fields):
    return {
        "seq": seq,
        "type": type_,
        "run_id": "run_1",
        "ts": "2026-04-12T10:00:00.123Z",
        **fields,
    }


RUN = [
    event(1, "step.start", step="plan"),
    event(2, "token", content="a plan", kind="llm_delta", data={"content": "a plan"}),
    event(3, "step.complete", step="plan", duration_ms=820),
    event(4, "step.start", step="write"),
    *(event(5 + i, "token", content=word) for i, word in enumerate(WORDS)),
    event(12, "step.complete", step="write", duration_ms=9),
    event(13, "run.complete"),
]
WIRE = b"".join(frame(**e) for e in RUN)
SSE = httpx.Response(200, headers={"content-type": "text/event-stream"})


async def test_a_stream_that_breaks_again_and_again_arrives_once(lantern, peer):
    # In an id, in a token, between events, before the first byte, and no answer at all.
    peer.plan(
        *(stream(RUN, cut=n) for n in (160, 700, 0)), hang_up, reply(503), stream(RUN, cut=500)
    )
    peer.plan(stream(RUN))
    events = await lantern.events()
    assert [e.seq for e in events] == list(range(1, 14))
    assert [e.content for e in events if isinstance(e, TokenEvent)] == ["a plan", *WORDS]
    asked = [int(seen.headers.get("last-event-id", 0)) for seen in peer.seen]
    assert asked[0] == 0
    assert asked == sorted(asked)
    assert len(set(asked)) >= 3
    assert {seen.headers["accept"] for seen in peer.seen} == {"text/event-stream"}


async def test_what_comes_twice_is_dropped(lantern, peer):
    peer.plan(stream(RUN, cut=1000, replay=True), stream(RUN, replay=True))
    assert [e.seq for e in await lantern.events()] == list(range(1, 14))


async def test_after_begins_in_the_middle(lantern, peer):
    peer.plan(stream(RUN))
    assert [e.seq for e in await lantern.events(after=10)] == [11, 12, 13]
    assert peer.seen[0].headers["last-event-id"] == "10"


async def test_text_is_the_last_step_s_and_run_starts_it(lantern, peer):
    peer.plan(reply(201, {"run_id": "run_1", "status": "queued"}), stream(RUN), stream(RUN))
    following = await lantern.do("runs", "run", "a", {"topic": "x"})
    text = following.text()
    assert "".join(WORDS) == (await text if asyncio.iscoroutine(text) else text)
    assert following.steps == {"plan": "a plan", "write": "".join(WORDS)}
    assert following.last_seq == 13
    assert await lantern.of_stream("text") == "".join(WORDS)


async def test_a_takeover_voids_the_text_of_its_step(lantern, peer):
    lost = [*RUN[:7], event(8, "token", content="never written down")]
    anew = [
        event(1_000_001, "step.restart", step="write", attempt=2),
        event(1_000_002, "token", content="again"),
        event(1_000_003, "run.complete"),
    ]
    whole = sum(len(frame(**e)) for e in lost) + len(": heartbeat\n\n")
    for _ in range(2):
        peer.plan(stream(lost, cut=whole), stream([*RUN[:6], *anew]))
    events = await lantern.events()
    assert isinstance(events[8], StepRestartEvent)
    assert [e.seq for e in events[7:]] == [8, 1_000_001, 1_000_002, 1_000_003]
    assert await lantern.of_stream("text") == "again"


async def test_result_is_the_run(lantern, peer):
    peer.plan(stream(RUN), reply(200, {"run_id": "run_1", "status": "completed", "tokens_out": 7}))
    assert (await lantern.of_stream("result")).tokens_out == 7


async def test_a_failed_run_and_a_cancelled_one(lantern, peer):
    wrong = {"code": "no_model", "message": "no model is up", "step": "write"}
    peer.plan(stream([event(1, "run.failed", error=wrong)]), stream([event(1, "run.cancelled")]))
    with pytest.raises(RunFailed, match="run_1 failed: no model is up") as failed:
        await lantern.of_stream("text")
    assert (failed.value.code, failed.value.step) == ("no_model", "write")
    with pytest.raises(RunCancelled):
        await lantern.of_stream("text")


async def test_a_server_that_never_gets_further_is_given_up(kind, peer):
    caller = kind(peer.url, max_resumes=2)
    running = reply(200, {"run_id": "run_1", "status": "running"})
    # An end without news raises the question whether the run is over; it is not.
    peer.plan(stream(RUN, cut=700), stream(RUN[:5]), running, hang_up)
    with pytest.raises(StreamInterrupted) as broken:
        await caller.events()
    assert (broken.value.run_id, broken.value.last_seq) == ("run_1", 5)
    await caller.close()


async def test_a_reader_who_knows_the_end_already_is_done(lantern, peer):
    for status in ("completed", "cancelled"):
        peer.plan(stream(RUN), reply(200, {"run_id": "run_1", "status": status}))
        assert await lantern.events(after=13) == []


async def test_a_doubt_that_cannot_be_settled_does_not_end_the_reading(kind, peer):
    caller = kind(peer.url, max_retries=0)
    peer.plan(stream([]), hang_up, stream(RUN))
    assert len(await caller.events()) == 13
    await caller.close()


async def test_refusals_are_raised_and_other_pages_told_apart(lantern, peer):
    peer.plan(reply(404, {"error": {"code": "not_found", "message": "Run 'run_1' not found"}}))
    with pytest.raises(NotFound, match="Run 'run_1' not found"):
        await lantern.events()
    peer.plan(reply(200, {"hello": "world"}))
    with pytest.raises(UnexpectedAnswer, match="not a stream of events"):
        await lantern.events()


async def test_events_of_a_newer_server_pass(lantern, peer):
    news = [
        event(1, "step.pondered", depth=3),
        event(2, "token", text="another shape"),
        event(3, "progress", done=1, total=2, colour="blue"),
        event(4, "run.failed", error="plain words"),
    ]
    peer.plan(stream(news), stream(news))
    first, second, third, _ = await lantern.events()
    assert isinstance(first, UnknownEvent)
    assert (first.type, first.model_extra) == ("step.pondered", {"depth": 3})
    assert isinstance(second, UnknownEvent)
    assert third.colour == "blue"
    with pytest.raises(RunFailed, match="plain words"):
        await lantern.of_stream("text")


def test_leaving_early_closes_the_connection(peer):
    peer.plan(stream(RUN, cut=900))
    with Lantern("lnt_a", peer.url) as client, client.runs.stream("run_1") as following:
        assert next(following.tokens()) == "a plan"
        following.close()
        with pytest.raises(StreamInterrupted):
            following.text()


async def test_leaving_early_closes_the_connection_async(peer):
    peer.plan(stream(RUN, cut=900))
    async with AsyncLantern("lnt_a", peer.url) as client:
        async with client.runs.stream("run_1") as following:
            assert await anext(following.tokens()) == "a plan"
        with pytest.raises(StreamInterrupted):
            await following.text()


# --- the follower alone: every place to cut, and time -----------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, len(WIRE))), st.integers(1, 50))
def test_the_transcript_is_whole_wherever_it_is_cut(cuts, piece):
    follower = Follower("run_1", max_resumes=len(cuts))
    got = []
    for cut in [*cuts, len(WIRE)]:
        after = int((follower.call().headers or {}).get("Last-Event-ID", 0))
        wire = b"".join(frame(**e) for e in RUN if e["seq"] > after)[:cut]
        follower.opened(SSE)
        for start in range(0, len(wire), piece):
            got += follower.feed(wire[start : start + piece])
        if follower.finished:
            break
        follower.dropped(httpx.ReadError("cut"))
    assert [e.seq for e in got] == list(range(1, 14))
    assert follower.answer() == "".join(WORDS)


def test_a_connection_that_lived_on_heartbeats_was_a_good_one():
    now = 0.0
    follower = Follower("run_1", max_resumes=1, clock=lambda: now)
    for _ in range(5):
        follower.opened(SSE)
        now += 15
        assert list(follower.feed(b": heartbeat\n\n")) == []
        follower.closed()
    follower.opened(SSE)
    list(follower.feed(b": heartbeat\n\n"))  # at once: proves nothing
    with pytest.raises(StreamInterrupted):
        follower.closed()


def test_garbage_is_not_an_event():
    follower = Follower("run_1", max_resumes=1)
    follower.opened(SSE)
    for data in ("{", json.dumps([1]), "NaN"):
        with pytest.raises(UnexpectedAnswer):
            list(follower.feed(f"data: {data}\n\n".encode()))


def test_every_event_of_the_contract_has_its_class():
    fields = {
        "step.start": {"step": "s"}, "token": {"content": "c"}, "step.complete": {"step": "s"},
        "step.failed": {"step": "s", "error": {"code": "model_error", "message": "m"}},
        "step.restart": {"step": "s", "attempt": 2},
        "tool.call": {"step": "s", "tool": "t", "arguments": {}},
        "tool.result": {"step": "s", "tool": "t", "ok": True},
        "approval.required": {"step": "s", "approval_id": "apr_1"},
        "progress": {"done": 1, "total": 2}, "run.complete": {}, "run.failed": {"error": {}},
        "run.cancelled": {},
    }  # fmt: skip
    for type_, rest in fields.items():
        seen = lantern_sdk._events.parse(json.dumps({"type": type_, **rest}), "7")
        assert type(seen) is not UnknownEvent, type_
        assert (seen.type, seen.seq) == (type_, 7)
