"""Routes of agents."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from lantern import agents
from lantern.agents.models import Agent, AgentChange, AgentCreate, AgentList
from lantern.core import http
from lantern.core.errors import BadRequest
from lantern.gate.auth import Current
from lantern.gate.limits import needs
from lantern.llm import Models

router = APIRouter(tags=["agents"])


async def _models(request: Request) -> Models:
    models: Models = request.app.state.models
    return models


Table = Annotated[Models, Depends(_models)]


@router.get("/v1/agents", response_model=AgentList)
@needs("read")
async def list_agents(
    call: Current,
    page: Annotated[http.Page, Depends(http.page)],
    page_size: Annotated[int | None, Query(alias="pageSize", ge=1, le=100)] = None,
    page_token: Annotated[str | None, Query(alias="pageToken", max_length=20)] = None,
) -> Any:
    """List agents, newest first."""
    page = http.Page(page=_page_of(page_token) or page.page, per_page=page_size or page.per_page)
    found, total = await agents.table(call, page.per_page, page.offset)
    more = page.offset + len(found) < total
    return http.Json(
        {
            "agents": found,
            "total": total,
            "page": page.page,
            "per_page": page.per_page,
            "nextPageToken": f"p{page.page + 1}" if more else None,
        }
    )


@router.post("/v1/agents", status_code=201, response_model=Agent)
@needs("write")
async def create_agent(call: Current, body: AgentCreate, models: Table) -> Any:
    """Create an agent."""
    return http.Json(await agents.create(call, body, models), 201)


@router.get("/v1/agents/{name}", response_model=Agent)
@needs("read")
async def get_agent(call: Current, name: str) -> Any:
    """One agent."""
    return http.Json(await agents.get(call.tx, name))


@router.patch("/v1/agents/{name}", response_model=Agent)
@needs("write")
async def change_agent(call: Current, name: str, body: AgentChange, models: Table) -> Any:
    """Change any subset of an agent."""
    return http.Json(await agents.change(call, name, body, models))


@router.delete("/v1/agents/{name}", status_code=204)
@needs("write")
async def delete_agent(call: Current, name: str) -> Response:
    """Archive an agent: its name is free again, its runs stay readable."""
    await agents.archive(call, name)
    return Response(status_code=204)


def _page_of(token: str | None) -> int | None:
    if token is None or token == "":
        return None
    number = token[1:] if token[0] == "p" and token.isascii() and token[1:].isdigit() else "0"
    if not 0 < int(number) <= 1_000_000:
        raise BadRequest.field("pageToken", "not a token of this list", "query")
    return int(number)
