"""Operations 1 to 10 as the published reference shows them: names, statuses, shapes, words.

Every name that the reference shows must be there with the type it shows; more is allowed.
"""

import asyncio
import re
from typing import Any

import httpx
import pytest
from callers import forget_failures, make_key
from servers import parse_events

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")
RUN_ID = re.compile(r"run_\w+")

AGENT_IN_LIST = {
    "name": str,
    "description": str,
    "model": str,
    "status": "active",
    "created_at": TIME,
    "updated_at": TIME,
}
AGENT = {
    "name": "research-agent",
    "description": str,
    "system_prompt": str,
    "model": "auto",
    "connectors": ["gmail", "web-search"],
    "surfaces": ["whatsapp", "slack"],
    "privacy_level": "standard",
    "guardrails": {"max_cost_per_run": 1.0, "block_pii": False},
    "status": "active",
    "created_at": TIME,
}
DONE = {
    "name": str,
    "status": "completed",
    "duration_ms": int,
    "model_used": str,
    "tokens": {"input": int, "output": int},
}
RUNNING = {"name": str, "status": "running", "started_at": TIME}


def check(value: Any, shape: Any, where: str = "answer") -> None:
    """The value has the shape: a type, a pattern, a value, or a dictionary or list of these."""
    if isinstance(shape, dict):
        assert isinstance(value, dict), where
        for name, inner in shape.items():
            assert name in value, f"{where}.{name} is missing"
            check(value[name], inner, f"{where}.{name}")
    elif isinstance(shape, re.Pattern):
        assert shape.fullmatch(value), f"{where}: {value}"
    elif isinstance(shape, type):
        assert type(value) is shape, f"{where}: {value!r}"
    else:
        assert value == shape, where


@pytest.fixture
async def agent(api: httpx.AsyncClient) -> str:
    """An agent with default guardrails and no connectors: one that runs."""
    made = await api.post("/v1/agents", json={"name": "research-agent", "model": "slow"})
    assert made.status_code == 201
    return "research-agent"


async def start(api: httpx.AsyncClient, agent: str) -> str:
    made = await api.post(
        f"/v1/agents/{agent}/runs", json={"input": {"topic": "quantum computing"}}
    )
    return str(made.json()["run_id"])


async def test_1_list_agents(api, agent):
    answer = await api.get("/v1/agents")
    assert answer.status_code == 200
    check(answer.json(), {"total": 1, "page": 1, "per_page": 20})
    (line,) = answer.json()["agents"]
    check(line, AGENT_IN_LIST)


async def test_2_get_agent(api):
    body = {
        "name": "research-agent",
        "description": "Reads a lot and sums it up",
        "system_prompt": "You look things up.",
        "connectors": ["gmail", "web-search"],
        "surfaces": ["whatsapp", "slack"],
        "guardrails": {"max_cost_per_run": 1.00, "block_pii": False},
    }
    await api.post("/v1/agents", json=body)
    answer = await api.get("/v1/agents/research-agent")
    assert answer.status_code == 200
    check(answer.json(), AGENT)
    assert "schedule" in answer.json()


async def test_3_create_agent(api):
    body = {
        "name": "my-agent",
        "description": "Sends a note",
        "system_prompt": "You write short notes.",
        "model": "auto",
        "connectors": ["gmail"],
        "privacy_level": "standard",
    }
    answer = await api.post("/v1/agents", json=body)
    assert answer.status_code == 201
    check(answer.json(), {"name": "my-agent", "status": "active", "created_at": TIME})
    check(answer.json(), body)


async def test_4_update_agent(api, agent):
    change = {"description": "Another one", "system_prompt": "Be brief."}
    answer = await api.patch(f"/v1/agents/{agent}", json=change)
    assert answer.status_code == 200
    check(answer.json(), change)


