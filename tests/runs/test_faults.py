"""Models that fail, readers that stall, nodes that share a database."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from parts import Tenant, model_settings
from servers import InProcess, parse_events, text_of

from lantern.core.db import Database
from lantern_dev.model import FakeModel, words
from runs.test_api import finished, make_agent, start

FAULTS = {
    "m401": "m401:fault=401",
    "m429": "m429:fault=429;retry_after=0",
    "m500": "m500:fault=500",
    "garbage": "garbage:fault=garbage",
    "nothing": "nothing:fault=nothing",
    "half": "half:tokens=10;fault=half",
    "recovers": "recovers:tokens=10;fault=half;times=1",
    "hang": "hang:fault=hang",
    "endless": "endless:fault=endless",
    "paced": "paced:tokens=60;inter_ms=30",
}


@pytest.fixture(scope="module")
async def pair(dsn: str, fake: FakeModel) -> AsyncIterator[list[InProcess]]:
    """Two servers on one database."""
    models = model_settings(fake, **FAULTS)
    for row in models:
        row["first_token_timeout"] = 1.0
    nodes = [InProcess(dsn, models=models), InProcess(dsn, models=models)]
    for node in nodes:
        await asyncio.to_thread(node.__enter__)
    yield nodes
    for node in nodes:
        await asyncio.to_thread(node.__exit__)


@pytest.fixture
async def two(
    pair: list[InProcess], tenant: Tenant
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """A client of each."""
    headers = {"Authorization": f"Bearer {tenant.key}"}
    async with (
        httpx.AsyncClient(base_url=pair[0].url, headers=headers, timeout=30) as one,
        httpx.AsyncClient(base_url=pair[1].url, headers=headers, timeout=30) as other,
    ):
        yield one, other


Two = tuple[httpx.AsyncClient, httpx.AsyncClient]


@pytest.mark.parametrize("model", ["m401", "m429", "m500", "garbage", "nothing", "half", "hang"])
async def test_a_model_that_fails_fails_the_run_and_says_how(two: Two, model: str) -> None:
    api, _ = two
    await make_agent(api, model=model)
    run_id = await start(api)
    run = await finished(api, run_id)
    assert run["status"] == "failed"
    assert run["error"]["code"] == "model_error"
    assert run["error"]["step"] == "write"
    assert model in run["error"]["message"]
    assert "sk-" not in run["error"]["message"]
    events = parse_events((await api.get(f"/v1/runs/{run_id}/stream")).text)
    assert [e["type"] for e in events[-2:]] == ["step.failed", "run.failed"]
    assert events[-1]["error"]["code"] == "model_error"
    (step,) = run["steps"]
    assert step["status"] == "failed"
    if model == "half":  # what was written before it failed is kept, and shown
        assert [e["content"] for e in events if e["type"] == "token"][-5:] == words(5)


async def test_half_an_answer_restarts_its_step(two: Two) -> None:
    api, _ = two
    await make_agent(api, model="recovers")
    run_id = await start(api)
    run = await finished(api, run_id)
    assert run["status"] == "completed"
    assert run["output"]["text"] == "".join(words(10))
    events = parse_events((await api.get(f"/v1/runs/{run_id}/stream")).text)
    assert [e["step"] for e in events if e["type"] == "step.restart"] == ["write"]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert text_of(events) == run["output"]["text"]
    assert "hangup" in run["steps"][0]["why"]


async def test_auto_asks_the_next_model_before_the_first_token(
    dsn: str, fake: FakeModel, tenant: Tenant
) -> None:
    rows = [m for m in model_settings(fake, **FAULTS) if m["name"] in ("m500", "small")]
    rows.sort(key=lambda row: row["name"] != "m500")
    with InProcess(dsn, models=rows) as node:
        headers = {"Authorization": f"Bearer {tenant.key}"}
        async with httpx.AsyncClient(base_url=node.url, headers=headers, timeout=30) as api:
            await make_agent(api, model="auto")
            run = await finished(api, await start(api))
    (step,) = run["steps"]
    assert step["model_used"] == "small"
    assert "m500 (server)" in step["why"]


async def test_a_model_that_is_gone_is_no_model(two: Two, db: Database, tenant: Tenant) -> None:
    """Renamed or removed from the configuration after the agent was made."""
    api, _ = two
    await make_agent(api)
    async with db.transaction(tenant.id) as tx:
        await tx.run("update agents set model = 'gone'")
    run = await finished(api, await start(api))
    assert run["error"]["code"] == "no_model"
    assert "'gone'" in run["error"]["message"]


async def test_the_built_in_model_says_why_it_stands_in(
    dsn: str, fake: FakeModel, tenant: Tenant
) -> None:
    rows = [m for m in model_settings(fake, **FAULTS) if m["name"] == "m401"]
    with InProcess(dsn, models=rows) as node:
        headers = {"Authorization": f"Bearer {tenant.key}"}
        async with httpx.AsyncClient(base_url=node.url, headers=headers, timeout=30) as api:
            await make_agent(api, model="auto")
            run = await finished(api, await start(api, input={"topic": "Eve leads Acme."}))
    assert run["steps"][0]["model_used"] == "builtin"
    assert run["output"]["data"]["notice"].startswith("failed: m401 (auth)")
    assert "Eve leads Acme." in run["output"]["text"]


async def test_a_reader_on_the_other_node_gets_the_same_events(two: Two) -> None:
    here, there = two
    await make_agent(here, model="paced")
    run_id = await start(here)
    one, other = await asyncio.gather(
        here.get(f"/v1/runs/{run_id}/stream"), there.get(f"/v1/runs/{run_id}/stream")
    )
    assert parse_events(other.text) == parse_events(one.text)
    assert len(parse_events(other.text)) == 63
    at_the_end = await there.get(f"/v1/runs/{run_id}/stream?after=63")
    assert at_the_end.text == "", "the last event came twice"
    resumed = await there.get(f"/v1/runs/{run_id}/stream?after=40")
    assert parse_events(resumed.text) == parse_events(one.text)[40:]


async def test_a_reader_on_the_other_node_sees_tokens_soon(two: Two) -> None:
    here, there = two
    await make_agent(here, model="paced")
    run_id = await start(here)
    reads = 0
    async with there.stream("GET", f"/v1/runs/{run_id}/stream") as stream:
        async for _ in stream.aiter_text():
            reads += 1
    assert reads > 15, "the other node's tokens came in lumps"


async def test_cancel_from_the_other_node(two: Two, fake: FakeModel) -> None:
    here, there = two
    await make_agent(here, model="endless")
    run_id = await start(here)
    async with here.stream("GET", f"/v1/runs/{run_id}/stream") as stream:
        lines = stream.aiter_lines()
        while '"token"' not in await anext(lines):
            continue
        aborted = fake.counts["aborted"]
        assert (await there.post(f"/v1/runs/{run_id}/cancel")).status_code == 200
        async with asyncio.timeout(1.5):
            while '"run.cancelled"' not in await anext(lines):
                continue
    for _ in range(50):
        if fake.counts["aborted"] > aborted:
            break
        await asyncio.sleep(0.02)
    assert fake.counts["aborted"] == aborted + 1


async def test_a_run_row_without_its_start_is_started_by_somebody(
    two: Two, db: Database, tenant: Tenant
) -> None:
    """A process that dies between the commit of the row and the start of the run."""
    api, _ = two
    await make_agent(api)
    async with db.transaction(tenant.id) as tx:
        agent = await tx.one("select id from agents where name = 'my-agent'")
        assert agent
        for run_id, owner, status in (
            ("run_orphan" + str(tenant.id), "node_gone", "running"),
            ("run_queued" + str(tenant.id), None, "queued"),
        ):
            await tx.run(
                "insert into runs (id, tenant_id, kind, agent_id, agent_name, status, input, owner,"
                " attempt) values (%s, %s, 'agent', %s, 'my-agent', %s, '{}', %s, %s)",
                (run_id, tenant.id, agent["id"], status, owner, 1 if owner else 0),
            )
    orphan = await finished(api, "run_orphan" + str(tenant.id))
    queued = await finished(api, "run_queued" + str(tenant.id))
    assert (orphan["status"], queued["status"]) == ("completed", "completed")
    events = parse_events((await api.get(f"/v1/runs/{orphan['run_id']}/stream")).text)
    assert (events[0]["type"], events[0]["seq"]) == ("step.restart", 1_000_001)


async def test_a_client_that_hangs_up_does_not_end_the_run(two: Two) -> None:
    api, _ = two
    await make_agent(api, model="paced")
    run_id = await start(api)
    async with api.stream("GET", f"/v1/runs/{run_id}/stream") as stream:
        await anext(stream.aiter_text())
    run = await finished(api, run_id)
    assert run["status"] == "completed"


async def test_a_reader_that_stops_reading_is_dropped_and_harms_nobody(
    dsn: str, fake: FakeModel, tenant: Tenant
) -> None:
    models = model_settings(fake, flood="flood:tokens=40000")
    with InProcess(dsn, models=models, runs={"stall_seconds": 1.0}) as node:
        headers = {"Authorization": f"Bearer {tenant.key}"}
        async with httpx.AsyncClient(base_url=node.url, headers=headers, timeout=60) as api:
            await make_agent(api, model="flood", guardrails={"max_tokens_per_step": 50_000})
            run_id = await start(api)
            reader, writer = await _slow_reader(node.url, run_id, tenant.key)
            run = await finished(api, run_id)
            assert run["status"] == "completed"
            await asyncio.sleep(1.5)
            got = b""
            while piece := await reader.read(1 << 16):
                got += piece
            assert b"run.complete" not in got, "the stalled reader was not dropped"
            writer.close()
            seen = max(int(line[4:]) for line in got.split(b"\n") if _whole_id(line))
            rest = await api.get(f"/v1/runs/{run_id}/stream?after={seen}")
            events = parse_events(rest.text)
            assert events[0]["seq"] == seen + 1
            assert events[-1]["type"] == "run.complete"


def _whole_id(line: bytes) -> bool:
    return line.startswith(b"id: ") and line[4:].isdigit()


async def _slow_reader(
    url: str, run_id: str, key: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    host, port = url.removeprefix("http://").split(":")
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
    request = (
        f"GET /v1/runs/{run_id}/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
    )
    writer.write(request.encode())
    await writer.drain()
    return reader, writer


async def test_heartbeats_keep_a_silent_stream_open(
    dsn: str, fake: FakeModel, tenant: Tenant
) -> None:
    with InProcess(dsn, models=model_settings(fake), runs={"heartbeat_seconds": 0.2}) as node:
        headers = {"Authorization": f"Bearer {tenant.key}"}
        async with httpx.AsyncClient(base_url=node.url, headers=headers, timeout=30) as api:
            await make_agent(api, model="silent")
            run_id = await start(api)
            got = ""
            async with api.stream("GET", f"/v1/runs/{run_id}/stream") as stream:
                async for text in stream.aiter_text():
                    got += text
                    if got.count(": heartbeat\n\n") >= 3:
                        break
            await api.post(f"/v1/runs/{run_id}/cancel")
    assert got.startswith("id: 1\n")


async def test_open_streams_hold_no_database_connection(
    two: Two, pair: list[InProcess], db: Database
) -> None:
    here, there = two
    await make_agent(here, model="silent")
    run_id = await start(here)
    opened: list[Any] = []
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(headers=here.headers, limits=limits, timeout=30) as many:
        for node in pair:
            for _ in range(30):
                context = many.stream("GET", f"{node.url}/v1/runs/{run_id}/stream")
                opened.append((context, await context.__aenter__()))
        answers = await asyncio.gather(*(api.get("/v1/agents") for api in two for _ in range(20)))
        assert {a.status_code for a in answers} == {200}
        await there.post(f"/v1/runs/{run_id}/cancel")
        for context, stream in opened:
            assert "run.cancelled" in (await stream.aread()).decode()
            await context.__aexit__(None, None, None)
