"""Owners reach the CRM, its knowledge of who is active reaches the decision, its refusals come back."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx
import pytest
from callers import caller, code_of
from parts import Server, Tenant, clone_database, new_tenant, opened
from servers import InProcess

from lantern.core import postgres
from lantern.core.db import Database
from lantern_dev.crm import RecordingCrm
from routing.lay import lay_pool

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, ok").decode()
TEAM = [{"user_id": name} for name in ("ann", "bob", "cid")]


@dataclass
class Connected:
    crm: RecordingCrm
    api: httpx.AsyncClient


@pytest.fixture(scope="module")
def dsn(pg: postgres.Server) -> str:
    """A database of this file's own: the worker's other server would deliver from a shared one."""
    return clone_database(pg)


@pytest.fixture(scope="module")
async def db(dsn: str) -> AsyncIterator[Database]:
    """A pool on it."""
    async with opened(dsn) as database:
        yield database


@pytest.fixture
async def server(dsn: str, db: Database) -> AsyncIterator[Server]:
    """A server without a CRM."""
    owner = await new_tenant(db)
    running = InProcess(dsn)
    await asyncio.to_thread(running.__enter__)
    yield Server(running.url, owner.key, running)
    await asyncio.to_thread(running.__exit__)


@pytest.fixture
async def connected(dsn: str, tenant: Tenant, monkeypatch) -> AsyncIterator[Connected]:
    monkeypatch.setitem(os.environ, "TEST_CRM_SECRET", SECRET)
    async with RecordingCrm(SECRET) as crm:
        settings = {"url": crm.url, "secret_env": "TEST_CRM_SECRET", "timeout_seconds": 2}
        running = InProcess(dsn, crm=settings)
        await asyncio.to_thread(running.__enter__)
        try:
            async with caller(running.url, tenant.key) as api:
                yield Connected(crm, api)
        finally:
            await asyncio.to_thread(running.__exit__)


async def assign(api: httpx.AsyncClient, sf_id: str, **more) -> httpx.Response:
    body = {"object": "lead", "sf_id": sf_id, "pool": "team", **more}
    return await api.post("/v1/routing/assign", json=body)


async def eventually(is_so: Callable[[], bool]) -> None:
    for _ in range(300):
        if is_so():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never came to be")


async def explained(api: httpx.AsyncClient, assignment: str) -> dict:
    return (await api.get(f"/v1/routing/assignments/{assignment}/explain")).json()


async def test_an_owner_is_written_once_after_the_answer(connected, db: Database, tenant):
    await lay_pool(db, tenant.id, "team", TEAM)
    made = (await assign(connected.api, "lead-1", explain=True)).json()
    assert made["crm_write"] == "pending"
    await eventually(lambda: (tenant.id, "lead", "lead-1") in connected.crm.owners)
    assert connected.crm.owners[tenant.id, "lead", "lead-1"] == made["assigned_to"] == "ann"
    assert [w["assignment_id"] for w in connected.crm.applied] == [made["assignment_id"]]
    for _ in range(100):
        told = await explained(connected.api, made["assignment_id"])
        if told["crm_write"] == "done":
            break
        await asyncio.sleep(0.05)
    assert (told["crm_write"], told["agrees"]) == ("done", True)


async def test_a_recount_asks_the_crm_and_costs_half_a_credit(connected, db, tenant):
    await lay_pool(db, tenant.id, "team", TEAM)
    connected.crm.inactive = {"ann"}
    first = (await assign(connected.api, "l1", explain=True)).json()  # never asked before: asks now
    assert (first["assigned_to"], first["pool_size"]) == ("bob", 2)
    assert first["skipped"] == [{"user_id": "ann", "reason": "inactive"}]
    assert first["credits_consumed"] == 1.5
    asked = len(connected.crm.requests)
    second = (await assign(connected.api, "l2")).json()  # what is known is fresh
    assert (second["assigned_to"], second["credits_consumed"]) == ("cid", 1)
    connected.crm.inactive = set()
    third = (await assign(connected.api, "l3", refresh_pool=True)).json()
    assert (third["assigned_to"], third["pool_size"]) == ("ann", 3)
    assert third["credits_consumed"] == 1.5
    questions = [
        s for s in list(connected.crm.requests)[asked:] if s.body["type"] == "users.active"
    ]
    assert len(questions) == 1


async def test_with_exclude_inactive_false_nobody_is_left_out(connected, db, tenant):
    await lay_pool(db, tenant.id, "team", TEAM)
    connected.crm.inactive = {"ann"}
    made = (await assign(connected.api, "l1", exclude_inactive=False)).json()
    assert (made["assigned_to"], made["pool_size"]) == ("ann", 2)


async def test_a_crm_that_is_away_holds_up_no_assignment(connected, db, tenant):
    await lay_pool(db, tenant.id, "team", TEAM)
    connected.crm.fault("status", status=503, times=1000)
    made = await assign(connected.api, "l1")
    assert (made.status_code, made.json()["credits_consumed"]) == (200, 1)
    forced = await assign(connected.api, "l2", refresh_pool=True)
    assert (forced.status_code, code_of(forced)) == (502, "upstream_error")


async def test_a_crm_that_does_not_answer_is_not_asked_at_each_call(connected, db, tenant):
    await lay_pool(db, tenant.id, "team", TEAM)
    connected.crm.fault("hang", times=1000)
    for number in range(3):
        assert (await assign(connected.api, f"l{number}")).status_code == 200
    assert questions(connected) == 1
    connected.crm.heal()
    made = (await assign(connected.api, "l4", refresh_pool=True)).json()  # asks all the same
    assert (made["credits_consumed"], questions(connected)) == (1.5, 2)


def questions(connected: Connected) -> int:
    return sum(seen.body["type"] == "users.active" for seen in list(connected.crm.requests))


async def test_a_deleted_record_gives_turn_and_credits_back(connected, db, tenant):
    await lay_pool(db, tenant.id, "team", TEAM)
    connected.crm.gone = {"gone-1"}
    made = (await assign(connected.api, "gone-1", explain=True)).json()
    for _ in range(200):
        told = await explained(connected.api, made["assignment_id"])
        if told["assignment"]["status"] == "void":
            break
        await asyncio.sleep(0.05)
    assert told["assignment"]["ended_why"] == "record_gone"
    left = (await connected.api.get("/v1/credits/remaining")).json()
    assert left["remaining_credits"] == left["total_credits"] == 1000
    again = (await assign(connected.api, "l2")).json()
    assert (again["assigned_to"], again["sequence"]) == ("ann", 2)


async def test_an_owner_whom_the_crm_refuses_is_replaced_for_nothing(connected, db, tenant):
    await lay_pool(db, tenant.id, "team", TEAM)
    made = (await assign(connected.api, "l0", explain=True)).json()
    connected.crm.inactive = {"bob"}
    refused = (await assign(connected.api, "l1", explain=True)).json()
    assert refused["assigned_to"] == "bob"
    await eventually(lambda: (tenant.id, "lead", "l1") in connected.crm.owners)
    assert connected.crm.owners[tenant.id, "lead", "l1"] == "cid"
    told = await explained(connected.api, refused["assignment_id"])
    assert (told["assignment"]["status"], told["crm_write"]) == ("void", "failed")
    listed = (await connected.api.get("/v1/routing/assignments", params={"sf_id": "l1"})).json()
    assert [(a["assigned_to"], a["credits"]) for a in listed["assignments"]] == [
        ("cid", 0),
        ("bob", 1),
    ]
    assert made["assigned_to"] == "ann"


async def test_a_void_takes_back_what_the_crm_has_not_been_told(connected, db, tenant):
    await lay_pool(db, tenant.id, "team", TEAM)
    connected.crm.fault("status", status=503, times=1000)
    made = (await assign(connected.api, "l1", explain=True)).json()
    void = await connected.api.post(f"/v1/routing/assignments/{made['assignment_id']}/void")
    assert void.status_code == 200
    for _ in range(100):  # a delivery that is under way ends first
        told = await explained(connected.api, made["assignment_id"])
        if told["crm_write"] == "superseded":
            break
        await asyncio.sleep(0.05)
        await connected.api.post(f"/v1/routing/assignments/{made['assignment_id']}/void")
    connected.crm.heal()
    later = (await assign(connected.api, "l2")).json()
    await eventually(lambda: (tenant.id, "lead", "l2") in connected.crm.owners)
    assert later["assigned_to"] == "ann"
    assert (tenant.id, "lead", "l1") not in connected.crm.owners


async def test_without_a_crm_a_recount_is_refused_and_nothing_is_written(api, db, tenant):
    await lay_pool(db, tenant.id, "team", TEAM)
    refused = await assign(api, "l1", refresh_pool=True)
    assert (refused.status_code, code_of(refused)) == (409, "not_connected")
    assert "[crm] url" in refused.json()["error"]
    made = (await assign(api, "l1", explain=True)).json()
    assert (made["sequence"], made["crm_write"], made["credits_consumed"]) == (1, "off", 1)


@pytest.mark.parametrize(("mode", "cost"), [("always", 1.5), ("never", 1)])
async def test_the_size_of_the_pool_is_charged_as_the_setting_says(dsn, db, tenant, mode, cost):
    await lay_pool(db, tenant.id, "team", TEAM)
    running = InProcess(dsn, routing={"charge_pool_size": mode})
    await asyncio.to_thread(running.__enter__)
    try:
        async with caller(running.url, tenant.key) as api:
            assert (await assign(api, "l1")).json()["credits_consumed"] == cost
            asked = {"operation": "routing.assign", "request": {"pool": "team"}}
            told = (await api.post("/v1/credits/estimate", json=asked)).json()
            assert told["at_most_credits"] == cost
    finally:
        await asyncio.to_thread(running.__exit__)
