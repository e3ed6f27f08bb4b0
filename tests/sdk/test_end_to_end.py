"""The client library against the product's own server."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from parts import Tenant

import lantern_sdk
from lantern_dev.model import words


def in_thread(test: Callable[..., None]) -> Callable[..., Awaitable[None]]:
    """Run a test of the sync client beside the loop that the model server needs."""

    @functools.wraps(test)
    async def run(**given: Any) -> None:
        await asyncio.to_thread(test, **given)

    return run


@pytest.fixture
def client(server, tenant: Tenant):
    with lantern_sdk.Lantern(tenant.key, server.url) as found:
        yield found


@in_thread
def test_an_agent_runs_and_streams(client: lantern_sdk.Lantern) -> None:
    client.agents.create("my-agent", model="small", system_prompt="Be brief.")
    stream = client.runs.run("my-agent", {"topic": "x"})
    assert list(stream.tokens()) == words(12)
    run = stream.result()
    assert run.status == "completed"
    assert run.output is not None
    assert stream.text() == run.output.text
    assert client.last_rate_limit is not None
    assert [r.run_id for r in client.runs.list("my-agent")] == [run.run_id]


@in_thread
def test_a_stream_goes_on_where_another_stopped(client: lantern_sdk.Lantern) -> None:
    client.agents.create("my-agent", model="small")
    made = client.runs.create("my-agent", {"topic": "x"})
    first = client.runs.stream(made.run_id)
    seen = [next(iter(first)) for _ in range(1)]
    first.close()
    rest = list(client.runs.stream(made.run_id, after=seen[-1].seq))
    assert [e.seq for e in rest] == list(range(2, 16))


@in_thread
def test_errors_are_typed(client: lantern_sdk.Lantern) -> None:
    with pytest.raises(lantern_sdk.NotFound, match="Agent 'nobody' not found"):
        client.runs.create("nobody", {})
    with pytest.raises(lantern_sdk.BadRequest) as bad:
        client.agents.create("Capital")
    assert "name" in str(bad.value)


@in_thread
def test_keys_are_shown_once_and_revoked(client: lantern_sdk.Lantern, server) -> None:
    made = client.keys.create("reader", scopes=["read"])
    assert made.raw_key is not None
    with lantern_sdk.Lantern(made.raw_key, server.url) as reader:
        assert list(reader.agents.list()) == []
        with pytest.raises(lantern_sdk.Forbidden):
            reader.agents.create("my-agent")
        client.keys.delete(made.key.id)
        with pytest.raises(lantern_sdk.Unauthorized):
            list(reader.agents.list())


async def test_the_async_client_cancels(server, tenant: Tenant) -> None:
    async with lantern_sdk.AsyncLantern(tenant.key, server.url) as client:
        await client.agents.create("my-agent", model="slow")
        made = await client.runs.create("my-agent", {"topic": "x"})
        await asyncio.sleep(0.3)
        await client.runs.cancel(made.run_id, reason="enough")
        kinds = [event.type async for event in client.runs.stream(made.run_id)]
    assert kinds[-1] == "run.cancelled"
