"""The chat-completions wire protocol, as OpenAI and most other servers speak it."""

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

DEFAULT_URL = "https://api.openai.com/v1"

# What a server turned out not to know; kept for each model so that it is refused only once.
NO_STREAM_OPTIONS = "no stream_options"
OTHER_MAX_TOKENS = "other name of max_tokens"

_FINISH: dict[str, Finish] = {
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def url(base_url: str) -> str:
    """Where calls go."""
    return f"{base_url.rstrip('/')}/chat/completions"


def headers(key: str | None) -> dict[str, str]:
    """Headers that carry the key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def body(
    model: Model,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    limits: Limits,
    quirks: frozenset[str],
) -> bytes:
    """The request as JSON."""
    official = model.base_url == DEFAULT_URL
    newer = official is (OTHER_MAX_TOKENS not in quirks)
    request: dict[str, Any] = {
        "model": model.provider_model,
        "messages": [_message(message) for message in messages],
        "stream": True,
        "max_completion_tokens" if newer else "max_tokens": limits.max_tokens,
    }
    if NO_STREAM_OPTIONS not in quirks:
        request["stream_options"] = {"include_usage": True}
    if tools:
        request["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters),
                },
            }
            for tool in tools
        ]
    return orjson.dumps(request)


def adapt(refusal: bytes) -> str | None:
    """The quirk that a 400 tells of."""
    if b"stream_options" in refusal:
        return NO_STREAM_OPTIONS
    if b"max_completion_tokens" in refusal or b"'max_tokens'" in refusal:
        return OTHER_MAX_TOKENS
    return None


def reader(model: str) -> "Reader":
    """A reader for one answer."""
    return Reader(model)


def _message(message: Message) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_call_id is not None:
        said["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        said["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
        said["content"] = message.content or None
    return said


class Reader:
    """The state of one answer, see `wire.Reader`."""

    __slots__ = ("_calls", "_model", "_usage", "alive", "ended", "failure", "finish")

    def __init__(self, model: str) -> None:
        self._model = model
        self._calls: list[_Call] = []
        self._usage: Usage | None = None
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
                if event == b"[DONE]":
                    self.ended = True
                    break
                data = orjson.loads(event)
                if choices := data.get("choices"):
                    self._choice(choices[0], deltas)
                if usage := data.get("usage"):
                    self._usage = Usage(
                        int(usage.get("prompt_tokens") or 0),
                        int(usage.get("completion_tokens") or 0),
                    )
                if error := data.get("error"):
                    self.failure = failures.from_event(self._model, error)
                    break
        except UNREADABLE:
            self.failure = failures.unreadable(self._model)
        return chunk

    def end(self) -> Done:
        """The end of the answer, once `finish` or `ended` is there."""
        finish = self.finish or "stop"
        return Done("tool_calls" if self._calls and finish == "stop" else finish, self._usage)

    def calls(self) -> list[ToolCall]:
        """The tool calls, whole."""
        return [ToolCall(call.id, call.name, "".join(call.arguments)) for call in self._calls]

    def _choice(self, choice: dict[str, Any], deltas: list[str]) -> None:
        if delta := choice.get("delta"):
            if text := delta.get("content"):
                deltas.append(checked(text))
                self.alive = True
            if not text or len(delta) > 1:
                self._other(delta)
        if reason := choice.get("finish_reason"):
            self.finish = _FINISH.get(reason, "stop")

    def _other(self, delta: dict[str, Any]) -> None:
        for part in delta.get("tool_calls") or ():
            call = self._call(part)
            call.id = checked(part.get("id") or call.id)
            function = part.get("function") or {}
            call.name = checked(function.get("name") or call.name)
            call.arguments.append(checked(function.get("arguments") or ""))
            self.alive = True
        # Thinking is no text of the answer, but a model that thinks aloud is not silent.
        if delta.get("reasoning_content") or delta.get("reasoning"):
            self.alive = True

    def _call(self, part: dict[str, Any]) -> "_Call":
        index = part.get("index")
        for call in self._calls:
            if index is not None and call.index == index:
                return call
        if index is None and not part.get("id") and self._calls:
            return self._calls[-1]
        self._calls.append(_Call(index))
        return self._calls[-1]


class _Call:
    """A tool call under construction."""

    __slots__ = ("arguments", "id", "index", "name")

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
