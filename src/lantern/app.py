"""The HTTP face on one page: the routes of every capability, the order of layers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from lantern import __version__, dashboard
from lantern.agents import api as agents_api
from lantern.core import home, http, ids, openapi
from lantern.core.nodes import Node
from lantern.credits import api as credits_api
from lantern.gate.edge import Edge
from lantern.gate.limits import Doors
from lantern.keys import api as keys_api
from lantern.logs import api as logs_api
from lantern.node import open_node
from lantern.routing import api as routing_api
from lantern.runs import alias as runs_alias
from lantern.runs import api as runs_api
from lantern.settings import Settings

# Order matters where paths could meet: batches of the other half come before agents by name.
ROUTERS = (
    routing_api.hot,
    routing_api.router,
    credits_api.router,
    logs_api.router,
    keys_api.router,
    agents_api.router,
    runs_api.hot,
    runs_api.router,
    runs_alias.router,
)


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
    for router in ROUTERS:
        app.router.routes.extend(router.routes)
    dashboard.mount(app.router.routes)
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
    """Who opens the printed address in a browser finds the dashboard."""
    return RedirectResponse(dashboard.HOME)


async def _refuse(request: Request, error: Exception) -> Any:
    """Below `/v1` the edge answers every error; elsewhere there is only this."""
    if "lantern.call" in request.scope:
        raise error
    fact = http.as_fact(error)
    body = http.error_body(fact, ids.new("req"), flat=False)
    return http.Json(body, fact.status, headers=fact.headers)
