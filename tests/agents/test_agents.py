"""Operations 1 to 5: agents are stored whole, named once, and refused with a reason."""

import asyncio

import pytest
from callers import code_of

LINE = {"name", "description", "model", "status", "created_at", "updated_at", "id", "labels"}
WHOLE = LINE | {
    "system_prompt",
    "connectors",
    "surfaces",
    "privacy_level",
    "guardrails",
    "schedule",
}
FULL = {
    "name": "full",
    "description": "Does everything",
    "system_prompt": "You are thorough.\nAnd polite.",
    "model": "small",
    "connectors": ["gmail", "web-search"],
    "surfaces": ["whatsapp", "slack"],
    "privacy_level": "strict",
    "guardrails": {
        "max_cost_per_run": 1.5,
        "max_cost_per_day": 20.0,
        "max_steps": 5,
        "max_seconds": 60,
        "max_tokens_per_step": 100,
        "block_pii": True,
        "require_approval": ["gmail.send", "write"],
        "approval_ttl_hours": 1,
    },
    "labels": {"team": "ops", "": "empty", "emoji": "🌱"},
    "id": "my-own_ID-1",
}


async def test_every_field_comes_back(api):
    made = await api.post("/v1/agents", json=FULL)
    assert (made.status_code, set(made.json())) == (201, WHOLE)
    got = (await api.get("/v1/agents/full")).json()
    assert got == made.json()
    assert {k: got[k] for k in FULL} == FULL
    assert (got["status"], got["schedule"]) == ("active", None)
    assert got["created_at"] == got["updated_at"]


async def test_defaults(api):
    made = (await api.post("/v1/agents", json={"name": "bare"})).json()
    assert made["model"] == "auto"
    assert made["privacy_level"] == "standard"
    assert (made["description"], made["system_prompt"]) == ("", "")
    assert (made["connectors"], made["surfaces"], made["labels"]) == ([], [], {})
    assert made["id"].startswith("agent_")
    assert made["guardrails"] == {
        "max_cost_per_run": None,
        "max_cost_per_day": None,
        "max_steps": 20,
        "max_seconds": 900,
        "max_tokens_per_step": 4096,
        "block_pii": False,
        "require_approval": [],
        "approval_ttl_hours": 72,
    }


async def test_lists_are_paged_both_ways(api):
    for n in range(5):
        await api.post("/v1/agents", json={"name": f"a{n}"})
    first = (await api.get("/v1/agents?per_page=2")).json()
    assert [a["name"] for a in first["agents"]] == ["a4", "a3"]
    assert set(first["agents"][0]) == LINE
    assert (first["total"], first["page"], first["per_page"]) == (5, 1, 2)
    names, token = [], ""
    while token is not None:
        page = (await api.get(f"/v1/agents?pageSize=2&pageToken={token}")).json()
        names += [a["name"] for a in page["agents"]]
        token = page["nextPageToken"]
    assert names == ["a4", "a3", "a2", "a1", "a0"]
    assert (await api.get("/v1/agents?page=4&per_page=2")).json()["agents"] == []


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-1",
        "page=x",
        "page=1.5",
        "page=99999999999999999999999",
        "per_page=0",
        "per_page=101",
        "pageSize=0",
        "pageToken=p0",
        "pageToken=p-1",
        "pageToken=q1",
        "pageToken=p%C2%B2",  # a digit to Python, not to int()
        "pageToken=%D9%A1",
        "pageToken=p",
        "pageToken=%00",
    ],
)
async def test_wrong_pages_name_the_parameter(api, query):
    answer = await api.get(f"/v1/agents?{query}")
    assert (answer.status_code, code_of(answer)) == (400, "bad_request")
    error = answer.json()["error"]
    assert error["message"].startswith(query.split("=")[0])
    assert error["details"][0]["loc"] == ["query", query.split("=")[0]]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "A"}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "a_b"}, "name"),
        ({"name": "a" * 64}, "name"),
        ({"name": "a\n"}, "name"),
        ({"name": "a", "surprise": 1}, "surprise"),
        ({"name": "a", "status": "paused"}, "status"),
        ({"name": "a", "created_at": "2026-01-01T00:00:00Z"}, "created_at"),
        ({"name": "a", "description": 5}, "description"),
        ({"name": "a", "description": "x" * 2001}, "description"),
        ({"name": "a", "system_prompt": "x" * 100_001}, "system_prompt"),
        ({"name": "a", "connectors": "gmail"}, "connectors"),
        ({"name": "a", "connectors": ["x"] * 51}, "connectors"),
        ({"name": "a", "surfaces": [""]}, "surfaces.0"),
        ({"name": "a", "privacy_level": "secret"}, "privacy_level"),
        ({"name": "a", "guardrails": {"max_cost": 1}}, "guardrails.max_cost"),
        ({"name": "a", "guardrails": {"max_cost_per_run": 0}}, "guardrails.max_cost_per_run"),
        ({"name": "a", "guardrails": {"max_cost_per_run": "x"}}, "guardrails.max_cost_per_run"),
        ({"name": "a", "guardrails": {"max_steps": 10**30}}, "guardrails.max_steps"),
        ({"name": "a", "guardrails": None}, "guardrails"),
        ({"name": "a", "labels": {"a": 1}}, "labels.a"),
        ({"name": "a", "labels": {str(n): "" for n in range(51)}}, "labels"),
        ({"name": "a", "id": "no spaces"}, "id"),
    ],
)
async def test_wrong_fields_are_named(api, fields, named):
    answer = await api.post("/v1/agents", json=fields)
    assert (answer.status_code, code_of(answer)) == (400, "bad_request")
    assert answer.json()["error"]["message"].startswith(f"{named}: ")
    assert (await api.get("/v1/agents")).json()["total"] == 0


