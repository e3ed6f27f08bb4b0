"""What is sent again, what is not, and how long the client waits before it does."""

import time

import httpx
import pytest

import lantern_sdk
from lantern_sdk import ConnectionFailed, Lantern, RateLimited, ServerError
from lantern_sdk._retries import Attempts

from .peer import Peer, hang_up, reply

RUN = {"run_id": "run_1", "agent": "a", "status": "queued"}
BUSY = reply(503, {"error": {"code": "unavailable", "message": "not ready"}})


async def test_a_get_outlives_a_busy_server_and_a_broken_connection(lantern, peer):
    peer.plan(BUSY, hang_up, reply(200, RUN))
    assert (await lantern.do("runs", "get", "run_1")).run_id == "run_1"


async def test_a_run_is_sent_again_under_the_same_key(lantern, peer):
    peer.plan(hang_up, reply(502), reply(201, RUN), reply(201, RUN), reply(201, RUN))
    await lantern.do("runs", "create", "a", {"topic": "x"})
    await lantern.do("runs", "create", "a", {"topic": "x"})
    await lantern.do("runs", "create", "a", {"topic": "x"}, idempotency_key="mine")
    keys = [seen.headers["idempotency-key"] for seen in peer.seen]
    assert keys[0] == keys[1] == keys[2]
    assert len({keys[0], keys[3], keys[4]}) == 3
    assert keys[4] == "mine"
    for bad in ("", "caf\u00e9", "a\nb"):
        with pytest.raises(ValueError, match="printable ASCII"):
            await lantern.do("runs", "create", "a", {}, idempotency_key=bad)


async def test_an_assignment_is_sent_again_under_the_same_key(lantern, peer):
    made = {"assigned_to": "ann", "sequence": 1, "pool_size": 1, "timestamp": "2026-04-12T10:00:00Z",
            "credits_consumed": 1, "credits_remaining": 9.5, "processing_time_ms": 3, "cached": False}  # fmt: skip
    peer.plan(hang_up, reply(200, made), reply(200, made))
    for _ in range(2):
        await lantern.do("routing", "assign", "p", "lead", "1", tags={"a": "x y", "b": "1=2"})
    keys = [seen.headers["idempotency-key"] for seen in peer.seen]
    assert keys[0] == keys[1] != keys[2]
    assert peer.seen[0].headers["x-lantern-tags"] == "a=x y,b=1=2"
    assert peer.seen[0].body == {"pool": "p", "object": "lead", "sf_id": "1"}


async def test_what_only_asks_is_sent_again(lantern, peer):
    peer.plan(hang_up, reply(404))
    with pytest.raises(lantern_sdk.NotFound):
        await lantern.do("routing.pools", "simulate", "p")
    assert "idempotency-key" not in peer.seen[1].headers


@pytest.mark.parametrize(
    ("resource", "verb", "named"),
    [
        ("keys", "create", {}),
        ("agents", "update", {"description": "new"}),
        ("routing.pools", "put", {"members": [], "version": 3}),
    ],
)
async def test_what_is_not_safe_to_repeat_is_sent_once(lantern, peer, resource, verb, named):
    peer.plan(hang_up, BUSY)
    with pytest.raises(ConnectionFailed, match=r"(POST|PATCH|PUT) /v1/"):
        await lantern.do(resource, verb, "a", **named)
    with pytest.raises(ServerError, match="not ready"):
        await lantern.do(resource, verb, "a", **named)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500])
async def test_an_answer_that_stands_is_not_asked_for_again(lantern, peer, status):
    peer.plan(reply(status))
    with pytest.raises(lantern_sdk.LanternAPIError):
        await lantern.do("runs", "get", "run_1")


async def test_retry_after_is_waited_for(lantern, peer):
    peer.plan(reply(429, {"error": "slow", "retry_after": 9}, Retry_After="1"), reply(200, RUN))
    begun = time.monotonic()
    await lantern.do("runs", "get", "run_1")
    assert 1 <= time.monotonic() - begun < 5


async def test_a_long_retry_after_is_the_caller_s_to_wait(lantern, peer):
    peer.plan(reply(429, None, Retry_After="3600"))
    with pytest.raises(RateLimited) as limited:
        await lantern.do("runs", "get", "run_1")
    assert limited.value.retry_after == 3600


async def test_retries_have_an_end(kind, peer):
    caller = kind(peer.url, max_retries=1)
    peer.plan(hang_up, hang_up, BUSY, BUSY)
    with pytest.raises(ConnectionFailed) as failed:
        await caller.do("runs", "get", "run_1")
    assert isinstance(failed.value.__cause__, httpx.RequestError)
    with pytest.raises(ServerError):
        await caller.do("runs", "get", "run_1")
    await caller.close()


async def test_nobody_there(kind):
    with Peer() as gone:
        pass
    caller = kind(gone.url, max_retries=0)
    with pytest.raises(ConnectionFailed, match=f"at {gone.url}"):
        await caller.do("agents", "get", "a")
    await caller.close()


def test_a_client_of_one_s_own_is_used_and_left_open(peer):
    peer.plan(reply(200, RUN), reply(200, RUN))
    with httpx.Client(headers={"X-Team": "blue"}) as http:
        with Lantern("lnt_a", peer.url, http_client=http) as client:
            client.runs.get("run_1")
        assert not http.is_closed
        Lantern("lnt_a", peer.url, http_client=http).runs.get("run_1")
    assert [seen.headers["x-team"] for seen in peer.seen] == ["blue", "blue"]


def test_pauses_grow_to_a_cap_and_begin_anew_after_progress():
    attempts = Attempts(allowed=2000)
    pauses = [attempts.ended() or 0 for _ in range(2000)]
    assert all(0.1 * 2**n <= pause <= 0.2 * 2**n for n, pause in enumerate(pauses[:4]))
    assert all(2.5 <= pause <= 5 for pause in pauses[5:])
    assert attempts.ended() is None
    attempts.reset()
    assert (attempts.ended() or 0) <= 0.2


def test_a_request_that_cannot_be_written_is_not_tried_again():
    with pytest.raises(ConnectionFailed):
        Attempts(allowed=5).failed(httpx.LocalProtocolError("no"), "GET /v1/agents")
