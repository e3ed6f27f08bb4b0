"""What promises to survive: kill -9 of a server, of a second node, of Postgres."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from parts import Tenant, clone_database, model_settings, new_tenant
from servers import Process, parse_events, text_of

from lantern.core import postgres
from lantern.core.db import Database
from lantern_dev.model import FakeModel, words
from runs.test_api import finished, make_agent, start

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("survival")]

PACED = "paced:tokens=120;inter_ms=25"  # three seconds of text
DOCUMENTS = {"q": "What?", "documents": [{"title": "Acme", "text": "Acme sells anvils."}]}


@pytest.fixture
def config(tmp_path: Path, fake: FakeModel) -> Path:
    """A lantern.toml with the fake model."""
    path = tmp_path / "lantern.toml"
    rows = model_settings(fake, paced=PACED)
    lines = []
    for row in rows:
        lines.append("[[models]]")
        lines += [f"{k} = {v!r}".replace("'", '"') for k, v in row.items()]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def spawn(config: Path) -> Iterator[Callable[..., Process]]:
    """Start servers; whatever happens, none is left."""
    with ExitStack() as stack:
        yield lambda *a, **k: stack.enter_context(Process(config, *a, **k))


@pytest.fixture
async def own_db(pg: postgres.Server) -> tuple[str, Tenant]:
    """A database that no other server uses."""
    dsn = clone_database(pg)
    db = Database(dsn)
    await db.open()
    tenant = await new_tenant(db)
    await db.close()
    return dsn, tenant


def client(server: Process, tenant: Tenant) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {tenant.key}"}
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30)


async def read_until(api: httpx.AsyncClient, run_id: str, tokens: int) -> list[dict[str, Any]]:
    """Events of a live stream until it has shown that many tokens of the last step."""
    got = ""
    async with api.stream("GET", f"/v1/runs/{run_id}/stream") as stream:
        async for piece in stream.aiter_text():
            got += piece
            last_step = got[got.rfind('"type":"step.start"') :]
            if last_step.count('"type":"token"') >= tokens:
                break
    return parse_events(got[: got.rfind("\n\n") + 2])


async def writing(api: httpx.AsyncClient, run_id: str) -> None:
    """Wait until the plan is finished and the second step is at work."""
    for _ in range(400):
        run = (await api.get(f"/v1/runs/{run_id}")).json()
        if [s["status"] for s in run["steps"]] == ["completed", "running"]:
            await asyncio.sleep(0.5)
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the second step did not begin")


async def test_a_node_killed_in_mid_step_is_replaced_within_ten_seconds(
    spawn: Callable[..., Process], own_db: tuple[str, Tenant], fake: FakeModel
) -> None:
    dsn, tenant = own_db
    heir, victim = spawn(dsn), spawn(dsn)
    async with client(heir, tenant) as here, client(victim, tenant) as there:
        await make_agent(here, model="paced")
        asked = fake.counts["requests"]
        run_id = await start(there, input=DOCUMENTS)
        reading = asyncio.create_task(here.get(f"/v1/runs/{run_id}/stream"))
        await writing(here, run_id)
        killed_at = time.monotonic()
        victim.kill()
        live = parse_events((await reading).text)
        run = await finished(here, run_id)
        late = parse_events((await here.get(f"/v1/runs/{run_id}/stream")).text)
    restart = next(e for e in live if e["type"] == "step.restart")
    assert run["status"] == "completed"
    assert run["output"]["text"] == "".join(words(120))
    assert [s["name"] for s in run["steps"]] == ["plan", "write"]
    assert restart["seq"] == 1_000_001
    assert restart["step"] == "write"
    # The plan once, the answer twice: a finished step is not bought again.
    assert fake.counts["requests"] - asked == 3
    assert late == live
    assert text_of(live) == run["output"]["text"]
    # Three seconds of writing come on top of the takeover.
    assert time.monotonic() - killed_at < 14


async def test_a_server_killed_alone_goes_on_when_it_is_started_again(
    spawn: Callable[..., Process], own_db: tuple[str, Tenant]
) -> None:
    dsn, tenant = own_db
    first = spawn(dsn)
    async with client(first, tenant) as api:
        await make_agent(api, model="paced")
        run_id = await start(api)
        seen = await read_until(api, run_id, 20)
    first.kill()
    second = spawn(dsn)
    async with client(second, tenant) as api:
        rest = await api.get(f"/v1/runs/{run_id}/stream?after={seen[-1]['seq']}")
        run = await finished(api, run_id)
    events = parse_events(rest.text)
    assert run["status"] == "completed"
    assert text_of(seen + events) == run["output"]["text"] == "".join(words(120))
    assert len({e["seq"] for e in seen + events}) == len(seen + events)


async def test_a_paused_node_comes_back_under_a_new_id_and_writes_nothing(
    spawn: Callable[..., Process], own_db: tuple[str, Tenant]
) -> None:
    dsn, tenant = own_db
    heir, sleeper = spawn(dsn), spawn(dsn)
    async with client(heir, tenant) as here, client(sleeper, tenant) as there:
        before = (await there.get("/healthz")).json()["node"]
        await make_agent(here, model="paced")
        run_id = await start(there)
        await asyncio.sleep(0.5)
        os.kill(sleeper.process.pid, signal.SIGSTOP)
        run = await finished(here, run_id)
        transcript = (await here.get(f"/v1/runs/{run_id}/stream")).text
        os.kill(sleeper.process.pid, signal.SIGCONT)
        await asyncio.sleep(1.5)
        after = (await there.get("/healthz")).json()
        again = (await there.get(f"/v1/runs/{run_id}/stream")).text
    assert run["output"]["text"] == "".join(words(120))
    assert again == transcript
    assert after["status"] == "ok"
    assert after["node"] != before


async def test_sigterm_hands_the_rest_on(
    spawn: Callable[..., Process], own_db: tuple[str, Tenant]
) -> None:
    dsn, tenant = own_db
    heir, leaver = spawn(dsn), spawn(dsn)
    async with client(heir, tenant) as here, client(leaver, tenant) as there:
        await make_agent(here, model="paced")
        run_id = await start(there)
        await asyncio.sleep(0.5)
        assert await asyncio.to_thread(leaver.stop) == 0
        run = await finished(here, run_id)
    assert run["status"] == "completed"


@pytest.mark.parametrize("patience", ["", "[nodes]\nbeat_seconds = 0.1\ndead_seconds = 0.4\n"])
async def test_postgres_killed_in_mid_stream(
    spawn: Callable[..., Process], tmp_path: Path, config: Path, patience: str
) -> None:
    """Away for less, or for more than a node waits: either way a late reader sees what the live
    one saw."""
    config.write_text(patience + config.read_text())
    data_dir = tmp_path / "data"
    server = spawn(data_dir=data_dir)
    with postgres.acquire(data_dir) as embedded:
        db = Database(embedded.dsn)
        await db.open()
        tenant = await new_tenant(db)
        await db.close()
        pid = embedded.pid
        async with client(server, tenant) as api:
            await make_agent(api, model="paced")
            run_id = await start(api)
            reading = asyncio.create_task(api.get(f"/v1/runs/{run_id}/stream"))
            await asyncio.sleep(0.8)
            os.kill(pid, signal.SIGKILL)
            live = parse_events((await reading).text)
            run = await finished(api, run_id)
            late = parse_events((await api.get(f"/v1/runs/{run_id}/stream")).text)
        assert run["status"] == "completed"
        assert text_of(live) == run["output"]["text"] == "".join(words(120))
        assert late == live
        assert embedded.pid != pid
        server.stop()
