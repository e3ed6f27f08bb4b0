"""Operations 6 to 10 and their aliases over real HTTP."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from servers import parse_events, text_of

from lantern_dev.model import FakeModel, words


async def make_agent(api: httpx.AsyncClient, name: str = "my-agent", **fields: Any) -> None:
    made = await api.post("/v1/agents", json={"name": name, "model": "small", **fields})
    assert made.status_code == 201, made.text


async def start(api: httpx.AsyncClient, name: str = "my-agent", **body: Any) -> str:
    body.setdefault("input", {"topic": "quantum computing"})
    made = await api.post(f"/v1/agents/{name}/runs", json=body)
    assert made.status_code == 201, made.text
    return str(made.json()["run_id"])


async def finished(api: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
    for _ in range(500):
        run = (await api.get(f"/v1/runs/{run_id}")).json()
        if run["status"] in ("completed", "failed", "cancelled"):
            return dict(run)
        await asyncio.sleep(0.02)
    raise AssertionError("the run did not end")


async def test_a_run_streams_every_token_and_ends(api: httpx.AsyncClient) -> None:
    await make_agent(api)
    made = await api.post("/v1/agents/my-agent/runs", json={"input": {"topic": "quantum"}})
    body = made.json()
    assert made.status_code == 201
    assert body["status"] == "queued"
    assert body["agent"] == "my-agent"
    stream = await api.get(f"/v1/runs/{body['run_id']}/stream")
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["cache-control"] == "no-cache"
    assert stream.headers["x-accel-buffering"] == "no"
    assert "x-ratelimit-limit" in stream.headers
    events = parse_events(stream.text)
    assert [e["seq"] for e in events] == list(range(1, 16))
    assert [e["type"] for e in events] == [
        "step.start",
        *["token"] * 12,
        "step.complete",
        "run.complete",
    ]
    assert [e["content"] for e in events[1:-2]] == words(12)
    assert events[1]["kind"] == "llm_delta"
    assert events[1]["data"] == {"content": events[1]["content"]}
    assert events[-1]["run_id"] == body["run_id"]


async def test_a_finished_run_shows_steps_tokens_and_cost(api: httpx.AsyncClient) -> None:
    await make_agent(api)
    run = await finished(api, await start(api, labels={"team": "ops"}))
    assert run["status"] == "completed"
    assert run["labels"] == {"team": "ops"}
    assert run["output"] == {"text": "".join(words(12)), "format": "markdown"}
    (step,) = run["steps"]
    assert step["name"] == "write"
    assert step["status"] == "completed"
    assert step["model_used"] == "small"
    assert step["tokens"]["output"] == 12
    assert step["duration_ms"] >= 0
    assert step["why"] == "named: 'small'"
    expected = (step["tokens"]["input"] * 1 + 12 * 2) / 1_000_000
    assert run["cost_usd"] == pytest.approx(expected)
    assert run["created_at"].endswith("Z")


async def test_documents_make_a_plan_first(api: httpx.AsyncClient, fake: FakeModel) -> None:
    await make_agent(api, system_prompt="Be exact.")
    documents = [{"title": "Brightloom", "text": "Brightloom weaves light."}]
    run = await finished(api, await start(api, input={"q": "What?", "documents": documents}))
    assert [s["name"] for s in run["steps"]] == ["plan", "write"]
    asked = fake.requests[-1]["body"]["messages"]
    assert asked[0] == {"role": "system", "content": "Be exact."}
    assert "Brightloom weaves light." in asked[1]["content"]


async def test_the_only_text_field_is_the_prompt(api: httpx.AsyncClient, fake: FakeModel) -> None:
    await make_agent(api)
    await finished(api, await start(api, input={"message": "Say something."}))
    assert fake.requests[-1]["body"]["messages"] == [{"role": "user", "content": "Say something."}]


async def test_a_late_reader_gets_what_the_live_one_got(api: httpx.AsyncClient) -> None:
    await make_agent(api)
    run_id = await start(api)
    live = (await api.get(f"/v1/runs/{run_id}/stream")).text
    late = (await api.get(f"/v1/runs/{run_id}/stream")).text
    stored = (await api.get(f"/v1/runs/{run_id}/events")).json()
    assert late == live
    assert stored["events"] == parse_events(live)
    assert stored["next_seq"] == 16


@pytest.mark.parametrize("way", ["header", "query", "alias"])
async def test_a_stream_resumes_behind_any_event(api: httpx.AsyncClient, way: str) -> None:
    await make_agent(api)
    run_id = await start(api)
    whole = parse_events((await api.get(f"/v1/runs/{run_id}/stream")).text)
    for seen in (0, 1, 7, 14):
        if way == "header":
            rest = await api.get(f"/v1/runs/{run_id}/stream", headers={"Last-Event-ID": str(seen)})
        elif way == "query":
            rest = await api.get(f"/v1/runs/{run_id}/stream?after={seen}")
        else:
            rest = await api.get(f"/v1/runs/{run_id}/events?from_seq={seen + 1}&live=true")
        assert parse_events(rest.text) == whole[seen:]
    assert (await api.get(f"/v1/runs/{run_id}/stream?after=15")).text == ""


async def test_tokens_arrive_one_by_one_while_the_model_writes(api: httpx.AsyncClient) -> None:
    await make_agent(api, model="slow")
    run_id = await start(api)
    reads = 0
    async with api.stream("GET", f"/v1/runs/{run_id}/stream") as stream:
        async for text in stream.aiter_text():
            assert text.count('"type":"token"') <= 3, "tokens were gathered"
            reads += 1
            if reads == 20:
                break
    running = (await api.get(f"/v1/runs/{run_id}")).json()
    assert running["status"] == "running"
    assert running["steps"] == [
        {"name": "write", "status": "running", "started_at": running["steps"][0]["started_at"]}
    ]
    assert (await api.post(f"/v1/runs/{run_id}/cancel")).status_code == 200


async def test_cancel_aborts_the_model_call_within_a_second(
    api: httpx.AsyncClient, fake: FakeModel
) -> None:
    await make_agent(api, model="slow")
    run_id = await start(api)
    async with api.stream("GET", f"/v1/runs/{run_id}/stream") as stream:
        lines = stream.aiter_lines()
        while "token" not in await anext(lines):
            continue
        before = fake.counts["aborted"]
        answer = await api.post(f"/v1/runs/{run_id}/cancel", json={"reason": "enough"})
        assert answer.json() == {"run_id": run_id, "status": "cancelled"}
        async with asyncio.timeout(1):
            rest = [line async for line in lines]
        assert '"type":"run.cancelled"' in "".join(rest)
        for _ in range(50):
            if fake.counts["aborted"] > before:
                break
            await asyncio.sleep(0.02)
        assert fake.counts["aborted"] == before + 1
    run = (await api.get(f"/v1/runs/{run_id}")).json()
    assert run["status"] == "cancelled"
    assert run["steps"][0]["status"] == "cancelled"
    again = await api.post(f"/v1/runs/{run_id}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


async def test_a_final_run_cannot_be_cancelled(api: httpx.AsyncClient) -> None:
    await make_agent(api)
    run_id = await start(api)
    await finished(api, run_id)
    refused = await api.post(f"/v1/runs/{run_id}/cancel")
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "conflict"


async def test_runs_are_listed_with_filter_and_paging(api: httpx.AsyncClient) -> None:
    await make_agent(api)
    made = [await start(api) for _ in range(3)]
    for run_id in made:
        await finished(api, run_id)
    first = (await api.get("/v1/agents/my-agent/runs?status=completed&limit=2")).json()
    assert [r["run_id"] for r in first["runs"]] == made[:0:-1]
    assert (first["total"], first["page"], first["per_page"]) == (3, 1, 2)
    assert (await api.get("/v1/agents/my-agent/runs?status=failed")).json()["total"] == 0
    alias = (await api.get("/v1/runs?agent=my-agent&pageSize=2")).json()
    rest = (await api.get(f"/v1/runs?pageSize=2&pageToken={alias['nextPageToken']}")).json()
    assert [r["id"] for r in alias["runs"] + rest["runs"]] == made[::-1]
    assert rest["nextPageToken"] is None


async def test_an_idempotency_key_starts_one_run(api: httpx.AsyncClient) -> None:
    await make_agent(api)
    body = {"input": {"topic": "x"}, "idempotency_key": "once"}
    first, twin = await asyncio.gather(
        api.post("/v1/agents/my-agent/runs", json=body),
        api.post("/v1/agents/my-agent/runs", json=body),
    )
    header = await api.post(
        "/v1/agents/my-agent/runs",
        json={"input": {"topic": "x"}},
        headers={"Idempotency-Key": "once"},
    )
    ids = {r.json()["run_id"] for r in (first, twin, header)}
    assert [r.status_code for r in (first, twin, header)] == [201, 201, 201]
    assert len(ids) == 1
    other = await api.post("/v1/agents/my-agent/runs", json={**body, "input": {"topic": "y"}})
    assert other.status_code == 409


async def test_the_alias_answers_with_the_stream(api: httpx.AsyncClient) -> None:
    await make_agent(api)
    body = {"agent_name": "my-agent", "input": {"topic": "x"}, "stream": True}
    streamed = await api.post("/v1/runs", json=body)
    events = parse_events(streamed.text)
    assert text_of(events) == "".join(words(12))
    plain = await api.post("/v1/runs", json={**body, "stream": False})
    assert plain.status_code == 201
    assert plain.json()["agent"] == "my-agent"


async def test_a_ticket_opens_one_stream_once(api: httpx.AsyncClient) -> None:
    await make_agent(api)
    run_id = await start(api)
    ticket = (await api.post(f"/v1/runs/{run_id}/stream-ticket")).json()["ticket"]
    async with httpx.AsyncClient(base_url=api.base_url) as nobody:
        good = await nobody.get(f"/v1/runs/{run_id}/stream?ticket={ticket}")
        spent = await nobody.get(f"/v1/runs/{run_id}/stream?ticket={ticket}")
        elsewhere = await nobody.get(f"/v1/runs/{run_id}?ticket={ticket}")
    assert parse_events(good.text)[-1]["type"] == "run.complete"
    assert (spent.status_code, elsewhere.status_code) == (401, 401)


async def test_seed_error_text_for_an_unknown_agent(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/agents/my-agent/runs", json={"input": {}})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["message"] == "Agent 'my-agent' not found"
    assert error["code"] == "not_found"
    assert error["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"guardrails": {"block_pii": True}}, "guardrails.block_pii"),
        ({"guardrails": {"max_cost_per_run": 1.0}}, "guardrails.max_cost_per_run"),
        ({"privacy_level": "strict"}, "privacy_level"),
        ({"connectors": ["gmail"]}, "connectors"),
    ],
)
async def test_what_is_not_enforced_yet_refuses(
    api: httpx.AsyncClient, fields: dict[str, Any], named: str
) -> None:
    await make_agent(api, **fields)
    answer = await api.post("/v1/agents/my-agent/runs", json={"input": {"a": "b"}})
    assert answer.status_code == 409
    assert named in answer.json()["error"]["message"]
    assert "my-agent" in answer.json()["error"]["message"]


async def test_surfaces_never_refuse(api: httpx.AsyncClient) -> None:
    await make_agent(api, surfaces=["slack", "whatsapp"])
    assert (await finished(api, await start(api)))["status"] == "completed"


async def test_local_runs_on_self_hosted_models_alone(api: httpx.AsyncClient) -> None:
    await make_agent(api, privacy_level="local", model="auto")
    run = await finished(api, await start(api))
    assert run["status"] == "failed"
    assert run["error"]["code"] == "no_model"
    assert "self_hosted" in run["error"]["message"]


async def test_a_paused_agent_starts_nothing(api: httpx.AsyncClient) -> None:
    await make_agent(api)
    await api.patch("/v1/agents/my-agent", json={"status": "paused"})
    assert (await api.post("/v1/agents/my-agent/runs", json={"input": {}})).status_code == 409


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{}", "input"),
        ('{"input": 3}', "input"),
        ('{"input": {}, "extra": 1}', "extra"),
        ('{"input": {}, "labels": {"a": 1}}', "labels.a"),
        ('{"input": {"a": 99999999999999999999999999}}', "input"),
        ('{"input": {"a": "\\ud800"}}', "input"),
        ('{"input": {}', "JSON"),
        ("", "body"),
    ],
)
async def test_bad_bodies_are_400_and_name_the_field(
    api: httpx.AsyncClient, body: str, field: str
) -> None:
    await make_agent(api)
    answer = await api.post(
        "/v1/agents/my-agent/runs", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    assert field in answer.json()["error"]["message"]
    assert (await api.get("/v1/agents/my-agent/runs")).json()["total"] == 0


async def test_nul_in_an_input_survives(api: httpx.AsyncClient) -> None:
    await make_agent(api)
    run_id = await start(api, input={"a": "x\u0000y", "b": 1})
    assert (await finished(api, run_id))["input"]["a"] == "x\u0000y"


async def test_foreign_runs_do_not_exist(api: httpx.AsyncClient, server: Any) -> None:
    await make_agent(api)
    run_id = await start(api)
    async with httpx.AsyncClient(
        base_url=server.url, headers={"Authorization": f"Bearer {server.key}"}
    ) as stranger:
        for path in (f"/v1/runs/{run_id}", f"/v1/runs/{run_id}/stream", "/v1/runs/run_nope"):
            assert (await stranger.get(path)).status_code == 404
        assert (await stranger.post(f"/v1/runs/{run_id}/cancel")).status_code == 404
    assert json.loads((await api.get(f"/v1/runs/{run_id}")).text)["run_id"] == run_id
