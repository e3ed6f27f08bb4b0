"""A run's events as they come, over dropped connections. The two classes are twins."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import suppress
from types import TracebackType

import httpx

from . import _calls
from ._config import Config
from ._errors import ConnectionFailed, ServerError
from ._events import Event, TokenEvent
from ._follow import Follower
from ._models import Run
from ._transport import AsyncTransport, Transport


class _Reader:
    """What both streams tell about how far they have read."""

    def __init__(self, config: Config, run_id: str, after: int | None) -> None:
        self.run_id = run_id
        self._follower = Follower(run_id, after=after, max_resumes=config.max_resumes)

    @property
    def steps(self) -> dict[str, str]:
        """The text of each step, as far as it was read."""
        return self._follower.transcript.steps

    @property
    def last_seq(self) -> int:
        """The number of the last event that was read; `runs.stream(run_id, after=...)` takes it."""
        return self._follower.last_seq


class RunStream(_Reader):
    """Iterate over it for events. It resumes by itself, and drops what came twice.

    `step.restart` comes as an event: the text that its step has sent so far is void. `text()`
    and `steps` leave void text out by themselves; `tokens()` cannot call back what it gave.
    """

    def __init__(self, transport: Transport, run_id: str, after: int | None = None) -> None:
        super().__init__(transport.config, run_id, after)
        self._transport = transport
        self._events = self._read()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def tokens(self) -> Iterator[str]:
        """The pieces of text as the model sends them, of all steps; the rest of the stream."""
        for event in self:
            if isinstance(event, TokenEvent):
                yield event.content

    def text(self) -> str:
        """Read to the end; the text of the last step. RunFailed, RunCancelled."""
        for _ in self:
            continue
        return self._follower.answer()

    def result(self) -> Run:
        """Read to the end; the run with its steps, output, tokens and cost, however it ended."""
        for _ in self:
            continue
        return self._transport.send(_calls.get_run(self.run_id))

    def close(self) -> None:
        """Stop reading. The run goes on; `runs.cancel` would end it."""
        self._events.close()

    def __enter__(self) -> "RunStream":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self) -> Generator[Event, None, None]:
        follower, transport = self._follower, self._transport
        while not follower.finished:
            try:
                with transport.open(follower.call()) as response:
                    pause = follower.opened(response)
                    if pause is None:
                        for chunk in response.iter_bytes():
                            yield from follower.feed(chunk)
                            if follower.finished:
                                return
                        pause = follower.closed()
            except httpx.RequestError as problem:
                pause = follower.dropped(problem)
            if follower.in_doubt:
                with suppress(ConnectionFailed, ServerError):  # then the next attempt will tell
                    follower.learn(transport.send(_calls.get_run(self.run_id)))
            if not follower.finished:
                transport.wait(pause)


class AsyncRunStream(_Reader):
    """Iterate over it with `async for` for events. It resumes by itself, and drops what came twice.

    `step.restart` comes as an event: the text that its step has sent so far is void. `text()`
    and `steps` leave void text out by themselves; `tokens()` cannot call back what it gave.
    """

    def __init__(self, transport: AsyncTransport, run_id: str, after: int | None = None) -> None:
        super().__init__(transport.config, run_id, after)
        self._transport = transport
        self._events = self._read()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def tokens(self) -> AsyncGenerator[str, None]:
        """The pieces of text as the model sends them, of all steps; the rest of the stream."""
        async for event in self:
            if isinstance(event, TokenEvent):
                yield event.content

    async def text(self) -> str:
        """Read to the end; the text of the last step. RunFailed, RunCancelled."""
        async for _ in self:
            continue
        return self._follower.answer()

    async def result(self) -> Run:
        """Read to the end; the run with its steps, output, tokens and cost, however it ended."""
        async for _ in self:
            continue
        return await self._transport.send(_calls.get_run(self.run_id))

    async def close(self) -> None:
        """Stop reading. The run goes on; `runs.cancel` would end it."""
        await self._events.aclose()

    async def __aenter__(self) -> "AsyncRunStream":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    async def _read(self) -> AsyncGenerator[Event, None]:
        follower, transport = self._follower, self._transport
        while not follower.finished:
            try:
                async with transport.open(follower.call()) as response:
                    pause = follower.opened(response)
                    if pause is None:
                        async for chunk in response.aiter_bytes():
                            for event in follower.feed(chunk):
                                yield event
                            if follower.finished:
                                return
                        pause = follower.closed()
            except httpx.RequestError as problem:
                pause = follower.dropped(problem)
            if follower.in_doubt:
                with suppress(ConnectionFailed, ServerError):  # then the next attempt will tell
                    follower.learn(await transport.send(_calls.get_run(self.run_id)))
            if not follower.finished:
                await transport.wait(pause)
