"""What each call sends, and what it makes of the answer."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from lantern_sdk import Guardrails, NotFound, RateLimit, Tokens, UnexpectedAnswer

from .peer import reply

AGENT = {
    "name": "a",
    "description": None,
    "model": "auto",
    "status": "active",
    "created_at": "2026-04-10T12:00:00Z",
    "guardrails": {"max_cost_per_run": 1.0, "block_pii": False},
    "schedule": {"cron": "0 9 * * 1-5", "timezone": "America/New_York"},
    "of_a_newer_server": [1],
}
RUN = {"run_id": "run_1", "agent": "a", "status": "queued", "created_at": "2026-04-12T10:00:00Z"}


def sent(peer):
    return [(seen.method, seen.path, seen.body) for seen in peer.seen]


async def test_agents(lantern, peer):
    peer.plan(reply(201, AGENT), reply(200, AGENT), reply(200, AGENT), reply(204))
    limits = Guardrails(max_cost_per_run=0.5)
    made = await lantern.do("agents", "create", "a", connectors=("gmail",), guardrails=limits)
    await lantern.do("agents", "get", "a")
    await lantern.do("agents", "update", "a", description="new", status="paused")
    assert await lantern.do("agents", "delete", "a") is None
    assert sent(peer) == [
        ("POST", "/v1/agents",
         {"name": "a", "connectors": ["gmail"], "guardrails": {"max_cost_per_run": 0.5}}),
        ("GET", "/v1/agents/a", None),
        ("PATCH", "/v1/agents/a", {"description": "new", "status": "paused"}),
        ("DELETE", "/v1/agents/a", None),
    ]  # fmt: skip
    assert made.created_at == datetime(2026, 4, 10, 12, tzinfo=UTC)
    assert made.schedule.timezone == "America/New_York"
    assert made.guardrails.max_cost_per_run == 1.0
    assert made.model_extra == {"of_a_newer_server": [1]}


async def test_a_listing_reads_all_pages(lantern, peer):
    names = ["a", "b", "c", "d", "e"]
    for number in (1, 2, 3):
        part = names[2 * number - 2 : 2 * number]
        page = {"agents": [{"name": name} for name in part], "total": 5}
        peer.plan(reply(200, {**page, "page": number, "per_page": 2}))
    assert [agent.name for agent in await lantern.all("agents", "list", per_page=2)] == names
    assert [seen.query["page"] for seen in peer.seen] == ["1", "2", "3"]
    assert {seen.query["per_page"] for seen in peer.seen} == {"2"}


async def test_a_listing_ends_when_the_total_lies(lantern, peer):
    full = {"runs": [RUN], "total": 9, "page": 1, "per_page": 1}
    peer.plan(reply(200, full), reply(200, {**full, "runs": [], "page": 2}))
    runs = await lantern.all("runs", "list", "a", status="queued", per_page=1)
    assert [run.run_id for run in runs] == ["run_1"]
    assert peer.seen[0].query == {"status": "queued", "page": "1", "per_page": "1"}
    assert peer.seen[0].path == "/v1/agents/a/runs"


async def test_runs(lantern, peer):
    done = RUN | {
        "status": "completed",
        "steps": [{"name": "write", "status": "completed", "duration_ms": 820,
                   "model_used": "small", "tokens": {"input": 150, "output": 340}}],
        "output": {"text": "Hello", "format": "markdown"},
        "cost_usd": 0.0012,
    }  # fmt: skip
    peer.plan(
        reply(201, RUN), reply(200, done), reply(200, {"run_id": "run_1", "status": "cancelled"})
    )
    moment = datetime(2026, 4, 12, tzinfo=UTC)
    run = await lantern.do("runs", "create", "a", {"when": moment}, labels={"team": "x"})
    got = await lantern.do("runs", "get", "run_1")
    ended = await lantern.do("runs", "cancel", "run_1", reason="enough")
    assert sent(peer) == [
        ("POST", "/v1/agents/a/runs",
         {"input": {"when": "2026-04-12T00:00:00Z"}, "labels": {"team": "x"}}),
        ("GET", "/v1/runs/run_1", None),
        ("POST", "/v1/runs/run_1/cancel", {"reason": "enough"}),
    ]  # fmt: skip
    assert (run.finished, got.finished, ended.status) == (False, True, "cancelled")
    assert got.steps[0].tokens == Tokens(input=150, output=340)
    assert (got.output.text, got.cost_usd) == ("Hello", Decimal("0.0012"))


async def test_keys(lantern, peer):
    key = {"id": "key_1", "name": "ci", "prefix": "lnt_ab", "scopes": ["write"], "agents": ["*"],
           "created_at": "2026-04-12T10:00:00Z", "expires_at": None}  # fmt: skip
    page = {"keys": [key], "total": 1, "page": 1, "per_page": 100}
    peer.plan(reply(201, {"key": key, "raw_key": "lnt_abc"}), reply(200, page), reply(204))
    until = datetime(2027, 1, 1, tzinfo=UTC)
    made = await lantern.do("keys", "create", "ci", scopes=["write"], expires_at=until)
    listed = await lantern.all("keys", "list")
    await lantern.do("keys", "delete", "key_1")
    body = {"name": "ci", "scopes": ["write"], "expires_at": "2027-01-01T00:00:00Z"}
    assert sent(peer) == [
        ("POST", "/v1/api-keys", body),
        ("GET", "/v1/api-keys", None),
        ("DELETE", "/v1/api-keys/key_1", None),
    ]
    assert made.raw_key == "lnt_abc"
    assert "lnt_abc" not in repr(made)
    assert listed == [made.key]


async def test_a_name_cannot_lead_elsewhere(lantern, peer):
    peer.plan(reply(404, {"error": {"code": "not_found", "message": "no"}}))
    with pytest.raises(NotFound):
        await lantern.do("agents", "get", "../runs?x=/\u00e9")
    assert (peer.seen[0].path, peer.seen[0].query) == ("/v1/agents/..%2Fruns%3Fx%3D%2F%C3%A9", {})
    for name in ("", ".", ".."):
        with pytest.raises(ValueError, match="not a name or an id"):
            await lantern.do("agents", "delete", name)


@pytest.mark.parametrize("body", [b"<html>", b"", b'"text"', b'{"status": 1}', b"\xff"])
async def test_another_server_s_answer_is_told_from_lantern_s(lantern, peer, body):
    peer.plan(reply(200, body))
    with pytest.raises(UnexpectedAnswer, match="GET /v1/runs/run_1 answered 200"):
        await lantern.do("runs", "get", "run_1")


async def test_the_last_rate_limit_is_at_hand(lantern, peer):
    bucket = {"X_RateLimit_Limit": "300", "X_RateLimit_Remaining": "299", "X_RateLimit_Reset": "9"}
    peer.plan(reply(200, RUN, **bucket), reply(200, RUN))
    assert lantern.client.last_rate_limit is None
    for _ in range(2):  # an answer without the headers leaves the earlier word
        await lantern.do("runs", "get", "run_1")
        assert lantern.client.last_rate_limit == RateLimit(300, 299, 9)
