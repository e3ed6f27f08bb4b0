"""The same runs under the routes that two public client libraries call."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request

from lantern import agents
from lantern.core import http
from lantern.core.errors import BadRequest
from lantern.gate.auth import Current
from lantern.gate.limits import needs
from lantern.runs import service
from lantern.runs.api import launch, seq_of, stream
from lantern.runs.models import Events, RunCreate, RunCreateAlias, RunListAlias, RunMade, Status

router = APIRouter(tags=["runs"])


STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Server-sent events"}
}


@router.post("/v1/runs", status_code=201, response_model=RunMade, responses=STREAM)
@needs("write", folds=True)
async def create_run_alias(call: Current, request: Request, body: RunCreateAlias) -> Any:
    """Start a run; with `stream: true` the answer is its event stream."""
    plain = RunCreate(**body.model_dump(include=set(RunCreate.model_fields)))
    made = await service.start(call, body.agent_name, plain, launch(request))
    if body.stream:
        return await stream(call, request, made["run_id"], 0)
    return http.Json(made, 201)


@router.get("/v1/runs", response_model=RunListAlias)
@needs("read")
async def list_all_runs(
    call: Current,
    agent: Annotated[str | None, Query(max_length=63)] = None,
    status: Annotated[Status | None, Query()] = None,
    page_size: Annotated[int, Query(alias="pageSize", ge=1, le=100)] = 20,
    page_token: Annotated[str | None, Query(alias="pageToken", max_length=100)] = None,
) -> Any:
    """Runs of every agent, newest first."""
    if agent is not None and not agents.NAME.fullmatch(agent):
        raise BadRequest.field("agent", "not the name of an agent")
    runs, token = await service.table_after(call, agent, status, page_token, page_size)
    return http.Json({"runs": runs, "nextPageToken": token})


@router.get("/v1/runs/{run_id}/events", response_model=Events, responses=STREAM)
@needs("read", stream=True)
async def run_events(
    call: Current,
    request: Request,
    run_id: str,
    from_seq: Annotated[int, Query(ge=0, lt=1 << 53)] = 0,
    live: bool = False,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Any:
    """Stored events from a seq on; with `live=true` the stream that goes on from there."""
    after = max(from_seq - 1, seq_of(last_event_id), 0)
    if live:
        return await stream(call, request, run_id, after)
    async with call.db.transaction(call.tenant) as call.open_tx:
        found, last = await service.stored_events(call, run_id, after)
    return http.Json({"events": found, "next_seq": last + 1})
