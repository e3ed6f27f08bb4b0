"""Credits through the dashboard: the balance, days, receipts, prices, caps."""

import random
from datetime import timedelta
from decimal import Decimal

import pytest
from callers import make_key

from lantern import credits
from lantern.core import clock
from lantern.gate import ledger

from .browser import signed_in

POOL = {"pool": "p", "members": [{"user_id": "ann"}]}


@pytest.fixture
async def browser(server, tenant):
    async with signed_in(server, tenant) as browser:
        yield browser


async def spend(db, tenant, when, operation, amount, ref):
    """A charge of the past: its moment cannot be given through the API."""
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "insert into credit_ledger (tenant_id, kind, amount, used, balance_after, ref, operation,"
            " created_at) values (%s, 'charge', %s, %s, 0, %s, %s, %s)",
            (tenant.id, -amount, amount, ref, operation, when),
        )


async def sums(db, tenant, days):
    """What the ledger itself says of the last days."""
    async with db.transaction(tenant.id) as tx:
        rows = await tx.all(
            "select (created_at at time zone 'UTC')::date as day, coalesce(operation, '') as operation,"
            " sum(used) as used from credit_ledger where tenant_id = %s and used <> 0"
            " and (created_at at time zone 'UTC')::date > %s group by 1, 2",
            (tenant.id, clock.now().date() - timedelta(days=days)),
        )
    return {(row["day"], row["operation"]): row["used"] for row in rows}


async def by_day(db, tenant, days):
    async with db.transaction(tenant.id) as tx:
        found = await credits.daily(tx, tenant.id, days)
    assert len(found) == days
    return {(day.day, name): used for day in found for name, used in day.used.items()}


@pytest.mark.parametrize("seed", range(5))
async def test_days_add_up_to_what_the_ledger_says_whenever_one_looks(db, tenant, seed):
    chance = random.Random(seed)
    for n in range(60):
        when = clock.now() - timedelta(seconds=chance.randrange(40 * 86_400))
        operation = chance.choice(["assign", "enrich", "match", None])
        amount = Decimal(chance.randrange(1, 90_000)) / 10_000
        await spend(db, tenant, when, operation, amount, f"a{n}")
    assert await by_day(db, tenant, 30) == await sums(db, tenant, 30)
    for n in range(10):  # today goes on
        await spend(db, tenant, clock.now(), "assign", Decimal(n + 1), f"b{n}")
        assert await by_day(db, tenant, 30) == await sums(db, tenant, 30)
    assert await by_day(db, tenant, 7) == await sums(db, tenant, 7)


async def test_a_day_is_added_up_once_it_is_over_for_an_hour(db, tenant):
    today = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    for days in (0, 1, 3):
        await spend(db, tenant, today - timedelta(days=days), "assign", Decimal(2), f"d{days}")
    await by_day(db, tenant, 30)
    async with db.transaction(tenant.id) as tx:
        rows = await tx.all("select day from credit_days order by day")
    over = (clock.now() - timedelta(hours=1)).date()
    assert all(row["day"] < over for row in rows)
    assert (today - timedelta(days=3)).date() in {row["day"] for row in rows}


async def test_a_look_after_a_long_time_adds_up_what_is_looked_at(db, tenant):
    for days in (400, 200, 89, 40, 2):
        when = clock.now() - timedelta(days=days)
        await spend(db, tenant, when, "assign", Decimal(days), f"d{days}")
    assert await by_day(db, tenant, 90) == await sums(db, tenant, 90)
    async with db.transaction(tenant.id) as tx:
        oldest = await tx.one("select min(day) as day from credit_days")
    assert oldest["day"] == (clock.now() - timedelta(days=89)).date()


async def test_the_last_of_it_is_foreseen_from_the_full_days(db, tenant):
    today = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    for n in range(1, 8):
        await spend(db, tenant, today - timedelta(days=n), "assign", Decimal(20), f"x{n}")
    await spend(db, tenant, today, "assign", Decimal(900), "today")  # not a full day
    async with db.transaction(tenant.id) as tx:
        days = await credits.daily(tx, tenant.id, 30)
    found = credits.pace(days, Decimal(100))
    assert (found.a_day, found.run_out) == (20, (today + timedelta(days=5)).date())
    assert credits.pace(days, Decimal(10_000_000)).run_out is None
    assert credits.pace([credits.Day(today.date(), {})], Decimal(1)).run_out is None


async def test_the_page_shows_balance_use_and_foresight(browser, db, tenant):
    assert "Nothing has been used" in (await browser.get("/dashboard/credits")).text
    yesterday = clock.now() - timedelta(days=1)
    for name in ("assign", "enrich_person", "match", "convert", "merge", "research"):
        await spend(db, tenant, yesterday, name, Decimal(3), name)
    page = (await browser.get("/dashboard/credits")).text
    for word in ("of 1,000", "others", "Runs out", "2.6 credits a day", "<table"):
        assert word in page, word
    assert page.count('class="s5"') >= 1


