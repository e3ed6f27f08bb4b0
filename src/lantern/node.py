"""The parts of a node and what tends them: the same for a server, a worker and a command."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from lantern import logs, routing
from lantern.connectors import CrmWebhook
from lantern.core import cleanup, crm, home, jobs, timers
from lantern.core.bus import Bus
from lantern.core.db import Database
from lantern.core.nodes import Node, Role
from lantern.core.outbox_loop import Outbox
from lantern.core.web import Web
from lantern.gate import ledger
from lantern.llm import Models
from lantern.runs import Engine
from lantern.settings import Settings


@dataclass(frozen=True)
class Parts:
    """What a node is made of."""

    settings: Settings
    db: Database
    bus: Bus
    node: Node
    models: Models
    engine: Engine
    outbox: Outbox
    readers: logs.Readers


@asynccontextmanager
async def open_node(
    settings: Settings, place: home.Home, role: Role = "server", only: str | None = None
) -> AsyncIterator[Parts]:
    """A working node on a database; on leaving it drains its runs. `only`: takes that run alone."""
    async with AsyncExitStack() as stack:
        logs.use(settings)
        routing.announce(settings.routing)
        db = await home.open_database(place.dsn, settings.database)
        stack.push_async_callback(db.close)
        web = Web(settings.net)
        await web.open()
        stack.push_async_callback(web.close)
        models = await Models.open(settings, web)
        stack.push_async_callback(models.close)
        bus = Bus(db, settings.runs)
        node = Node(db, settings.nodes, role)
        node.revive = place.revive
        engine = Engine(node, bus, models, settings.runs)
        engine.only = only
        engine.attach()
        await node.open()
        stack.push_async_callback(node.close)
        await _queued_work(node, settings, stack)
        outbox = await _deliveries(node, web, settings, stack)
        await bus.open()
        stack.push_async_callback(bus.close)
        stack.push_async_callback(engine.drain, settings.server.drain_seconds)
        readers = logs.Readers(db, settings.logs)
        yield Parts(settings, db, bus, node, models, engine, outbox, readers)


async def _queued_work(node: Node, settings: Settings, stack: AsyncExitStack) -> None:
    """Jobs and timers, tended by the node's loop."""
    queue = jobs.Jobs(node)
    await queue.open()
    stack.push_async_callback(queue.close, settings.server.drain_seconds)
    async with node.db.transaction() as tx:
        await cleanup.schedule(tx, settings.retention)
        await ledger.schedule(tx)
        await logs.schedule(tx)
    sealer = logs.Sealer(node.db)
    stack.push_async_callback(sealer.close)

    async def fire() -> None:
        await timers.run_due(node.db)

    node.each_second += [fire, queue.tend, sealer.tend]
    node.on_suspend.append(queue.suspend)


async def _deliveries(node: Node, web: Web, settings: Settings, stack: AsyncExitStack) -> Outbox:
    """The outbox, and the CRM behind it where one is configured."""
    if settings.crm.url:
        crm.use(CrmWebhook.open(settings.crm, web))
        stack.callback(crm.use, None)
    outbox = Outbox(node)
    await outbox.open()
    stack.push_async_callback(outbox.close, settings.server.drain_seconds)
    node.each_second.append(outbox.tend)
    node.on_suspend.append(outbox.suspend)
    return outbox
