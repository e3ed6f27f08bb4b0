"""One streamed call over HTTP, whichever wire protocol: request, watch, read, end.

Every read of the socket becomes at most one Chunk, given out at once. One timer watches the whole
call; leaving the generator before its end closes the connection, which is how a provider learns
that nobody wants the rest.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import aiohttp
from yarl import URL

from lantern.core.errors import BadRequest
from lantern.core.web import Web
from lantern.llm import anthropic, failures, openai, sse
from lantern.llm.types import Chunk, Kind, Limits, Message, Model, ModelError, Tool
from lantern.llm.watchdog import Watchdog
from lantern.llm.wire import Reader, Wire

_WIRES: dict[str, Wire] = {"openai": openai, "anthropic": anthropic}
_STREAM = {
    "Content-Type": "application/json",
    "Accept": "text/event-stream",
    "Accept-Encoding": "identity",  # a compressor would hold tokens back
}

_ERROR_BODY_BYTES = 65_536
_ERROR_BODY_SECONDS = 5.0
_AFTER_FINISH_SECONDS = 5.0  # for the usage, which some servers send last
_LINGER_SECONDS = 1.0  # for the end of the HTTP body after the end of the answer
_BYTES_PER_TOKEN = 4096  # far above what any provider wraps a token in
_STREAM_BYTES = 4_000_000


Outcome = Callable[[Model, ModelError | None], None]


class _Ask(NamedTuple):
    model: Model
    messages: Sequence[Message]
    tools: Sequence[Tool]
    limits: Limits


class Caller:
    """Calls models over HTTP; remembers what their servers do not know."""

    def __init__(self, web: Web, environ: Mapping[str, str], outcome: Outcome) -> None:
        """`outcome` is told of each call that ended, with its error or None."""
        self._web = web
        self._outcome = outcome
        self._environ = environ
        self._quirks: dict[str, frozenset[str]] = {}
        self._lingering: set[aiohttp.ClientResponse] = set()

    def close(self) -> None:
        """Close what is still open after its answer ended."""
        for response in self._lingering:
            response.close()
        self._lingering.clear()

    async def stream(
        self,
        model: Model,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        limits: Limits,
    ) -> AsyncGenerator[Chunk, None]:
        """The answer as it comes; the last chunk carries `done`. Raises ModelError."""
        ask = _Ask(model, messages, tools, limits)
        wire = _WIRES[model.protocol]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (limits.first_token_timeout or model.first_token_timeout)
        answer: _Answer | None = None
        try:
            response = await self._open(wire, ask, deadline)
            idle = limits.idle_timeout or model.idle_timeout
            watchdog = Watchdog(loop, deadline, idle, response.close)
            answer = _Answer(response, wire.reader(model.name), watchdog, ask)
            try:
                while not answer.complete:
                    yield await answer.next()
            finally:
                watchdog.stop()
                if answer.complete:
                    self._outcome(model, None)
                    self._linger(loop, response)
                else:
                    response.close()
        except ModelError as error:
            error.started = answer is not None and answer.started
            self._outcome(model, error)
            raise

    async def _open(self, wire: Wire, ask: _Ask, deadline: float) -> aiohttp.ClientResponse:
        """Send the request until it is understood; an answer other than 200 is a ModelError."""
        name = ask.model.name
        key = read_key(ask.model, self._environ)
        quirks = self._quirks.get(name, frozenset())
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    body = wire.body(ask.model, ask.messages, ask.tools, ask.limits, quirks)
                    response = await self._post(wire, ask, key, body)
                    if response.status == 200:
                        self._quirks[name] = quirks
                        return response
                    said = await _error_body(response)
                    learnt = wire.adapt(said) if response.status in {400, 422} else None
                    if learnt is None or learnt in quirks:
                        raise failures.from_status(name, response.status, response.headers, said)
                    quirks |= {learnt}
        except TimeoutError as error:
            raise ModelError(name, "timeout", "no answer in time") from error

    async def _post(
        self, wire: Wire, ask: _Ask, key: str | None, body: bytes
    ) -> aiohttp.ClientResponse:
        try:
            route = await self._web.route(_url(wire.url(ask.model.base_url)), trusted=True)
            return await self._web.trusted.post(
                route.url,
                data=body,
                headers={**_STREAM, **wire.headers(key), **route.headers},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=ask.limits.connect_timeout),
            )
        except (aiohttp.ClientError, OSError, BadRequest) as error:
            raise failures.from_exception(ask.model.name, error) from error

    def _linger(self, loop: asyncio.AbstractEventLoop, response: aiohttp.ClientResponse) -> None:
        # The connection goes back to the pool when the HTTP body ends, which is often the same
        # read, sometimes the next; nobody waits for it.
        if response.closed:
            return
        self._lingering.add(response)

        def give_up() -> None:
            self._lingering.discard(response)
            response.close()

        loop.call_later(_LINGER_SECONDS, give_up)


class _Answer:
    """Reads one answer to its end."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        reader: Reader,
        watchdog: Watchdog,
        ask: _Ask,
    ) -> None:
        self.complete = False
        self.started = False
        self._response = response
        self._reader = reader
        self._watchdog = watchdog
        self._model = ask.model.name
        self._parser = sse.Parser()
        self._left = _STREAM_BYTES + ask.limits.max_tokens * _BYTES_PER_TOKEN
        self._read_any = False
        self._understood = False

    async def next(self) -> Chunk:
        """The next chunk; `complete` is set with the last one. Raises ModelError."""
        reader = self._reader
        while True:
            if reader.failure:
                raise reader.failure
            events = self._events(await self._read())
            if events is None:
                return self._last(Chunk())
            finish = reader.finish
            chunk = reader.read(events)
            self.started = self.started or bool(chunk.deltas)
            if reader.ended and not reader.failure:
                return self._last(chunk)
            if reader.finish and not finish:
                self._watchdog.within(_AFTER_FINISH_SECONDS)
            elif reader.alive:
                self._watchdog.alive()
                reader.alive = False
            if chunk.deltas:
                return chunk

    async def _read(self) -> bytes:
        """What one read of the socket brought; nothing at the end of the body."""
        watchdog = self._watchdog
        watchdog.waiting = True
        try:
            data = await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            if self._reader.finish:
                return b""
            if watchdog.expired:
                raise self._error("timeout", "it fell silent") from error
            raise self._error("hangup", "the connection broke before the end") from error
        finally:
            watchdog.waiting = False
        self._left -= len(data)
        if self._left < 0:
            raise self._error("garbage", "the provider sends far more than was asked for")
        return data

    def _events(self, data: bytes) -> list[bytes] | None:
        """The events these bytes finish; None at the end of the body."""
        if not data:
            return None
        self._read_any = True
        try:
            events = self._parser.feed(data)
        except sse.Oversized as error:
            raise self._error("garbage", "the provider sent an event without end") from error
        self._understood = self._understood or bool(events)
        return events

    def _last(self, chunk: Chunk) -> Chunk:
        reader = self._reader
        if reader.finish is None and not reader.ended:
            if self._read_any and not self._understood:
                raise self._error("garbage", "the provider sent no event stream")
            raise self._error("hangup", "the answer broke off")
        chunk.tool_calls = reader.calls()
        if reader.finish is None and not self.started and not chunk.tool_calls:
            raise self._error("garbage", "the provider sent an empty answer")
        chunk.done = reader.end()
        self.complete = True
        return chunk

    def _error(self, kind: Kind, message: str) -> ModelError:
        return ModelError(self._model, kind, message)


def read_key(model: Model, environ: Mapping[str, str]) -> str | None:
    """The model's key, from the environment alone. Raises ModelError naming the variable."""
    if model.api_key_env is None:
        return None
    key = environ.get(model.api_key_env, "").strip()
    if not key:
        raise ModelError(
            model.name, "auth", f"the environment variable {model.api_key_env} is not set"
        )
    if not key.isascii() or not key.isprintable():
        raise ModelError(
            model.name, "auth", f"the environment variable {model.api_key_env} holds no valid key"
        )
    return key


@lru_cache(maxsize=256)
def _url(text: str) -> URL:
    return URL(text)


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    """The beginning of an error's body, as far as it comes in time."""
    said = b""
    try:
        async with asyncio.timeout(_ERROR_BODY_SECONDS):
            async for data in response.content.iter_any():
                said += data
                if len(said) > _ERROR_BODY_BYTES:
                    break
    except (aiohttp.ClientError, TimeoutError):
        return said
    finally:
        response.release()
    return said
