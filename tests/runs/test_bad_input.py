"""Inputs that are odd but possible, and what is on record."""

import httpx

JSON = {"content-type": "application/json"}


async def test_a_page_token_of_other_digits_is_400(api: httpx.AsyncClient) -> None:
    # '²'.isdigit() is true, int('²') raises.
    answer = await api.get("/v1/runs?pageToken=%C2%B2.run_abcd")
    assert answer.status_code == 400


async def test_an_input_that_is_taken_can_be_read_again(api: httpx.AsyncClient) -> None:
    # orjson writes at most 254 levels, and an answer nests the input one level deeper.
    await api.post("/v1/agents", json={"name": "a", "model": "small"})
    for depth in range(240, 260):
        body = '{"input":{"a":' + "[" * depth + "]" * depth + "}}"
        made = await api.post("/v1/agents/a/runs", content=body, headers=JSON)
        if made.status_code == 201:
            run = await api.get(f"/v1/runs/{made.json()['run_id']}")
            assert run.status_code == 200, depth


async def test_a_number_that_is_no_double_is_not_turned_into_null(api: httpx.AsyncClient) -> None:
    # json.loads('1e999') is inf, orjson writes inf as null: the run gets another input than sent.
    await api.post("/v1/agents", json={"name": "a", "model": "small"})
    answer = await api.post("/v1/agents/a/runs", content='{"input":{"a":1e999}}', headers=JSON)
    assert answer.status_code == 400


async def test_streams_are_in_the_document(server) -> None:  # type: ignore[no-untyped-def]
    document = httpx.get(f"{server.url}/openapi.json").json()
    for method, path in (("post", "/v1/runs"), ("get", "/v1/runs/{run_id}/events")):
        responses = document["paths"][path][method]["responses"]
        assert "text/event-stream" in responses["200"]["content"], path


async def test_cancelling_is_on_record(api: httpx.AsyncClient, db, tenant) -> None:  # type: ignore[no-untyped-def]
    await api.post("/v1/agents", json={"name": "a", "model": "slow"})
    run = (await api.post("/v1/agents/a/runs", json={"input": {}})).json()["run_id"]
    await api.post(f"/v1/runs/{run}/cancel")
    async with db.transaction(tenant.id) as tx:
        rows = await tx.all("select action from audit_log where object_id = %s", (run,))
    assert {row["action"] for row in rows} == {"run.create", "run.cancel"}


async def test_a_nul_that_a_model_repeats_ends_well(api: httpx.AsyncClient) -> None:
    # Postgres keeps no NUL in text, and what it refuses must not be bought again and again.
    await api.post("/v1/agents", json={"name": "a", "model": "builtin"})
    documents = [{"title": "Acme", "text": "Eve\u0000 leads Acme."}]
    made = await api.post(
        "/v1/agents/a/runs", json={"input": {"q": "Who leads Acme?", "documents": documents}}
    )
    stream = await api.get(f"/v1/runs/{made.json()['run_id']}/stream")
    run = (await api.get(f"/v1/runs/{made.json()['run_id']}")).json()
    assert run["status"] == "completed"
    assert "\ufffd" in run["output"]["text"]
    assert "\\u0000" not in stream.text


async def test_an_idempotency_key_is_free_again_after_a_day(  # type: ignore[no-untyped-def]
    api: httpx.AsyncClient, db, tenant
) -> None:
    await api.post("/v1/agents", json={"name": "a", "model": "small"})
    headers = {"Idempotency-Key": "k"}
    for body in ({"name": "x1"}, {"name": "x2"}):
        run = await api.post("/v1/agents/a/runs", json={"input": body}, headers=headers)
        agent = await api.post("/v1/agents", json=body, headers=headers)
        assert (run.status_code, agent.status_code) == (201, 201), (run.text, agent.text)
        async with db.transaction(tenant.id) as tx:
            await tx.run("update idempotency set created_at = created_at - interval '25 hours'")
