"""Streamed calls over both wire protocols, against a server on a real socket."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import aclosing

import pytest

from lantern.core.web import Web
from lantern.llm import Chunk, Limits, Message, Models, Tool, ToolCall, Usage
from lantern.settings import ModelSettings, NetSettings, Settings
from lantern_dev.model import FakeModel, text, words

from .conftest import HELLO, ask, settings

BOTH = pytest.mark.parametrize("name", ["openai", "anthropic"])
SEARCH = Tool("search", "Looks it up", {"type": "object", "properties": {"q": {"type": "string"}}})


async def until(true: Callable[[], bool], seconds: float = 1.0) -> float:
    """Wait for a condition; returns how long it took."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < seconds, "it did not happen in time"
        await asyncio.sleep(0.005)
    return time.monotonic() - start


@BOTH
async def test_every_delta_arrives_as_it_was_sent(
    models: Models, provider: FakeModel, name: str
) -> None:
    provider.set(tokens=50)
    said = await ask(models, name)
    assert said.deltas == words(50)
    assert said.done is not None
    assert said.done.finish_reason == "stop"
    assert said.done.usage == Usage(10, 50)


@BOTH
async def test_a_burst_is_one_chunk_and_paced_tokens_are_chunks_of_their_own(
    models: Models, provider: FakeModel, name: str
) -> None:
    provider.set(tokens=30)
    assert len((await ask(models, name)).chunks) == 1
    provider.set(inter_ms=10, tokens=10)
    said = await ask(models, name)
    assert said.deltas == words(10)
    assert len([chunk for chunk in said.chunks if chunk.deltas]) >= 8
    assert said.chunks[-1].done is not None
    assert all(chunk.done is None for chunk in said.chunks[:-1])


@BOTH
async def test_a_token_is_not_held_back(models: Models, provider: FakeModel, name: str) -> None:
    provider.set(tokens=3, inter_ms=150)
    model = next(model for model in models.table if model.name == name)
    at = []
    async with aclosing(models.stream(model, HELLO)) as chunks:
        async for _ in chunks:
            at.append(time.monotonic())
    assert at[1] - at[0] > 0.1
    assert at[2] - at[1] > 0.1


@BOTH
async def test_connections_are_used_again(models: Models, provider: FakeModel, name: str) -> None:
    provider.set(tokens=5, inter_ms=1)
    for _ in range(5):
        await ask(models, name)
    assert len(provider.connections) == 1


async def test_the_openai_request(models: Models, provider: FakeModel) -> None:
    messages = [Message("system", "Be brief."), *HELLO]
    await ask(models, "openai", messages, [SEARCH], Limits(max_tokens=77))
    sent = provider.requests[0]
    assert sent["path"] == "/v1/chat/completions"
    assert sent["body"] == {
        "model": "openai",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hello"},
        ],
        "stream": True,
        "max_tokens": 77,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "search",
                    "description": "Looks it up",
                    "parameters": SEARCH.parameters,
                },
            }
        ],
    }
    assert sent["headers"]["accept-encoding"] == "identity"
    assert "authorization" not in sent["headers"]


async def test_the_anthropic_request(models: Models, provider: FakeModel) -> None:
    call = ToolCall("t1", "search", '{"q":"x"}')
    messages = [
        Message("system", "Be brief."),
        Message("user", "hello"),
        Message("assistant", "Let me look.", (call, ToolCall("t2", "search", ""))),
        Message("tool", "found", tool_call_id="t1"),
        Message("tool", "nothing", tool_call_id="t2"),
        Message("system", "Really."),
    ]
    await ask(models, "anthropic", messages, [SEARCH], Limits(max_tokens=77))
    sent = provider.requests[0]
    assert sent["path"] == "/v1/messages"
    assert sent["headers"]["anthropic-version"] == "2023-06-01"
    assert sent["body"] == {
        "model": "anthropic",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hello"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "t1", "name": "search", "input": {"q": "x"}},
                    {"type": "tool_use", "id": "t2", "name": "search", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "found"},
                    {"type": "tool_result", "tool_use_id": "t2", "content": "nothing"},
                ],
            },
        ],
        "stream": True,
        "max_tokens": 77,
        "system": "Be brief.\n\nReally.",
        "tools": [
            {
                "name": "search",
                "description": "Looks it up",
                "input_schema": SEARCH.parameters,
            }
        ],
    }


async def test_a_conversation_with_tools_in_openais_words(
    models: Models, provider: FakeModel
) -> None:
    call = ToolCall("t1", "search", '{"q":"x"}')
    turns = [*HELLO, Message("assistant", "", (call,)), Message("tool", "r", tool_call_id="t1")]
    await ask(models, "openai", turns)
    assert provider.requests[0]["body"]["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "t1",
                    "type": "function",
                    "function": {"name": "search", "arguments": '{"q":"x"}'},
                }
            ],
        },
        {"role": "tool", "content": "r", "tool_call_id": "t1"},
    ]


@BOTH
async def test_tool_calls_come_whole(models: Models, provider: FakeModel, name: str) -> None:
    asked = [
        {"name": "search", "arguments": '{"q": "first"}'},
        {"name": "search", "arguments": '{"q": "second"}'},
    ]
    provider.set(tokens=2, tools=asked)
    said = await ask(models, name, tools=[SEARCH])
    assert [(call.name, json.loads(call.arguments)["q"]) for call in said.calls] == [
        ("search", "first"),
        ("search", "second"),
    ]
    assert len({call.id for call in said.calls}) == 2
    assert said.done is not None
    assert said.done.finish_reason == "tool_calls"
    assert said.text == text(2)


