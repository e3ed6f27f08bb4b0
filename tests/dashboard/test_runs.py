"""Runs through the dashboard: the list, one run, and both of them live."""

import asyncio
import re

import httpx
import pytest
from callers import make_key
from parts import new_tenant

from lantern.core import ids

from .browser import signed_in

TOKENS = re.compile(r'hx-target="#tokens" hx-swap="beforeend">(.*?)</hx-partial>', re.DOTALL)


@pytest.fixture
async def browser(server, tenant, api):
    for name in ("small", "slow"):
        await api.post("/v1/agents", json={"name": name, "model": name})
    async with signed_in(server, tenant) as browser:
        yield browser


async def started(api, agent="small", **body):
    made = await api.post(f"/v1/agents/{agent}/runs", json={"input": {"topic": "x"}, **body})
    return made.json()["run_id"]


async def ended(api, run_id):
    for _ in range(200):
        run = (await api.get(f"/v1/runs/{run_id}")).json()
        if run["finished_at"]:
            return run
        await asyncio.sleep(0.05)
    raise AssertionError("the run did not end")


def frames(text):
    """(data, id) of every message of a stream so far."""
    found = []
    for block in text.split("\n\n")[:-1]:
        lines = [line.partition(": ")[::2] for line in block.split("\n")]
        data = "\n".join(value for name, value in lines if name == "data")
        found.append((data, next((value for name, value in lines if name == "id"), None)))
    return found


async def test_the_list_filters_and_counts(browser, api):
    ids_ = [await started(api) for _ in range(3)]
    for run_id in ids_:
        await ended(api, run_id)
    slow = await started(api, "slow")
    page = (await browser.get("/dashboard/runs")).text
    assert "4 runs" in page
    assert all(run_id in page for run_id in [*ids_, slow])
    only = (await browser.get("/dashboard/runs?agent=slow")).text
    assert "1 run" in only
    assert ids_[0] not in only
    running = (await browser.get("/dashboard/runs?status=running&since=1h")).text
    assert slow in running
    assert ids_[0] not in running
    none = (await browser.get("/dashboard/runs?status=paused")).text
    assert "No run is like that" in none
    for wrong in ("status=well", "since=ever", "after=x"):
        assert (await browser.get(f"/dashboard/runs?{wrong}")).status_code == 400
    await api.post(f"/v1/runs/{slow}/cancel")


async def test_pages_of_the_list_show_every_run_once(browser, db, tenant):
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "insert into runs (id, tenant_id, kind, status, input, closed, created_at)"
            " select 'run_page' || lpad(n::text, 4, '0'), %s, 'agent', 'completed', '{}', true,"
            " now() - n * interval '1 s' from generate_series(1, 120) n",
            (tenant.id,),
        )
    seen, where = [], "/dashboard/runs"
    while where:
        page = (await browser.get(where)).text
        seen += re.findall(r'id="row-(run_page\d+)"', page)
        older = re.search(r'href="(/dashboard/runs\?[^"]*after=[^"]+)"', page)
        where = older and older[1].replace("&amp;", "&")
    assert seen == sorted(seen)
    assert len(seen) == len(set(seen)) == 120


async def test_more_than_10_000_are_not_counted(browser, db, tenant):
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "insert into runs (id, tenant_id, kind, status, input, closed)"
            " select 'run_many' || %s || n, %s, 'agent', 'completed', '{}', true"
            " from generate_series(1, 10002) n",
            (ids.new("x")[2:], tenant.id),
        )
    assert "10,000+ runs" in (await browser.get("/dashboard/runs")).text


async def test_a_run_shows_steps_input_output_and_why_its_model(browser, api):
    run_id = await started(api, labels={"team": "emea"})
    run = await ended(api, run_id)
    page = (await browser.get(f"/dashboard/runs/{run_id}")).text
    assert run["output"]["text"] in page
    assert "hx-sse:connect" not in page
    for word in ("emea", "named: &#39;small&#39;", "topic", "Run again"):
        assert word in page, word
    assert (await browser.get(f"/dashboard/runs/{run_id}?step=write")).status_code == 200
    assert "No step has finished" in (await browser.get(f"/dashboard/runs/{run_id}?step=no")).text


async def test_the_stream_of_a_run_sends_its_text_and_then_its_end(browser, api):
    run_id = await started(api)
    run = await ended(api, run_id)
    text = (await browser.get(f"/dashboard/runs/{run_id}/live")).text
    shown = "".join(found for data, _ in frames(text) for found in TOKENS.findall(data))
    assert shown == run["output"]["text"]
    assert text.endswith("event: end\ndata: end\n\n")
    assert 'hx-target="#run-output"' in text


