"""What `lantern doctor` looks at. A check never raises: what goes wrong is what it reports."""

import asyncio
import http.client
import json
import platform
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from lantern.cli import listener, store
from lantern.core import clock, home, migrate, nodes, postgres
from lantern.core.db import Database, DatabaseError
from lantern.core.errors import LanternError
from lantern.core.web import Web
from lantern.llm import Model, Models
from lantern.settings import Settings

GIGABYTE = 1_000_000_000
OLDEST_POSTGRES = 15
SKEW_SECONDS = 2.0  # what a person notices in timestamps; limits and beats use the database's clock
DRIFT = 0.05


@dataclass(frozen=True)
class Check:
    """A line of the report; `mend` says what to do where something is wrong."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""


async def everything(settings: Settings) -> list[Check]:
    """All checks, in the order of the report."""
    models = asyncio.create_task(_models(settings))
    first = [_python(), _disk(settings), await asyncio.to_thread(_port, settings)]
    database = [check async for check in _database(settings)]
    return [*first, *database, *await models]


def _python() -> Check:
    return Check("python", "ok", f"{platform.python_version()}, {sys.executable}")


def _disk(settings: Settings) -> Check:
    folder = settings.data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"{free / GIGABYTE:.1f} GB free in {folder}"
    if free < GIGABYTE / 10:
        return Check("disk", "fail", detail, "free some space: Postgres stops on a full disk")
    if free < GIGABYTE:
        return Check("disk", "warn", detail, "free some space soon")
    return Check("disk", "ok", detail)


def _port(settings: Settings) -> Check:
    server = settings.server
    try:
        with listener.bind(server) as bound:
            return Check("port", "ok", f"{listener.url(bound)} is free")
    except LanternError as error:
        if version := _serving(server.host, server.port):
            return Check("port", "ok", f"{server.port}: Lantern {version} serves it")
        return Check("port", "fail", str(error), "end the other program, or choose another port")


def _serving(host: str, port: int) -> str | None:
    """The version of a Lantern that answers there."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        answer = json.loads(connection.getresponse().read(1000))
        return str(answer["version"]) if "node" in answer else None
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return None
    finally:
        connection.close()


# ---------------------------------------------------------------- the database
async def _database(settings: Settings) -> AsyncIterator[Check]:
    where = "LANTERN_DATABASE_URL" if settings.database_url else f"embedded in {settings.data_dir}"
    try:
        async with _reached(settings) as place:
            missing = await asyncio.to_thread(migrate.pending, place.dsn)
            if missing:
                yield Check("postgres", "ok", where)
                mend = "`lantern migrate` applies them; so does `lantern serve` on an embedded one"
                status: Literal["warn", "fail"] = "fail" if settings.database_url else "warn"
                yield Check("migrations", status, f"{len(missing)} to apply", mend)
                return
            async for check in _inside(settings, place, where):
                yield check
    except (LanternError, DatabaseError, OSError) as error:
        mend = "check LANTERN_DATABASE_URL, and that the server is up"
        lines = " ".join(str(error).split())
        yield Check("postgres", "fail", f"{where}: {lines}", mend if settings.database_url else "")


@asynccontextmanager
async def _reached(settings: Settings) -> AsyncIterator[home.Home]:
    if settings.database_url:
        yield home.Home(settings.database_url, None)
        return
    server = await asyncio.to_thread(postgres.acquire, settings.data_dir)
    try:
        yield home.Home(server.dsn, server)
    finally:
        await asyncio.to_thread(server.release)


async def _inside(settings: Settings, place: home.Home, where: str) -> AsyncIterator[Check]:
    db = Database(place.dsn, settings.database)
    await db.open()
    try:
        facts = await store.server_facts(db)
        version = facts["server_version"]
        if int(version.split(".")[0]) < OLDEST_POSTGRES:
            mend = f"upgrade it to {OLDEST_POSTGRES} or newer"
            yield Check("postgres", "fail", f"{version}, {where}", mend)
        else:
            yield Check("postgres", "ok", f"{version}, {where}")
        yield Check("migrations", "ok", "all applied")
        yield await _role(db, place)
        yield _durability(facts)
        yield await _clock(db)
        alive = await nodes.at_work(db, settings.nodes.dead_seconds)
        names = ", ".join(f"{n['role']} on {n['host']} (pid {n['pid']})" for n in alive)
        yield Check("nodes", "ok", names or "none at work: `lantern serve` starts one")
    finally:
        await db.close()


async def _role(db: Database, place: home.Home) -> Check:
    try:
        await home.check(db)
    except LanternError as error:
        return Check("role", "fail", str(error), "run `lantern migrate` as the owner of the tables")
    return Check("role", "ok", "row-level security binds the server's role")


def _durability(facts: dict[str, str]) -> Check:
    off = [name for name in ("fsync", "full_page_writes") if facts[name] != "on"]
    if facts["synchronous_commit"] == "off":
        off.append("synchronous_commit")
    if off:
        mend = "turn them on: a power cut may lose or break the database"
        return Check("durability", "warn", f"off: {', '.join(off)}", mend)
    return Check("durability", "ok", "fsync, full_page_writes and synchronous_commit are on")


async def _clock(db: Database) -> Check:
    """Wall clocks of both sides, and whether a second is as long here as there."""
    began, there = clock.monotonic(), await store.now(db)
    skew = abs((clock.now() - there).total_seconds())
    await asyncio.sleep(0.5)
    later = await store.now(db)
    took = clock.monotonic() - began
    drift = abs((later - there).total_seconds() - took)
    detail = f"{skew:.2f} s from the database's"
    mend = "synchronise this machine's clock (NTP)"
    if skew > SKEW_SECONDS:
        return Check("clock", "warn", detail, mend)
    if drift > DRIFT + took / 10:
        return Check("clock", "warn", f"{detail}; it drifts by {drift:.2f} s in {took:.1f} s", mend)
    return Check("clock", "ok", detail)


# ---------------------------------------------------------------- the models
async def _models(settings: Settings) -> list[Check]:
    web = Web(settings.net)
    await web.open()
    try:
        models = await Models.open(settings, web)
        try:
            return list(await asyncio.gather(*(_model(models, m) for m in models.table)))
        finally:
            await models.close()
    except ValueError as error:
        return [Check("models", "fail", str(error), "mend the row in lantern.toml")]
    finally:
        await web.close()


async def _model(models: Models, model: Model) -> Check:
    name = f"model {model.name}"
    if model.protocol == "builtin":
        if len(models.table) > 1:
            return Check(name, "ok", "built in, last resort: quotes sentences of its input")
        mend = "set OPENAI_API_KEY or ANTHROPIC_API_KEY, run Ollama, or add [[models]]"
        return Check(name, "warn", "no language model is configured: answers are quotes", mend)
    found = await models.probe(model)
    if found.seconds is None:
        return Check(name, "fail", found.detail, found.mend)
    if model.price is None:
        mend = "set input_usd_per_mtok and output_usd_per_mtok: runs have no cost without them"
        return Check(name, "warn", f"{found.detail}; its price is not known", mend)
    return Check(name, "ok", found.detail)
