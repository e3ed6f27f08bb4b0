"""Data directories of their own, and processes that use them."""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lantern.core import postgres

PROGRAM = Path(__file__).with_name("user.py")


class User:
    """A process that runs user.py."""

    def __init__(self, data_dir: Path, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, data_dir, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._first: dict[str, Any] | None = None

    @property
    def first(self) -> dict[str, Any]:
        """What it said when it had the server, or had failed."""
        if self._first is None:
            self._first = self._read()
        return self._first

    def tell(self, word: str) -> None:
        assert self.first
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        return self._read()

    def ask(self, word: str) -> dict[str, Any]:
        self.tell(word)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> None:
        self.process.communicate(timeout=60)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the process died"
        answer: dict[str, Any] = json.loads(line)
        return answer


@pytest.fixture
def user() -> Iterator[Callable[..., User]]:
    """Starts a process that uses a data directory; what still runs at the end is killed."""
    started: list[User] = []

    def start(data_dir: Path, **options: Any) -> User:
        started.append(User(data_dir, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()
        one.end()


@contextlib.contextmanager
def open_place() -> Iterator[Path]:
    """A folder with a short path that every user may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="lantern-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def place() -> Iterator[Path]:
    with open_place() as folder:
        yield folder


@pytest.fixture
def new_dir(place: Path) -> Iterator[Path]:
    """A data directory that is not there yet; its server and its files are gone at the end."""
    folder = place / "data"
    yield folder
    if folder.is_dir():
        postgres.remove(folder)


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    """A data directory whose server was started and stopped once."""
    with open_place() as place:
        postgres.acquire(place / "data", fsync=False).release()
        yield place / "data"


@pytest.fixture
def data_dir(new_dir: Path, template: Path) -> Path:
    """A data directory whose server was started and stopped once before."""
    shutil.copytree(template, new_dir)
    return new_dir


@pytest.fixture(scope="session")
def first() -> Iterator[tuple[Path, postgres.Server]]:
    """The data directory and the server of a first start."""
    with open_place() as place, postgres.acquire(place / "data") as server:
        yield place / "data", server


@pytest.fixture
def query() -> Callable[..., Any]:
    """The first value that a statement answers; committed."""

    def run(dsn: str, sql: str) -> Any:
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(sql)
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    return run
