"""Numbered SQL files, each applied once, in order, under an advisory lock, with its checksum kept.

`0007_name.sql` is additive and safe while the old code still runs. A change that is not comes as
two files, `0007_name.pre.sql` (before the new code starts) and `0008_name.post.sql` (after).
"""

import hashlib
from importlib import resources

import psycopg

from lantern.core import log
from lantern.core.db import SCHEMA
from lantern.core.errors import Conflict

_log = log.get(__name__)
_LOCK = 0x6C616E7465726E  # "lantern"


def files() -> list[tuple[str, str]]:
    """Name and text of every migration, in order."""
    folder = resources.files("lantern.migrations")
    names = sorted(f.name for f in folder.iterdir() if f.name.endswith(".sql"))
    return [(name, (folder / name).read_text(encoding="utf-8")) for name in names]


def apply(dsn: str) -> list[str]:
    """Apply what is missing; returns the names applied. Raises `Conflict` for an edited file."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", (_LOCK,))
        connection.execute(f"create schema if not exists {SCHEMA}")
        connection.execute(f"set search_path = {SCHEMA}")
        connection.execute(
            "create table if not exists schema_migrations (name text primary key,"
            " checksum text not null, applied_at timestamptz not null default now())"
        )
        rows = connection.execute("select name, checksum from schema_migrations").fetchall()
        done = {str(name): str(checksum) for name, checksum in rows}
        return [name for name, text in files() if _apply_one(connection, name, text, done)]


def pending(dsn: str) -> list[str]:
    """Names not applied yet."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        known = connection.execute(
            "select to_regclass(%s)", (f"{SCHEMA}.schema_migrations",)
        ).fetchone()
        if known is None or known[0] is None:
            return [name for name, _ in files()]
        rows = connection.execute(f"select name from {SCHEMA}.schema_migrations").fetchall()
        done = {row[0] for row in rows}
        return [name for name, _ in files() if name not in done]


def _apply_one(
    connection: psycopg.Connection[tuple[object, ...]], name: str, text: str, done: dict[str, str]
) -> bool:
    checksum = hashlib.sha256(text.encode()).hexdigest()
    if name in done:
        if done[name] != checksum:
            raise Conflict(f"Migration {name} was changed after it had been applied")
        return False
    with connection.transaction():
        connection.execute(text.encode())
        connection.execute(
            "insert into schema_migrations (name, checksum) values (%s, %s)", (name, checksum)
        )
    _log.info("migration.applied", name=name)
    return True
