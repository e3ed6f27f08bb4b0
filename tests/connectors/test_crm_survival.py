"""kill -9 of a server before and after the CRM took an owner: applied once."""

import asyncio
import base64
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from parts import clone_database, new_tenant
from servers import Process

from lantern.core import crm, outbox, postgres
from lantern.core.db import Database
from lantern.core.outbox_loop import LEASE_SECONDS
from lantern_dev.crm import RecordingCrm

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("survival")]

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


@pytest.fixture
def spawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Process]]:
    """Start servers whose CRM is at a URL; whatever happens, none is left."""
    monkeypatch.setenv("CRM_SECRET", SECRET)
    config = tmp_path / "lantern.toml"
    with ExitStack() as stack:

        def start(dsn: str, url: str) -> Process:
            config.write_text(f'[crm]\nurl = "{url}"\nsecret_env = "CRM_SECRET"\n')
            return stack.enter_context(Process(config, dsn))

        yield start


async def test_killed_before_and_after_the_crm_took_the_owner(
    spawn: Callable[..., Process], pg: postgres.Server
) -> None:
    dsn = clone_database(pg)
    db = Database(dsn)
    await db.open()
    tenant = await new_tenant(db)
    names = ["before0", "before1", "after0", "after1"]
    try:
        async with RecordingCrm(SECRET) as peer:
            for name in names:
                peer.fault("hang", record=name, applied=name.startswith("after"))
            victim = await asyncio.to_thread(spawn, dsn, peer.url)
            async with db.transaction(tenant.id) as tx:
                for name in names:
                    given = {"object": "Lead", "record_id": name, "owner_id": "u1"}
                    await outbox.add(tx, tenant.id, crm.TOPIC, f"asg_{name}", name, given)
            async with asyncio.timeout(10):
                while len(peer.requests) < len(names):
                    await asyncio.sleep(0.05)
            assert {w["record_id"] for w in peer.applied} == {"after0", "after1"}
            victim.kill()
            killed = time.monotonic()
            await asyncio.to_thread(spawn, dsn, peer.url)
            async with asyncio.timeout(LEASE_SECONDS + 15):
                while True:
                    async with db.transaction(tenant.id) as tx:
                        states = [await outbox.state(tx, crm.TOPIC, f"asg_{n}") for n in names]
                    if states == ["done"] * len(names):
                        break
                    await asyncio.sleep(0.1)
            assert time.monotonic() - killed < LEASE_SECONDS + 10
            assert len(peer.requests) == 2 * len(names)
            assert sorted(w["assignment_id"] for w in peer.applied) == sorted(
                f"asg_{n}" for n in names
            )
            assert set(peer.owners.values()) == {"u1"}
    finally:
        await db.close()
