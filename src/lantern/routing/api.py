"""Routes of assignments; those of pools are in routing/pools/api.py."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from lantern.core import http
from lantern.core.errors import BadRequest
from lantern.core.sfids import record_key
from lantern.core.times import moment
from lantern.gate import flat
from lantern.gate.auth import Current
from lantern.gate.hot import HotRoute
from lantern.gate.limits import needs
from lantern.routing import activity, explanation, service, store
from lantern.routing.models import (
    Assigned,
    AssignmentAnswer,
    AssignmentList,
    AssignRequest,
    Explanation,
    Status,
    VoidRequest,
)
from lantern.routing.pools import api as pools

router = APIRouter(tags=["routing"])
hot = APIRouter(tags=["routing"], route_class=HotRoute)
router.routes.extend(pools.router.routes)


Filter = dict[str, Any]


async def assignment_filter(
    pool: Annotated[str | None, Query(max_length=100)] = None,
    sf_id: Annotated[str | None, Query(max_length=64)] = None,
    assigned_to: Annotated[str | None, Query(max_length=64)] = None,
    status: Annotated[Status | None, Query()] = None,
    since: Annotated[str | None, Query(alias="from", max_length=40)] = None,
    until: Annotated[str | None, Query(alias="to", max_length=40)] = None,
) -> Filter:
    """`?pool=&sf_id=&assigned_to=&status=&from=&to=`; `to` is outside, a date as `to` counts whole."""
    for name, text in (("pool", pool), ("sf_id", sf_id), ("assigned_to", assigned_to)):
        if "\0" in (text or ""):
            raise BadRequest.field(name, "may not contain the character NUL", "query")
    record = record_key(sf_id) if sf_id else None
    given = {"pool": pool, "record": record, "assigned_to": assigned_to, "status": status}
    first = moment("from", since) if since else None
    last = moment("to", until, end=True) if until else None
    if first and last and last <= first:
        raise BadRequest.field("to", "must be after `from`", "query")
    return {**given, "since": first, "until": last}


@hot.post("/v1/routing/assign", response_model=Assigned, response_model_exclude_unset=True)
@needs("write", single=True, before=activity.before_assign)
async def assign(call: Current, body: AssignRequest) -> Any:
    """Give a record to the next member of a pool."""
    made = await service.assign(call.tx, call, body, charge_size=call.prepared)
    fields = service.told(made, explain=body.explain)
    return flat.paid(call, fields, made.credits, cached=made.cached)


@router.get("/v1/routing/assignments", response_model=AssignmentList)
@needs("read")
async def list_assignments(
    call: Current,
    page: Annotated[http.Page, Depends(http.page)],
    where: Annotated[Filter, Depends(assignment_filter)],
) -> Any:
    """Assignments, newest first."""
    rows, total = await store.page(call.tx, where, page.per_page, page.offset)
    found = [service.shown(row) for row in rows]
    return flat.answer(
        {"assignments": found, "total": total, "page": page.page, "per_page": page.per_page}
    )


@router.get("/v1/routing/assignments/{assignment_id}", response_model=AssignmentAnswer)
@needs("read")
async def get_assignment(call: Current, assignment_id: str) -> Any:
    """One assignment."""
    row = await service.fetch(call.tx, assignment_id)
    return flat.answer({"assignment": service.shown(row)})


@router.post("/v1/routing/assignments/{assignment_id}/accept", response_model=AssignmentAnswer)
@needs("write")
async def accept(call: Current, assignment_id: str, body: flat.Body | None = None) -> Any:
    """The owner has taken it up; the SLA timer stops."""
    row = await service.accept(call.tx, call, assignment_id)
    return flat.answer({"assignment": service.shown(row)})


@router.post("/v1/routing/assignments/{assignment_id}/void", response_model=AssignmentAnswer)
@needs("write")
async def void(call: Current, assignment_id: str, body: VoidRequest | None = None) -> Any:
    """Take an assignment back: its number stays, the turn returns to the member."""
    row = await service.void(call.tx, call, assignment_id, body.reason if body else None)
    return flat.answer({"assignment": service.shown(row)})


@router.get("/v1/routing/assignments/{assignment_id}/explain", response_model=Explanation)
@needs("read")
async def explain(call: Current, assignment_id: str) -> Any:
    """Why this owner: the decision made again from the stored waits and exclusions."""
    return flat.answer(await explanation.explain(call.tx, assignment_id))
