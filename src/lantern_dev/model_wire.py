"""What the fake model says: planned behaviour, and the two wire formats it says it in."""

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

STATUS_WORDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    529: "overloaded_error",
}
FAULTS = {
    **{str(status): f"the status {status}" for status in STATUS_WORDS},
    "garbage": "events that are no JSON",
    "html": "200 and a web page",
    "nothing": "200 and an empty body",
    "close": "closes the connection without an answer",
    "hang": "never answers",
    "silent": "the head of the answer, then nothing",
    "half": "half the tokens, then closes the connection",
    "stall": "half the tokens, then nothing",
    "error": "half the tokens, then an error event",
    "nofinish": "all tokens and a proper end of the body, but no reason to stop",
    "endless": "tokens without end",
    "slow": "at least 200 ms between two tokens",
    "no_stream_options": "400 to a request with stream_options",
    "no_max_tokens": "400 to a request with max_tokens",
}


@dataclass(frozen=True)
class Behaviour:
    """What a request gets. With `inter_ms` 0 the whole answer is one write.

    `times`: the fault is for that many requests only. `tools`: calls `{name, arguments}` to make.
    """

    tokens: int = 50
    first_ms: float = 0.0
    inter_ms: float = 0.0
    fault: str | None = None
    times: int | None = None
    retry_after: str | None = None
    usage: bool = True
    finish: str = "stop"
    tools: list[dict[str, str]] = field(default_factory=list)

    def changed(self, **changes: Any) -> "Behaviour":
        """With other values, given as numbers or as text. Raises ValueError."""
        for name, value in changes.items():
            if name in {"tokens", "times"} and value is not None:
                changes[name] = int(value)
            elif name in {"first_ms", "inter_ms"}:
                changes[name] = float(value)
            elif name == "fault" and value is not None:
                changes[name] = str(value)
                if changes[name] not in FAULTS:
                    raise ValueError(f"no fault '{value}'; there are: {', '.join(FAULTS)}")
        try:
            return replace(self, **changes)
        except TypeError as error:
            raise ValueError(str(error)) from error


def text(tokens: int) -> str:
    """The whole text of an answer."""
    return "".join(words(tokens))


def words(tokens: int) -> list[str]:
    """The deltas of an answer."""
    return [f" w{n}" if n else "w0" for n in range(tokens)]


class Wire(Protocol):
    """A wire format; every part is complete server-sent events."""

    def start(self) -> bytes:
        """What comes before the first token."""

    def token(self, word: str) -> bytes:
        """One token."""

    def end(self, plan: Behaviour, said: int) -> bytes:
        """Tool calls, the reason to stop, the usage, the end."""

    def error(self) -> bytes:
        """An error in the middle of the stream."""


