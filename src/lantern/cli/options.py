"""Options that many commands have, and the settings they lead to. Imports little."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lantern import settings as configuration
from lantern.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where the embedded database lives. [default: .lantern]"),
]
Config = Annotated[
    Path | None, typer.Option("--config", help="Configuration file. [default: lantern.toml]")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Tenant = Annotated[int, typer.Option("--tenant", min=1, help="Whose it is.")]


class Plan(StrEnum):
    """How many requests a minute."""

    personal = "personal"
    team = "team"
    enterprise = "enterprise"


def group(line: str) -> typer.Typer:
    """A group of commands; stays one also with a single command."""
    made = typer.Typer(no_args_is_help=True, help=line, rich_markup_mode=None, add_completion=False)
    made.callback()(_nothing)
    return made


def single() -> typer.Typer:
    """A command of its own."""
    return typer.Typer(rich_markup_mode=None, add_completion=False)


def _nothing() -> None:
    pass


def load(data_dir: Path | None, config: Path | None, **overrides: Any) -> Settings:
    """Settings of a command: `LANTERN_*` and `lantern.toml` count as for the server."""
    if data_dir is not None:
        overrides["data_dir"] = data_dir
    return configuration.load(config, **overrides)
