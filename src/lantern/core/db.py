"""The one door to Postgres: a pool, transactions, plain SQL. Rows are dictionaries.

Every connection works as the role `lantern_app`, which row-level security binds; the tenant of a
transaction is a setting that lives exactly as long as the transaction (docs/adr/0008).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row, tuple_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from lantern.core import log
from lantern.core.errors import Unavailable
from lantern.settings import DatabaseSettings

Params = Mapping[str, Any] | Sequence[Any] | None
Row = dict[str, Any]

APP_ROLE = "lantern_app"
SCHEMA = "lantern"

# What callers may need to recognise, without importing psycopg themselves.
DatabaseError = psycopg.Error
ConnectionLost = psycopg.OperationalError
UniqueViolation = psycopg.errors.UniqueViolation
LockTimeout = psycopg.errors.LockNotAvailable
RETRYABLE = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)

_log = log.get(__name__)
_cursors = count()


def facts(error: Exception) -> dict[str, str | None]:
    """What a log may say of a database error: its text quotes values and whole rows."""
    if not isinstance(error, psycopg.Error):
        return {}
    at = error.diag
    return {"sqlstate": error.sqlstate, "table": at.table_name, "constraint": at.constraint_name}


def raised(error: Exception) -> tuple[str | None, dict[str, Any]]:
    """SQLSTATE and facts (DETAIL, as JSON) of a refusal that a function of ours raised: `LN...`."""
    if not isinstance(error, psycopg.Error) or not (error.sqlstate or "").startswith("LN"):
        return None, {}
    facts: dict[str, Any] = orjson.loads(error.diag.message_detail or "{}")
    return error.sqlstate, facts


def environment(dsn: str) -> dict[str, str]:
    """The address for a program of Postgres: among its arguments others could read the password."""
    found = psycopg.pq.Conninfo.parse(dsn.encode())
    return {o.envvar.decode(): o.val.decode() for o in found if o.envvar and o.val is not None}


class Tx:
    """A connection inside (or, for `Database.one` and friends, outside) a transaction."""

    __slots__ = ("connection",)

    def __init__(self, connection: AsyncConnection[Row]) -> None:
        self.connection = connection

    async def one(self, sql: str, params: Params = None) -> Row | None:
        """The first row, or None."""
        cursor = await self.connection.execute(sql, params)
        return await cursor.fetchone()

    async def all(self, sql: str, params: Params = None) -> list[Row]:
        """Every row; the statement carries the LIMIT."""
        cursor = await self.connection.execute(sql, params)
        return await cursor.fetchall()

    async def run(self, sql: str, params: Params = None) -> int:
        """How many rows were touched."""
        cursor = await self.connection.execute(sql, params)
        return cursor.rowcount

    async def act_for(self, tenant: int) -> None:
        """From here on the transaction is a tenant's: for work that found out whose it is."""
        await self.one("select set_config('app.tenant', %s, true)", (str(tenant),))

    async def server(self) -> Row:
        """The server: `version`, `bytes` of this database, `migrations`, `latest` of them."""
        row = await self.one(
            "select current_setting('server_version') as version,"
            " pg_database_size(current_database()) as bytes, count(*) as migrations,"
            " max(name) as latest from schema_migrations where name like '0%'"
        )
        return row or {}

    async def stream(
        self, sql: str, params: Params = None, size: int = 250
    ) -> AsyncGenerator[list[tuple[Any, ...]], None]:
        """Rows as tuples, `size` at a time from a cursor in the server; needs a transaction."""
        name = f"rows_{next(_cursors)}"
        async with self.connection.cursor(name, row_factory=tuple_row) as cursor:
            await cursor.execute(sql, params)
            while rows := await cursor.fetchmany(size):
                yield rows


