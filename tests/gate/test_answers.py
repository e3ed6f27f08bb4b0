"""What every answer carries: ids, limits, credits, and errors in the form of their family."""

import re

import pytest
from callers import RATE_HEADERS, caller, code_of, forget_failures, make_key

from lantern.core import http

FAMILIES = sorted(http.FLAT)


@pytest.fixture(autouse=True)
async def clean_address(db):
    await forget_failures(db)
    yield
    await forget_failures(db)


def check_headers(answer, *, authenticated: bool) -> None:
    for name in RATE_HEADERS:
        assert re.fullmatch(r"\d+", answer.headers[name]), name
    assert re.fullmatch(r"req_[0-9a-z]{26}", answer.headers["x-request-id"])
    assert ("x-credits-remaining" in answer.headers) is authenticated
    assert ("retry-after" in answer.headers) is (answer.status_code == 429)


async def test_every_authenticated_answer_says_where_its_limits_are(server, db, tenant, api):
    await api.post("/v1/agents", json={"name": "a", "model": "small"})
    run = (await api.post("/v1/agents/a/runs", json={"input": {}})).json()["run_id"]
    calls = [
        (200, "GET", "/v1/agents", None),
        (201, "POST", "/v1/agents", {"name": "b"}),
        (204, "DELETE", "/v1/agents/b", None),
        (400, "POST", "/v1/agents", {"name": "B"}),
        (400, "POST", "/v1/agents/a/runs", {}),
        (400, "GET", "/v1/agents?page=0", None),
        (400, "GET", f"/v1/runs/{run}/stream?after=-1", None),
        (201, "POST", "/v1/agents/a/runs", {"input": {}}),
        (200, "POST", "/v1/runs", {"agent_name": "a", "input": {}, "stream": True}),
        (200, "GET", f"/v1/runs/{run}/stream", None),
        (200, "GET", f"/v1/runs/{run}/events", None),
        (404, "GET", "/v1/runs/run_none/stream", None),
        (404, "GET", "/v1/agents/none", None),
        (404, "GET", "/v1/nope", None),
        (404, "GET", "/v1", None),
        (404, "GET", "/v1/credits/nope", None),
        (405, "PUT", "/v1/agents", None),
        (409, "POST", "/v1/agents", {"name": "a"}),
        (409, "POST", f"/v1/runs/{run}/cancel", None),
        (413, "POST", "/v1/agents", {"name": "c", "description": "x" * 1_000_000}),
        (413, "POST", "/v1/agents/a/runs", {"input": {"x": "x" * 1_000_000}}),
    ]
    for status, method, path, body in calls:
        answer = await api.request(method, path, json=body)
        assert answer.status_code == status, (method, path, answer.text)
        check_headers(answer, authenticated=True)
        assert answer.headers["x-credits-remaining"] == "1000"
        if status >= 400:
            code_of(answer)
    read = await make_key(db, tenant.id, scopes=["read"])
    async with caller(server.url, read) as reader:
        check_headers(await reader.post("/v1/agents", json={}), authenticated=True)


async def test_answers_to_nobody_carry_the_bucket_of_their_address(server):
    async with caller(server.url) as nobody:
        for left, path in enumerate(("/v1/agents", "/v1/nope", "/v1/credits/x", "/v1/runs/a/b")):
            answer = await nobody.get(path)
            assert answer.status_code == 401
            check_headers(answer, authenticated=False)
            assert answer.headers["x-ratelimit-remaining"] == str(29 - left)


async def test_nothing_is_counted_outside_the_api(server):
    async with caller(server.url) as nobody:
        for path in ("/healthz", "/openapi.json", "/docs", "/v1x", "/nope", "/"):
            answer = await nobody.get(path)
            assert not set(RATE_HEADERS) & set(answer.headers), path
        assert code_of_nowhere(await nobody.get("/nope")) == "not_found"


def code_of_nowhere(answer) -> str:
    assert answer.status_code == 404
    return str(answer.json()["error"]["code"])


async def test_request_ids_differ_and_stand_in_body_and_header(api):
    answers = [await api.get("/v1/agents/none") for _ in range(5)]
    ids = {answer.json()["error"]["request_id"] for answer in answers}
    assert len(ids) == 5
    assert ids == {answer.headers["x-request-id"] for answer in answers}


