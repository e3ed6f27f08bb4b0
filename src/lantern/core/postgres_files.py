"""What lies in a data directory for Postgres: names, locks, the password, the server's settings."""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lantern.core import clock
from lantern.core.postgres_binaries import PostgresFailed

USER = DATABASE = "lantern"
SOCKET_BYTES = 100  # the kernel's limit for the path of a socket is 104 (macOS) or 108 (Linux)
SOCKET_PORT = 5432  # the number in the name of the link that clients use
LOG_BYTES = 4_000_000

_INCLUDE = """
# Lantern writes lantern.conf anew at each start; what you write below this line wins.
include_if_exists 'lantern.conf'
"""

# Sized for a server beside its application on a small machine: what costs memory or a process
# while idle is off. The log has neither statements nor values, for they may be personal data.
_SETTINGS = """# Written by Lantern at each start. Change postgresql.conf instead.
max_connections = 200
shared_buffers = 64MB
effective_cache_size = 512MB
maintenance_work_mem = 64MB
work_mem = 8MB
huge_pages = off
jit = off
ssl = off
timezone = 'UTC'
log_timezone = 'UTC'
max_wal_size = 512MB
min_wal_size = 64MB
checkpoint_timeout = 15min
wal_compression = on
random_page_cost = 1.1
max_logical_replication_workers = 0
max_parallel_workers_per_gather = 1
autovacuum = on
log_min_messages = log
log_min_error_statement = panic
log_error_verbosity = terse
log_checkpoints = off
log_line_prefix = '%m [%p] '
"""
_SETTINGS_FROM = {18: "io_method = sync\n"}  # the default keeps three more processes


@dataclass(frozen=True, slots=True)
class Files:
    """Paths below one data directory; `home` holds what belongs to the account of the server."""

    folder: Path

    @property
    def home(self) -> Path:
        """The folder of the cluster and its socket: here, or where `postgres.home` points."""
        with contextlib.suppress(FileNotFoundError):
            return Path(self.pointer.read_text().strip())
        return self.folder / "postgres"

    @property
    def pointer(self) -> Path:
        """Names the home when it had to go elsewhere."""
        return self.folder / "postgres.home"

    @property
    def users(self) -> Path:
        """Held shared by every process that uses the server."""
        return self.folder / "postgres.users"

    @property
    def starting(self) -> Path:
        """Held by the one that starts the server."""
        return self.folder / "postgres.starting"

    @property
    def alive(self) -> Path:
        """Held by the postmaster and all its children, as long as any of them lives."""
        return self.folder / "postgres.alive"

    @property
    def password(self) -> Path:
        """The password of the role `lantern`, mode 0600."""
        return self.folder / "postgres.password"

    @property
    def log(self) -> Path:
        """What the server writes to standard error."""
        return self.folder / "postgres.log"

    @property
    def port(self) -> Path:
        """The loopback port of the last start."""
        return self.folder / "postgres.port"

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.home / "data"

    @property
    def name(self) -> str:
        """The server's name in the process list, one for each data directory."""
        return f"lantern-{hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]}"

    @property
    def link(self) -> Path:
        """The socket under a name that outlives a change of port."""
        return self.home / f".s.PGSQL.{SOCKET_PORT}"

    @property
    def has_socket(self) -> bool:
        """Whether the path of a socket fits into what the kernel takes, and libpq reads as one."""
        path = os.fsencode(self.home / ".s.PGSQL.65535")
        return len(path) < SOCKET_BYTES and b"," not in path


def make_folder(folder: Path) -> Files:
    """Create the data directory if it is not there."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Another uid than root's has to pass through, not to look around.
        folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
    return Files(folder.resolve(strict=True))


def read_password(files: Files) -> str:
    """The password; made up at the first call, lost only with its file."""
    with contextlib.suppress(FileNotFoundError):
        return files.password.read_text().strip()
    if files.data.exists():
        raise PostgresFailed(
            f"{files.password} is missing but the database is there: put the file back, or move"
            f" {files.folder} away to begin anew"
        )
    write_private(files.password, secrets.token_urlsafe(32) + "\n")
    return files.password.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Put a whole file in place at once: mode 0600, its folder's owner, on the disk."""
    making = path.with_name(path.name + ".new")
    making.unlink(missing_ok=True)
    # O_EXCL: in a folder of another uid, a link must not lead root astray.
    handle = _open(making, os.O_WRONLY | os.O_EXCL)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    making.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_settings(data: Path, major: int) -> None:
    """Bring lantern.conf up to date, and have postgresql.conf read it."""
    extra = "".join(lines for least, lines in _SETTINGS_FROM.items() if major >= least)
    write_private(data / "lantern.conf", _SETTINGS + extra)
    main = (data / "postgresql.conf").read_text()
    if "lantern.conf" not in main:
        write_private(data / "postgresql.conf", main + _INCLUDE)


def free_port(files: Files) -> int:
    """The port of the last start if it is free, else another, which is remembered."""
    last = read_port(files)
    if last and _is_free(last):
        return last
    # Below the range from which systems take ports for outgoing calls: it stays free until later.
    for _ in range(100):
        port = 16_000 + secrets.randbelow(16_000)
        if _is_free(port):
            write_private(files.port, f"{port}\n")
            return port
    raise PostgresFailed("No free port between 16000 and 32000 on 127.0.0.1: free one")


def read_port(files: Files) -> int | None:
    """The port of the last start."""
    try:
        return int(files.port.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        # As Postgres does: closed connections that linger do not count.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def trim_log(log: Path, limit: int = LOG_BYTES) -> None:
    """Keep the log bounded: past the limit its last quarter moves to `.1`.

    The server appends, so it goes on writing to the emptied file; a collector process of its own
    would cost memory all day.
    """
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return
    if size <= limit:
        return
    with log.open("rb+") as file:
        file.seek(size - limit // 4)
        log.with_name(log.name + ".1").write_bytes(file.read())
        file.truncate(0)


@contextlib.contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold the exclusive lock; `PostgresFailed` (again) when it is not free in time."""
    handle = open_lock(path)
    try:
        if not take(handle, fcntl.LOCK_EX, seconds):
            raise PostgresFailed(f"Another process holds {path} since {seconds:.0f} s", again=True)
        yield
    finally:
        os.close(handle)


def open_lock(path: Path) -> int:
    """A handle that no child process inherits: an inherited lock would never come free."""
    return _open(path, os.O_RDWR)


def open_log(path: Path) -> int:
    """A handle that appends to the log."""
    return _open(path, os.O_WRONLY | os.O_APPEND)


def _open(path: Path, flags: int) -> int:
    handle = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:
        # A command run by root in someone's data directory must not lock them out of it.
        owner = path.parent.stat()
        os.fchown(handle, owner.st_uid, owner.st_gid)
    return handle


def take(handle: int, mode: int, seconds: float = 0.0) -> bool:
    """Take a lock (`fcntl.LOCK_SH` or `LOCK_EX`); False when it is not free in time."""
    deadline = clock.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, mode | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        else:
            return True
        if clock.monotonic() >= deadline:
            return False
        time.sleep(0.01)
