"""All SQL of agents."""

from typing import Any

import orjson

from lantern.core.db import Row, Tx

COLUMNS = (
    "id, name, description, system_prompt, model, connectors, surfaces, privacy_level, guardrails,"
    " labels, status, created_at, updated_at, refuses"
)
_JSON = {"guardrails", "labels"}


async def insert(tx: Tx, tenant: int, values: dict[str, Any]) -> Row | None:
    """Add an agent; None when the name or the id is taken."""
    names = ", ".join(values)
    marks = ", ".join(_mark(name) for name in values)
    return await tx.one(
        f"insert into agents (tenant_id, {names}) values (%(tenant)s, {marks})"
        f" on conflict do nothing returning {COLUMNS}",
        {"tenant": tenant, **_adapt(values)},
    )


async def by_name(tx: Tx, name: str, *, lock: bool = False) -> Row | None:
    """The agent that has this name now."""
    return await tx.one(
        f"select {COLUMNS} from agents where name = %s and status <> 'archived'"
        + (" for update" if lock else ""),
        (name,),
    )


async def by_id(tx: Tx, agent_id: str) -> Row | None:
    """An agent, archived ones too."""
    return await tx.one(f"select {COLUMNS} from agents where id = %s", (agent_id,))


async def update(tx: Tx, agent_id: str, values: dict[str, Any]) -> Row | None:
    """Change some fields."""
    pairs = ", ".join(f"{name} = {_mark(name)}" for name in values)
    return await tx.one(
        f"update agents set {pairs}, updated_at = now() where id = %(agent_id)s"
        f" returning {COLUMNS}",
        {"agent_id": agent_id, **_adapt(values)},
    )


async def page(tx: Tx, names: list[str] | None, limit: int, offset: int) -> tuple[list[Row], int]:
    """Agents that are not archived, newest first, and how many there are. `names` None: all."""
    where = "status <> 'archived' and (%(names)s::text[] is null or name = any (%(names)s))"
    rows = await tx.all(
        f"select {COLUMNS} from agents where {where}"
        " order by created_at desc, id desc limit %(limit)s offset %(offset)s",
        {"names": names, "limit": limit, "offset": offset},
    )
    total = await tx.one(f"select count(*) as n from agents where {where}", {"names": names})
    return rows, total["n"] if total else 0


async def find(tx: Tx, part: str, names: list[str] | None, limit: int) -> list[Row]:
    """Agents in force whose name holds a part, by name; `names` None: all."""
    return await tx.all(
        f"select {COLUMNS} from agents where status <> 'archived'"
        " and position(lower(%(part)s) in name) > 0"
        " and (%(names)s::text[] is null or name = any (%(names)s)) order by name limit %(limit)s",
        {"part": part, "names": names, "limit": limit},
    )


def _mark(name: str) -> str:
    return f"%({name})s::jsonb" if name in _JSON else f"%({name})s"


def _adapt(values: dict[str, Any]) -> dict[str, Any]:
    return {k: orjson.dumps(v).decode() if k in _JSON else v for k, v in values.items()}
