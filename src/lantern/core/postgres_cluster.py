"""One Postgres server as a process: made, started, found alive or dead, stopped.

The postmaster and its children inherit a lock on `postgres.alive`. While it is held something of
the server lives, even where process ids say nothing (reused ones, zombies, another container).
"""

import contextlib
import fcntl
import logging
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import psutil

from lantern.core import clock
from lantern.core.postgres_binaries import PostgresFailed
from lantern.core.postgres_files import (
    DATABASE,
    USER,
    Files,
    free_port,
    open_lock,
    open_log,
    read_port,
    take,
    trim_log,
)
from lantern.core.postgres_setup import Choices, explain, prepare

# Not structlog: the guard process of tests loads this module and should start at once.
_log = logging.getLogger(__name__)

_CANNOT_CONNECT_NOW = b"C57P03\0"


class Postmaster(subprocess.Popen[bytes]):
    """A child that outlives us where others still use it: no warning when we end before it."""

    def __del__(self) -> None:
        """Let go in silence."""


# A server may outlive the share of the one that started it; its end is still ours to collect.
_children: list[Postmaster] = []


class Cluster:
    """The server of one data directory. Callers hold the locks that their method names."""

    def __init__(self, files: Files, choices: Choices | None = None) -> None:
        self.files = files
        self.choices = choices or Choices()
        self.abandoned = False  # set by another thread to end a wait in `bring_up`

    def answers(self) -> bool:
        """Whether it takes connections: asks as `pg_isready` does, without logging in."""
        words = f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
        hello = struct.pack("!II", 8 + len(words), 3 << 16) + words
        if not self.files.has_socket and self.postmaster() is None:
            return False  # whoever has that port now, it is not this server
        try:
            with self._connect() as connection:
                connection.sendall(hello)
                answer = connection.recv(1024)
        except OSError:
            return False
        # It asks for the password, or has another complaint than that it starts or stops.
        return answer[:1] == b"R" or (answer[:1] == b"E" and _CANNOT_CONNECT_NOW not in answer)

    def _connect(self) -> socket.socket:
        if self.files.has_socket:
            connection = socket.socket(socket.AF_UNIX)
            address: str | tuple[str, int] = str(self.files.link)
        else:
            connection = socket.socket()
            address = ("127.0.0.1", read_port(self.files) or 1)
        connection.settimeout(2.0)
        try:
            connection.connect(address)
        except BaseException:
            connection.close()
            raise
        return connection

    def postmaster(self) -> int | None:
        """The process id, if that process really is the postmaster of this data directory."""
        _reap()
        try:
            pid = int((self.files.data / "postmaster.pid").read_text().split("\n", 1)[0])
            words = psutil.Process(pid).cmdline()
        except (OSError, ValueError, psutil.Error):
            return None
        return pid if str(self.files.data) in words else None

    def bring_up(self, deadline: float) -> bool:
        """Start it, or wait for it while it starts; holds `starting`. Raises `PostgresFailed`.

        False when it answered at once: somebody else was faster.
        """
        if self.answers():
            return False
        while True:
            try:
                self._advance(deadline)
            except PostgresFailed as error:
                if not error.again or self.abandoned or clock.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            if self.answers():
                return True
            if clock.monotonic() > deadline:
                raise PostgresFailed(f"Postgres does not keep running: see {self.files.log}")

    def _advance(self, deadline: float) -> None:
        pid = self.postmaster()
        handle = open_lock(self.files.alive)
        try:
            free = take(handle, fcntl.LOCK_EX)
            if free and pid is None:
                # Nothing lives: a leftover pid file could only name a stranger with a reused id.
                (self.files.data / "postmaster.pid").unlink(missing_ok=True)
                self._start(handle, deadline)
                return
        finally:
            os.close(handle)
        if free:
            raise PostgresFailed(
                f"Postgres (process {pid}) on {self.files.data} was not started by Lantern: stop it"
            )
        if pid is None:
            self._end_orphans()
        elif clock.monotonic() > deadline:
            raise PostgresFailed(
                f"Postgres (process {pid}) is there but does not answer; it may still recover:"
                f" look into {self.files.log}"
            )
        raise PostgresFailed(
            f"Processes of the old server still run (ps: {self.files.name}): end them", again=True
        )

    def _end_orphans(self) -> None:
        # Children of a killed postmaster that are deep in a query notice late; their work is lost.
        title = f"postgres: {self.files.name}:"
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or [""]
            if words[0].startswith(title):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGQUIT)

    def _start(self, alive: int, deadline: float) -> None:
        files = self.files
        account, binaries = prepare(files, self.choices, alive)
        port = free_port(files)
        for leftover in files.home.glob(".s.PGSQL.*"):
            leftover.unlink()
        if files.has_socket:
            files.link.symlink_to(f".s.PGSQL.{port}")
            account.own(files.link)
        trim_log(files.log)
        log_file = open_log(files.log)
        try:
            offset = os.fstat(log_file).st_size
            child = Postmaster(
                [*account.prefix, *self._command(binaries, port)],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                pass_fds=[alive],
                start_new_session=True,
                umask=0o077,
                **account.options(),
            )
        finally:
            os.close(log_file)
        _children.append(child)
        # initdb may have used the time up.
        self._await_ready(child, offset, max(deadline, clock.monotonic() + 10.0))

    def _command(self, binaries: Path, port: int) -> list[str]:
        folder = str(self.files.home).replace('"', '""')
        settings = {
            "port": str(port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": f'"{folder}"' if self.files.has_socket else "",
            "unix_socket_permissions": "0700",
            "cluster_name": self.files.name,
        }
        if not self.choices.fsync:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        command = [str(binaries / "postgres"), "-D", str(self.files.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _await_ready(self, child: subprocess.Popen[bytes], offset: int, deadline: float) -> None:
        pid_file = self.files.data / "postmaster.pid"
        while True:
            with contextlib.suppress(OSError):
                lines = pid_file.read_text().split("\n")
                if lines[0] == str(child.pid) and len(lines) > 7 and "ready" in lines[7]:
                    return
            if child.poll() is not None:
                with self.files.log.open(errors="replace") as file:
                    file.seek(offset)
                    raise explain(file.read(), self.files)
            if self.abandoned or clock.monotonic() > deadline:
                raise PostgresFailed(
                    f"Postgres recovers for long; wait for it: see {self.files.log}", again=True
                )
            time.sleep(0.004)

    def stop(self) -> None:
        """Fast shutdown; at once if that takes 30 s. Holds `users` alone."""
        handle = open_lock(self.files.alive)
        pid = self.postmaster()
        try:
            for how, seconds in ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0)):
                if pid is None or take(handle, fcntl.LOCK_EX):
                    break
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)
                if take(handle, fcntl.LOCK_EX, seconds):
                    break
            else:
                _log.warning("Postgres (process %s) does not stop", pid)
                return
        finally:
            os.close(handle)
        _reap(pid)
        self.files.link.unlink(missing_ok=True)


def _reap(ending: int | None = None) -> None:
    """Collect servers of ours that died; `ending` has let go of its lock and is awaited."""
    for child in list(_children):
        with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
            child.wait(5.0 if child.pid == ending else 0)
            _children.remove(child)
