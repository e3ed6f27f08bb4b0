"""What a person does, in a real browser on a real server."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from lantern.dashboard import live
from lantern.gate import sessions

from .conftest import Tab, opened, sign_in

pytestmark = pytest.mark.browser


async def make_agent(tab: Tab, name: str, model: str) -> None:
    await tab.go("/dashboard/agents/new")
    await tab.page.get_by_label("Name").fill(name)
    await tab.page.get_by_label("Model", exact=True).select_option(model)
    await tab.page.get_by_role("button", name="Make the agent").click()
    await tab.page.wait_for_url(f"**/agents/{name}")


async def run_it(tab: Tab, text: str = "lanterns") -> None:
    await tab.page.get_by_label("Input").fill(text)
    await tab.page.get_by_role("button", name="Run", exact=True).click()
    await tab.page.wait_for_url("**/runs/run_*")


async def text_of(tab: Tab) -> str:
    return await tab.page.locator("#tokens").evaluate("node => node.textContent")


async def test_a_one_time_link_signs_in_and_its_secret_leaves_the_address(
    chromium, server, db, tenant
):
    async with db.transaction(tenant.id) as tx:
        link = await sessions.make_link(tx, tenant.id, 60, roams=True)
    async with opened(chromium, server.url) as tab:
        asked = []
        tab.page.on("request", lambda request: asked.append(request.url))
        await tab.go(f"/dashboard/sign-in#{link}")
        await tab.page.wait_for_url("**/dashboard")
        await expect(tab.page.get_by_role("heading", name="Overview")).to_be_visible()
        assert not [url for url in asked if "lnk_" in url.partition("#")[0]]
        await tab.page.go_back()
        assert "lnk_" not in tab.page.url


async def test_an_agent_is_made_run_and_its_text_grows_while_it_is_written(tab):
    await make_agent(tab, "writer", "slow")
    await run_it(tab)
    lengths = []
    for _ in range(6):
        await asyncio.sleep(0.4)
        lengths.append(len(await text_of(tab)))
    assert lengths == sorted(lengths)
    assert len(set(lengths)) >= 5, lengths  # it came bit by bit, not at once
    await expect(tab.page.locator("#run-head")).to_contain_text("running")
    await tab.page.get_by_role("button", name="Cancel run").click()
    await expect(tab.page.locator("#run-head")).to_contain_text("cancelled")
    await expect(tab.page.locator("#toasts")).to_contain_text("Cancelled")
    stopped = len(await text_of(tab))
    await asyncio.sleep(0.6)
    assert len(await text_of(tab)) == stopped


async def test_a_run_that_ends_shows_all_of_its_text_and_does_not_move_the_page(tab, api):
    await make_agent(tab, "steady", "medium")
    await tab.page.evaluate(
        "() => new PerformanceObserver(list => { for (const e of list.getEntries())"
        " if (!e.hadRecentInput) sessionStorage.cls = Number(sessionStorage.cls ?? 0) + e.value })"
        ".observe({type: 'layout-shift', buffered: true})"
    )
    await run_it(tab)
    await tab.page.evaluate(
        "() => { sessionStorage.cls = 0; new PerformanceObserver(list => {"
        " for (const e of list.getEntries()) if (!e.hadRecentInput)"
        " sessionStorage.cls = Number(sessionStorage.cls) + e.value })"
        ".observe({type: 'layout-shift', buffered: true}) }"
    )
    await expect(tab.page.locator("#run-head")).to_contain_text("completed", timeout=15_000)
    run_id = tab.page.url.rpartition("/")[2]
    run = (await api.get(f"/v1/runs/{run_id}")).json()
    assert (await text_of(tab)).strip() == run["output"]["text"].strip()
    assert float(await tab.page.evaluate("sessionStorage.cls")) < 0.01


async def test_a_list_that_is_left_open_shows_new_runs_and_does_not_grow(tab, api):
    """As an hour: hundreds of changes, and neither nodes nor listeners add up."""
    await api.post("/v1/agents", json={"name": "busy", "model": "small"})
    for _ in range(55):
        await api.post("/v1/agents/busy/runs", json={"input": {"a": "b"}})
    await tab.go("/dashboard/runs")
    session = await tab.page.context.new_cdp_session(tab.page)
    await session.send("Performance.enable")

    async def figures() -> dict[str, float]:
        await session.send("HeapProfiler.collectGarbage")
        found = (await session.send("Performance.getMetrics"))["metrics"]
        return {m["name"]: m["value"] for m in found}

    async def changes(times: int) -> None:
        for _ in range(times):
            made = (await api.post("/v1/agents/busy/runs", json={"input": {"a": "b"}})).json()
            row = tab.page.locator(f"#row-{made['run_id']}")
            await expect(row.locator(".state")).to_contain_text("completed")

    await changes(3)
    before = await figures()
    await changes(10)
    after = await figures()
    assert after["Nodes"] < before["Nodes"] * 1.2, (before["Nodes"], after["Nodes"])
    assert after["JSEventListeners"] <= before["JSEventListeners"] + 10
    assert after["JSHeapUsedSize"] < before["JSHeapUsedSize"] * 1.5
    assert await tab.page.locator("tr[data-row]").count() == 50


async def test_a_page_that_is_open_when_the_session_ends_goes_to_the_sign_in(tab, monkeypatch):
    monkeypatch.setattr(live, "CHECK_SECONDS", 0.2)
    await tab.go("/dashboard/runs")
    other = await tab.page.context.new_page()
    await other.goto(f"{tab.url}/dashboard")
    await other.get_by_role("button", name="Sign out").click()
    await other.wait_for_url("**/sign-in")
    await tab.page.wait_for_url("**/sign-in?next=%2Fdashboard%2Fruns", timeout=20_000)
    tab.wrong[:] = [line for line in tab.wrong if "htmx:sse:error" not in line]


async def test_keys_and_the_palette_lead_anywhere(tab, api):
    await api.post("/v1/agents", json={"name": "finder"})
    page = tab.page
    await page.keyboard.press("g")
    await page.keyboard.press("r")
    await page.wait_for_url("**/dashboard/runs")
    await page.keyboard.press("Control+k")
    await page.get_by_role("combobox", name="Search").fill("find")
    await expect(page.get_by_role("option", name=re.compile("finder"))).to_be_visible()
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/agents/finder")
    await tab.go("/dashboard/agents")
    await page.keyboard.press("j")
    await expect(page.locator("tr[data-here]")).to_have_count(1)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/agents/finder")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    await page.keyboard.press("Escape")
    await tab.go("/dashboard/runs")
    await page.keyboard.press("/")
    await expect(page.get_by_label("Agent")).to_be_focused()
    await page.keyboard.type("g r")  # in a field these are letters
    await expect(page.get_by_label("Agent")).to_have_value("g r")


async def test_the_theme_follows_the_system_until_it_is_chosen(chromium, server):
    async with opened(chromium, server.url, dark=True) as tab:
        await tab.go("/dashboard/sign-in")
        assert await tab.page.evaluate("document.documentElement.className") == "dark"
        await tab.page.emulate_media(color_scheme="light")
        await expect(tab.page.locator("html:not(.dark)")).to_have_count(1)


async def test_the_call_behind_a_page_can_be_copied_and_works(tab, tenant):
    await tab.go("/dashboard/runs")
    await tab.page.get_by_role("button", name="Copy as curl").click()
    await expect(tab.page.locator("#toasts")).to_contain_text("clipboard")
    text = await tab.page.evaluate("navigator.clipboard.readText()")
    child = await asyncio.create_subprocess_exec(
        "bash", "-c", f"{text} -sf", env={"LANTERN_KEY": tenant.key, "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await child.communicate()
    assert child.returncode == 0
    assert b'"runs"' in output


async def test_a_wrong_field_is_marked_and_the_form_keeps_what_was_typed(tab):
    await tab.go("/dashboard/agents/new")
    await tab.page.get_by_label("Name").fill("Not A Name")
    await tab.page.get_by_label("Description").fill("kept")
    await tab.page.get_by_role("button", name="Make the agent").click()
    name = tab.page.get_by_label("Name")
    await expect(name).to_have_attribute("aria-invalid", "true")
    await expect(tab.page.get_by_label("Description")).to_have_value("kept")


async def test_a_narrow_screen_has_a_menu(chromium, server, tenant):
    async with opened(chromium, server.url, width=360) as tab:
        await sign_in(tab, tenant.key)
        link = tab.page.get_by_role("link", name="Agents", exact=True)
        await expect(link).to_be_hidden()
        await tab.page.get_by_role("button", name="Menu").click()
        await link.click()
        await tab.page.wait_for_url("**/dashboard/agents")
