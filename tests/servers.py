"""The product's server on a free port: inside this process (fast) or as one of its own (killable)."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import httpx
import uvicorn

from lantern.app import create_app
from lantern.settings import Settings, load


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class InProcess:
    """A server in a thread with a loop of its own."""

    def __init__(self, dsn: str, **overrides: Any) -> None:
        self.settings: Settings = load(database_url=dsn, **overrides)
        self.app = create_app(self.settings)
        config = uvicorn.Config(
            self.app,
            port=0,
            loop="uvloop",
            log_config=None,
            access_log=False,
            lifespan="on",
            proxy_headers=False,  # as the product's own server: it decides itself whom to believe
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self.server.run(sockets=[self.socket])

    def __enter__(self) -> Self:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread.start()
        wait_until(lambda: self.server.started or not self.thread.is_alive())
        assert self.server.started, "the server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=20)
        self.socket.close()
        assert not self.thread.is_alive()


class Process:
    """`lantern serve` as a process. `stop()` is SIGTERM, `kill()` is SIGKILL."""

    def __init__(
        self, config: Path, dsn: str | None = None, data_dir: Path | None = None, port: int = 0
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "lantern.cli", "serve", "--port", str(self.port)]
        command += ["--config", str(config)]
        if data_dir:
            command += ["--data-dir", str(data_dir)]
        env = {k: v for k, v in os.environ.items() if not k.startswith("LANTERN_")}
        if dsn:
            env["LANTERN_DATABASE_URL"] = dsn
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            wait_until(self.ready, 30)
        except BaseException:
            self.kill()
            raise

    def ready(self) -> bool:
        assert self.process.poll() is None, self.process.stdout and self.process.stdout.read()
        try:
            return httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self._close()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._close()

    def _close(self) -> None:
        if self.process.stdout:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def wait_until(condition: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def parse_events(text: str) -> list[dict[str, Any]]:
    """Every event of an SSE body; checks that `id` and `seq` agree."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in lines:
            event = json.loads(lines["data"])
            assert int(lines["id"]) == event["seq"]
            found.append(event)
    return found


def text_of(events: list[dict[str, Any]]) -> str:
    """The text a reader ends up with: a restart voids what its step had written."""
    parts: list[str] = []
    for event in events:
        if event["type"] in ("step.start", "step.restart"):
            parts = []
        elif event["type"] == "token":
            parts.append(event["content"])
    return "".join(parts)
