"""A node as a process: its start, its signals, its end."""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from lantern import app as application
from lantern import node as assembly
from lantern.cli import listener, store
from lantern.core import home, log
from lantern.core.db import Database
from lantern.settings import Settings

Ready = Callable[[], Awaitable[None]]


def serve(settings: Settings, bound: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT."""

    async def ready() -> None:
        db: Database = http.app.state.db
        link = await store.sign_in_link(db, settings, store.FIRST_TENANT, roams=True)
        listener.announce(settings, bound, link)

    http = Http(settings, bound, ready)
    run(settings, http.serve())


def work(settings: Settings) -> None:
    """Work on runs until SIGTERM or SIGINT."""
    run(settings, _work(settings))


def run(settings: Settings, node: Coroutine[Any, Any, None]) -> None:
    """Run a node's coroutine on the fast loop."""
    log.configure(settings.log)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    factory = uvicorn.Config("", loop="uvloop", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(node)


class Http:
    """One process that serves HTTP on a socket. `ready` is called when it does."""

    def __init__(self, settings: Settings, bound: socket.socket, ready: Ready) -> None:
        self.bound = bound
        self.app = application.create_app(settings)
        self.server = Server(self.app, settings, ready)
        self._task: asyncio.Task[Any] | None = None
        self._now: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Serve until a signal."""
        self._task = asyncio.current_task()
        _on_signals(self.stop)
        try:
            async with self.app.router.lifespan_context(self.app):
                await store.first_tenant(self.app.state.db)
                await self.server.serve([self.bound])
        except asyncio.CancelledError:
            if not self.server.should_exit:
                raise

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End: at once while it starts, else when what it serves has ended."""
        starting = not self.server.started and not self.server.should_exit
        again = self.server.should_exit
        self.server.handle_exit(number, None)
        if again:
            self._now = asyncio.create_task(self.app.state.engine.drain(0))
        elif not starting and (runs := self.app.state.engine.active):
            seconds = round(self.server.seconds)
            print(f"draining {runs} run(s), up to {seconds} s; again stops now", file=sys.stderr)
        if starting and self._task:
            self._task.cancel()


class Server(uvicorn.Server):
    """Leaves the lifespan and the signals to `Http`, so that errors and exit codes are ours."""

    def __init__(self, app: FastAPI, settings: Settings, ready: Ready) -> None:
        seconds = settings.server.drain_seconds
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(seconds)),
            )
        )
        self.state = app.state
        self.seconds = seconds
        self.ready = ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The handlers stay those of `Http`, which also cover the start and the end."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        settle_memory()
        await self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let runs and their readers end together, in one span of time."""
        drain = asyncio.create_task(self.state.engine.drain(self.seconds))
        await super().shutdown(sockets)
        await drain


async def _work(settings: Settings) -> None:
    stopped = asyncio.Event()
    _on_signals(lambda _number: stopped.set())
    place = await asyncio.to_thread(home.enter, settings)
    try:
        async with assembly.open_node(settings, place, "worker") as parts:
            print(f"Lantern works as {parts.node.id}", flush=True)
            settle_memory()
            await stopped.wait()
    finally:
        await asyncio.to_thread(place.leave)


def settle_memory() -> None:
    """What lives as long as the process need not be looked at again, and short-lived garbage not
    every 700 objects: a stream makes that many in a few tokens."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _is_news(record: logging.LogRecord) -> bool:
    # A reader whom the end of the server cuts off goes on elsewhere: no story for the log.
    cut_off = record.exc_info and record.exc_info[0] is asyncio.CancelledError
    return not cut_off and "graceful shutdown exceeded" not in record.getMessage()


def _on_signals(stop: Callable[[int], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
