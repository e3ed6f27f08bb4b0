"""The command line as its users call it: real processes, real databases."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
from parts import clone_database

from lantern.core import postgres

BUILTIN = '[[models]]\nname = "builtin"\nprotocol = "builtin"\n'


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line that a failed command leaves."""
        assert self.code != 0
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")


def environment(dsn: str | None = None, **more: str) -> dict[str, str]:
    """No settings of the machine, no keys of model providers."""
    foreign = ("LANTERN_", "OPENAI_", "ANTHROPIC_", "OLLAMA_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    return {**env, **({"LANTERN_DATABASE_URL": dsn} if dsn else {}), **more}


def lantern(*args: str | Path, env: dict[str, str] | None = None, given: str = "") -> Done:
    """Run one command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "lantern.cli", *map(str, args)],
        env=env or environment(), input=given, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


class Commands:
    """Many commands on one database, without paying for the imports each time."""

    def __init__(self, *fixed: str, env: dict[str, str]) -> None:
        self.fixed = fixed
        driver = Path(__file__).with_name("driver.py")
        self.process = subprocess.Popen(
            [sys.executable, driver], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *args: str | Path) -> Done:
        assert self.process.stdin
        assert self.process.stdout
        fixed = () if "--config" in args else self.fixed
        self.process.stdin.write(json.dumps([*map(str, args), *fixed]) + "\n")
        self.process.stdin.flush()
        return Done(**json.loads(self.process.stdout.readline()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=30)


@pytest.fixture(scope="session")
def cli_dsn(pg: postgres.Server) -> str:
    """A database of the command line's own: it begins without a tenant."""
    return clone_database(pg)


@pytest.fixture(scope="session")
def builtin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lantern.toml with nothing but the built-in model."""
    path = tmp_path_factory.mktemp("config") / "lantern.toml"
    path.write_text(BUILTIN)
    return path


@pytest.fixture(scope="session")
def commands(cli_dsn: str, builtin: Path) -> Iterator[Callable[..., Done]]:
    """Commands on that database."""
    with Commands("--config", str(builtin), env=environment(cli_dsn)) as running:
        yield running
