"""A language model's server to develop and test against: both streaming wire protocols, no model.

    python -m lantern_dev.model --port 9100

or, inside a test, `async with FakeModel() as fake: fake.url`. The text is always the same:
`w0 w1 w2 ...`. What it does is set for all requests or for one model name, by `fake.set(...)`, by
`POST /ctl {"model": "m", "fault": "429"}`, or by the requested model's own name after a colon:
`m:tokens=5;fault=half`. `GET /ctl` tells what it saw.
"""

import argparse
import asyncio
import json
from collections import Counter, deque
from dataclasses import asdict, replace
from typing import Any, Self, cast

from lantern_dev.model_wire import STATUS_WORDS, Answer, Anthropic, Behaviour, OpenAI, text, words

__all__ = ["Behaviour", "FakeModel", "text", "words"]

REFUSALS: dict[str, tuple[int, dict[str, Any]]] = {
    **{
        str(status): (status, {"message": f"key sk-secret: {word}", "type": word, "code": None})
        for status, word in STATUS_WORDS.items()
    },
    "no_stream_options": (400, {"message": "unknown field: stream_options", "type": "invalid"}),
    "no_max_tokens": (
        400,
        {
            "message": "'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
            "type": "invalid_request_error",
            "param": "max_tokens",
        },
    ),
}


class FakeModel:
    """The server, its settings and what it has seen."""

    def __init__(self, port: int = 0, behaviour: Behaviour | None = None) -> None:
        self.port = port
        self.default = behaviour or Behaviour()
        self.by_model: dict[str, Behaviour] = {}
        self.served: Counter[str] = Counter()
        self.requests: deque[dict[str, Any]] = deque(maxlen=200)
        self.counts: Counter[str] = Counter()
        self.tasks: set[asyncio.Task[None]] = set()
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on 127.0.0.1; port 0 takes a free one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), "127.0.0.1", self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close every connection."""
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """The base URL for the OpenAI protocol; that of Anthropic's is the same."""
        return f"http://127.0.0.1:{self.port}/v1"

    def set(self, model: str | None = None, **changes: Any) -> None:
        """Change what all requests get, or those for one model name."""
        if model is None:
            self.default = self.default.changed(**changes)
        else:
            self.by_model[model] = self.by_model.get(model, self.default).changed(**changes)
            self.served.pop(model, None)

    def reset(self) -> None:
        """Back to the beginning; open streams go on."""
        self.default = Behaviour()
        self.by_model.clear()
        self.served.clear()
        self.requests.clear()
        open_now = self.counts["open"]
        self.counts.clear()
        self.counts["open"] = open_now

    def behaviour(self, model: str) -> Behaviour:
        """What the next request for this model gets."""
        chosen = self.by_model.get(model)
        if chosen is None:
            changes = dict(
                part.split("=", 1) for part in model.partition(":")[2].split(";") if part
            )
            chosen = self.default.changed(**changes) if changes else self.default
        self.served[model] += 1
        if chosen.times is not None and self.served[model] > chosen.times:
            chosen = replace(chosen, fault=None)
        return chosen

    def state(self) -> dict[str, Any]:
        """Settings and counters, for `GET /ctl`."""
        return {
            **asdict(self.default),
            "models": {name: asdict(behaviour) for name, behaviour in self.by_model.items()},
            "by_model": dict(self.served),
            **{name: self.counts[name] for name in ("requests", "streams", "aborted", "open")},
        }


class Connection(asyncio.Protocol):
    """One client's connection: HTTP/1.1 as far as model clients use it."""

    transport: asyncio.Transport

    def __init__(self, server: FakeModel) -> None:
        self.server = server
        self.buffer = b""
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        if self.task is not None:
            self.server.counts["aborted"] += 1
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._next()

    def _next(self) -> None:
        head, blank, rest = self.buffer.partition(b"\r\n\r\n")
        if self.task is not None or not blank:
            return
        request, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", 0))
        if len(rest) < size:
            return
        body, self.buffer = rest[:size], rest[size:]
        method, path = request.split(" ")[:2]
        self.task = asyncio.get_running_loop().create_task(self._serve(method, path, headers, body))
        self.server.tasks.add(self.task)
        self.task.add_done_callback(self._served)

    def _served(self, task: "asyncio.Task[None]") -> None:
        self.server.tasks.discard(task)
        self.task = None
        if not task.cancelled() and task.exception() is not None:
            self.transport.abort()
        elif not self.transport.is_closing():
            self._next()

    async def _serve(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        path = path.partition("?")[0]
        if path == "/ctl":
            self._control(method, body)
        elif path.endswith("/models"):
            rows = [{"id": name, "object": "model"} for name in self.server.by_model or ("fake",)]
            self.json(200, {"object": "list", "data": rows})
        elif path.endswith(("/chat/completions", "/messages")):
            asked = json.loads(body)
            self.server.counts["requests"] += 1
            self.server.requests.append({"path": path, "headers": headers, "body": asked})
            try:
                await self._answer(path, asked)
            except ValueError as error:
                self.json(400, {"error": {"message": str(error), "type": "invalid_request_error"}})
        else:
            self.json(404, {"error": {"message": "no such page", "type": "not_found_error"}})

    async def _answer(self, path: str, asked: dict[str, Any]) -> None:
        plan = self.server.behaviour(str(asked.get("model", "")))
        fault = _refusal(plan.fault, asked)
        if fault == "hang":
            await asyncio.Event().wait()
        elif fault == "close":
            self.transport.close()
        elif fault == "html":
            self.whole(200, "text/html", b"<html><body>It works!</body></html>")
        elif fault in REFUSALS:
            status, error = REFUSALS[fault]
            self.json(status, {"error": error}, plan.retry_after)
        else:
            counts = self.server.counts
            counts["streams"] += 1
            counts["open"] += 1
            wire = Anthropic(asked) if path.endswith("/messages") else OpenAI(asked)
            try:
                await Answer(self.transport, plan, wire).give()
            finally:
                counts["open"] -= 1

    def _control(self, method: str, body: bytes) -> None:
        try:
            changes = json.loads(body) if method == "POST" else {}
            if changes.pop("reset", False):
                self.server.reset()
            if changes:
                self.server.set(**changes)
        except ValueError as error:
            self.json(400, {"error": {"message": str(error)}})
        else:
            self.json(200, self.server.state())

    def json(self, status: int, value: Any, retry_after: str | None = None) -> None:
        """A whole answer."""
        again = f"retry-after: {retry_after}\r\n" if retry_after else ""
        self.whole(status, "application/json", json.dumps(value).encode(), again)

    def whole(self, status: int, kind: str, body: bytes, more: str = "") -> None:
        """A whole answer of any type."""
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}{more}\r\n".encode() + body)


def _refusal(fault: str | None, asked: dict[str, Any]) -> str | None:
    """The fault, unless it is a refusal of a field that this request does not have."""
    field = {"no_stream_options": "stream_options", "no_max_tokens": "max_tokens"}.get(fault or "")
    return None if field and field not in asked else fault


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A fake language model's server.")
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--first-ms", type=float, default=0.0)
    parser.add_argument("--inter-ms", type=float, default=0.0)
    args = parser.parse_args()
    plan = Behaviour(tokens=args.tokens, first_ms=args.first_ms, inter_ms=args.inter_ms)
    async with FakeModel(args.port, plan) as fake:
        print(fake.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except KeyboardInterrupt:
        raise SystemExit(0) from None
