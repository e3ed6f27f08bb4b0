"""Where the data lives: the embedded Postgres of a data directory, or the operator's own."""

import asyncio
from dataclasses import dataclass

from lantern.core import jobs, migrate, postgres
from lantern.core.db import APP_ROLE, Database
from lantern.core.errors import Conflict, Unavailable
from lantern.settings import DatabaseSettings, Settings


@dataclass(frozen=True)
class Home:
    """A database to connect to. `server` is None when it is not ours to start."""

    dsn: str
    server: postgres.Server | None

    async def revive(self) -> None:
        """Bring an embedded server back that was found dead."""
        if self.server:
            await asyncio.to_thread(self.server.ensure)

    def leave(self) -> None:
        """The last one out stops an embedded server."""
        if self.server:
            self.server.release()


def enter(settings: Settings) -> Home:
    """Join the database of the settings; an embedded one is started and migrated."""
    if settings.database_url:
        return Home(settings.database_url, None)
    server = postgres.acquire(settings.data_dir)
    try:
        migrate.apply(server.dsn)
        jobs.migrate_jobs(server.dsn)
    except BaseException:
        server.release()
        raise
    return Home(server.dsn, server)


async def open_database(dsn: str, settings: DatabaseSettings) -> Database:
    """A pool on a migrated database, as a role that row-level security binds; else it refuses.

    A database that cannot be reached raises psycopg's own words, before any pool waits for it.
    """
    if missing := await asyncio.to_thread(migrate.pending, dsn):
        raise Unavailable(f"The database lacks {missing[0]}: run `lantern migrate`")
    db = Database(dsn, settings)
    await db.open()
    try:
        await check(db)
    except BaseException:
        await db.close()
        raise
    return db


async def check(db: Database) -> None:
    """Refuse a role that row-level security does not bind."""
    row = await db.one(
        "select rolsuper or rolbypassrls as free, current_user as role from pg_roles"
        " where rolname = current_user"
    )
    if row is None or row["free"] or row["role"] != APP_ROLE:
        raise Conflict("The server must not work as a role that bypasses row-level security")