async def test_a_fraction_of_a_credit_shows(server, db, tenant):
    async with db.transaction(tenant.id) as tx:
        await tx.run("update credit_balances set balance = 1820.5000")
    async with caller(server.url, tenant.key) as client:
        answer = await client.get("/v1/agents")
    assert answer.headers["x-credits-remaining"] == "1820.5"


@pytest.mark.parametrize("family", FAMILIES)
async def test_the_flat_half_is_flat_down_to_its_unknown_paths(server, api, family):
    async with caller(server.url) as nobody:
        for path in (f"/v1/{family}", f"/v1/{family}/x/y"):
            unknown = await api.get(path)
            refused = await nobody.post(path, json={})
            assert (unknown.status_code, code_of(unknown)) == (404, "not_found")
            assert (refused.status_code, code_of(refused)) == (401, "unauthorized")
            assert unknown.json()["success"] is False
            assert refused.json()["success"] is False
    beside = await api.get(f"/v1/{family}x")
    assert "success" not in beside.json()


async def test_batches_are_flat_and_agents_are_not(api):
    for kind in sorted(http.BATCHES):
        batch = await api.post(f"/v1/agents/{kind}", json={})
        assert (batch.status_code, code_of(batch)) == (405, "method_not_allowed")
        assert batch.json()["success"] is False
        assert batch.headers["x-ratelimit-limit"] == "1"
        agent = await api.get(f"/v1/agents/{kind}")
        assert "success" not in agent.json()
        break  # all kinds share one bucket of one request
    other = await api.post("/v1/agents/my-agent", json={})
    assert (other.status_code, code_of(other)) == (405, "method_not_allowed")
    assert "success" not in other.json()


@pytest.mark.parametrize(
    ("asked", "path", "flat"),
    [
        ("flat", "/v1/agents/none", True),
        ("nested", "/v1/credits/none", False),
        ("nested", "/v1/agents/none", False),
        ("flat", "/v1/credits/none", True),
        ("yaml", "/v1/agents/none", False),
        ("yaml", "/v1/credits/none", True),
    ],
)
async def test_a_client_may_ask_for_the_form_it_knows(server, api, asked, path, flat):
    form = {"X-Lantern-Error-Format": asked}
    async with caller(server.url) as nobody:
        for answer in (await api.get(path, headers=form), await nobody.get(path, headers=form)):
            assert ("success" in answer.json()) is flat
            code_of(answer)


async def test_validation_details_stand_in_both_forms(api):
    nested = (await api.post("/v1/agents", json={"name": 5, "nope": 1})).json()["error"]
    flat = (
        await api.post(
            "/v1/agents", json={"name": 5, "nope": 1}, headers={"X-Lantern-Error-Format": "flat"}
        )
    ).json()
    assert nested["details"] == flat["details"]
    assert {tuple(item) for item in nested["details"]} == {("loc", "msg", "type")}
    assert [item["loc"] for item in nested["details"]] == [["body", "name"], ["body", "nope"]]
    assert "name" in nested["message"]


async def test_errors_are_bounded_like_everything_else(api):
    """A thousand wrong fields, or a field with a name of a megabyte, is not echoed."""
    many = await api.post("/v1/agents", json={f"field{n}": 1 for n in range(1000)})
    assert (many.status_code, len(many.json()["error"]["details"])) == (400, 20)
    long = await api.post("/v1/agents", json={"name": "a", "x" * 900_000: 1})
    assert long.status_code == 400
    assert len(long.content) < 2_000


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/agents", "GET, POST"),
        ("/v1/agents/x", "DELETE, GET, PATCH"),
        ("/v1/agents/x/runs", "GET, POST"),
        ("/v1/runs/run_aaaa/cancel", "POST"),
        ("/v1/api-keys/x", "DELETE"),
    ],
)
async def test_a_wrong_method_learns_the_right_ones(api, path, allowed):
    for method in ("PUT", "HEAD", "OPTIONS", "TRACE"):
        answer = await api.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == allowed
        assert "x-ratelimit-limit" in answer.headers
    assert code_of(await api.put(path)) == "method_not_allowed"


async def test_no_redirects_for_slashes(api):
    for path in ("/v1/agents/", "/v1/agents//x", "//v1/agents", "/v1/runs/"):
        assert (await api.get(path)).status_code == 404
