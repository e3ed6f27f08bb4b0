"""The command line: one file for each group of commands, imported when one of them is called.

`lantern --help` imports none of them: a table holds a line for each. This is the one place that
imports modules by name.
"""

import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator, MutableMapping
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from lantern import __version__

# Command -> the module that holds it, and its line in the list.
COMMANDS = {
    "serve": ("serve", "Run the server."),
    "worker": ("serve", "Run a node that works on runs and serves no HTTP."),
    "demo": ("demo", "Show the product at work on this machine."),
    "run": ("run", "Run an agent and watch it."),
    "runs": ("runs", "List, show and cancel runs."),
    "agents": ("agents", "Create, list, show and delete agents."),
    "dashboard": ("dashboard", "Print a link that opens the dashboard."),
    "keys": ("keys", "Create, list and revoke API keys."),
    "tenants": ("tenants", "Create and list tenants."),
    "routing": ("routing", "Pools, assignments, explanations and simulations."),
    "logs": ("logs", "Export, check and clean the log."),
    "credits": ("credits", "Grant credits, show balances and receipts, set prices and caps."),
    "doctor": ("doctor", "Check this installation and say how to mend it."),
    "migrate": ("migrate", "Bring the database up to date."),
    "backup": ("backup", "Write the whole database to a file."),
    "restore": ("backup", "Read a backup into an empty database."),
}


def load(module: str) -> Any:
    """A module of this package, imported now."""
    gc.disable()  # a tenth of the time that thousands of new objects take
    try:
        return importlib.import_module(f"lantern.cli.{module}")
    finally:
        gc.enable()


class _Commands(MutableMapping[str, Any]):
    """The commands by name; looking one up imports it."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._found:
            module, line = COMMANDS[name]
            self._found[name] = typer.main.get_command(load(module).COMMANDS[name])
            self._found[name].name, self._found[name].short_help = name, line
        return self._found[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Root(TyperGroup):
    """Knows its commands by name and line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _Commands()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list in the help, without importing one of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


app = typer.Typer(cls=_Root, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lantern {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback instead of one line.")
    ] = False,
) -> None:
    """One self-hosted server for go-to-market data and durable, streaming agents."""
    if debug:
        os.environ["LANTERN_DEBUG"] = "1"


def main() -> NoReturn:
    """Entry point."""
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(execute(sys.argv[1:]))


def execute(args: list[str]) -> int:
    """Run a command: 0 done, 1 failed, 2 used wrongly; an error is one line on standard error."""
    try:
        code = app(args, prog_name="lantern", standalone_mode=False)
    except Exception as error:
        if os.environ.get("LANTERN_DEBUG"):
            raise
        line, code = load("failures").explain(error)
        print(line, file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    return code if isinstance(code, int) else 0


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    # An exception, so that a command that is ended leaves its database in good order.
    raise SystemExit(143)
