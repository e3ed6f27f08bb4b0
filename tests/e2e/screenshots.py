"""`make screenshots`: every page of the dashboard, in both themes, into docs/images."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from callers import caller
from parts import clone_database, model_settings, new_tenant, opened
from playwright.async_api import async_playwright
from servers import InProcess

from lantern.core import postgres
from lantern_dev.model import FakeModel

from .conftest import FLAGS, NAMES
from .furnish import furnish, pages

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SIZE = {"width": 1280, "height": 860}


async def main() -> None:
    """Start a server, fill a tenant, draw."""
    IMAGES.mkdir(exist_ok=True)
    for old in IMAGES.glob("*.png"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        cluster = await asyncio.to_thread(postgres.acquire, Path(folder) / "postgres", fsync=False)
        with cluster:
            dsn = clone_database(cluster)
            async with FakeModel() as fake, opened(dsn) as db:
                tenant = await new_tenant(db)
                served = InProcess(dsn, models=model_settings(fake), data_dir=Path(folder))
                await asyncio.to_thread(served.__enter__)
                try:
                    async with caller(served.url, tenant.key) as api:
                        found = pages(await furnish(api, dsn, tenant.id))
                    await draw(served.url, tenant.key, found)
                finally:
                    await asyncio.to_thread(served.__exit__)


async def draw(url: str, key: str, found: dict[str, str]) -> None:
    """A picture of each page in each theme, and of a few on a narrow screen."""
    chromium = next(path for name in NAMES if (path := shutil.which(name)))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for theme in ("light", "dark"):
            context = await browser.new_context(
                viewport=SIZE, color_scheme=theme, reduced_motion="reduce"
            )
            page = await context.new_page()
            await page.goto(f"{url}/dashboard/sign-in")
            await page.screenshot(path=IMAGES / f"sign-in-{theme}.png")
            await page.get_by_label("API key").fill(key)
            await page.get_by_role("button", name="Sign in").click()
            await page.wait_for_url("**/dashboard")
            for name, path in found.items():
                await page.goto(f"{url}/dashboard{path}")
                await page.wait_for_timeout(300)
                await page.screenshot(path=IMAGES / f"{name}-{theme}.png")
            await page.keyboard.press("Control+k")
            await page.wait_for_timeout(300)
            await page.screenshot(path=IMAGES / f"palette-{theme}.png")
            await context.close()
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
