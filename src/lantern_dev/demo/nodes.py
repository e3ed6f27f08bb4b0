"""Server processes that a demonstration starts, and kills without warning."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

READY_SECONDS = 60.0
STOP_SECONDS = 30.0


class DidNotStart(OSError):
    """A server that ended before it answered."""


class Server:
    """`lantern serve` in a process of its own; its output goes to a file."""

    def __init__(self, data_dir: Path, config: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = data_dir / f"server-{port}.log"
        command = [sys.executable, "-m", "lantern.cli", "serve", "--port", str(port)]
        command += ["--data-dir", str(data_dir), "--config", str(config)]
        # The demo is what it is: settings of the caller's own servers are not for it.
        env = {name: v for name, v in os.environ.items() if not name.startswith("LANTERN_")}
        data_dir.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which ends its servers itself
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def wait_ready(self) -> None:
        """Return when it answers. Raises `DidNotStart` with its last words."""
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                words = self.log.read_text(errors="replace").strip().splitlines()
                raise DidNotStart(f"the server did not start: {words[-1] if words else 'no word'}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """SIGKILL: no clean-up, no good-bye, as in a power cut."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not listen."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


def free_port(wanted: int | None = None) -> int:
    """The wanted port if nobody listens there, else any free one."""
    for port in (wanted, 0):
        if port is None:
            continue
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(trial.getsockname()[1])
    raise DidNotStart("no port is free on 127.0.0.1")
