"""The CRM webhook against a real endpoint: what is sent, and what each answer means."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import psycopg
import pytest
import structlog
from parts import Tenant, clone_database, opened
from servers import InProcess

from lantern.connectors import CrmWebhook
from lantern.connectors.crm_webhook import read_secret, sign
from lantern.core import clock, crm, log, outbox, outbox_loop, postgres
from lantern.core.crm import OwnerInactive, OwnerWrite, RecordGone
from lantern.core.db import Database
from lantern.core.errors import BadRequest, Upstream, UpstreamTimeout
from lantern.core.nodes import Node
from lantern.core.web import Web
from lantern.settings import CrmSettings, LogSettings, NetSettings, NodeSettings
from lantern_dev.crm import RecordingCrm

SECRET = "whsec_" + base64.b64encode(b"a secret that nobody may see 123").decode()
ENVIRON = {"CRM_SECRET": SECRET}


@pytest.fixture(scope="module")
def dsn(pg: postgres.Server) -> str:
    """A database of its own: the node of another test's server has an outbox of its own."""
    return clone_database(pg)


@pytest.fixture(scope="module")
async def db(dsn: str) -> AsyncIterator[Database]:
    async with opened(dsn) as database:
        yield database


@pytest.fixture
async def peer() -> AsyncIterator[RecordingCrm]:
    async with RecordingCrm(SECRET) as running:
        yield running


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    web = Web(NetSettings())
    await web.open()
    yield web
    await web.close()


def hook_at(url: str, web: Web, seconds: float = 5.0) -> CrmWebhook:
    settings = CrmSettings(url=url, secret_env="CRM_SECRET", timeout_seconds=seconds)
    return CrmWebhook.open(settings, web, ENVIRON)


@pytest.fixture
def hook(peer: RecordingCrm, web: Web) -> CrmWebhook:
    return hook_at(peer.url, web)


def owner(key: str = "asg_1", sequence: int = 1, **more: str) -> OwnerWrite:
    given = {"object": "Lead", "record_id": "00Q1", "owner_id": "u1", **more}
    return OwnerWrite(**given, key=key, sequence=sequence)


# ------------------------------------------------------------------ the adapter alone
async def test_what_is_sent(hook, peer):
    await hook.set_owner(7, owner())
    (seen,) = peer.requests
    assert seen.signed
    assert seen.body == {
        "type": "owner.assigned", "assignment_id": "asg_1", "tenant_id": 7, "object": "Lead",
        "record_id": "00Q1", "owner_id": "u1", "sequence": 1,
    }  # fmt: skip
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["idempotency-key"] == seen.headers["webhook-id"] == "asg_1"
    assert abs(int(seen.headers["webhook-timestamp"]) - clock.now().timestamp()) < 5
    assert peer.owners == {(7, "Lead", "00Q1"): "u1"}


async def test_a_wrong_secret_is_not_believed(peer, web):
    other = "whsec_" + base64.b64encode(b"x" * 32).decode()
    settings = CrmSettings(url=peer.url, secret_env="CRM_SECRET")
    wrong = CrmWebhook.open(settings, web, {"CRM_SECRET": other})
    with pytest.raises(outbox.Retry, match="HTTP 401"):  # the operator can mend it
        await wrong.set_owner(1, owner())
    assert not peer.applied


def test_the_signature_is_that_of_the_standard():
    # The example of the Standard Webhooks specification.
    key = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    assert (
        sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


async def test_once_applied_whatever_comes_again(hook, peer):
    for _ in range(3):
        await hook.set_owner(1, owner())
    assert len(peer.requests) == 3
    assert len(peer.applied) == 1


async def test_a_late_owner_is_known_by_its_sequence(hook, peer):
    await hook.set_owner(1, owner("asg_2", 2, owner_id="new"))
    await hook.set_owner(1, owner("asg_1", 1, owner_id="old"))
    assert peer.owners == {(1, "Lead", "00Q1"): "new"}


async def test_refusals_of_the_record_and_of_the_owner(hook, peer):
    peer.gone.add("00Q1")
    with pytest.raises(RecordGone):
        await hook.set_owner(1, owner())
    peer.gone.clear()
    peer.inactive.add("u1")
    with pytest.raises(OwnerInactive):
        await hook.set_owner(1, owner())


@pytest.mark.parametrize("status", [401, 403, 404, 408, 425, 429, 500, 502, 503, 504])
async def test_answers_that_are_tried_again(hook, peer, status):
    peer.fault("status", status=status, headers={"Retry-After": "7"})
    with pytest.raises(outbox.Retry, match=f"^HTTP {status}$") as caught:
        await hook.set_owner(1, owner())
    assert caught.value.after == 7


@pytest.mark.parametrize("status", [301, 302, 400, 405, 409, 422])
async def test_answers_that_are_final(hook, peer, status):
    body = {"reason": "ada@example.com is unknown"}
    peer.fault("status", status=status, body=body, headers={"Location": peer.url})
    with pytest.raises(outbox.Final, match=f"^HTTP {status}$"):
        await hook.set_owner(1, owner())
    assert len(peer.requests) == 1  # a redirect is not followed


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("soon", None), ("-5", None), ("0", 0), ("999999999999", 999999999)],
)
async def test_retry_after_in_seconds(hook, peer, header, seconds):
    peer.fault("status", headers={"Retry-After": header} if header else {})
    with pytest.raises(outbox.Retry) as caught:
        await hook.set_owner(1, owner())
    assert caught.value.after == seconds