class OpenAI:
    """Chat completions."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.model = str(asked.get("model", ""))
        self.counts = bool((asked.get("stream_options") or {}).get("include_usage"))

    def _event(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._chunk(choices=[choice])

    def _chunk(self, **more: Any) -> bytes:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000}
        return _data({**head, "model": self.model, "system_fingerprint": "fp", **more})

    def start(self) -> bytes:
        """The role."""
        return self._event({"role": "assistant", "content": ""})

    def token(self, word: str) -> bytes:
        """One delta."""
        return self._event({"content": word})

    def end(self, plan: Behaviour, said: int) -> bytes:
        """Tool calls, reason, usage, end."""
        parts = []
        for index, call in enumerate(plan.tools):
            half = len(call["arguments"]) // 2
            named = {"name": call["name"], "arguments": ""}
            first = {"index": index, "id": f"call_{index}", "type": "function", "function": named}
            rest = [call["arguments"][:half], call["arguments"][half:]]
            parts += [self._event({"tool_calls": [first]})]
            parts += [
                self._event({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
                for piece in rest
            ]
        parts.append(self._event({}, "tool_calls" if plan.tools else plan.finish))
        if plan.usage and self.counts:
            usage = {"prompt_tokens": 10, "completion_tokens": said, "total_tokens": 10 + said}
            parts.append(self._chunk(choices=[], usage=usage))
        return b"".join(parts) + b"data: [DONE]\n\n"

    def error(self) -> bytes:
        """An error event."""
        return _data({"error": {"message": "said so", "type": "server_error", "code": None}})


class Anthropic:
    """Messages."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.model = str(asked.get("model", ""))

    @staticmethod
    def _event(kind: str, **more: Any) -> bytes:
        return f"event: {kind}\n".encode() + _data({"type": kind, **more})

    def start(self) -> bytes:
        """The role."""
        usage = {"input_tokens": 10, "output_tokens": 1}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": self.model}
        return (
            self._event("message_start", message={**message, "content": [], "usage": usage})
            + self._event(
                "content_block_start", index=0, content_block={"type": "text", "text": ""}
            )
            + self._event("ping")
        )

    def token(self, word: str) -> bytes:
        """One delta."""
        delta = {"type": "text_delta", "text": word}
        return self._event("content_block_delta", index=0, delta=delta)

    def end(self, plan: Behaviour, said: int) -> bytes:
        """Tool calls, reason, usage, end."""
        parts = [self._event("content_block_stop", index=0)]
        for index, call in enumerate(plan.tools, 1):
            block = {"type": "tool_use", "id": f"toolu_{index}", "name": call["name"], "input": {}}
            parts.append(self._event("content_block_start", index=index, content_block=block))
            half = len(call["arguments"]) // 2
            for piece in (call["arguments"][:half], call["arguments"][half:]):
                delta = {"type": "input_json_delta", "partial_json": piece}
                parts.append(self._event("content_block_delta", index=index, delta=delta))
            parts.append(self._event("content_block_stop", index=index))
        reasons = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
        reason = "tool_use" if plan.tools else reasons.get(plan.finish, plan.finish)
        usage = {"output_tokens": said}
        stop = {"stop_reason": reason, "stop_sequence": None}
        parts.append(self._event("message_delta", delta=stop, usage=usage))
        return b"".join(parts) + self._event("message_stop")

    def error(self) -> bytes:
        """An error event."""
        return self._event("error", error={"type": "overloaded_error", "message": "said so"})


class Answer:
    """One streamed answer, as bytes of a chunked HTTP body."""

    def __init__(self, transport: asyncio.Transport, plan: Behaviour, wire: Wire) -> None:
        self.transport = transport
        self.plan = plan
        self.wire = wire

    async def give(self) -> None:
        """Say everything at its time. Ends early, or never, where the plan has a fault."""
        fault = self.plan.fault
        await asyncio.sleep(self.plan.first_ms / 1000)
        if fault == "nothing":
            self._write(HEAD + LAST)
        elif fault == "garbage":
            self._write(HEAD + _piece(b"data: {not json\n\n") + LAST)
        elif fault == "silent":
            self._write(HEAD + _piece(self.wire.start()))
            await asyncio.Event().wait()
        elif fault == "endless":
            await self._endless()
        else:
            await self._tokens()

    async def _tokens(self) -> None:
        plan = self.plan
        broken = plan.fault in {"half", "stall", "error"}
        tokens = [_piece(self.wire.token(word)) for word in words(plan.tokens)]
        tokens = tokens[: len(tokens) // 2] if broken else tokens
        inter = max(plan.inter_ms, 200.0 if plan.fault == "slow" else 0.0) / 1000
        waiting = HEAD + _piece(self.wire.start())
        if inter:
            start = asyncio.get_running_loop().time()
            for number, token in enumerate(tokens):
                await _until(start + number * inter)  # a fixed grid does not drift
                self._write(waiting + token)
                waiting = b""
            await _until(start + len(tokens) * inter)
            tokens = []
        self._write(waiting + b"".join(tokens) + self._tail())
        if plan.fault == "half":
            self.transport.close()
        elif plan.fault == "stall":
            await asyncio.Event().wait()

    def _tail(self) -> bytes:
        plan = self.plan
        if plan.fault in {"half", "stall"}:
            return b""
        if plan.fault == "error":
            return _piece(self.wire.error()) + LAST
        if plan.fault == "nofinish":
            return LAST
        return _piece(self.wire.end(plan, plan.tokens)) + LAST

    async def _endless(self) -> None:
        self._write(HEAD + _piece(self.wire.start()))
        burst = _piece(self.wire.token(" more")) * 100
        while True:
            if self.transport.get_write_buffer_size() < 1_000_000:
                self._write(burst)
            await asyncio.sleep(0.001)

    def _write(self, data: bytes) -> None:
        if data:
            self.transport.write(data)


HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
LAST = b"0\r\n\r\n"


def _data(value: Any) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def _piece(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - asyncio.get_running_loop().time()))
