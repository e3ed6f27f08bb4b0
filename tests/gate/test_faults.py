"""What breaks inside: a 2xx means committed, a fault is a 5xx that says nothing, and once."""

import asyncio

import httpx
import psycopg
import pytest
from callers import caller, code_of
from odd import SECRET, Odd
from structlog.testing import capture_logs

ROW = "Failing row contains (ann@example.com, the secret prompt)"


@pytest.fixture(scope="module")
async def odd(dsn):
    running = Odd(dsn, models=[])
    await asyncio.to_thread(running.__enter__)
    yield running
    await asyncio.to_thread(running.__exit__)


@pytest.fixture
async def client(odd, tenant):
    odd.calls.clear()
    async with caller(odd.url, tenant.key) as client:
        yield client


@pytest.fixture
async def written(db, tenant):
    """How many rows the odd route has committed."""

    async def count() -> int:
        async with db.transaction(tenant.id) as tx:
            row = await tx.one("select count(*) as n from audit_log where actor = 'odd'")
        return int(row["n"])

    return count


@pytest.fixture
def failing_commit(dsn):
    """Agents of this name pass every statement and fail at COMMIT."""
    with psycopg.connect(dsn, autocommit=True) as boss:
        boss.execute("set search_path = lantern")
        boss.execute(
            "create function boom() returns trigger language plpgsql as $$ begin"
            f" raise exception 'no commit' using errcode = '23514', detail = '{ROW}'; end $$"
        )
        boss.execute(
            "create constraint trigger boom after insert on agents deferrable initially deferred"
            " for each row when (new.name = 'fails-at-commit') execute function boom()"
        )
        yield "fails-at-commit"
        boss.execute("drop function boom cascade")


async def test_a_commit_that_fails_is_a_5xx_and_nothing_else(api, failing_commit):
    with capture_logs() as logs:
        answer = await api.post(
            "/v1/agents", json={"name": failing_commit}, headers={"Idempotency-Key": "k"}
        )
    assert (answer.status_code, code_of(answer)) == (500, "internal_error")
    assert answer.json()["error"]["message"] == "Internal error"
    assert (await api.get(f"/v1/agents/{failing_commit}")).status_code == 404
    (line,) = [entry for entry in logs if entry["event"] == "request.failed"]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["sqlstate"] == "23514"
    assert "boom" not in str(answer.content)
    assert "ann@example.com" not in str(logs)
    assert "secret prompt" not in str(logs)


async def test_a_failed_call_is_counted(db, server, tenant, failing_commit, api):
    made = (await api.post("/v1/api-keys", json={"name": "k"})).json()["raw_key"]
    async with caller(server.url, made) as client:
        first = await client.post("/v1/agents", json={"name": failing_commit})
        second = await client.post("/v1/agents", json={"name": failing_commit})
    left = [int(a.headers["x-ratelimit-remaining"]) for a in (first, second)]
    assert left[0] > left[1] or left == [299, 299]  # a slot may have come back


async def test_a_backend_that_dies_before_the_commit_is_a_503(client, written):
    answer = await client.post("/v1/odd/killed")
    assert (answer.status_code, code_of(answer)) == (503, "unavailable")
    assert "x-ratelimit-limit" in answer.headers
    assert await written() == 0
    assert (await client.post("/v1/odd/fine")).status_code == 201
    assert await written() == 1


@pytest.mark.parametrize("kind", ["crash", "file"])
async def test_what_nobody_foresaw_is_a_500_that_says_nothing(client, odd, written, kind):
    with capture_logs() as logs:
        answer = await client.post(f"/v1/odd/{kind}", headers={"Idempotency-Key": "k"})
    assert (answer.status_code, code_of(answer)) == (500, "internal_error")
    assert answer.json()["error"]["message"] == "Internal error"
    assert SECRET not in answer.text
    assert "etc" not in answer.text
    (line,) = [entry for entry in logs if entry["event"] == "request.failed"]
    assert line["request_id"] == answer.json()["error"]["request_id"]
    assert line["path"] == "/v1/odd/{kind}"
    assert line["exc_info"] is not None
    assert (odd.calls[f"{kind}:committed"], await written()) == (0, 0)


