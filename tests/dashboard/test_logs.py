"""The log through the dashboard: filters, pages, a bounded look back, export, the chain."""

import csv
import io
import json
import re
from datetime import timedelta

import psycopg
import pytest
from callers import make_key
from logs.entries import fill, sealed
from parts import new_tenant

from lantern.core import clock, lookback

from .browser import signed_in

ROW = re.compile(r'data-text="(00QKz\d+)"')
RECENT = {"step": timedelta(seconds=1)}


@pytest.fixture
async def browser(server, tenant):
    async with signed_in(server, tenant) as browser:
        yield browser


async def recent(db, tenant, n, **given):
    """Rows of the last minutes."""
    start = clock.now() - timedelta(seconds=n + 60)
    await fill(db, tenant.id, n, start=start, **RECENT, **given)


async def test_a_new_tenant_learns_what_the_log_is(browser):
    page = (await browser.get("/dashboard/logs")).text
    assert "Nothing has been done yet" in page
    assert "none yet" in page


async def test_rows_are_filtered_by_what_the_address_says(browser, db, tenant):
    await recent(db, tenant, 3)
    await recent(db, tenant, 2, action="merge", object="Contact", pool=None, object_id="00QKzM")
    page = (await browser.get("/dashboard/logs")).text
    assert "5 rows" in page
    for query, many in (
        ("action=merge", "2 rows"),
        ("object=lead", "3 rows"),
        ("pool=emea-sdr", "3 rows"),
        ("object_id=00QKz2", "1 row"),
        ("assigned_to=005Kz1", "2 rows"),
    ):
        assert many in (await browser.get(f"/dashboard/logs?{query}")).text, query
    assert "No row is like that" in (await browser.get("/dashboard/logs?pool=none")).text
    past = "from=2020-01-01&to=2020-01-02"
    assert "No row is like that" in (await browser.get(f"/dashboard/logs?{past}")).text


async def test_a_wrong_filter_is_named(browser):
    for wrong in (
        "from=never",
        "to=2026-13-01",
        "to=0001-01-03",
        "action=eat",
        "object=Ghost",
        "after=x",
    ):
        answer = await browser.get(f"/dashboard/logs?{wrong}")
        assert answer.status_code == 400, wrong
        assert "is there" not in answer.text


async def test_pages_show_every_row_once(browser, db, tenant):
    await recent(db, tenant, 120)
    seen, where = [], "/dashboard/logs"
    while where:
        page = (await browser.get(where)).text
        seen += ROW.findall(page)
        older = re.search(r'href="([^"]+)" rel="next"', page)
        where = older and older[1].replace("&amp;", "&")
    assert len(seen) == len(set(seen)) == 120
    assert seen[0] == "00QKz120"


async def test_a_rare_value_is_looked_for_step_by_step_and_it_is_said(
    browser, db, tenant, monkeypatch
):
    monkeypatch.setattr(lookback, "MOST_ROWS", 100)
    await recent(db, tenant, 1, pool="rare", object_id="00QKzR")
    await fill(db, tenant.id, 250, start=clock.now() - timedelta(seconds=300), **RECENT)
    page = (await browser.get("/dashboard/logs?pool=rare&from=2026-01-01")).text
    steps = 1
    while "00QKzR" not in page:
        assert "Looked through 100 rows, back to" in page
        where = re.search(r'href="([^"]+)" rel="next"', page)[1].replace("&amp;", "&")
        page = (await browser.get(where)).text
        steps += 1
        assert steps < 10
    assert "<strong>" in page or steps > 1


@pytest.mark.parametrize("query", ["", "?pool=emea-sdr", "?action=merge"])
async def test_the_file_has_what_is_shown_and_nothing_else(browser, db, tenant, query):
    await recent(db, tenant, 3)
    await recent(db, tenant, 2, action="merge", pool=None, object_id="00QKzM")
    page = (await browser.get(f"/dashboard/logs{query}")).text
    shown = set(ROW.findall(page)) | set(re.findall(r'data-text="(00QKzM\d+)"', page))
    links = [
        link.replace("&amp;", "&")
        for link in re.findall(r'href="(/dashboard/logs/export\?[^"]+)"', page)
    ]
    assert len(links) == 2
    for link in links:
        answer = await browser.get(link)
        assert answer.headers["content-disposition"].startswith("attachment")
        if "format=csv" in link:
            found = [row["object_id"] for row in csv.DictReader(io.StringIO(answer.text))]
        else:
            found = [row["object_id"] for row in json.loads(answer.text)["logs"]]
        assert set(found) == shown
        assert len(found) == len(shown)
    assert (await browser.get("/dashboard/logs/export?format=xml")).status_code == 400


async def test_the_chain_is_verified_where_it_stands(browser, server, db, tenant, dsn):
    await recent(db, tenant, 20)
    await sealed(db, tenant.id)
    good = await browser.submit("/dashboard/logs/verify")
    assert "Intact" in good.text
    assert "20 seals hold" in good.text
    with psycopg.connect(dsn, autocommit=True) as boss:
        boss.execute(
            "update lantern.route_log set assigned_to = 'somebody' where tenant_id = %s"
            " and object_id = '00QKz7'",
            (tenant.id,),
        )
    bad = await browser.submit("/dashboard/logs/verify")
    assert "Broken at seal 7" in bad.text
    async with signed_in(server, tenant, await make_key(db, tenant.id, scopes=["read"])) as reader:
        assert (await reader.submit("/dashboard/logs/verify")).status_code == 403
        assert ">Verify<" not in (await reader.get("/dashboard/logs")).text


async def test_a_row_opens_to_what_it_changed(browser, db, tenant):
    diff = '{"OwnerId": {"old": "005OLD", "new": "<b>005NEW</b>"}}'
    await recent(db, tenant, 1, diff=diff)
    page = (await browser.get("/dashboard/logs")).text
    assert "005OLD" in page
    assert "&lt;b&gt;005NEW&lt;/b&gt;" in page
    assert "req_1" in page


async def test_nobody_sees_or_exports_rows_of_others(server, browser, db, tenant):
    other = await new_tenant(db)
    await recent(db, other, 3)
    assert not ROW.findall((await browser.get("/dashboard/logs")).text)
    assert (await browser.get("/dashboard/logs/export?format=json")).json()["logs"] == []
