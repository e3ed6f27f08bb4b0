"""The server is killed under a page that shows a run: the page goes on, and no token is lost."""

import asyncio

import pytest
from playwright.async_api import expect
from runs.test_survival import config, own_db, spawn  # noqa: F401 - fixtures

from .conftest import opened, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("survival")]


async def test_a_run_is_followed_across_kill_9_of_the_server(chromium, spawn, own_db):  # noqa: F811
    dsn, tenant = own_db
    server = spawn(dsn=dsn)
    async with opened(chromium, server.url) as tab:
        await sign_in(tab, tenant.key)
        page = tab.page
        await tab.go("/dashboard/agents/new")
        await page.get_by_label("Name").fill("survivor")
        await page.get_by_label("Model", exact=True).select_option("paced")
        await page.get_by_role("button", name="Make the agent").click()
        await page.get_by_label("Input").fill("on and on")
        await page.get_by_role("button", name="Run", exact=True).click()
        await page.wait_for_url("**/runs/run_*")
        tokens = page.locator("#tokens")
        await expect(tokens).to_contain_text(" ", timeout=10_000)
        await asyncio.sleep(0.8)
        seen = await tokens.evaluate("node => node.textContent")
        assert seen.strip()
        server.kill()
        await asyncio.sleep(0.5)
        again = spawn(dsn=dsn, port=server.port)
        await expect(page.locator("#run-head")).to_contain_text("completed", timeout=30_000)
        shown = await tokens.evaluate("node => node.textContent")
        run_id = page.url.rpartition("/")[2]
        await page.reload()
        assert (await tokens.evaluate("node => node.textContent")) == shown
        assert len(shown.split()) == 120
        await expect(page.locator("#run-steps")).to_contain_text("try 2")
        assert run_id in page.url
        tab.wrong[:] = [line for line in tab.wrong if "htmx:sse:error" not in line]
        assert again.ready()