async def test_retry_after_as_a_date(hook, peer):
    for moment, least, most in (
        (clock.now() + timedelta(seconds=60), 55, 60),
        (clock.now() - timedelta(seconds=60), 0, 0),
    ):
        peer.fault("status", headers={"Retry-After": format_datetime(moment, usegmt=True)})
        with pytest.raises(outbox.Retry) as caught:
            await hook.set_owner(1, owner())
        assert least <= caught.value.after <= most


@pytest.mark.parametrize("applied", [False, True])
async def test_a_connection_that_breaks_or_stays_silent(peer, web, applied):
    hook = hook_at(peer.url, web, seconds=0.3)
    peer.fault("hangup", applied=applied)
    with pytest.raises(Upstream, match="cannot be reached"):
        await hook.set_owner(1, owner())
    peer.fault("hang", applied=applied)
    with pytest.raises(UpstreamTimeout, match="did not answer in time"):
        await hook.set_owner(1, owner())
    await hook.set_owner(1, owner())
    assert len(peer.applied) == 1


async def test_nobody_listens(web):
    with pytest.raises(Upstream, match="cannot be reached"):
        await hook_at("http://127.0.0.1:1/", web).set_owner(1, owner())


async def test_who_is_active(hook, peer):
    peer.inactive.add("u2")
    assert await hook.active_users(1, ["u1", "u2"]) == {"u1": True, "u2": False}
    assert peer.requests[0].body == {
        "type": "users.active", "tenant_id": 1, "user_ids": ["u1", "u2"]
    }  # fmt: skip
    for body in ({}, {"active": None}, {"active": ["u1"]}):
        peer.fault("status", status=200, body=body)
        with pytest.raises(Upstream, match="without `active`"):
            await hook.active_users(1, ["u1"])
    peer.fault("status", status=200, body={"active": {"u1": "yes", "u3": True}})
    assert await hook.active_users(1, ["u1"]) == {}
    peer.fault("status", status=500)
    with pytest.raises(Upstream, match="HTTP 500"):
        await hook.active_users(1, ["u1"])


@pytest.mark.parametrize(
    ("url", "env", "secret", "message"),
    [
        ("ftp://x", "CRM_SECRET", SECRET, r"\[crm\] url"),
        ("http://x", None, SECRET, r"\[crm\] secret_env"),
        ("http://x", "CRM_SECRET", None, "CRM_SECRET is not set"),
        ("http://x", "CRM_SECRET", "whsec_hunter2", "base64"),
        ("http://x", "CRM_SECRET", "whsec_aHVudGVyMg==", "24 to 64 bytes"),
    ],
)
async def test_a_wrong_configuration_names_the_setting(web, url, env, secret, message):
    settings = CrmSettings(url=url, secret_env=env)
    with pytest.raises(BadRequest, match=message) as caught:
        CrmWebhook.open(settings, web, {"CRM_SECRET": secret} if secret else {})
    assert secret is None or secret not in str(caught.value)
    assert "hunter2" not in str(caught.value)


