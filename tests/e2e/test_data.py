"""Assigning, exporting and revoking, as a person does it."""

import csv
import io
import json
import re

import httpx
import pytest
from playwright.async_api import expect

pytestmark = pytest.mark.browser

MEMBERS = [{"user_id": "ann", "name": "Ann"}, {"user_id": "ben", "name": "Ben"}]


async def test_a_record_is_assigned_from_a_pool_and_the_decision_explains_itself(tab, api):
    await api.post("/v1/routing/pools", json={"pool": "inbound", "members": MEMBERS})
    page = tab.page
    await tab.go("/dashboard/routing")
    await page.get_by_role("link", name="inbound").first.click()
    await page.get_by_role("link", name="Assign a record").click()
    await page.get_by_label(re.compile("Record id")).fill("00Q5g00000LANTERN1")
    await page.get_by_role("button", name="Assign", exact=True).click()
    await page.wait_for_url("**/assignments/asg_*")
    await expect(page.locator("main")).to_contain_text("had the shortest wait")
    await expect(page.locator("main")).to_contain_text("Ann")
    found = (await api.get("/v1/routing/assignments")).json()["assignments"]
    assert [one["assigned_to"] for one in found] == ["ann"]


async def test_the_log_is_exported_as_it_is_shown(tab, api):
    for pool in ("north", "south"):
        await api.post("/v1/routing/pools", json={"pool": pool, "members": MEMBERS})
        for n in range(3):
            body = {"object": "lead", "sf_id": f"00Q5g0000{pool}{n:04d}", "pool": pool}
            assert (await api.post("/v1/routing/assign", json=body)).status_code == 200
    page = tab.page
    await tab.go("/dashboard/logs?pool=south")
    shown = await page.locator("#logs").inner_text()
    assert "south" in shown
    assert "north" not in shown
    async with page.expect_download() as started:
        await page.get_by_role("link", name="CSV").click()
    path = await (await started.value).path()
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
    assert len(rows) == 3
    assert {row["pool"] for row in rows} == {"south"}
    async with page.expect_download() as started:
        await page.get_by_role("link", name="JSON").click()
    whole = json.loads((await (await started.value).path()).read_text("utf-8"))
    assert [entry["object_id"] for entry in whole["logs"]] == [row["object_id"] for row in rows]


async def test_a_key_is_made_revoked_and_brought_back(tab, server):
    page = tab.page
    await tab.go("/dashboard/settings/keys")
    await page.get_by_label(re.compile("^Name")).fill("nightly")
    await page.get_by_role("button", name="Make the key").click()
    raw = (await page.locator("pre", has_text="lnt_").inner_text()).strip()

    async def status() -> int:
        async with httpx.AsyncClient(base_url=server.url) as client:
            headers = {"Authorization": f"Bearer {raw}"}
            return (await client.get("/v1/agents", headers=headers)).status_code

    assert await status() == 200
    await page.get_by_role("button", name="Revoke nightly").click()
    await expect(page.locator("#toasts")).to_contain_text("Revoked")
    assert await status() == 401
    assert raw not in await page.content()
    await page.get_by_role("button", name="Undo").click()
    await expect(page.locator("#toasts")).to_contain_text("in force again")
    assert await status() == 200


async def test_a_model_is_asked_and_its_answer_stands_in_its_row(tab):
    await tab.go("/dashboard/settings/models")
    await tab.page.get_by_role("button", name="Check now small").click()
    await expect(tab.page.locator(".checked").filter(has_text="answers")).to_have_count(1)
