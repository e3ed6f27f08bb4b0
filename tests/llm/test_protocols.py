"""The readers of both wire protocols, fed with bytes: splits, odd servers, nonsense."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lantern.llm import Done, Usage, anthropic, openai
from lantern.llm.sse import Parser
from lantern.llm.wire import Reader, Wire
from lantern_dev.model_wire import Answer, Anthropic, Behaviour, OpenAI, words

ASKED = {"model": "m", "stream_options": {"include_usage": True}}
TOOLS = [{"name": "search", "arguments": '{"q": "käse"}'}, {"name": "stop", "arguments": "{}"}]
WIRES: dict[str, tuple[Wire, Any]] = {
    "openai": (openai, OpenAI(ASKED)),
    "anthropic": (anthropic, Anthropic(ASKED)),
}
BOTH = pytest.mark.parametrize("name", ["openai", "anthropic"])


def written(name: str, plan: Behaviour) -> bytes:
    """The fake provider's answer without HTTP around it."""
    wire = WIRES[name][1]
    tokens = b"".join(wire.token(word) for word in words(plan.tokens))
    return bytes(wire.start() + tokens + wire.end(plan, plan.tokens))


def fed(name: str, pieces: list[bytes]) -> tuple[list[str], Reader]:
    reader, parser = WIRES[name][0].reader("m"), Parser()
    deltas = []
    for piece in pieces:
        if (events := parser.feed(piece)) and not (reader.ended or reader.failure):
            deltas += reader.read(events).deltas
    return deltas, reader


def events(*values: Any) -> list[bytes]:
    return [b"data: " + json.dumps(value).encode() + b"\n\n" for value in values]


@BOTH
@given(data=st.data())
def test_any_split_gives_the_same_answer(name: str, data: st.DataObject) -> None:
    plan = Behaviour(tokens=12, tools=TOOLS)
    whole = written(name, plan)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=30)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    deltas, reader = fed(name, pieces)
    assert deltas == words(12)
    assert reader.ended
    assert [(c.name, c.arguments) for c in reader.calls()] == [
        (t["name"], t["arguments"]) for t in TOOLS
    ]
    assert reader.end() == Done("tool_calls", Usage(10, 12))


@BOTH
@given(pieces=st.lists(st.one_of(st.binary(max_size=40), st.just(b"data: {}\n\n")), max_size=8))
def test_nonsense_is_a_failure_and_never_an_exception(name: str, pieces: list[bytes]) -> None:
    deltas, reader = fed(name, pieces)
    assert deltas == []
    assert reader.failure is None or reader.failure.kind == "garbage"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@BOTH
@given(value=JSON, field=st.sampled_from(["choices", "usage", "error", "type", "delta", "message"]))
def test_json_of_any_other_shape_is_no_exception(name: str, value: Any, field: str) -> None:
    for shape in (value, {field: value}, {"type": "content_block_delta", field: value}):
        _, reader = fed(name, events(shape))
        assert reader.end().finish_reason in {"stop", "tool_calls", "length", "content_filter"}
        assert isinstance(reader.calls(), list)
        assert reader.failure is None or reader.failure.kind in {
            "garbage",
            "server",
            "auth",
            "rate",
            "bad_request",
            "timeout",
        }


@given(part=JSON, field=st.sampled_from(["id", "index", "function", "name", "arguments"]))
def test_tool_calls_of_any_other_shape_are_no_exception(part: Any, field: str) -> None:
    call: dict[str, Any] = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    inner = {**call, "function": {**call["function"], field: part}}
    for odd in ({**call, field: part}, inner, part):
        _, reader = fed("openai", events(chunk({"tool_calls": [odd]}), chunk({"tool_calls": odd})))
        assert all(isinstance(call.arguments, str) for call in reader.calls())
    block = {"type": "tool_use", "id": "a", "name": "f", field: part}
    start = {"type": "content_block_start", "index": 0, "content_block": block}
    delta = {"type": "input_json_delta", "partial_json": part}
    _, reader = fed(
        "anthropic", events(start, {"type": "content_block_delta", "index": 0, "delta": delta})
    )
    assert all(isinstance(call.arguments, str) for call in reader.calls())