@BOTH
@pytest.mark.parametrize("finish", ["stop", "length", "content_filter"])
async def test_finish_reasons_have_one_name(
    models: Models, provider: FakeModel, name: str, finish: str
) -> None:
    provider.set(tokens=1, finish=finish)
    said = await ask(models, name)
    assert said.done is not None
    assert said.done.finish_reason == finish


async def test_a_provider_that_reports_no_usage(models: Models, provider: FakeModel) -> None:
    provider.set(tokens=5, usage=False)
    said = await ask(models, "openai")
    assert said.done is not None
    assert said.done.usage is None
    assert models.cost(models.table[0], said.done.usage) is None


@pytest.mark.parametrize(
    ("fault", "gone", "instead"),
    [
        ("no_stream_options", "stream_options", None),
        ("no_max_tokens", "max_tokens", "max_completion_tokens"),
    ],
)
async def test_a_server_that_does_not_know_a_field_is_asked_without_it(
    models: Models, provider: FakeModel, fault: str, gone: str, instead: str | None
) -> None:
    provider.set(tokens=5, fault=fault)
    assert (await ask(models, "openai")).text == text(5)
    assert (await ask(models, "openai")).text == text(5)
    sent = [request["body"] for request in provider.requests]
    assert [gone in body for body in sent] == [True, False, False]  # learnt once
    assert instead is None or instead in sent[1]


@BOTH
async def test_the_key_comes_from_the_environment_at_each_call(
    provider: FakeModel, web: Web, name: str
) -> None:
    environ = {"MY_KEY": " sk-one\n"}
    models = Models.from_settings(settings(provider, api_key_env="MY_KEY"), web, environ)
    await ask(models, name)
    environ["MY_KEY"] = "sk-two"
    await ask(models, name)
    field = "authorization" if name == "openai" else "x-api-key"
    sent = [request["headers"][field].removeprefix("Bearer ") for request in provider.requests]
    assert sent == ["sk-one", "sk-two"]
    assert "sk-" not in repr(models.table)


@BOTH
@pytest.mark.parametrize("when", ["close", "cancel", "cancel before the first token"])
async def test_leaving_closes_the_connection_at_once(
    models: Models, provider: FakeModel, name: str, when: str
) -> None:
    provider.set(tokens=1000, inter_ms=10, first_ms=60_000 if "before" in when else 0)
    model = next(model for model in models.table if model.name == name)
    first = asyncio.Event()

    async def consume() -> None:
        async with aclosing(models.stream(model, HELLO)) as chunks:
            async for _ in chunks:
                first.set()
                if when == "close":
                    return

    task = asyncio.create_task(consume())
    if "before" in when:
        await until(lambda: provider.counts["streams"] == 1)
    else:
        await first.wait()
    if when != "close":
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    took = await until(lambda: provider.counts["aborted"] == 1)
    assert took < 0.5
    await until(lambda: provider.counts["open"] == 0)


async def test_a_cancelled_consumer_that_was_busy_elsewhere_closes_it_too(
    models: Models, provider: FakeModel
) -> None:
    provider.set(tokens=1000, inter_ms=5)
    busy = asyncio.Event()

    async def consume() -> None:
        async with aclosing(models.stream(models.table[0], HELLO)) as chunks:
            async for _ in chunks:
                busy.set()
                await asyncio.sleep(60)

    task = asyncio.create_task(consume())
    await busy.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: provider.counts["aborted"] == 1)


async def test_a_slow_consumer_loses_nothing_and_is_no_silence(
    models: Models, provider: FakeModel
) -> None:
    provider.set(tokens=20, inter_ms=5)
    limits = Limits(first_token_timeout=5.0, idle_timeout=0.1)
    said: list[str] = []
    async with aclosing(models.stream(models.table[0], HELLO, limits=limits)) as chunks:
        async for chunk in chunks:
            said += chunk.deltas
            if len(said) == 1:
                await asyncio.sleep(0.4)
    assert said == words(20)


async def test_many_streams_at_once(models: Models, provider: FakeModel) -> None:
    provider.set(tokens=40, inter_ms=2)
    said = await asyncio.gather(*(ask(models, name) for name in ["openai", "anthropic"] * 50))
    assert {answer.text for answer in said} == {text(40)}
    await until(lambda: provider.counts["open"] == 0)


async def test_a_mapped_name_is_the_models_address_too(provider: FakeModel) -> None:
    row = ModelSettings(name="m", base_url="https://models.example/v1", self_hosted=True)
    mapped = Web(NetSettings(hosts={"models.example": f"127.0.0.1:{provider.port}"}))
    await mapped.open()
    models = Models.from_settings(Settings(models=[row]), mapped, {})
    provider.set(tokens=3)
    assert (await ask(models, "m")).text == text(3)
    assert provider.requests[0]["headers"]["host"] == "models.example"
    await mapped.close()


def test_a_chunk_starts_empty() -> None:
    assert (Chunk().deltas, Chunk().tool_calls, Chunk().done) == ([], [], None)
