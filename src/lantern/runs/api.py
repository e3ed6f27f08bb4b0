"""Routes of runs, in the names of the contract."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request

from lantern.core import http
from lantern.core.errors import BadRequest
from lantern.gate.auth import Call, Current
from lantern.gate.hot import HotRoute
from lantern.gate.limits import needs
from lantern.runs import service
from lantern.runs.engine import Engine
from lantern.runs.models import Cancel, Cancelled, Run, RunCreate, RunList, RunMade, Status, Ticket
from lantern.runs.stream import follow

router = APIRouter(tags=["runs"])
hot = APIRouter(tags=["runs"], route_class=HotRoute)

After = Annotated[int, Query(ge=0, lt=1 << 53)]


@hot.post("/v1/agents/{name}/runs", status_code=201, response_model=RunMade)
@needs("write", folds=True)
async def create_run(call: Current, request: Request, name: str, body: RunCreate) -> Any:
    """Start a run; follow it at `/v1/runs/{run_id}/stream`."""
    made = await service.start(call, name, body, launch(request))
    return http.Json(made, 201)


@router.get("/v1/agents/{name}/runs", response_model=RunList)
@needs("read")
async def list_runs(
    call: Current,
    name: str,
    page: Annotated[http.Page, Depends(http.page)],
    status: Annotated[Status | None, Query()] = None,
    limit: Annotated[int | None, Query(ge=1, le=100)] = None,
) -> Any:
    """Runs of an agent, newest first. `limit` is another name of `per_page`."""
    page = http.Page(page=page.page, per_page=limit or page.per_page)
    runs, total = await service.table(call, name, status, page.per_page, page.offset)
    return http.Json({"runs": runs, "total": total, "page": page.page, "per_page": page.per_page})


@router.get("/v1/runs/{run_id}", response_model=Run)
@needs("read")
async def get_run(call: Current, run_id: str) -> Any:
    """A run with its steps, output and cost."""
    return http.Json(await service.fetch(call.tx, run_id, call.covers))


@router.post("/v1/runs/{run_id}/cancel", response_model=Cancelled)
@needs("write")
async def cancel_run(
    call: Current, request: Request, run_id: str, body: Cancel | None = None
) -> Any:
    """Cancel a run: final at once, its model call is aborted within a second."""
    await service.cancel_run(call, run_id, body.reason if body else None)
    engine: Engine = request.app.state.engine
    call.after_commit.append(lambda: engine.stop_cancelled(run_id))
    return http.Json({"run_id": run_id, "status": "cancelled"})


@router.post("/v1/runs/{run_id}/stream-ticket", response_model=Ticket)
@needs("read", secrets=("ticket",))
async def stream_ticket(call: Current, run_id: str) -> Any:
    """A one-time ticket for `?ticket=`, for clients that cannot send headers."""
    return http.Json(await service.ticket(call, run_id))


@hot.get(
    "/v1/runs/{run_id}/stream",
    responses={200: {"content": {"text/event-stream": {}}, "description": "Server-sent events"}},
    status_code=200,
    response_class=http.EventStream,
)
@needs("read", stream=True, ticket=True)
async def stream_run(
    call: Current,
    request: Request,
    run_id: str,
    after: After = 0,
    _ticket: Annotated[str | None, Query(alias="ticket", max_length=100)] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Any:
    """Every event of a run: what there is, then live. `Last-Event-ID` or `?after=` resumes."""
    return await stream(call, request, run_id, max(after, seq_of(last_event_id)))


async def stream(call: Call, request: Request, run_id: str, after: int) -> http.EventStream:
    """The answer that streams a run."""
    state = request.app.state
    source = await follow(state.bus, call, run_id, after)
    return http.EventStream(source, state.settings.runs.stall_seconds)


def launch(request: Request) -> service.Launch:
    """This process as the place where a run begins."""
    engine: Engine = request.app.state.engine
    return service.Launch(engine.node.id, engine.room > 0, engine.start)


def seq_of(text: str | None) -> int:
    """The seq of a `Last-Event-ID`."""
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise BadRequest("Last-Event-ID: not an event of this stream")
    return int(text)
