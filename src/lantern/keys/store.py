"""All SQL of keys, but for the look-up at the door (migrations: admit)."""

from typing import Any

import orjson

from lantern.core.db import Row, Tx

COLUMNS = "id, name, prefix, scopes, agents, plan, created_at, expires_at, last_used_at"


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


async def page(tx: Tx, limit: int, offset: int) -> tuple[list[Row], int]:
    """Keys in force, newest first, and how many there are."""
    rows = await tx.all(
        f"select {COLUMNS} from api_keys where revoked_at is null"
        " order by created_at desc, id desc limit %s offset %s",
        (limit, offset),
    )
    total = await tx.one("select count(*) as n from api_keys where revoked_at is null")
    return rows, total["n"] if total else 0


async def revoke(tx: Tx, key_id: str) -> Row | None:
    """End a key now; None when there is none in force."""
    return await tx.one(
        "update api_keys set revoked_at = clock_timestamp()"
        f" where id = %s and revoked_at is null returning {COLUMNS}",
        (key_id,),
    )