async def test_a_day_that_gives_back_more_than_it_used_has_no_column(browser, db, tenant):
    yesterday = clock.now() - timedelta(days=1)
    await spend(db, tenant, yesterday, "assign", Decimal(-3), "back")
    await spend(db, tenant, yesterday, "match", Decimal(8), "used")
    page = (await browser.get("/dashboard/credits")).text
    assert 'height="-' not in page
    assert '<td class="num">-3</td>' in page
    assert '<td class="num">5</td>' in page


async def test_the_call_to_copy_asks_for_the_same_receipts(browser):
    page = (await browser.get("/dashboard/credits/receipts?kind=grant&from=2026-01-01")).text
    assert "/v1/credits/receipts?kind=grant&amp;from=2026-01-01" in page
    # The API's list has no filter by workflow.
    page = (await browser.get("/dashboard/credits/receipts?workflow_id=wf_1")).text
    assert "Copy as curl" not in page


async def test_receipts_are_found_by_operation_and_kind_and_open(browser, api):
    await api.post("/v1/routing/pools", json=POOL)
    await api.post("/v1/routing/assign", json={"object": "lead", "sf_id": "00Q1", "pool": "p"})
    listed = (await browser.get("/dashboard/credits/receipts")).text
    assert "2 receipts" in listed  # the welcome and the charge
    only = (await browser.get("/dashboard/credits/receipts?operation=routing.assign")).text
    assert "1 receipt" in only
    receipt = only.partition("/dashboard/credits/receipts/rcpt_")[2].partition('"')[0]
    page = (await browser.get(f"/dashboard/credits/receipts/rcpt_{receipt}")).text
    assert "assign" in page
    assert (await browser.get("/dashboard/credits/receipts/rcpt_0")).status_code == 404
    none = (await browser.get("/dashboard/credits/receipts?kind=release")).text
    assert "No receipt is like that" in none
    for wrong in ("kind=x", "from=never", "after=x"):
        assert (await browser.get(f"/dashboard/credits/receipts?{wrong}")).status_code == 400


async def test_pages_of_receipts_show_each_once(browser, db, tenant):
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "insert into credit_ledger (tenant_id, kind, amount, balance_after, ref, operation, created_at)"
            " select %s, 'grant', 1, n, 'many' || n, 'many', now() - n %% 7 * interval '1 s'"
            " from generate_series(1, 120) n",
            (tenant.id,),
        )
    seen, where = [], "/dashboard/credits/receipts?operation=many"
    while where:
        page = (await browser.get(where)).text
        seen += [
            part.partition('"')[0] for part in page.split('href="/dashboard/credits/receipts/')[1:]
        ]
        older = page.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
        where = older.replace("&amp;", "&") if 'rel="next"' in page else None
    assert len(seen) == len(set(seen)) == 120


async def test_an_admin_sets_a_price_and_takes_it_back(browser, server, api, db, tenant):
    path = "/dashboard/credits/tariff/routing.assign/assign"
    prices = (await api.get("/v1/credits/tariff")).json()["tariff"]
    name = (prices[0]["operation"], prices[0]["item"])
    path = f"/dashboard/credits/tariff/{name[0]}/{name[1]}"
    assert (await browser.submit(path, credits="2.5")).status_code == 303
    assert "2.5" in (await browser.get("/dashboard/credits/tariff")).text
    assert (await browser.submit(path, credits="much")).status_code == 400
    assert (await browser.submit(path, credits="1250", charge_on="query")).status_code == 303
    price = (await api.get("/v1/credits/tariff")).json()["tariff"][0]
    assert (price["credits"], price["charge_on"]) == (1250, "query")
    page = (await browser.get("/dashboard/credits/tariff")).text
    assert 'value="1250"' in page  # as it can be sent again
    assert "default success" in page
    assert (await browser.submit(path, credits="1", charge_on="never")).status_code == 400
    await browser.submit(path, unset="1")
    prices = (await api.get("/v1/credits/tariff")).json()["tariff"]
    assert not prices[0]["own"]
    assert (await browser.submit("/dashboard/credits/tariff/no/no", credits="1")).status_code == 404
    async with signed_in(server, tenant, await make_key(db, tenant.id, scopes=["write"])) as writer:
        assert (await writer.submit(path, credits="1")).status_code == 403
        assert "Your own price" not in (await writer.get("/dashboard/credits/tariff")).text


async def test_a_cap_is_set_seen_and_removed(browser, api, db, tenant):
    fields = {"scope": "account", "period": "month", "credits": "50"}
    assert (await browser.submit("/dashboard/credits/caps", **fields)).status_code == 303
    async with db.transaction(tenant.id) as tx:
        await ledger.charge(tx, tenant.id, Decimal(20), "used", ledger.Use("assign"))
    page = (await browser.get("/dashboard/credits")).text
    assert "40.0 % used" in page
    again = await browser.submit("/dashboard/credits/caps", **fields)
    assert again.status_code == 409
    wrong = await browser.submit("/dashboard/credits/caps", scope="tag", period="day", credits="x")
    assert wrong.status_code == 400
    assert 'id="credits-fault"' in wrong.text
    cap = (await api.get("/v1/credits/caps")).json()["caps"][0]["id"]
    await browser.submit(f"/dashboard/credits/caps/{cap}/remove")
    assert (await api.get("/v1/credits/caps")).json()["caps"] == []
