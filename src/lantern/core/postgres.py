"""The embedded Postgres: the server that a data directory brings along.

Every process that uses a data directory holds a shared lock on its `postgres.users`. Whoever finds
the server dead starts it; the last to leave, who gains the lock for itself, stops it; after a
`kill -9` of all users it runs on and the next command adopts it.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from lantern.core import clock
from lantern.core.postgres_binaries import PostgresFailed, find_binaries
from lantern.core.postgres_cluster import Cluster
from lantern.core.postgres_files import (
    DATABASE,
    SOCKET_PORT,
    USER,
    Files,
    locked,
    make_folder,
    open_lock,
    open_log,
    read_password,
    read_port,
    take,
    trim_log,
)
from lantern.core.postgres_setup import Choices

__all__ = ["PostgresFailed", "Server", "acquire", "find_binaries", "remove"]

PATIENCE = 30.0  # seconds in which a dead or recovering server must come back
_MENDS = {
    errno.ENOSPC: "free some space on its disk, or choose another --data-dir",
    errno.EROFS: "it is read-only; choose another --data-dir",
    errno.ENOLCK: "its file system has no locks; choose a --data-dir on a local disk",
    errno.EOPNOTSUPP: "its file system has no locks; choose a --data-dir on a local disk",
}


def acquire(
    data_dir: Path,
    *,
    fsync: bool = True,
    die_with_parent: bool = False,
    _namespaces: bool = True,
    _binaries: Path | None = None,
) -> "Server":
    """Join the users of the data directory, and start its server if none runs.

    `fsync=False` may lose all in a power cut, nothing in a kill: for tests. `die_with_parent` stops the server when
    this process is killed. Blocks, up to 30 s. Raises `PostgresFailed`.
    """
    with _in_one_line(data_dir):
        files = make_folder(data_dir)
        cluster = Cluster(files, Choices(fsync, _namespaces, _binaries))
        users = open_lock(files.users)
        try:
            if not take(users, fcntl.LOCK_SH, 2 * PATIENCE):
                raise PostgresFailed(f"Another process is still stopping {files.data}: try again")
            watch = _watch(files) if die_with_parent else None
            server = Server(files, cluster, users, watch)
        except BaseException:
            os.close(users)
            raise
        try:
            server.ensure()
        except PostgresFailed:
            server.leave()  # what recovers for long goes on with it
            raise
        except BaseException:
            server.release()
            raise
        return server


def remove(data_dir: Path) -> None:
    """Delete a data directory that nobody uses, with what root had to put elsewhere."""
    with _in_one_line(data_dir):
        files = Files(data_dir.resolve(strict=True))
        users = open_lock(files.users)
        try:
            if not take(users, fcntl.LOCK_EX, 2.0):  # who is leaving has the time to
                raise PostgresFailed(f"{data_dir} is in use: stop the processes that use it")
            Cluster(files).stop()
            if files.pointer.exists() and files.home.exists():
                shutil.rmtree(files.home)
            shutil.rmtree(files.folder)
        finally:
            os.close(users)


class Server:
    """One process's share in the embedded server; a context manager that releases it."""

    def __init__(
        self, files: Files, cluster: Cluster, users: int, watch: subprocess.Popen[bytes] | None
    ) -> None:
        self._files = files
        self._cluster = cluster
        self._users: int | None = users
        self._watch = watch
        self._leaving = False
        self._mutex = threading.Lock()

    @property
    def dsn(self) -> str:
        """libpq URL, password included. Without a socket it may change when `ensure` restarts."""
        password = quote(read_password(self._files), safe="")
        if self._files.has_socket:
            host = quote(str(self._files.home), safe="")
            return f"postgresql://{USER}:{password}@/{DATABASE}?host={host}&port={SOCKET_PORT}"
        return f"postgresql://{USER}:{password}@127.0.0.1:{read_port(self._files)}/{DATABASE}"

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster; None when it is dead."""
        return self._cluster.postmaster()

    def ensure(self) -> bool:
        """Bring the server back if it is dead, with retries for 30 s. True when that was needed.

        Any number of threads and processes may call it at once, and often: it is one connection
        when all is well. Raises `PostgresFailed`.
        """
        with self._mutex, _in_one_line(self._files.folder):
            if self._users is None or self._leaving:
                raise PostgresFailed("This process has released the server")
            trim_log(self._files.log)
            if self._cluster.answers():
                return False
            deadline = clock.monotonic() + PATIENCE
            with locked(self._files.starting, PATIENCE):
                return self._cluster.bring_up(deadline)

    def release(self) -> None:
        """Leave; the last one out stops the server. A second call does nothing."""
        self._leaving = True
        self._cluster.abandoned = True  # a thread that waits in `ensure` gives up
        with self._mutex:
            if self._users is None:
                return
            try:
                if take(self._users, fcntl.LOCK_EX):
                    self._cluster.stop()
            finally:
                self._close()

    def leave(self) -> None:
        """Leave and let the server run, or recover: the next command adopts it."""
        with self._mutex:
            self._close()

    def _close(self) -> None:
        if self._users is not None:
            os.close(self._users)
            self._users = None
        if self._watch is not None:
            try:
                self._watch.communicate(b"q", timeout=10)  # in good order: no need to watch
            except subprocess.TimeoutExpired:
                self._watch.kill()
                self._watch.communicate()
            self._watch = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _watch(files: Files) -> subprocess.Popen[bytes]:
    # The pipe's other end is ours alone (no child inherits it), so it ends with this process.
    log_file = open_log(files.log)
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "lantern.core.postgres_watch", files.folder],
            stdin=subprocess.PIPE,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
        )
    finally:
        os.close(log_file)


@contextlib.contextmanager
def _in_one_line(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise PostgresFailed(
            f"No permission for {error.filename or data_dir}: give it to this user, or choose"
            " another --data-dir"
        ) from error
    except OSError as error:
        mend = _MENDS.get(error.errno or 0, "choose another --data-dir")
        raise PostgresFailed(
            f"Cannot keep a database in {data_dir} ({error.strerror}): {mend}"
        ) from error