async def test_a_stream_goes_on_where_it_was_cut_off(browser, api):
    run_id = await started(api, "slow")
    first, last = "", ""
    async with browser.stream("GET", f"/dashboard/runs/{run_id}/live") as answer:
        async for part in answer.aiter_text():
            first += part
            if len(TOKENS.findall(first)) >= 5:
                break
    done = frames(first)
    last = next(seq for _, seq in reversed(done) if seq)
    await api.post(f"/v1/runs/{run_id}/cancel")
    await ended(api, run_id)
    rest = (
        await browser.get(f"/dashboard/runs/{run_id}/live", headers={"Last-Event-ID": last})
    ).text
    parts = [data for data, _ in done] + [data for data, _ in frames(rest)]
    shown = "".join(found for data in parts for found in TOKENS.findall(data))
    events = (await api.get(f"/v1/runs/{run_id}/events")).json()["events"]
    whole = "".join(e["content"] for e in events if e["type"] == "token")
    assert shown == whole
    assert whole


async def test_a_stream_refuses_what_is_no_event(browser, api):
    run_id = await started(api)
    for wrong in ("x", "-1", "9" * 20):
        headers = {"Last-Event-ID": wrong}
        answer = await browser.get(f"/dashboard/runs/{run_id}/live", headers=headers)
        assert answer.status_code == 400


async def test_a_run_is_cancelled_and_run_again(browser, api):
    run_id = await started(api, "slow", labels={"a": "b"})
    sent = await browser.submit(f"/dashboard/runs/{run_id}/cancel")
    assert sent.headers["location"] == f"/dashboard/runs/{run_id}"
    assert (await ended(api, run_id))["status"] == "cancelled"
    page = (await browser.get(f"/dashboard/runs/{run_id}")).text
    assert "cancelled in the dashboard" in page
    sent = await browser.submit(f"/dashboard/runs/{run_id}/rerun")
    again = sent.headers["location"].rpartition("/")[2]
    run = (await api.get(f"/v1/runs/{again}")).json()
    assert (run["input"], run["labels"], run["agent"]) == ({"topic": "x"}, {"a": "b"}, "slow")
    assert again != run_id
    await api.post(f"/v1/runs/{again}/cancel")
    finished = await started(api)
    await ended(api, finished)
    assert (await browser.submit(f"/dashboard/runs/{finished}/cancel")).status_code == 409


async def test_nobody_sees_runs_of_others(server, browser, api, db, tenant):
    run_id = await started(api)
    await ended(api, run_id)
    other = await new_tenant(db)
    key = await make_key(db, tenant.id, agents=["slow"])
    async with signed_in(server, other) as theirs, signed_in(server, tenant, key) as few:
        for stranger in (theirs, few):
            for path in (f"/dashboard/runs/{run_id}", f"/dashboard/runs/{run_id}/live"):
                assert (await stranger.get(path)).status_code == 404
            assert (await stranger.submit(f"/dashboard/runs/{run_id}/rerun")).status_code == 404
            assert run_id not in (await stranger.get("/dashboard/runs")).text


async def test_the_list_is_sent_again_when_it_has_changed(browser, api):
    page = (await browser.get("/dashboard/runs")).text
    where = re.search(r'hx-sse:connect="([^"]+)"', page)[1].replace("&amp;", "&")
    got: list[str] = []

    async def listen() -> None:
        async with browser.stream("GET", where, timeout=httpx.Timeout(20)) as answer:
            async for part in answer.aiter_text():
                got.append(part)
                if run_id in part:
                    return

    run_id = "nothing yet"
    listening = asyncio.create_task(listen())
    await asyncio.sleep(2.5)
    assert not got, "nothing has changed"
    run_id = await started(api)
    await asyncio.wait_for(listening, 15)
    assert 'hx-target="#runs"' in "".join(got)


async def test_the_overview_names_what_failed(browser, api, db, tenant):
    run_id = await started(api)
    await ended(api, run_id)
    assert "Nothing needs a person" in (await browser.get("/dashboard")).text
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "insert into runs (id, tenant_id, kind, status, input, closed, error) values"
            " (%s, %s, 'agent', 'failed', '{}', true, %s)",
            (
                f"run_{ids.new('x')[2:]}",
                tenant.id,
                '{"code": "upstream", "message": "no answer <i>"}',
            ),
        )
    page = (await browser.get("/dashboard")).text
    assert "Needs a person" in page
    assert "no answer &lt;i&gt;" in page
    assert "50.0 %" in page
