"""Every page, full and empty, in both themes and two widths: what everybody must be able to use."""

import pytest
from callers import caller
from parts import new_tenant

from .conftest import opened, sign_in
from .furnish import furnish, pages

pytestmark = pytest.mark.browser

RUN_AXE = (
    "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations"
    ".filter(v => v.impact === 'serious' || v.impact === 'critical')"
    ".map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.target.join(' ') + ' | ' + n.failureSummary).join('; ')))"
)


@pytest.fixture(scope="session")
async def lived_in(server, db, dsn):
    """A tenant with something on every page, and where these pages are."""
    tenant = await new_tenant(db)
    async with caller(server.url, tenant.key) as api:
        ids = await furnish(api, dsn, tenant.id)
    return tenant, pages(ids)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("full", [True, False], ids=["full", "empty"])
async def test_every_page_is_usable(chromium, server, db, lived_in, axe, dark, width, full):
    tenant, found = lived_in
    if not full:
        tenant = await new_tenant(db)
        found = {
            name: path for name, path in found.items() if path.count("/") < 2 or "settings" in path
        }
    faults = []
    async with opened(chromium, server.url, dark=dark, width=width) as tab:
        await sign_in(tab, tenant.key)
        for name, path in found.items():
            answer = await tab.page.goto(f"{server.url}/dashboard{path}")
            if answer.status != 200:
                faults.append(f"{name}: {answer.status}")
                continue
            wide = await tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if wide > 0:
                faults.append(f"{name}: {wide} px too wide")
            await tab.page.evaluate(axe)
            faults += [f"{name}: {fault}" for fault in await tab.page.evaluate(RUN_AXE)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_the_sign_in_is_usable(chromium, server, axe, dark):
    async with opened(chromium, server.url, dark=dark, width=360) as tab:
        await tab.go("/dashboard/sign-in")
        await tab.page.evaluate(axe)
        assert not await tab.page.evaluate(RUN_AXE)
        assert await tab.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
