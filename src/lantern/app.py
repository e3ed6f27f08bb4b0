"""Everything on one page: the parts of a node, the routes of every capability, the order of layers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from lantern import __version__, routing
from lantern.agents import api as agents_api
from lantern.connectors import CrmWebhook
from lantern.core import cleanup, crm, home, http, ids, jobs, openapi, timers
from lantern.core.bus import Bus
from lantern.core.db import Database
from lantern.core.nodes import Node, Role
from lantern.core.outbox_loop import Outbox
from lantern.core.web import Web
from lantern.credits import api as credits_api
from lantern.gate import ledger
from lantern.gate.edge import Edge
from lantern.gate.limits import Doors
from lantern.keys import api as keys_api
from lantern.llm import Models
from lantern.routing import api as routing_api
from lantern.runs import Engine
from lantern.runs import alias as runs_alias
from lantern.runs import api as runs_api
from lantern.settings import Settings

# Order matters where paths could meet: batches of the other half come before agents by name.
ROUTERS = (
    keys_api.router,
    routing_api.hot,
    routing_api.router,
    credits_api.router,
    agents_api.router,
    runs_api.hot,
    runs_api.router,
    runs_alias.router,
)


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


@asynccontextmanager
async def open_node(
    settings: Settings, place: home.Home, role: Role = "server", only: str | None = None
) -> AsyncIterator[Parts]:
    """A working node on a database; on leaving it drains its runs. `only`: takes that run alone."""
    async with AsyncExitStack() as stack:
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
        yield Parts(settings, db, bus, node, models, engine, outbox)


async def _queued_work(node: Node, settings: Settings, stack: AsyncExitStack) -> None:
    """Jobs and timers, tended by the node's loop."""
    queue = jobs.Jobs(node)
    await queue.open()
    stack.push_async_callback(queue.close, settings.server.drain_seconds)
    async with node.db.transaction() as tx:
        await cleanup.schedule(tx, settings.retention)
        await ledger.schedule(tx)

    async def fire() -> None:
        await timers.run_due(node.db)

    node.each_second += [fire, queue.tend]
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


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application; its database is joined when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        place = home.enter(settings)
        try:
            async with open_node(settings, place) as parts:
                for name, part in vars(parts).items():
                    setattr(app.state, name, part)
                yield
        finally:
            place.leave()

    app = FastAPI(
        title="Lantern",
        version=__version__,
        description="Go-to-market data and durable, streaming agents.",
        lifespan=lifespan,
        redirect_slashes=False,
        exception_handlers={RequestValidationError: _refuse, HTTPException: _refuse},
    )
    app.state.doors = Doors(settings.limits, settings.server.trusted_proxies)
    app.get("/healthz", include_in_schema=False)(healthz)
    app.get("/", include_in_schema=False)(start_page)
    routing.announce(settings.routing)
    for router in ROUTERS:
        app.router.routes.extend(router.routes)
    app.add_middleware(Edge, routes=app.router.routes)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    return app


async def healthz(request: Request) -> Response:
    """200 while this node works; 503 while it cannot reach its database."""
    node: Node = request.app.state.node
    status = "ok" if node.alive else "suspended"
    body = {"status": status, "node": node.id, "version": __version__}
    return http.Json(body, 200 if node.alive else 503)


async def start_page() -> Response:
    """Who opens the printed address in a browser finds the API's documentation."""
    return RedirectResponse("/docs")


async def _refuse(request: Request, error: Exception) -> Any:
    """Below `/v1` the edge answers every error; elsewhere there is only this."""
    if "lantern.call" in request.scope:
        raise error
    fact = http.as_fact(error)
    body = http.error_body(fact, ids.new("req"), flat=False)
    return http.Json(body, fact.status, headers=fact.headers)