def chunk(delta: Any, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


@pytest.mark.parametrize(
    ("values", "deltas"),
    [
        ([chunk({"role": "assistant", "content": "a"}), chunk({"content": None})], ["a"]),
        ([chunk({"content": "a"}), {"choices": [], "usage": None}, chunk({})], ["a"]),
        ([{"id": "x"}, chunk({"content": "a", "refusal": None})], ["a"]),
        ([{"choices": [{"delta": None, "finish_reason": "stop"}]}], []),
        ([chunk({"reasoning_content": "hm"}), chunk({"content": "a"})], ["a"]),
    ],
)
def test_dialects_of_chat_completions(values: list[Any], deltas: list[str]) -> None:
    said, reader = fed("openai", events(*values))
    assert said == deltas
    assert reader.failure is None


def test_thinking_aloud_is_a_sign_of_life_but_no_text() -> None:
    for name, thought in (
        ("openai", chunk({"reasoning_content": "hm"})),
        ("openai", chunk({"reasoning": "hm"})),
        (
            "anthropic",
            {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}},
        ),
    ):
        deltas, reader = fed(name, events(thought))
        assert (deltas, reader.alive) == ([], True)
    for name, pulse in (("openai", chunk({"role": "assistant"})), ("anthropic", {"type": "ping"})):
        assert not fed(name, events(pulse))[1].alive


@pytest.mark.parametrize(
    "parts",
    [
        # one piece without an index, as some servers send it
        [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
        # pieces that continue the last call without naming it
        [
            {"id": "a", "function": {"name": "f", "arguments": "{"}},
            {"function": {"arguments": "}"}},
        ],
        # the name again in each piece
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}},
            {"index": 0, "function": {"name": "f", "arguments": "}"}},
        ],
    ],
)
def test_dialects_of_tool_calls(parts: list[dict[str, Any]]) -> None:
    values = [chunk({"tool_calls": [part]}) for part in parts]
    _, reader = fed("openai", events(*values, chunk({}, "stop")))
    assert [(c.id, c.name, c.arguments) for c in reader.calls()] == [("a", "f", "{}")]
    assert reader.end().finish_reason == "tool_calls"


def test_text_beside_a_tool_call_is_kept() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    deltas, reader = fed("openai", events(chunk({"content": "x", "tool_calls": [call]})))
    assert deltas == ["x"]
    assert len(reader.calls()) == 1


def test_anthropic_counts_what_came_from_a_cache() -> None:
    usage = {"input_tokens": 3, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 2}
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}
    final = {**stop, "usage": {"output_tokens": 9}}
    _, reader = fed(
        "anthropic",
        events({"type": "message_start", "message": {"usage": usage}}, stop, final),
    )
    assert reader.end() == Done("stop", Usage(45, 9))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error", "message": "x"}, "server"),
        ({"type": "rate_limit_error"}, "rate"),
        ({"type": "insufficient_quota", "code": "insufficient_quota"}, "rate"),
        ({"type": "authentication_error"}, "auth"),
        ({"type": "invalid_request_error"}, "bad_request"),
        ({"code": 429, "message": "slow down"}, "rate"),
        ("out of memory", "server"),
    ],
)
@BOTH
def test_errors_in_the_stream(name: str, error: Any, kind: str) -> None:
    value = {"type": "error", "error": error}
    text = WIRES[name][1].token("before")
    _, reader = fed(name, [text + events(value)[0] + WIRES[name][1].token("after")])
    assert reader.failure is not None
    assert reader.failure.kind == kind
    assert "memory" not in reader.failure.message


def test_a_delta_before_a_failure_in_the_same_read_is_given_out() -> None:
    for name, (wire, fake) in WIRES.items():
        reader = wire.reader("m")
        given_out = reader.read(Parser().feed(fake.token("kept") + b"data: {nonsense\n\n"))
        assert given_out.deltas == ["kept"], name
        assert reader.failure is not None


async def test_the_fake_writes_what_http_expects() -> None:
    """Both sides of these tests share the fake's bytes; the framing is checked by a real client."""
    server = await asyncio.start_server(lambda _, writer: serve(writer), "127.0.0.1", 0)

    async def serve(writer: asyncio.StreamWriter) -> None:
        await Answer(writer.transport, Behaviour(tokens=3), OpenAI(ASKED)).give()
        writer.close()

    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        raw = await reader.read()
        writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body.endswith(b"0\r\n\r\n")
    size, _, rest = body.partition(b"\r\n")
    assert rest[int(size, 16) :].startswith(b"\r\n")