@pytest.mark.parametrize(
    "name", ["phone", "email", "phone-email", "research", "deep-research", "batches", "runs"]
)
async def test_reserved_names(api, name):
    answer = await api.post("/v1/agents", json={"name": name})
    assert (answer.status_code, code_of(answer)) == (400, "bad_request")
    assert (await api.get(f"/v1/agents/{name}")).status_code == 404


async def test_an_unknown_model_lists_the_names(api):
    await api.post("/v1/agents", json={"name": "a"})
    for answer in (
        await api.post("/v1/agents", json={"name": "b", "model": "gpt-99"}),
        await api.patch("/v1/agents/a", json={"model": "gpt-99"}),
    ):
        assert (answer.status_code, code_of(answer)) == (400, "bad_request")
        for name in ("auto", "small", "slow", "silent"):
            assert name in answer.json()["error"]["message"]
    for name in ("auto", "fast", "balanced", "best", "code", "vision", "slow"):
        changed = await api.patch("/v1/agents/a", json={"model": name})
        assert changed.json()["model"] == name


async def test_a_name_is_taken_once(api):
    answers = await asyncio.gather(
        *[api.post("/v1/agents", json={"name": "wanted"}) for _ in range(6)]
    )
    assert sorted(a.status_code for a in answers) == [201] + [409] * 5
    refused = next(a for a in answers if a.status_code == 409)
    assert code_of(refused) == "conflict"
    assert "wanted" in refused.json()["error"]["message"]
    same_id = [{"name": "b", "id": "one"}, {"name": "c", "id": "one"}]
    codes = [(await api.post("/v1/agents", json=body)).status_code for body in same_id]
    assert codes == [201, 409]


async def test_changes_touch_what_they_name(api):
    before = (await api.post("/v1/agents", json=FULL)).json()
    after = (await api.patch("/v1/agents/full", json={"description": "New"})).json()
    assert after == {**before, "description": "New", "updated_at": after["updated_at"]}
    assert after["updated_at"] >= before["updated_at"]
    assert (await api.get("/v1/agents/full")).json() == after
    assert (await api.patch("/v1/agents/full", json={})).json() == after


