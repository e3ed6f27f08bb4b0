"""`lantern logs`: read, export, sign, check and clean the log."""

import asyncio
import hashlib
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import orjson
import typer

from lantern import logs
from lantern.cli import common, options
from lantern.core import clock
from lantern.core.db import Database
from lantern.core.errors import BadRequest
from lantern.settings import Settings

app = options.group("Export, check and clean the log.")
COMMANDS = {"logs": app}

BEGINNING = "1970-01-01"

From = Annotated[str, typer.Option("--from", help="ISO date or date-time, UTC without a zone.")]
To = Annotated[
    str | None, typer.Option("--to", help="The same; a date counts whole. [default: today]")
]
Pool = Annotated[str | None, typer.Option("--pool", help="Only this pool.")]
Object = Annotated[str | None, typer.Option("--object", help="Lead, Contact, ...")]
Action = Annotated[str | None, typer.Option("--action", help="assign, convert, merge, enrich.")]
Out = Annotated[Path | None, typer.Option("--out", help="A file. [default: standard output]")]


class Format(StrEnum):
    """How rows are written."""

    json = "json"
    csv = "csv"


@app.command("export")
def export(  # noqa: PLR0913 - one parameter for each option
    since: From = BEGINNING,
    until: To = None,
    pool: Pool = None,
    object_: Object = None,
    action: Action = None,
    format_: Annotated[Format, typer.Option("--format", help="How rows are written.")] = (
        Format.json
    ),
    out: Out = None,
    sign: Annotated[bool, typer.Option("--sign", help="Write OUT.sig beside OUT.")] = False,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Write every row of a period, without the limit of the API."""
    if sign and out is None:
        raise typer.BadParameter("--sign needs --out")
    settings = options.load(data_dir, config)
    keys = logs.use(settings)
    query = _query(since, until, {"pool": pool, "object": object_, "action": action})

    async def work(db: Database) -> dict[str, Any]:
        async with db.reading(tenant) as tx:
            tally = logs.Tally()
            parts = (logs.as_csv if format_ is Format.csv else logs.as_json)(tx, query, tally)
            if out is None:
                await _write(sys.stdout.buffer, parts, format_)
                return {"rows": tally.count}
            making = out.with_name(f"{out.name}.part")
            with making.open("wb") as file:
                digest = await _write(file, parts, format_)
            if sign:
                said = await logs.statement(tx, tenant, query, tally, digest)
                _save_signature(out, logs.signature(keys, {**said, "covers": "file"}))
            await asyncio.to_thread(making.replace, out)
            return {"file": str(out), "rows": tally.count, "sha256": digest, "signed": sign}

    done = common.with_database(settings, work, tenant)
    if out is not None:
        _tell(done, json, f"wrote {done.get('rows'):,} rows to {out}")


@app.command("verify")
def verify(  # noqa: PLR0913 - one parameter for each option
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A signed export; without: the chain.")
    ] = None,
    signature: Annotated[
        Path | None,
        typer.Option("--signature", help="[default: FILE.sig, else what FILE holds]"),
    ] = None,
    public_key: Annotated[
        str | None, typer.Option("--public-key", metavar="KEY", help="As `lantern logs key`.")
    ] = None,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Check the whole chain or, offline, a signed export; exit code 1 when it does not hold."""
    if file is not None:
        found = logs.check(
            _read(file),
            _signature(file, signature),
            logs.read_public(public_key) if public_key else None,
        )
        _tell(found, json, _file_line(file, found))
    else:
        found = _verify_chain(options.load(data_dir, config), tenant)
        _tell(found, json, _chain_line(found))
    if not found["intact"]:
        raise typer.Exit(1)


@app.command("stats")
def stats(  # noqa: PLR0913 - one parameter for each option
    since: From = BEGINNING,
    until: To = None,
    pool: Pool = None,
    object_: Object = None,
    action: Action = None,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Count rows by action, object, pool, user and day."""
    query = _query(since, until, {"pool": pool, "object": object_, "action": action})

    async def work(db: Database) -> dict[str, Any]:
        async with db.transaction(tenant) as tx:
            return await logs.statistics(tx, query, "action")

    found = common.with_database(options.load(data_dir, config), work, tenant)
    if json:
        common.print_json(found)
        return
    rows = [
        {"by": by, "key": key, "rows": n}
        for by in ("action", "object", "pool", "user")
        for key, n in found[f"by_{by}"].items()
    ]
    common.print_table(
        ("by", "key", "rows"), [*rows, {"by": "all", "key": "", "rows": found["total"]}]
    )


@app.command("key")
def key(
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Print the public key that signs; its file is made when there is none."""
    found = logs.public_key(logs.use(options.load(data_dir, config)))
    if json:
        common.print_json(found)
    else:
        print(f"{found['public_key']}  {found['key_id']}")


@app.command("cleanup")
def cleanup(
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Remove it, or only tell. [default: tell]")
    ] = False,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Remove what is over its time, or tell what that is."""
    settings = options.load(data_dir, config)
    logs.use(settings)

    async def work(db: Database) -> dict[str, Any]:
        async with db.transaction(tenant) as tx:
            found = await logs.preview(tx)
        if apply:
            found = {**found, "dry_run": False, "deleted": await logs.clean_tenant(db, tenant)}
        return found

    found = common.with_database(settings, work, tenant)
    told = "deleted" if apply else "would delete"
    _tell(found, json, f"{told} {found['deleted']:,} rows")


def _query(since: str, until: str | None, filters: dict[str, str | None]) -> logs.Query:
    last = until or clock.now().date().isoformat()
    return logs.read(logs.period(since, last), limit=None, include_diff=True, **filters)


async def _write(file: BinaryIO, parts: AsyncGenerator[bytes, None], kind: Format) -> str:
    digest = hashlib.sha256()
    async with aclosing(parts):
        async for part in parts:
            digest.update(part)
            file.write(part)
    end = b"}\n" if kind is Format.json else b""
    digest.update(end)
    file.write(end)
    file.flush()
    return digest.hexdigest()


def _save_signature(out: Path, signature: dict[str, str]) -> None:
    text = orjson.dumps(signature, option=orjson.OPT_INDENT_2) + b"\n"
    out.with_name(f"{out.name}.sig").write_bytes(text)


def _verify_chain(settings: Settings, tenant: int) -> dict[str, Any]:
    keys = logs.use(settings)

    async def work(db: Database) -> dict[str, Any]:
        async with db.reading(tenant) as tx:
            return logs.shown(await logs.walk(tx, tenant, keys))

    return common.with_database(settings, work, tenant)


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise BadRequest(f"No such file: {file}")
    return file.read_bytes()


def _signature(file: Path, given: Path | None) -> bytes | None:
    beside = file.with_name(f"{file.name}.sig")
    if given is None and not beside.is_file():
        return None
    return _read(given or beside)


def _tell(found: dict[str, Any], json: bool, line: str) -> None:
    if json:
        common.print_json(found)
    else:
        print(line)


def _file_line(file: Path, found: dict[str, Any]) -> str:
    if not found["intact"]:
        return f"broken: {file}: {found['problem']}"
    said = found["statement"]
    trust = "" if found["key_given"] else "; compare the key with `lantern logs key`"
    return (
        f"intact: {file}: {said.get('count')} rows, {said.get('from')} to {said.get('to')},"
        f" signed by {found['key_id']}{trust}"
    )


def _chain_line(found: dict[str, Any]) -> str:
    erased = ", ".join(f"{n:,} erased by {kind}" for kind, n in sorted(found["erased"].items()))
    counts = f"{found['checked']:,} seals, {found['rows']:,} rows, {erased or 'none erased'}"
    counts += f", {found['unsealed']:,} not sealed yet"
    problem = found["problem"]
    if problem is None:
        head = found["head"]
        return f"intact: {counts}; head {head['chain_seq']} {head['link'][:16]}"
    place = f"seal {problem['chain_seq']}" if problem["chain_seq"] else f"row {problem['row_id']}"
    return f"broken at {place}: {problem['kind']}: {problem['message']} (before it: {counts})"
