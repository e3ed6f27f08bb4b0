"""A real browser: Chromium, headless. Without it these tests say so and skip."""

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from parts import Server, Tenant
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium tells of an answer of 4xx or 5xx by itself, and of a transition that a click overtook.
EXPECTED = re.compile(r"Failed to load resource: .*(4\d\d|ERR_)|Transition was (skipped|aborted)")


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for all tests."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: `make test` as root installs it where apt is")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        await browser.close()


@dataclass
class Tab:
    """A page, and what went wrong on it. Nothing may."""

    page: Page
    url: str
    wrong: list[str] = field(default_factory=list)

    def note(self, message: ConsoleMessage) -> None:
        """An error on the console; a breach of the content policy is one too."""
        if message.type in ("error", "warning") and not EXPECTED.search(message.text):
            self.wrong.append(f"{message.type}: {message.text}")

    async def go(self, path: str) -> None:
        """Open a page of the dashboard."""
        await self.page.goto(f"{self.url}{path}")


@asynccontextmanager
async def opened(
    browser: Browser, url: str, *, dark: bool = False, width: int = 1440
) -> AsyncIterator[Tab]:
    """A new window; an error on its console fails the test."""
    context: BrowserContext = await browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        permissions=["clipboard-read", "clipboard-write"],
        reduced_motion="reduce",
    )
    context.set_default_timeout(10_000)
    page = await context.new_page()
    tab = Tab(page, url)
    page.on("console", tab.note)
    page.on("pageerror", lambda error: EXPECTED.search(str(error)) or tab.wrong.append(str(error)))
    await page.add_init_script(
        "addEventListener('securitypolicyviolation', e =>"
        " console.error('policy: ' + e.violatedDirective + ' ' + e.blockedURI))"
    )
    try:
        yield tab
        assert not tab.wrong, tab.wrong
    finally:
        await context.close()


async def sign_in(tab: Tab, key: str) -> None:
    """Sign in with a key."""
    await tab.go("/dashboard/sign-in")
    await tab.page.get_by_label("API key").fill(key)
    await tab.page.get_by_role("button", name="Sign in").click()
    await tab.page.wait_for_url("**/dashboard")


@pytest.fixture
async def tab(chromium: Browser, server: Server, tenant: Tenant) -> AsyncIterator[Tab]:
    """A window that is signed in to a new tenant."""
    async with opened(chromium, server.url) as tab:
        await sign_in(tab, tenant.key)
        yield tab


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility checker's script, as it was published."""
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
