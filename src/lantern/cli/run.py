"""`lantern run`: an agent at work before your eyes."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from lantern import runs
from lantern.cli import common, options, show
from lantern.cli.follow import follow
from lantern.core.db import Database
from lantern.core.errors import Conflict
from lantern.settings import Settings

app = options.single()
COMMANDS = {"run": app}

INTERRUPTED = 130


@app.command()
def run(  # noqa: PLR0913 - one parameter for each option
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Its name.")],
    given: Annotated[
        str | None, typer.Option("--input", metavar="JSON", help="The input, a JSON object.")
    ] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input-file", help="The input from a file; - reads stdin.")
    ] = None,
    events: Annotated[
        bool, typer.Option("--events", help="Print every event as a line of JSON.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print nothing but the final run as JSON.")
    ] = False,
    tenant: options.Tenant = common.FIRST_TENANT,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Run an agent and stream what it writes; Ctrl-C cancels the run.

    With no server or worker on the database this command does the work itself.
    """
    if json and events:
        raise typer.BadParameter("--json and --events exclude each other")
    value = _input(given, input_file)
    settings = options.load(data_dir, config)
    common.quiet(settings)
    display = _display(json, events)
    try:
        done = asyncio.run(_Run(settings, tenant, agent, value).watch(display))
    except asyncio.CancelledError:
        raise typer.Exit(INTERRUPTED) from None
    if json:
        common.print_json(done.result)
    elif not events:
        _report(done.result)
    if done.interrupted:
        raise typer.Exit(INTERRUPTED)
    if done.result["status"] != "completed":
        raise typer.Exit(1)


class _Run:
    """A run from its start to its end, and Ctrl-C in between."""

    def __init__(self, settings: Settings, tenant: int, agent: str, value: dict[str, Any]) -> None:
        self.settings = settings
        self.tenant = tenant
        self.agent = agent
        self.value = value
        self.interrupted = False
        self.result: dict[str, Any] = {}

    async def watch(self, display: show.Display) -> "_Run":
        async with common.joined(self.settings) as (place, db):
            await common.check_tenant(db, self.tenant)
            async with db.transaction(self.tenant) as tx:
                self.run_id = await runs.start_as_operator(tx, self.tenant, self.agent, self.value)
            self._catch_interrupt(db)
            with display:
                async for event in follow(self.settings, place, db, self.run_id):
                    display.event(event)
            async with db.transaction(self.tenant) as tx:
                self.result = await runs.fetch_as_operator(tx, self.run_id)
        return self

    def _catch_interrupt(self, db: Database) -> None:
        task = asyncio.current_task()
        assert task is not None
        cancelling: list[asyncio.Task[None]] = []

        def interrupted() -> None:
            if self.interrupted:
                task.cancel()  # asked twice: leave now, whoever has the run ends it
                return
            self.interrupted = True
            cancelling.append(asyncio.create_task(self._cancel(db)))

        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted)

    async def _cancel(self, db: Database) -> None:
        try:
            async with db.transaction(self.tenant) as tx:
                await runs.cancel_as_operator(tx, self.tenant, self.run_id, "interrupted")
        except Conflict:
            self.interrupted = False  # it ended in the same moment


def _display(json: bool, events: bool) -> show.Display:
    if json:
        return show.Silent()
    if events:
        return show.Raw()
    return show.Watch(Console()) if sys.stdout.isatty() else show.Plain()


def _report(run: dict[str, Any]) -> None:
    print()
    if run["error"]:
        print(f"error: {run['error']['message']}", file=sys.stderr)
    print("\n".join(show.summary(run)))
    if notice := ((run["output"] or {}).get("data") or {}).get("notice"):
        print(f"note: {notice}")


def _input(text: str | None, file: Path | None) -> dict[str, Any]:
    if (text is None) == (file is None):
        raise typer.BadParameter("give one of --input and --input-file")
    if file is not None:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    try:
        value = orjson.loads(text or "")
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"the input is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter("the input is not a JSON object")
    return value
