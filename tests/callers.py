"""Callers of the API: keys of every kind, and a clean bucket for the address they come from."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from lantern import keys
from lantern.core.db import Database

RATE_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
NESTED = {"code", "message", "request_id"}
FLAT = {
    "success",
    "error",
    "code",
    "details",
    "request_id",
    "credits_required",
    "credits_remaining",
    "retry_after",
}


async def make_key(db: Database, tenant: int, **options: Any) -> str:
    """A key as the operator makes them; by default admin, all agents, no limit."""
    given = {"name": "test", "scopes": ["admin"], "agents": ["*"], "limits": {"plan": 0}, **options}
    async with db.transaction(tenant) as tx:
        made = await keys.create_as_operator(tx, tenant, keys.OperatorKey(**given))
    return str(made["key"])


@asynccontextmanager
async def caller(
    url: str, key: str | None = None, **headers: str
) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key, or without one."""
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    # Without `verify` every client would read the system's certificates, for 50 ms.
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, verify=False) as client:
        yield client


async def forget_failures(db: Database) -> None:
    """Every test of a worker calls from the same address: the failures of others do not count."""
    await db.run("delete from rate where k like 'address:%'")


def code_of(answer: httpx.Response) -> str:
    """The code of an error, after a check of the whole body against its family."""
    body = answer.json()
    if "success" in body:
        assert set(body) == FLAT
        assert body["success"] is False
        assert isinstance(body["error"], str)
        error = body
    else:
        assert set(body) == {"error"}
        error = body["error"]
        assert set(error) - {"details"} == NESTED
    assert error["request_id"] == answer.headers["x-request-id"]
    return str(error["code"])
