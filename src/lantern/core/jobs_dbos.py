"""The one door to DBOS, the engine behind core/jobs.py. Its import takes over a second: only here.

It runs on the same Postgres, in its own schema, in threads of its own and under the role of the
rest of the server. What it is used for: queueing, retries of dead nodes' work, introspection. Not
used: its schedules, events, streams and steps.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from importlib import metadata
from typing import Any
from urllib.parse import quote, urlencode

import psycopg

from lantern.core import log
from lantern.core.db import APP_ROLE, SCHEMA

ENGINE = "dbos"  # its package, its schema, its logger, its row among the migrations
QUEUE = "work"
APPLICATION = "lantern"
# Work queued by one version is done by the next: raise it only when old jobs must not run.
VERSION = "1"
RECOVERIES = 5  # after so many takeovers a job is put aside: it kills its nodes
AT_ONCE = 8  # jobs of one process
CONNECTIONS = 4
POLL_SECONDS = 1.0

Deliver = Callable[[str, dict[str, Any]], Awaitable[None]]
_log = log.get(__name__)
_entered: set[str] = set()  # names the engine was told, once in the life of the process
_deliver: Deliver | None = None  # the engine is one to a process


def migrate(dsn: str) -> bool:
    """Bring the engine's schema up to date, as the owner; False when it was. Takes seconds.

    The version that made it is noted among our migrations, so that a start needs no import.
    """
    version = metadata.version(ENGINE)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"set search_path = {SCHEMA}")
        row = connection.execute(
            "select 1 from schema_migrations where name = %s and checksum = %s", (ENGINE, version)
        ).fetchone()
        if row:
            return False
        _quiet()
        from dbos import DBOS

        DBOS.migrate(_url(dsn, connection.info.dbname), application_role=APP_ROLE)
        connection.execute(
            "insert into schema_migrations (name, checksum) values (%s, %s)"
            " on conflict (name) do update set checksum = excluded.checksum, applied_at = now()",
            (ENGINE, version),
        )
    _log.info("migration.applied", name=f"{ENGINE} {version}")
    return True


def launch(dsn: str, node_id: str, names: Iterable[str], deliver: Deliver) -> None:
    """Start the engine's threads; blocks. What it takes on goes to `deliver`, on its own loop."""
    global _deliver
    if _deliver is not None:
        raise RuntimeError("this process runs an engine of jobs already")
    _deliver = deliver
    _quiet()
    try:
        _launch(dsn, node_id, set(names))
    except BaseException:
        destroy(0)
        raise


def _launch(dsn: str, node_id: str, names: set[str]) -> None:
    from dbos import DBOS, DBOSConfig

    config = DBOSConfig(
        name=APPLICATION,
        system_database_url="postgresql:///by-creator",
        db_engine_kwargs={"creator": lambda: connect(dsn)},
        sys_db_pool_size=CONNECTIONS,
        application_version=VERSION,
        executor_id=node_id,
        run_migrations=False,
        use_listen_notify=False,  # it serves events and streams
        scheduler_polling_interval_sec=3600.0,  # cron is ours
        log_level="WARNING",
    )
    DBOS(config=config)
    for name in names - _entered:
        DBOS.workflow(name=name, max_recovery_attempts=RECOVERIES)(_body(name))
        _entered.add(name)
    DBOS.listen_queues([QUEUE])
    DBOS.launch()
    DBOS.register_queue(
        QUEUE,
        worker_concurrency=AT_ONCE,
        polling_interval_sec=POLL_SECONDS,
        on_conflict="always_update",
    )


def _body(name: str) -> Callable[..., Any]:
    async def body(**args: Any) -> None:
        if _deliver is None:
            raise asyncio.CancelledError  # not done, so it stays pending
        await _deliver(name, args)

    return body


def recover(dead: Sequence[str]) -> int:
    """Queue again what these executors had begun; returns how many workflows. Blocks."""
    from dbos import DBOS

    # The call behind the engine's paid takeover; private, so the version is pinned and tested.
    return len(DBOS._recover_pending_workflows(list(dead)))


def rename(node_id: str) -> None:
    """Take work on under another id from now."""
    from dbos._utils import GlobalParams

    GlobalParams.executor_id = node_id


def destroy(drain_seconds: int) -> None:
    """Stop the engine's threads; running workflows get `drain_seconds`. Blocks."""
    global _deliver
    from dbos import DBOS

    try:
        DBOS.destroy(workflow_completion_timeout_sec=drain_seconds)
    finally:
        _deliver = None


def connect(dsn: str) -> psycopg.Connection[Any]:
    """A connection for the engine's pool: never with more rights than the rest of the server."""
    connection = psycopg.connect(dsn, application_name="lantern jobs", connect_timeout=5)
    connection.execute(f"set search_path = {ENGINE}")
    connection.execute(f"set role {APP_ROLE}")
    connection.commit()  # the pool's rollback must not undo it
    return connection


def _quiet() -> None:
    # With a handler of its own it prints nothing itself; warnings go on to the root logger.
    logger = logging.getLogger(ENGINE)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.setLevel(logging.WARNING)


def _url(dsn: str, database: str) -> str:
    """The DSN as a URL that SQLAlchemy reads: all but the database as parameters."""
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    parts.pop("dbname", None)
    return f"postgresql:///{quote(database)}?{urlencode(parts)}"