class Database:
    """A pool on one database. `epoch` counts the server's starts that this process has met."""

    def __init__(self, dsn: str, settings: DatabaseSettings | None = None) -> None:
        self.dsn = dsn
        self.settings = settings or DatabaseSettings()
        self.epoch = 0
        self._server_start: Any = None
        self._pool: AsyncConnectionPool[AsyncConnection[Row]] = AsyncConnectionPool(
            dsn,
            min_size=2,
            max_size=self.settings.pool_size,
            timeout=self.settings.pool_timeout_seconds,
            kwargs={"autocommit": True, "row_factory": dict_row, "connect_timeout": 5},
            configure=self._configure,
            reconnect_timeout=5,
            open=False,
            name="lantern",
        )

    async def open(self) -> None:
        """Connect; raises `Unavailable` when the database does not answer in time."""
        try:
            await self._pool.open(wait=True, timeout=self.settings.pool_timeout_seconds)
        except PoolTimeout as error:
            await self._pool.close()
            raise Unavailable("The database does not answer") from error

    def use(self) -> dict[str, int]:
        """Connections of the pool: `size`, `free`, `waiting` for one, `most`."""
        found = self._pool.get_stats()
        return {
            "size": found.get("pool_size", 0),
            "free": found.get("pool_available", 0),
            "waiting": found.get("requests_waiting", 0),
            "most": self.settings.pool_size,
        }

    async def close(self) -> None:
        """Give the connections back."""
        await self._pool.close()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Tx]:
        """A connection in autocommit: each statement is its own transaction."""
        connection = await self._take()
        try:
            yield Tx(connection)
        finally:
            await self._pool.putconn(connection)

    async def _take(self) -> AsyncConnection[Row]:
        try:
            return await self._pool.getconn()
        except PoolTimeout as error:
            raise Unavailable("No database connection is free") from error

    @asynccontextmanager
    async def transaction(self, tenant: int | None = None) -> AsyncIterator[Tx]:
        """One transaction, seen by row-level security as `tenant`; commits at the end."""
        # BEGIN and the tenant travel in one round trip; the pool throws a broken connection away.
        begin = "begin" if tenant is None else f"begin; set local app.tenant = '{int(tenant)}'"
        async with self.session() as tx:
            await tx.connection.execute(begin)
            try:
                yield tx
            except BaseException:
                if not tx.connection.broken:
                    await tx.connection.rollback()
                raise
            await tx.connection.commit()

    async def one(self, sql: str, params: Params = None) -> Row | None:
        """One autocommitted statement, its first row."""
        # The hot path: without the pool's context managers, which commit what is committed.
        connection = await self._take()
        try:
            cursor = await connection.execute(sql, params)
            return await cursor.fetchone()
        finally:
            await self._pool.putconn(connection)

    async def all(self, sql: str, params: Params = None) -> list[Row]:
        """One autocommitted statement, its rows."""
        async with self.session() as tx:
            return await tx.all(sql, params)

    async def run(self, sql: str, params: Params = None) -> int:
        """One autocommitted statement, the number of rows touched."""
        async with self.session() as tx:
            return await tx.run(sql, params)

    @asynccontextmanager
    async def solo(self) -> AsyncIterator[Tx]:
        """A connection of one's own, in autocommit: for what must not queue behind requests."""
        connection = await AsyncConnection.connect(
            self.dsn, autocommit=True, row_factory=dict_row, connect_timeout=5
        )
        async with connection:
            await self._configure(connection)
            yield Tx(connection)

    @asynccontextmanager
    async def reading(self, tenant: int) -> AsyncIterator[Tx]:
        """A tenant's rows as they are now, for a long read: read-only, outside the pool."""
        async with self.solo() as tx:
            await tx.connection.execute(
                "begin isolation level repeatable read read only;"
                f" set local app.tenant = '{int(tenant)}'"
            )
            yield tx

    async def listen(self, channel: str, ready: Callable[[], None]) -> AsyncIterator[str]:
        """Payloads of NOTIFY on a connection of its own; ends when the connection is lost.

        `ready` is called once LISTEN is in force, the moment from which nothing is missed.
        """
        connection = await AsyncConnection.connect(self.dsn, autocommit=True, connect_timeout=5)
        async with connection:
            await connection.execute(f"listen {channel}")
            ready()
            async for message in connection.notifies():
                yield message.payload

    async def _configure(self, connection: AsyncConnection[Row]) -> None:
        # One round trip for a new connection; the start time tells a restarted server apart.
        timeout = self.settings.statement_timeout_ms
        async with connection.pipeline():
            await connection.execute(f"set search_path = {SCHEMA}")
            await connection.execute(f"set statement_timeout = {timeout}")
            await connection.execute(f"set role {APP_ROLE}")
            cursor = await connection.execute("select pg_postmaster_start_time() as started")
            row = await cursor.fetchone()
        started = row["started"] if row else None
        if started != self._server_start:
            if self._server_start is not None:
                self.epoch += 1
                _log.warning("database.restarted", epoch=self.epoch)
            self._server_start = started
