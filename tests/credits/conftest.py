"""A client whose key no limit holds back, and calls of the ledger in transactions of their own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from callers import caller, make_key
from parts import Server, Tenant

from lantern.core.db import Database
from lantern.gate import ledger

Account = Callable[..., Awaitable[Any]]


@pytest.fixture
async def api(server: Server, db: Database, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    key = await make_key(db, tenant.id, limits={"plan": 0, "credits": 0})
    async with caller(server.url, key) as client:
        yield client


@pytest.fixture
def account(db: Database, tenant: Tenant) -> Account:
    """`await account("charge", 5, "ref", USE)`."""

    async def call(name: str, *args: Any, **named: Any) -> Any:
        async with db.transaction(tenant.id) as tx:
            return await getattr(ledger, name)(tx, tenant.id, *args, **named)

    return call
