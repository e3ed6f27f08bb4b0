"""Health through the dashboard: what test_settings.py leaves out."""

import asyncio
import re
from datetime import timedelta

import pytest
from parts import new_tenant
from servers import InProcess

from lantern.core import clock
from lantern.dashboard.pages import health
from lantern.runs import store

from .browser import signed_in

RETENTION = "/v1/logs/retention"
NOTHING = {"failed": 0, "pending": 0, "oldest": None, "error": None}
QUEUED = (
    "insert into runs (id, tenant_id, kind, status, input, created_at)"
    " select 'run_waits_' || md5(random()::text), %(tenant)s, 'waits', 'queued', '{}',"
    "  clock_timestamp() - %(age)s::interval from generate_series(1, %(times)s)"
)


@pytest.fixture
async def browser(server, tenant):
    async with signed_in(server, tenant) as browser:
        yield browser


@pytest.mark.parametrize(("age", "late"), [(-1, False), (30, False), (61, True), (86_410, True)])
async def test_a_delivery_is_late_after_a_minute_and_still_after_a_day(age, late):
    oldest = clock.now() - timedelta(seconds=age)
    waiting = {**NOTHING, "pending": 1, "oldest": oldest}
    assert bool(health._of_tenant(waiting, None)) is late


async def test_timers_of_other_tenants_are_not_shown_and_those_of_ones_own_are(browser, api, db):
    other = await new_tenant(db)
    for key, cron in ((other.key, "7 7 7 7 *"), (None, "8 8 8 8 *")):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = await api.put(RETENTION, json={"cleanup_cron": cron}, headers=headers)
        assert answer.is_success, answer.text
    page = (await browser.get("/dashboard/health")).text
    assert "8 8 8 8 *" in page
    assert "7 7 7 7 *" not in page


async def test_health_answers_many_at_once_from_a_small_pool(dsn, tenant, tmp_path):
    few = {"pool_size": 2, "pool_timeout_seconds": 2}
    with InProcess(dsn, data_dir=tmp_path, database=few) as small:
        async with signed_in(small, tenant) as browser:
            asked = (browser.get("/dashboard/health") for _ in range(12))
            answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [200] * 12


async def test_the_oldest_run_that_waits_is_found_behind_newer_ones(db, tenant):
    async with db.transaction(tenant.id) as tx:
        for age, times in (("0 s", 150), ("1 day", 1)):
            await tx.run(QUEUED, {"tenant": tenant.id, "age": age, "times": times})
        oldest = await store.oldest(tx, {"status": "queued"})
        await tx.run("delete from runs where kind = 'waits'")  # no node has seen them
    assert clock.now() - oldest > timedelta(hours=23)
    assert "queued" in health._of_tenant(NOTHING, oldest)[0].text
    assert health._of_tenant(NOTHING, clock.now()) == []


async def test_a_silent_node_says_since_when_and_what_it_was(browser, db):
    await db.run(
        "insert into nodes (id, role, host, pid, version, beat) values"
        " ('node_hushed', 'worker', 'far', 1, '0', clock_timestamp() - interval '2 min')"
    )
    try:
        page = (await browser.get("/dashboard/health")).text
        assert re.search(r"silent</span>\s*since <time[^>]*>2 min ago", page)
    finally:
        await db.run("delete from nodes where id = 'node_hushed'")
