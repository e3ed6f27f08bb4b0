"""Rules of keys: shown once, stored as a hash, never reaching further than their maker."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lantern.core import clock, ids
from lantern.core.db import Row, Tx
from lantern.core.errors import BadRequest, Forbidden, NotFound
from lantern.gate import audit
from lantern.gate.auth import Call, key_hash
from lantern.keys import store
from lantern.keys.models import KeyCreate

PREFIX = 12  # characters of a key that lists show: `lnt_` and eight more
RESTORE_SECONDS = 300
KEY_ID = re.compile(r"key_[0-9a-z]{26}")


@dataclass(frozen=True)
class OperatorKey:
    """What the command line may set beyond the API: a plan and limits of its own."""

    name: str
    scopes: list[str]
    agents: list[str]
    plan: str = "team"
    limits: dict[str, int] = field(default_factory=dict)


async def create(call: Call, body: KeyCreate) -> dict[str, Any]:
    """Make a key. Forbidden: it would cover agents that the calling key does not."""
    if call.agents != ["*"] and not set(body.agents) <= set(call.agents):
        raise Forbidden("A key cannot make keys for agents it does not cover")
    expires_at = None if body.expires_at is None else _utc(body.expires_at)
    if expires_at is not None and expires_at <= clock.now():
        raise BadRequest.field("expires_at", "lies in the past")
    values = {"name": body.name, "scopes": list(body.scopes), "agents": _agents(body.agents)}
    row, raw = await _insert(call.tx, call.tenant, {**values, "expires_at": expires_at})
    await audit.record(call, "key.create", "key", row["id"])
    return {"key": shown(row), "raw_key": raw}


async def create_as_operator(tx: Tx, tenant: int, key: OperatorKey) -> dict[str, Any]:
    """Make a key from the command line."""
    values = {"name": key.name, "scopes": key.scopes, "agents": _agents(key.agents)}
    row, raw = await _insert(tx, tenant, {**values, "plan": key.plan, "limits": key.limits})
    await audit.record_command(tx, tenant, "key.create", "key", row["id"])
    return {**shown(row), "plan": key.plan, "key": raw}


async def revoke(call: Call, key_id: str) -> None:
    """End a key; the next request with it is 401 on every node.

    NotFound also for one that reaches agents which the calling key does not.
    """
    await _revoke(call.tx, key_id, call.agents)
    await audit.record(call, "key.revoke", "key", key_id)


async def restore(call: Call, key_id: str) -> dict[str, Any]:
    """Take a revocation back within RESTORE_SECONDS. NotFound: too late, or as for `revoke`."""
    known = KEY_ID.fullmatch(key_id)
    row = known and await store.restore(call.tx, key_id, call.agents, RESTORE_SECONDS)
    if not row:
        raise NotFound("No key was revoked in the last five minutes under this id")
    await audit.record(call, "key.restore", "key", key_id)
    return shown(row)


async def revoke_as_operator(tx: Tx, tenant: int, key_id: str) -> None:
    """End a key from the command line."""
    await _revoke(tx, key_id, ["*"])
    await audit.record_command(tx, tenant, "key.revoke", "key", key_id)


async def table(
    tx: Tx, limit: int, offset: int, agents: list[str] | None = None
) -> tuple[list[dict[str, Any]], int]:
    """A page of the keys in force; with `agents` those that reach none but these."""
    rows, total = await store.page(tx, agents or ["*"], limit, offset)
    return [shown(row) for row in rows], total


def shown(row: Row) -> dict[str, Any]:
    """A key as answers show it."""
    names = ("id", "name", "prefix", "scopes", "agents")
    times = {name: _iso(row[name]) for name in ("created_at", "expires_at", "last_used_at")}
    return {**{name: row[name] for name in names}, **times}


async def _insert(tx: Tx, tenant: int, values: dict[str, Any]) -> tuple[Row, str]:
    raw = ids.secret("lnt")
    own = {"id": ids.new("key"), "hash": key_hash(raw), "prefix": raw[:PREFIX]}
    defaults: dict[str, Any] = {"plan": None, "limits": {}, "expires_at": None}
    return await store.insert(tx, tenant, {**defaults, **values, **own}), raw


async def _revoke(tx: Tx, key_id: str, agents: list[str]) -> None:
    row = await store.revoke(tx, key_id, agents) if KEY_ID.fullmatch(key_id) else None
    if row is None:
        raise NotFound("Key not found")


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:  # the last hours of the year 9999, west of Greenwich
        raise BadRequest.field("expires_at", "out of range") from None


def _agents(names: list[str]) -> list[str]:
    return ["*"] if "*" in names else sorted(set(names))


def _iso(moment: datetime | None) -> str | None:
    return clock.iso(moment) if moment else None
