"""One Postgres server as a process: made, started, found alive or dead, stopped.

The postmaster and its children inherit a lock on `postgres.alive`. While it is held something of
the server lives, even where process ids say nothing (reused ones, zombies, another container).
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import psutil

from lantern.core import clock, log
from lantern.core import postgres_account as accounts
from lantern.core.postgres_account import Account
from lantern.core.postgres_binaries import (
    PostgresFailed,
    copy_binaries,
    find_binaries,
    major_of,
    make_passage,
)
from lantern.core.postgres_files import (
    DATABASE,
    USER,
    Files,
    free_port,
    open_lock,
    open_log,
    read_password,
    read_port,
    sync_folder,
    take,
    trim_log,
    write_private,
    write_settings,
)

_log = log.get(__name__)

# A server may outlive the share of the one that started it; its end is still ours to collect.
_children: list[subprocess.Popen[bytes]] = []


class Cluster:
    """The server of one data directory. Callers hold the locks that their method names."""

    def __init__(
        self,
        files: Files,
        *,
        fsync: bool = True,
        namespaces: bool = True,
        binaries: Path | None = None,
        away: Path = Path("/var/lib/lantern"),
    ) -> None:
        self.files = files
        self._fsync = fsync
        self._namespaces = namespaces
        self._binaries = binaries
        self._away = away
        self.abandoned = False

    def answers(self) -> bool:
        """Whether it takes connections now: asks as `pg_isready` does, without logging in."""
        words = f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
        hello = struct.pack("!II", 8 + len(words), 3 << 16) + words
        try:
            with self._connect() as connection:
                connection.sendall(hello)
                return connection.recv(1024)[:1] == b"R"  # asks for the password; E: not yet
        except OSError:
            return False

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
        began = clock.monotonic()
        account, binaries = self._prepare()
        files = self.files
        port = free_port(files)
        for leftover in files.home.glob(".s.PGSQL.*"):
            leftover.unlink()
        if files.has_socket:
            files.link.symlink_to(f".s.PGSQL.{port}")
        trim_log(files.log)
        log_file = open_log(files.log)
        try:
            offset = os.fstat(log_file).st_size
            child = subprocess.Popen(
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
        self._await_ready(child, offset, deadline)
        seconds = round(clock.monotonic() - began, 3)
        _log.debug("postgres.started", pid=child.pid, seconds=seconds)

    def _command(self, binaries: Path, port: int) -> list[str]:
        folder = str(self.files.home).replace('"', '""')
        settings = {
            "port": str(port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": f'"{folder}"' if self.files.has_socket else "",
            "unix_socket_permissions": "0700",
            "cluster_name": self.files.name,
        }
        if not self._fsync:
            settings |= dict.fromkeys(("fsync", "full_page_writes", "synchronous_commit"), "off")
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

    def _prepare(self) -> tuple[Account, Path]:
        """The account and programs to start with; makes the cluster at the first start."""
        files = self.files
        read_password(files)
        home = files.home if files.home.exists() else files.folder
        account = accounts.choose(home.stat().st_uid, namespaces=self._namespaces)
        self._settle(account)
        made = files.data / "PG_VERSION"
        binaries = self._binaries or find_binaries(int(made.read_text()) if made.exists() else None)
        if not account.runs(binaries / "postgres"):
            make_passage(self._away)
            binaries = copy_binaries(binaries, self._away / "binaries")
        if not made.exists():
            self._create(account, binaries)
        write_settings(files.data, int(made.read_text()))
        return account, binaries

    def _settle(self, account: Account) -> None:
        """Make the home where the account can reach it."""
        home = self.files.home
        if _made_for(account, home):
            return
        if self.files.data.exists() or self.files.pointer.exists():
            raise PostgresFailed(
                f"The user that Postgres runs as cannot reach {home}: move the data directory to"
                " where every user may pass through its parents"
            )
        shutil.rmtree(home)
        name = self.files.name.removeprefix("lantern-")
        home = self._away / f"{name}-{os.urandom(4).hex()}"
        make_passage(self._away)
        # The pointer comes first: after a crash in between, the next start goes on from it.
        write_private(self.files.pointer, f"{home}\n")
        if not _made_for(account, home):
            raise PostgresFailed(
                f"The user that Postgres runs as can reach neither {self.files.folder} nor"
                f" {home.parent}: choose another --data-dir, or set LANTERN_DATABASE_URL"
            )

    def _create(self, account: Account, binaries: Path) -> None:
        """initdb and the database, in a folder that gets its name when it is whole."""
        making = self.files.home / "new"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        account.own(making)
        write_private(making / "password", read_password(self.files))
        major = major_of(binaries)
        command: list[str | Path] = [binaries / "initdb", "-D", making / "data", "-U", USER]
        command += ["-E", "UTF8", "-A", "scram-sha-256", "--pwfile", making / "password"]
        command += ["--data-checksums", "--lc-messages=C", "--no-instructions"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] * (major >= 17)
        command += ["--no-sync"] * (not self._fsync)
        # Not every system has C.UTF-8; where it has, pg_trgm knows the letters beyond ASCII.
        done = account.run(*command, "--locale=C.UTF-8")
        if done.returncode and "invalid locale" in done.stdout:
            done = account.run(*command, "--locale=C")
        if done.returncode:
            raise explain(done.stdout, self.files)
        single = [binaries / "postgres", "--single", "-D", making / "data"]
        single += ["postgres"] if self._fsync else ["-F", "postgres"]
        done = account.run(*single, text=f"create database {DATABASE}\n")
        if done.returncode or "ERROR" in done.stdout or "FATAL" in done.stdout:
            raise explain(done.stdout, self.files)
        (making / "data").rename(self.files.data)
        shutil.rmtree(making)
        sync_folder(self.files.home)

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
        finally:
            os.close(handle)
        _reap(pid)


def _reap(ending: int | None = None) -> None:
    """Collect servers of ours that died; `ending` has let go of its lock and is awaited."""
    for child in list(_children):
        with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
            child.wait(5.0 if child.pid == ending else 0)
            _children.remove(child)


def _made_for(account: Account, home: Path) -> bool:
    if not home.exists():
        home.mkdir(mode=0o700)
    if account.uid is not None and home.stat().st_uid != account.uid:
        # New, or made by root while user namespaces were still allowed.
        for path in (home, *home.rglob("*")):
            account.own(path)
    return account.reaches(home)


def explain(output: str, files: Files) -> PostgresFailed:
    """The server's last words as one line with a remedy; never the password."""
    if "pre-existing shared memory" in output or "lock file" in output:
        return PostgresFailed("The old server has not ended yet: try again", again=True)
    if "Address already in use" in output:
        return PostgresFailed("The port was taken a moment ago: try again", again=True)
    lines = [line for line in output.splitlines() if "FATAL" in line or "rror" in line]
    last = (lines or output.splitlines() or ["no output"])[-1].strip()[:300]
    if "shared memory" in output and "No space left" in output:
        return PostgresFailed(f"No shared memory left: enlarge /dev/shm ({last})")
    if "No space left on device" in output:
        return PostgresFailed(
            f"The disk of {files.folder} is full: free some space, or choose another --data-dir"
        )
    if "ermission denied" in output:
        return PostgresFailed(f"Postgres lacks a permission: give its user the file ({last})")
    return PostgresFailed(f"Postgres did not start: {last}; see {files.log}")