async def test_guardrails_are_merged_and_can_be_lifted(api):
    await api.post("/v1/agents", json=FULL)
    change = {"guardrails": {"max_cost_per_run": None, "max_steps": 7}}
    after = (await api.patch("/v1/agents/full", json=change)).json()["guardrails"]
    assert after == {**FULL["guardrails"], "max_cost_per_run": None, "max_steps": 7}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "other"}, "name"),
        ({"id": "other"}, "id"),
        ({"guardrails": {"max_steps": 0}}, "guardrails.max_steps"),
        ({"guardrails": {"surprise": 1}}, "guardrails.surprise"),
        ({"guardrails": {"require_approval": [5]}}, "guardrails.require_approval"),
        ({"guardrails": []}, "guardrails"),
        ({"status": "archived"}, "status"),
        ({"surprise": 1}, "surprise"),
        ({"connectors": [1]}, "connectors.0"),
    ],
)
async def test_changes_that_cannot_be(api, change, named):
    before = (await api.post("/v1/agents", json={"name": "a"})).json()
    answer = await api.patch("/v1/agents/a", json=change)
    assert (answer.status_code, code_of(answer)) == (400, "bad_request")
    assert answer.json()["error"]["message"].startswith(named)
    assert (await api.get("/v1/agents/a")).json() == before


async def test_its_own_name_and_id_are_no_change(api):
    agent = (await api.post("/v1/agents", json={"name": "a"})).json()
    body = {"name": "a", "id": agent["id"], "status": "paused"}
    assert (await api.patch("/v1/agents/a", json=body)).json()["status"] == "paused"


async def test_a_deleted_agent_frees_its_name_and_keeps_its_runs(api):
    await api.post("/v1/agents", json={"name": "a", "model": "small"})
    run = (await api.post("/v1/agents/a/runs", json={"input": {"q": "x"}})).json()["run_id"]
    await api.get(f"/v1/runs/{run}/stream")
    gone = await api.delete("/v1/agents/a")
    assert (gone.status_code, gone.content) == (204, b"")
    for method, path in (
        ("GET", "/v1/agents/a"),
        ("PATCH", "/v1/agents/a"),
        ("DELETE", "/v1/agents/a"),
        ("GET", "/v1/agents/a/runs"),
        ("POST", "/v1/agents/a/runs"),
    ):
        answer = await api.request(method, path, json={"input": {}} if method == "POST" else {})
        assert (answer.status_code, code_of(answer)) == (404, "not_found")
        assert answer.json()["error"]["message"] == "Agent 'a' not found"
    assert (await api.get(f"/v1/runs/{run}")).json()["status"] == "completed"
    again = (await api.post("/v1/agents", json={"name": "a"})).json()
    listed = (await api.get("/v1/agents")).json()
    assert [a["id"] for a in listed["agents"]] == [again["id"]]
    assert (await api.get("/v1/agents/a/runs")).json()["total"] == 0


async def test_what_was_done_is_on_record(api, db, tenant):
    agent = (await api.post("/v1/agents", json={"name": "a"})).json()
    await api.patch("/v1/agents/a", json={"description": "secret words"})
    await api.patch("/v1/agents/a", json={"name": "b"})  # refused
    await api.delete("/v1/agents/a")
    async with db.transaction(tenant.id) as tx:
        rows = await tx.all("select * from audit_log where object = 'agent' order by id")
    assert [row["action"] for row in rows] == ["agent.create", "agent.change", "agent.archive"]
    assert {row["object_id"] for row in rows} == {agent["id"]}
    assert rows[1]["detail"] == {"fields": ["description"]}
    assert "secret words" not in str(rows)
    assert all(row["actor"].startswith("key_") for row in rows)


async def test_changes_at_once_are_all_kept(api):
    await api.post("/v1/agents", json={"name": "a"})
    fields = ("max_steps", "max_seconds", "max_tokens_per_step", "approval_ttl_hours")
    await asyncio.gather(
        *[api.patch("/v1/agents/a", json={"guardrails": {field: 11}}) for field in fields]
    )
    guardrails = (await api.get("/v1/agents/a")).json()["guardrails"]
    assert [guardrails[field] for field in fields] == [11] * 4