async def test_the_flat_half_hides_as_much(client):
    with capture_logs():
        answer = await client.post("/v1/forms/odd")
    assert (answer.status_code, code_of(answer)) == (500, "internal_error")
    assert answer.json()["error"] == "Internal error"


@pytest.mark.parametrize("kind", ["serialize-once", "deadlock-once"])
async def test_a_transaction_that_lost_is_run_again(client, odd, written, kind):
    answer = await client.post(f"/v1/odd/{kind}", headers={"Idempotency-Key": kind})
    assert (answer.status_code, answer.json()) == (201, {"n": 2})
    assert (odd.calls[f"{kind}:committed"], await written()) == (1, 1)


async def test_one_that_always_loses_ends(client, odd, written):
    answer = await client.post("/v1/odd/serialize")
    assert (answer.status_code, code_of(answer)) == (503, "unavailable")
    assert (odd.calls["serialize"], await written()) == (3, 0)


async def test_a_fault_after_the_answer_does_not_spoil_it(client, written):
    with capture_logs() as logs:
        answer = await client.post("/v1/odd/late")
        again = await client.post("/v1/odd/fine")  # on the same connection
    assert (answer.status_code, answer.json()) == (201, {"n": 1})
    assert again.status_code == 201
    assert await written() == 2
    assert [entry["event"] for entry in logs] == ["answer.broken"]
    assert "exc_info" in logs[0]


async def test_a_stream_that_breaks_is_not_taken_for_a_whole_one(client, caplog):
    with capture_logs() as logs, caplog.at_level("CRITICAL"):
        async with client.stream("GET", "/v1/odd/stream") as stream:
            got = bytearray()
            with pytest.raises(httpx.RemoteProtocolError):
                await read_into(got, stream)
    assert (stream.status_code, got) == (200, b"data: one\n\n")
    assert [entry["event"] for entry in logs] == ["answer.broken"]


async def read_into(got: bytearray, stream: httpx.Response) -> None:
    async for part in stream.aiter_raw():
        got += part


async def test_only_good_answers_are_kept(client, written):
    """An error that is returned, not raised, leaves its Idempotency-Key free as well."""
    key = {"Idempotency-Key": "k"}
    first = await client.post("/v1/odd/returns-409", headers=key)
    second = await client.post("/v1/odd/returns-409", headers=key)
    assert [(a.status_code, a.json()) for a in (first, second)] == [
        (409, {"no": 1}),
        (409, {"no": 2}),
    ]
    assert "idempotent-replayed" not in second.headers


async def test_a_twin_in_flight_waits_for_the_first(client, odd):
    key = {"Idempotency-Key": "twins"}
    odd.hold.clear()
    calls = [asyncio.create_task(client.post("/v1/odd/waits", headers=key)) for _ in range(3)]
    await asyncio.sleep(0.3)
    assert not any(call.done() for call in calls)
    assert odd.calls["waits"] == 1
    odd.server.servers[0].get_loop().call_soon_threadsafe(odd.hold.set)
    answers = await asyncio.gather(*calls)
    assert [(a.status_code, a.json()) for a in answers] == [(201, {"n": 1})] * 3
    assert sum("idempotent-replayed" in a.headers for a in answers) == 2
    assert odd.calls["waits"] == 1


def test_a_route_without_a_policy_does_not_start(dsn):
    running = Odd(dsn, models=[])

    @running.app.get("/v1/forgotten")
    async def forgotten() -> dict[str, str]:
        return {}

    with pytest.raises(RuntimeError, match="forgotten"):
        running.app.build_middleware_stack()
