"""All SQL of keys, but for the look-up at the door (migrations: admit)."""

from typing import Any

import orjson

from lantern.core.db import Row, Tx

COLUMNS = "id, name, prefix, scopes, agents, plan, created_at, expires_at, last_used_at"

_IN_REACH = "revoked_at is null and (%(agents)s::text[] = array['*'] or agents <@ %(agents)s)"


async def insert(tx: Tx, tenant: int, values: dict[str, Any]) -> Row:
    """Add a key."""
    row = await tx.one(
        "insert into api_keys (tenant_id, id, name, hash, prefix, scopes, agents, plan, limits,"
        " expires_at) values (%(tenant)s, %(id)s, %(name)s, %(hash)s, %(prefix)s, %(scopes)s,"
        " %(agents)s, %(plan)s, %(limits)s::jsonb, %(expires_at)s)"
        f" returning {COLUMNS}",
        {**values, "tenant": tenant, "limits": orjson.dumps(values["limits"]).decode()},
    )
    assert row is not None
    return row


async def page(tx: Tx, agents: list[str], limit: int, offset: int) -> tuple[list[Row], int]:
    """Keys in force that reach no agent but these, newest first, and how many there are."""
    rows = await tx.all(
        f"select {COLUMNS} from api_keys where {_IN_REACH}"
        " order by created_at desc, id desc limit %(limit)s offset %(offset)s",
        {"agents": agents, "limit": limit, "offset": offset},
    )
    total = await tx.one(
        f"select count(*) as n from api_keys where {_IN_REACH}", {"agents": agents}
    )
    return rows, total["n"] if total else 0


async def revoke(tx: Tx, key_id: str, agents: list[str]) -> Row | None:
    """End a key now; None when there is none in force that reaches no agent but these."""
    return await tx.one(
        "update api_keys set revoked_at = clock_timestamp()"
        f" where id = %(key)s and {_IN_REACH} returning {COLUMNS}",
        {"key": key_id, "agents": agents},
    )


async def restore(tx: Tx, key_id: str, agents: list[str], seconds: int) -> Row | None:
    """Put a key in force again that ended less than so long ago; None: there is none."""
    return await tx.one(
        "update api_keys set revoked_at = null where id = %(key)s"
        " and revoked_at > clock_timestamp() - make_interval(secs => %(seconds)s)"
        " and (%(agents)s::text[] = array['*'] or agents <@ %(agents)s)"
        f" returning {COLUMNS}",
        {"key": key_id, "agents": agents, "seconds": seconds},
    )
