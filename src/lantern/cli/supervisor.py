"""Several server processes on one socket: started, watched, replaced, ended together."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from lantern.cli import common, failures, listener, load, store
from lantern.core import clock, log
from lantern.core.errors import Unavailable
from lantern.settings import Settings

PAUSE_SECONDS = 1.0  # before a process that died is replaced
GRACE_SECONDS = 10.0  # beyond the time to drain

_log = log.get(__name__)
_spawn = multiprocessing.get_context("spawn")


class Child:
    """One server process. The pipe tells the parent `ready`, and the child when the parent dies."""

    def __init__(self, settings: Settings, bound: socket.socket) -> None:
        self.pipe, theirs = _spawn.Pipe()
        self.ready = False
        self.process: SpawnProcess = _spawn.Process(target=_serve, args=(settings, bound, theirs))
        self.process.start()
        theirs.close()

    def end(self, deadline: float) -> None:
        """Wait for it to end, kill it when it does not."""
        self.process.join(max(0.0, deadline - clock.monotonic()))
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.pipe.close()


class Supervisor:
    """Keeps the number of processes until a signal."""

    def __init__(self, settings: Settings, bound: socket.socket, link: str) -> None:
        self.settings = settings
        self.bound = bound
        self.link = link
        self.children: list[Child] = []
        self.announced = False
        self.stopping = False

    def run(self) -> None:
        """Raises `Unavailable` when a process ends before any was ready."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        try:
            while not self.stopping:
                while len(self.children) < self.settings.server.workers:
                    self.children.append(Child(self.settings, self.bound))
                self._watch()
        finally:
            self._end()

    def _stop(self, _number: int, _frame: object) -> None:
        self.stopping = True

    def _watch(self) -> None:
        """Look for half a second at most: who is ready, who died."""
        waiting = [child.pipe for child in self.children if not child.ready]
        ends = [child.process.sentinel for child in self.children]
        if not wait([*waiting, *ends], 0.5):
            return
        for child in list(self.children):
            with contextlib.suppress(EOFError, OSError):
                if not child.ready and child.pipe.poll() and child.pipe.recv():
                    child.ready = True
        if not self.announced and any(child.ready for child in self.children):
            self.announced = True
            listener.announce(self.settings, self.bound, self.link)
        for child in [c for c in self.children if c.process.exitcode is not None]:
            self._replace(child)

    def _replace(self, child: Child) -> None:
        self.children.remove(child)
        child.pipe.close()
        if self.stopping:
            return
        if not self.announced:
            raise Unavailable("A server process ended before it was ready")
        _log.error("server.process_died", pid=child.process.pid, code=child.process.exitcode)
        time.sleep(PAUSE_SECONDS)

    def _end(self) -> None:
        for child in self.children:
            if child.process.exitcode is None:
                child.process.terminate()
        deadline = clock.monotonic() + self.settings.server.drain_seconds + GRACE_SECONDS
        for child in self.children:
            child.end(deadline)


def run(settings: Settings, bound: socket.socket) -> None:
    """Serve with several processes until SIGTERM or SIGINT."""
    log.configure(settings.log)
    link = asyncio.run(_prepare(settings))  # once, and with errors that are told once
    Supervisor(settings, bound, link).run()


async def _prepare(settings: Settings) -> str:
    async with common.joined(settings) as (_, db):
        await store.first_tenant(db)
        return await store.sign_in_link(db, settings, store.FIRST_TENANT, roams=True)


def _serve(settings: Settings, bound: socket.socket, parent: Connection) -> None:
    """The child process."""
    try:
        server = load("server")  # the parent needs none of it

        async def ready() -> None:
            parent.send(True)

        node = server.Http(settings, bound, ready)
        server.run(settings, _watched(node, parent))
    except Exception as error:
        line, code = failures.explain(error)
        print(line, file=sys.stderr)
        os._exit(code)


async def _watched(node: Any, parent: Connection) -> None:
    loop = asyncio.get_running_loop()

    def gone() -> None:
        loop.remove_reader(parent.fileno())
        node.stop()

    loop.add_reader(parent.fileno(), gone)  # nothing is ever sent: readable is the end
    await node.serve()
