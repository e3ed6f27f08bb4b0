"""What the commands do alike: join the database, print."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson

from lantern.cli import store
from lantern.core import home, http, log
from lantern.core.db import Database
from lantern.core.errors import NotFound
from lantern.settings import Settings

FIRST_TENANT = store.FIRST_TENANT

T = TypeVar("T")
Operation = Callable[[Database], Coroutine[Any, Any, T]]


@asynccontextmanager
async def joined(settings: Settings) -> AsyncIterator[tuple[home.Home, Database]]:
    """The database of the settings, beside a server or alone."""
    if not settings.database_url and not settings.data_dir.exists():
        where = settings.data_dir.resolve()
        print(f"new database in {where}; --data-dir names another", file=sys.stderr)
    place = await asyncio.to_thread(home.enter, settings)
    try:
        db = await home.open_database(place.dsn, settings.database)
        try:
            yield place, db
        finally:
            await db.close()
    finally:
        await asyncio.to_thread(place.leave)


def with_database(settings: Settings, operation: Operation[T], tenant: int | None = None) -> T:
    """Run an operation on the database; `tenant` must exist, the first one is made if needed."""
    quiet(settings)

    async def work() -> T:
        async with joined(settings) as (_, db):
            if tenant is not None:
                await check_tenant(db, tenant)
            return await operation(db)

    return asyncio.run(work())


def quiet(settings: Settings) -> None:
    """Log of a command: what it prints matters, and its error is one line. `debug` stays."""
    level = "debug" if settings.log.level == "debug" else "error"
    log.configure(settings.log.model_copy(update={"level": level}))


async def check_tenant(db: Database, tenant: int) -> None:
    """Raise NotFound for a tenant that is not there; an empty database gets its first."""
    if tenant == FIRST_TENANT:
        await store.first_tenant(db)
    if tenant not in {row["id"] for row in await store.tenants(db)}:
        raise NotFound(f"Tenant {tenant} not found: `lantern tenants list` shows all")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=plain).decode(), flush=True)


def plain(value: Any) -> Any:
    """What JSON has no word for: decimals as numbers, times and paths as text."""
    try:
        return http.plain(value)
    except TypeError:
        return str(value)


def print_table(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Columns under their names, for people; nothing but the names when there is no row."""
    cells = [[name.upper() for name in names], *([cell(row[n]) for n in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    for line in cells:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())


def print_fields(row: dict[str, Any]) -> None:
    """One object, a field a line."""
    width = max(len(name) for name in row)
    for name, value in row.items():
        print(f"{name.ljust(width)}  {cell(value)}")


def cell(value: Any) -> str:
    """A value in a table."""
    if value is None:
        return "-"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "-"
    if isinstance(value, dict | list):
        return orjson.dumps(value, default=plain).decode()
    return str(plain(value)) if not isinstance(value, str | int | float) else str(value)