# ------------------------------------------------------------------ through port and outbox
@pytest.fixture
async def box(db: Database, hook: CrmWebhook, monkeypatch: Any) -> AsyncIterator[Any]:
    """An outbox at work with the CRM connected."""
    monkeypatch.setattr(outbox_loop, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(outbox_loop, "LONGEST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(crm, "_hooks", [])
    box = outbox_loop.Outbox(Node(db, NodeSettings(), "worker"))
    crm.use(hook)
    await box.open()
    yield box
    await box.close()
    crm.use(None)


async def promise(db: Database, tenant: Tenant, key: str, **more: str) -> None:
    given = {"object": "Lead", "record_id": "00Q1", "owner_id": "u1", **more}
    async with db.transaction(tenant.id) as tx:
        await outbox.add(tx, tenant.id, crm.TOPIC, key, given["record_id"], given)


async def finished(db: Database, tenant: Tenant, key: str, box: Any) -> str:
    for _ in range(600):
        await box.tend()
        async with db.transaction(tenant.id) as tx:
            state = await outbox.state(tx, crm.TOPIC, key)
        if state != "pending":
            return str(state)
        await asyncio.sleep(0.02)
    raise AssertionError("it is still pending")


async def test_without_a_crm_nothing_is_connected():
    assert not crm.connected(1)
    with pytest.raises(crm.NotConnected, match=r"\[crm\] url") as caught:
        crm.get(1)
    assert (caught.value.status, caught.value.code) == (409, "not_connected")


async def test_an_owner_reaches_the_crm_through_every_fault_once(box, db, tenant, peer):
    assert crm.connected(tenant.id)
    for applied in (False, True):
        peer.fault("hangup", applied=applied)
        peer.fault("status", applied=applied)
        peer.fault("status", status=429, applied=applied, headers={"Retry-After": "0"})
    await promise(db, tenant, "asg_a")
    assert await finished(db, tenant, "asg_a", box) == "done"
    assert len(peer.requests) == 7
    assert [w["assignment_id"] for w in peer.applied] == ["asg_a"]
    assert peer.owners == {(tenant.id, "Lead", "00Q1"): "u1"}


@pytest.mark.parametrize("why", ["record_gone", "owner_inactive"])
async def test_routing_hears_of_a_refusal_and_may_promise_another(box, db, tenant, peer, why):
    heard: list[tuple[int, str, str]] = []

    @crm.on_refused
    async def pick_again(tx, tenant_id, assignment, said):
        heard.append((tenant_id, assignment, said))
        if len(heard) == 1:
            raise psycopg.errors.DeadlockDetected("row of ada@example.com")
        given = {"object": "Lead", "record_id": "00Q1", "owner_id": "u2"}
        await outbox.add(tx, tenant_id, crm.TOPIC, f"{why}_b", "00Q1", given)

    if why == "record_gone":
        peer.fault("status", status=410, times=2)
    else:
        peer.inactive.add("u1")
    await promise(db, tenant, f"{why}_a")
    assert await finished(db, tenant, f"{why}_a", box) == "failed"
    assert await finished(db, tenant, f"{why}_b", box) == "done"
    assert heard == [(tenant.id, f"{why}_a", why)] * 2
    assert peer.owners == {(tenant.id, "Lead", "00Q1"): "u2"}


async def test_neither_secret_nor_record_gets_into_log_or_row(
    box, db, dsn, tenant, peer, capfd, monkeypatch
):
    log.configure(LogSettings(level="debug"))
    try:
        peer.fault("status", body={"reason": f"{SECRET} of ada@example.com"})
        peer.fault("hangup")
        peer.fault("status", status=422, body={"reason": f"{SECRET} of ada@example.com"})
        await promise(db, tenant, "asg_quiet", record_id="ada@example.com")
        assert await finished(db, tenant, "asg_quiet", box) == "failed"
    finally:
        structlog.reset_defaults()
    said = capfd.readouterr()
    async with db.transaction(tenant.id) as tx:
        rows = await tx.all("select error from outbox where id = 'asg_quiet'")
    assert rows == [{"error": "HTTP 422"}]
    for text in (said.out, said.err, json.dumps(rows)):
        assert SECRET not in text
        assert "ada@" not in text


async def test_a_server_writes_owners_when_it_is_configured(dsn, db, tenant, peer, monkeypatch):
    monkeypatch.setenv("CRM_SECRET", SECRET)
    settings = {"url": peer.url, "secret_env": "CRM_SECRET"}
    server = InProcess(dsn, crm=settings)
    await asyncio.to_thread(server.__enter__)
    try:
        assert crm.connected(tenant.id)
        await promise(db, tenant, "asg_served")
        async with asyncio.timeout(10):
            while not peer.applied:
                await asyncio.sleep(0.05)
    finally:
        await asyncio.to_thread(server.__exit__)
    assert not crm.connected(tenant.id)
    assert peer.owners == {(tenant.id, "Lead", "00Q1"): "u1"}
