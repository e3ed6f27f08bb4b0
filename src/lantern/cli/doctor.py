"""`lantern doctor`: what works, what does not, and what to do about it."""

import asyncio
import dataclasses
from collections.abc import Iterable

import typer

from lantern.cli import checks, common, options

app = options.single()
COMMANDS = {"doctor": app}

COLOURS = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}


@app.command()
def doctor(
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Check Postgres, models, disk, clock and ports; exit code 1 when something fails.

    Every model that is configured is asked for a few tokens.
    """
    settings = options.load(data_dir, config)
    common.quiet(settings)
    found = asyncio.run(checks.everything(settings))
    failed = any(check.status == "fail" for check in found)
    if json:
        rows = [dataclasses.asdict(check) for check in found]
        common.print_json({"ok": not failed, "checks": rows})
    else:
        _show(found)
    if failed:
        raise typer.Exit(1)


def _show(found: Iterable[checks.Check]) -> None:
    for check in found:
        typer.secho(check.status.ljust(5), fg=COLOURS[check.status], nl=False)
        print(f" {check.name.ljust(14)} {check.detail}")
        if check.mend:
            print(f"{' ' * 21}-> {check.mend}")
