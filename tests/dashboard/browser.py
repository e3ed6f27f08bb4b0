"""A browser without a screen: a session's cookie, and forms with the session's token."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from parts import Server, Tenant

TOKEN = re.compile(r'name="csrf" value="([0-9a-f]+)"')


class Browser(httpx.AsyncClient):
    """Signed in; follows no redirect by itself."""

    async def token(self) -> str:
        """A token for a form."""
        found = TOKEN.search((await self.get("/dashboard/agents")).text)
        assert found, "no form on the page"
        return found[1]

    async def submit(self, path: str, **fields: Any) -> httpx.Response:
        """Send a form of the dashboard."""
        return await self.post(path, data={"csrf": await self.token(), **fields})


@asynccontextmanager
async def signed_in(
    server: Server, tenant: Tenant, key: str | None = None
) -> AsyncIterator[Browser]:
    """A browser with a session of the tenant's admin key, or of another one."""
    async with Browser(base_url=server.url, timeout=30) as browser:
        answer = await browser.post("/dashboard/sign-in", data={"key": key or tenant.key})
        assert answer.status_code == 303, answer.text
        yield browser
