"""Pools laid straight into the database, for tests of what happens in them."""

from typing import Any

import orjson

from lantern.core import ids
from lantern.core.db import Database, Tx
from lantern.core.sfids import record_key
from lantern.routing import rotation


async def lay_pool(
    db: Database, tenant: int, name: str, members: list[dict[str, Any]], **policy: Any
) -> str:
    """A pool with these members (user_id, weight, active, and columns of the table); its id."""
    async with db.transaction(tenant) as tx:
        return await lay_pool_in(tx, tenant, name, members, **policy)


async def lay_pool_in(
    tx: Tx, tenant: int, name: str, members: list[dict[str, Any]], **policy: Any
) -> str:
    """The same in a transaction that the caller has opened for the tenant."""
    pool = ids.new("pool")
    ring = rotation.lay([rotation.Seat(m.get("weight", 1), m.get("active", True)) for m in members])
    sequence = policy.pop("sequence", 0)
    columns = {"tenant_id": tenant, "id": pool, "name": name, "ring": ring.length, **policy}
    await _insert(tx, "routing_pools", columns)
    for place, member in enumerate(members, 1):
        own = {"gaps": list(ring.gaps[place - 1]), "seat": ring.seats[place - 1]}
        key = {"user_key": record_key(member["user_id"]), "place": place}
        await _insert(
            tx,
            "routing_members",
            {"tenant_id": tenant, "pool_id": pool, **key, **own, **member},
        )
    await _insert(
        tx,
        "routing_rotations",
        {
            "tenant_id": tenant,
            "pool_id": pool,
            "sequence": sequence,
            "users": [m["user_id"] for m in members],
            "waits": list(ring.seats),
            "cursors": [1] * len(members),
            "turns": [0] * len(members),
        },
    )
    return pool


async def _insert(tx, table: str, row: dict[str, Any]) -> None:
    values = [orjson.dumps(v).decode() if isinstance(v, dict) else v for v in row.values()]
    names = ", ".join(f'"{name}"' for name in row)
    await tx.run(f"insert into {table} ({names}) values ({', '.join(['%s'] * len(row))})", values)