async def test_5_delete_agent(api, agent):
    answer = await api.delete(f"/v1/agents/{agent}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await api.get(f"/v1/agents/{agent}")).status_code == 404


async def test_6_create_a_run(api, agent):
    answer = await api.post(
        f"/v1/agents/{agent}/runs", json={"input": {"topic": "quantum computing"}}
    )
    assert answer.status_code == 201
    shape = {"run_id": RUN_ID, "agent": agent, "status": "queued", "created_at": TIME}
    check(answer.json(), shape)
    await api.post(f"/v1/runs/{answer.json()['run_id']}/cancel")


async def test_7_get_run_status(api, agent):
    run_id = await start(api, agent)
    answer = await api.get(f"/v1/runs/{run_id}")
    assert answer.status_code == 200
    check(answer.json(), {"run_id": run_id, "agent": agent, "created_at": TIME, "steps": list})
    assert answer.json()["status"] in ("queued", "running")
    for step in answer.json()["steps"]:
        check(step, RUNNING)
    await api.post(f"/v1/runs/{run_id}/cancel")


async def test_7_a_finished_step(api):
    await api.post("/v1/agents", json={"name": "quick", "model": "small"})
    run_id = await start(api, "quick")
    await api.get(f"/v1/runs/{run_id}/stream")
    run = (await api.get(f"/v1/runs/{run_id}")).json()
    check(run, {"run_id": run_id, "agent": "quick", "status": "completed"})
    (step,) = run["steps"]
    check(step, DONE)


async def test_8_stream_run_events(api):
    await api.post("/v1/agents", json={"name": "quick", "model": "small"})
    run_id = await start(api, "quick")
    headers = {"Accept": "text/event-stream"}
    answer = await api.get(f"/v1/runs/{run_id}/stream", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "event:" not in answer.text
    first, token, *_, done, end = parse_events(answer.text)
    check(first, {"type": "step.start", "step": str, "timestamp": TIME})
    check(token, {"type": "token", "content": str, "timestamp": TIME})
    check(done, {"type": "step.complete", "step": first["step"], "duration_ms": int})
    check(end, {"type": "run.complete", "run_id": run_id})


async def test_9_list_runs(api):
    await api.post("/v1/agents", json={"name": "quick", "model": "small"})
    for _ in range(3):
        await api.get(f"/v1/runs/{await start(api, 'quick')}/stream")
    answer = await api.get("/v1/agents/quick/runs?status=completed&limit=2")
    assert answer.status_code == 200
    check(answer.json(), {"total": 3, "page": 1, "per_page": 2})
    assert len(answer.json()["runs"]) == 2
    check(answer.json()["runs"][0], {"run_id": RUN_ID, "agent": "quick", "status": "completed"})


async def test_10_cancel_a_run(api, agent):
    run_id = await start(api, agent)
    answer = await api.post(f"/v1/runs/{run_id}/cancel")
    assert answer.status_code == 200
    assert answer.json() == {"run_id": run_id, "status": "cancelled"}


async def test_errors(api, server, db):
    await forget_failures(db)
    missing = await api.get("/v1/agents/my-agent")
    assert missing.status_code == 404
    shape = {"code": "not_found", "message": "Agent 'my-agent' not found", "request_id": str}
    check(missing.json(), {"error": shape})
    assert missing.json()["error"]["request_id"].startswith("req_")
    async with httpx.AsyncClient(base_url=server.url, verify=False) as nobody:
        unknown = await nobody.get("/v1/agents")
    wrong = await api.post("/v1/agents", json={})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (401, "unauthorized")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "bad_request")


@pytest.mark.parametrize(("plan", "limit"), [("personal", 60), ("team", 300)])
async def test_rate_limits_of_the_plans(server, db, tenant, plan, limit):
    key = await make_key(db, tenant.id, plan=plan, limits={}, scopes=["read"])
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, verify=False) as client:
        good = await client.get("/v1/agents")
        refused = await client.post("/v1/agents", json={"name": "x"})
        await db.run("update rate set tat = now() + '65 s' where k like %s", ("key_%:plan",))
        over = await asyncio.gather(*[client.get("/v1/agents") for _ in range(2)])
    answers = [good, refused, over[0]]
    assert [a.status_code for a in answers] == [200, 403, 429]
    assert over[0].json()["error"]["code"] == "rate_limited"
    for answer in answers:
        assert answer.headers["x-ratelimit-limit"] == str(limit)
        assert answer.headers["x-ratelimit-remaining"].isdigit()
        assert answer.headers["x-ratelimit-reset"].isdigit()
