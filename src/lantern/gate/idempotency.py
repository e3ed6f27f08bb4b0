"""The same answer twice: `Idempotency-Key`, kept for 24 h per tenant, key and route."""

import hashlib
from typing import Any

import orjson

from lantern.core.db import LockTimeout
from lantern.core.errors import BadRequest, Conflict
from lantern.gate.auth import Call

WAIT_SECONDS = 10  # how long a twin waits for the first one


def check(key: str) -> str:
    """The key, or BadRequest: 1 to 255 printable ASCII characters."""
    if not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
        raise BadRequest("Idempotency-Key: 1 to 255 printable ASCII characters")
    return key


def fingerprint(*parts: bytes) -> bytes:
    """What tells two requests apart."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8) + part)
    return digest.digest()


async def claim(call: Call, route: str, body_hash: bytes) -> tuple[int, bytes] | None:
    """Take the key for this request, or give back the stored (status, body).

    A twin in flight holds the row: we wait for its commit, at most 10 s, then Conflict.
    """
    mine = (call.tenant, call.key_id, route, call.idempotency_key)
    await call.tx.run(f"set local lock_timeout = '{WAIT_SECONDS}s'")
    try:
        await call.tx.run(
            "delete from idempotency where tenant_id = %s and key_id = %s and route = %s"
            " and key = %s and created_at < clock_timestamp() - interval '24 hours'",
            mine,
        )
        made = await call.tx.run(
            "insert into idempotency (tenant_id, key_id, route, key, body_hash)"
            " values (%s, %s, %s, %s, %s) on conflict do nothing",
            (*mine, body_hash),
        )
    except LockTimeout:
        raise Conflict("A request with this Idempotency-Key is still running") from None
    await call.tx.run("set local lock_timeout = default")
    if made:
        return None
    row = await call.tx.one(
        "select body_hash, status, answer from idempotency"
        " where tenant_id = %s and key_id = %s and route = %s and key = %s",
        mine,
    )
    if row is None or row["status"] is None or bytes(row["body_hash"]) != body_hash:
        raise Conflict("This Idempotency-Key was used with another request")
    return row["status"], row["answer"].encode()


async def store(
    call: Call, route: str, answer: tuple[int, bytes], secrets: tuple[str, ...]
) -> None:
    """Keep a 2xx answer, without its secret fields; after another one the key is free again."""
    status, body = answer
    if not 200 <= status < 300:
        await call.tx.run(
            "delete from idempotency"
            " where tenant_id = %s and key_id = %s and route = %s and key = %s",
            (call.tenant, call.key_id, route, call.idempotency_key),
        )
        return
    if secrets and body:
        content = orjson.loads(body)
        body = orjson.dumps({k: None if k in secrets else v for k, v in content.items()})
    await call.tx.run(
        "update idempotency set status = %s, answer = %s"
        " where tenant_id = %s and key_id = %s and route = %s and key = %s",
        (status, body.decode(), call.tenant, call.key_id, route, call.idempotency_key),
    )


def as_replay(body: bytes, *, flat: bool) -> bytes:
    """A stored answer as a replay tells it: in the flat half it cost nothing this time."""
    if not flat or not body:
        return body
    content: dict[str, Any] = orjson.loads(body)
    return orjson.dumps({**content, "cached": True, "credits_consumed": 0})
