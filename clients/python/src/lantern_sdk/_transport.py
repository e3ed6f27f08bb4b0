"""Sends calls: the only file that waits. The two classes are twins; what they decide is shared."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import httpx

from ._calls import Call
from ._config import Config
from ._models import Page
from ._rate_limit import RateLimit
from ._retries import Attempts

T = TypeVar("T")

# A stream holds its connection as long as its run lasts: a small pool would make runs queue.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)


class Transport:
    """Blocking; safe to share between threads."""

    def __init__(self, config: Config, http: httpx.Client | None) -> None:
        self.config = config
        self.last_rate_limit: RateLimit | None = None
        self._http = http or httpx.Client(limits=_LIMITS)
        self._owned = http is None

    def send(self, call: Call[T]) -> T:
        """Send until an answer stands; raises the errors of the tree."""
        return call.read(self._answer(call, stream=False))

    def pages(self, call: Callable[[int], Call[Page[T]]]) -> Iterator[T]:
        """The items of a listing; `call` asks for the page of a number."""
        number, last = 1, False
        while not last:
            page = self.send(call(number))
            yield from page.items
            number, last = number + 1, page.last

    @contextmanager
    def download(self, call: Call[None]) -> Iterator[httpx.Response]:
        """A good answer whose body is left to be read; it is not repeated once it has begun."""
        response = self._answer(call, stream=True)
        try:
            yield response
        except httpx.RequestError as problem:
            raise self.config.broken(call, problem) from problem
        finally:
            response.close()

    @contextmanager
    def open(self, call: Call[None]) -> Iterator[httpx.Response]:
        """One attempt; a good answer's body is left to be read, a bad one's is there."""
        response = self._http.send(self.config.build(self._http, call), stream=True)
        try:
            self._note(response)
            if not response.is_success:
                response.read()
            yield response
        finally:
            response.close()

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def close(self) -> None:
        """Close the connections, unless they belong to the caller's own client."""
        if self._owned:
            self._http.close()

    def _answer(self, call: Call[Any], *, stream: bool) -> httpx.Response:
        attempts = Attempts(allowed=self.config.max_retries, repeatable=call.repeatable)
        while True:
            try:
                request = self.config.build(self._http, call)
                response = self._http.send(request, stream=stream)
                if not response.is_success:
                    response.read()
            except httpx.RequestError as problem:
                pause: float | None = attempts.failed(problem, self.config.describe(call))
            else:
                self._note(response)
                pause = attempts.answered(response)
                if pause is None:
                    return response
            self.wait(pause or 0)

    def _note(self, response: httpx.Response) -> None:
        self.last_rate_limit = RateLimit.read(response.headers) or self.last_rate_limit


class AsyncTransport:
    """For one event loop."""

    def __init__(self, config: Config, http: httpx.AsyncClient | None) -> None:
        self.config = config
        self.last_rate_limit: RateLimit | None = None
        self._http = http or httpx.AsyncClient(limits=_LIMITS)
        self._owned = http is None

    async def send(self, call: Call[T]) -> T:
        """Send until an answer stands; raises the errors of the tree."""
        return call.read(await self._answer(call, stream=False))

    async def pages(self, call: Callable[[int], Call[Page[T]]]) -> AsyncIterator[T]:
        """The items of a listing; `call` asks for the page of a number."""
        number, last = 1, False
        while not last:
            page = await self.send(call(number))
            for item in page.items:
                yield item
            number, last = number + 1, page.last

    @asynccontextmanager
    async def download(self, call: Call[None]) -> AsyncIterator[httpx.Response]:
        """A good answer whose body is left to be read; it is not repeated once it has begun."""
        response = await self._answer(call, stream=True)
        try:
            yield response
        except httpx.RequestError as problem:
            raise self.config.broken(call, problem) from problem
        finally:
            await response.aclose()

    @asynccontextmanager
    async def open(self, call: Call[None]) -> AsyncIterator[httpx.Response]:
        """One attempt; a good answer's body is left to be read, a bad one's is there."""
        response = await self._http.send(self.config.build(self._http, call), stream=True)
        try:
            self._note(response)
            if not response.is_success:
                await response.aread()
            yield response
        finally:
            await response.aclose()

    async def wait(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close the connections, unless they belong to the caller's own client."""
        if self._owned:
            await self._http.aclose()

    async def _answer(self, call: Call[Any], *, stream: bool) -> httpx.Response:
        attempts = Attempts(allowed=self.config.max_retries, repeatable=call.repeatable)
        while True:
            try:
                request = self.config.build(self._http, call)
                response = await self._http.send(request, stream=stream)
                if not response.is_success:
                    await response.aread()
            except httpx.RequestError as problem:
                pause: float | None = attempts.failed(problem, self.config.describe(call))
            else:
                self._note(response)
                pause = attempts.answered(response)
                if pause is None:
                    return response
            await self.wait(pause or 0)

    def _note(self, response: httpx.Response) -> None:
        self.last_rate_limit = RateLimit.read(response.headers) or self.last_rate_limit
