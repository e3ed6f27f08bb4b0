"""`lantern backup` and `lantern restore`: everything in one file, by the programs of Postgres.

A restore moves what is there aside, reads the file in one transaction and removes the old only
when that has succeeded: a broken file or a full disk changes nothing.
"""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer

from lantern.cli import common, options, store
from lantern.core import home, jobs, migrate, nodes, postgres
from lantern.core.db import Database, environment
from lantern.core.errors import BadRequest, Conflict, Unavailable
from lantern.settings import Settings

backup_app, restore_app = options.single(), options.single()
COMMANDS = {"backup": backup_app, "restore": restore_app}

File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


@backup_app.command()
def backup(
    file: File,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Write one consistent snapshot of everything to FILE; the server may run meanwhile."""
    settings = options.load(data_dir, config)
    common.quiet(settings)
    asyncio.run(_backup(settings, file))
    size = file.stat().st_size
    if json:
        common.print_json({"file": str(file), "bytes": size})
    else:
        print(f"wrote {file} ({size:,} bytes)")


@restore_app.command()
def restore(
    file: File,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a database that has tenants.")
    ] = False,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Read FILE into an empty database, and bring it up to date; no node may run."""
    if not file.is_file():
        raise BadRequest(f"No such file: {file}")
    settings = options.load(data_dir, config)
    common.quiet(settings)
    restored = asyncio.run(_restore(settings, file, force))
    if json:
        common.print_json({"file": str(file), **restored})
    else:
        print(f"restored {restored['tenants']} tenant(s) from {file}")


async def _backup(settings: Settings, file: Path) -> None:
    async with common.joined(settings) as (place, db):
        arguments = ["--format=custom", "--no-unlogged-table-data"]
        arguments += [f"--schema={name}" for name in store.SCHEMAS]
        if not await store.bypasses_row_security(db):
            # Row-level security binds also the owner of the tables, but not this role.
            await store.let_system_read_jobs(db)
            arguments += [f"--role={store.SYSTEM_ROLE}", "--enable-row-security"]
        making = file.with_name(f"{file.name}.part")
        try:
            making.touch(mode=0o600)
            making.chmod(0o600)
            await _program(place, "pg_dump", *arguments, f"--file={making}")
            making.replace(file)
        finally:
            making.unlink(missing_ok=True)


async def _restore(settings: Settings, file: Path, force: bool) -> dict[str, Any]:
    if settings.database_url:
        await asyncio.to_thread(migrate.apply, settings.database_url)  # makes the roles
    async with common.joined(settings) as (place, db):
        await _program(place, "pg_restore", "--list", str(file))  # is it a backup at all?
        await _check_free(settings, db, force)
        await store.set_aside(db)
        try:
            await _program(
                place, "pg_restore", "--no-owner", "--single-transaction", "--exit-on-error",
                f"--dbname={environment(place.dsn)['PGDATABASE']}", str(file),
            )  # fmt: skip
        except BaseException:
            await store.put_back(db)
            raise
        await store.give_to_system(db)
        await store.drop_old(db)
        await asyncio.to_thread(migrate.apply, place.dsn)
        await asyncio.to_thread(jobs.migrate_jobs, place.dsn)
        return {"tenants": len(await store.tenants(db))}


async def _check_free(settings: Settings, db: Database, force: bool) -> None:
    if found := await nodes.at_work(db, settings.nodes.dead_seconds):
        raise Conflict(f"{len(found)} node(s) work on this database: stop them first")
    if await store.tenants(db) and not force:
        raise Conflict("The database is not empty: --force replaces what is there")
    if await store.has_old(db):
        raise Conflict(
            f"An earlier restore was cut off; what it replaced is in schema {store.OLD}: rename"
            " it, or drop it, by hand"
        )


async def _program(place: home.Home, name: str, *arguments: str) -> None:
    """Run a program of Postgres on the database. Raises `Unavailable` with its complaint."""
    env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", **environment(place.dsn)}
    command = [str(_find(name)), *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        complaint = done.stderr.strip().removeprefix(f"{name}: ").removeprefix("error: ")
        raise Unavailable(f"{name}: {complaint or f'ended with {done.returncode}'}")


def _find(name: str) -> Path:
    beside = postgres.find_binaries() / name
    found = beside if beside.exists() else shutil.which(name)
    if not found:
        raise Unavailable(f"{name} not found: install the client programs of Postgres")
    return Path(found)
