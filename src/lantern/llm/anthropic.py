"""The messages wire protocol of Anthropic."""

from collections.abc import Sequence
from typing import Any

import orjson

from lantern.llm import failures
from lantern.llm.failures import UNREADABLE, checked
from lantern.llm.types import (
    Chunk,
    Done,
    Finish,
    Limits,
    Message,
    Model,
    ModelError,
    Tool,
    ToolCall,
    Usage,
)

DEFAULT_URL = "https://api.anthropic.com"

_VERSION = "2023-06-01"
_FINISH: dict[str, Finish] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def url(base_url: str) -> str:
    """Where calls go; the base may or may not name the version."""
    return f"{base_url.rstrip('/').removesuffix('/v1')}/v1/messages"


def headers(key: str | None) -> dict[str, str]:
    """Headers that carry the key and the protocol's version."""
    return {"anthropic-version": _VERSION, **({"x-api-key": key} if key else {})}


def body(
    model: Model,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    limits: Limits,
    quirks: frozenset[str],
) -> bytes:
    """The request as JSON; the system's words stand apart from the conversation."""
    request: dict[str, Any] = {
        "model": model.provider_model,
        "messages": _turns(messages),
        "stream": True,
        "max_tokens": limits.max_tokens,
    }
    if system := "\n\n".join(m.content for m in messages if m.role == "system" and m.content):
        request["system"] = system
    if tools:
        request["tools"] = [
            {
                "name": tool.name,
                "description": tool.description,
                "input_schema": dict(tool.parameters),
            }
            for tool in tools
        ]
    return orjson.dumps(request)


def adapt(refusal: bytes) -> str | None:
    """This protocol has one dialect; a refusal is final."""
    return None


def reader(model: str) -> "Reader":
    """A reader for one answer."""
    return Reader(model)


def _turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    # Results of parallel calls must stand in one turn, so neighbours of one role are joined.
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += _blocks(message)
        else:
            turns.append({"role": role, "content": _blocks(message)})
    return turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [
            {
                "type": "tool_result",
                "tool_use_id": message.tool_call_id,
                "content": message.content,
            }
        ]
    said = [{"type": "text", "text": message.content}] if message.content else []
    return [
        *said,
        *(
            {
                "type": "tool_use",
                "id": call.id,
                "name": call.name,
                "input": orjson.loads(call.arguments or "{}"),
            }
            for call in message.tool_calls
        ),
    ]


class Reader:
    """The state of one answer, see `wire.Reader`."""

    __slots__ = ("_calls", "_input", "_model", "_output", "alive", "ended", "failure", "finish")

    def __init__(self, model: str) -> None:
        self._model = model
        self._calls: dict[int, tuple[str, str, list[str]]] = {}
        self._input: int | None = None
        self._output = 0
        self.finish: Finish | None = None
        self.alive = False
        self.ended = False
        self.failure: ModelError | None = None

    def read(self, events: list[bytes]) -> Chunk:
        """What these events bring."""
        chunk = Chunk()
        deltas = chunk.deltas
        try:
            for event in events:
                data = orjson.loads(event)
                if data["type"] == "content_block_delta":
                    self._delta(data, deltas)
                else:
                    self._other(data)
                if self.ended or self.failure:
                    break
        except UNREADABLE:
            self.failure = failures.unreadable(self._model)
        return chunk

    def end(self) -> Done:
        """The end of the answer, once `finish` or `ended` is there."""
        usage = None if self._input is None else Usage(self._input, self._output)
        return Done(self.finish or "stop", usage)

    def calls(self) -> list[ToolCall]:
        """The tool calls, whole."""
        return [
            ToolCall(id, name, "".join(parts) or "{}") for id, name, parts in self._calls.values()
        ]

    def _delta(self, data: dict[str, Any], deltas: list[str]) -> None:
        delta = data["delta"]
        self.alive = True
        if (text := delta.get("text")) and delta["type"] == "text_delta":
            deltas.append(checked(text))
        elif delta["type"] == "input_json_delta":
            self._calls[data["index"]][2].append(checked(delta["partial_json"]))

    def _other(self, data: dict[str, Any]) -> None:
        match data["type"]:
            case "message_start":
                self._count(data["message"].get("usage"))
            case "content_block_start":
                block = data["content_block"]
                if block["type"] == "tool_use":
                    self._calls[data["index"]] = (
                        checked(block["id"]),
                        checked(block["name"]),
                        [],
                    )
                    self.alive = True
            case "message_delta":
                self._count(data.get("usage"))
                if reason := data["delta"].get("stop_reason"):
                    self.finish = _FINISH.get(reason, "stop")
            case "message_stop":
                self.ended = True
            case "error":
                self.failure = failures.from_event(self._model, data.get("error"))

    def _count(self, usage: dict[str, Any] | None) -> None:
        # Both counts are totals so far; what was read from a cache is input as well.
        if not usage:
            return
        cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
        if usage.get("input_tokens") is not None:
            self._input = int(usage["input_tokens"]) + sum(int(usage.get(c) or 0) for c in cached)
        self._output = int(usage.get("output_tokens") or self._output)
