"""A peer to talk to, and both clients behind one face, so that each test runs with each of them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from operator import attrgetter
from typing import Any

import pytest

from lantern_sdk import AsyncLantern, Event, Lantern

from .peer import Peer


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as running:
        yield running
        assert not running.planned, f"{len(running.planned)} planned answers were not asked for"


class Blocking:
    """`Lantern`, driven from another thread."""

    def __init__(self, url: str, key: str = "lnt_test", **options: Any) -> None:
        self.client = Lantern(key, url, **options)

    async def do(self, resource: str, verb: str, *args: Any, **named: Any) -> Any:
        method = attrgetter(f"{resource}.{verb}")(self.client)
        return await asyncio.to_thread(method, *args, **named)

    async def all(self, resource: str, verb: str, *args: Any, **named: Any) -> list[Any]:
        method = attrgetter(f"{resource}.{verb}")(self.client)
        return await asyncio.to_thread(lambda: list(method(*args, **named)))

    async def events(self, **named: Any) -> list[Event]:
        return await self.all("runs", "stream", "run_1", **named)

    async def of_stream(self, part: str) -> Any:
        return await asyncio.to_thread(getattr(self.client.runs.stream("run_1"), part))

    async def close(self) -> None:
        self.client.close()


class Asyncio:
    """`AsyncLantern`."""

    def __init__(self, url: str, key: str = "lnt_test", **options: Any) -> None:
        self.client = AsyncLantern(key, url, **options)

    async def do(self, resource: str, verb: str, *args: Any, **named: Any) -> Any:
        return await attrgetter(f"{resource}.{verb}")(self.client)(*args, **named)

    async def all(self, resource: str, verb: str, *args: Any, **named: Any) -> list[Any]:
        method = attrgetter(f"{resource}.{verb}")(self.client)
        return [item async for item in method(*args, **named)]

    async def events(self, **named: Any) -> list[Event]:
        return await self.all("runs", "stream", "run_1", **named)

    async def of_stream(self, part: str) -> Any:
        return await getattr(self.client.runs.stream("run_1"), part)()

    async def close(self) -> None:
        await self.client.close()


@pytest.fixture(params=[Blocking, Asyncio], ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def lantern(kind: Any, peer: Peer) -> AsyncIterator[Any]:
    caller = kind(peer.url, timeout=5)
    yield caller
    await caller.close()


@pytest.fixture
async def real(kind: Any, server: Any, tenant: Any) -> AsyncIterator[Any]:
    """Both clients on the product's own server, with an admin key of a new tenant."""
    caller = kind(server.url, tenant.key)
    yield caller
    await caller.close()
