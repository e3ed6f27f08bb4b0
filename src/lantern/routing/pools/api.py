"""Routes of pools."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from lantern.core import http
from lantern.core.errors import BadRequest
from lantern.gate import flat
from lantern.gate.auth import Current
from lantern.gate.limits import needs
from lantern.routing.pools import service
from lantern.routing.pools.answers import Imported, PoolList, PoolShown, Simulated
from lantern.routing.pools.models import (
    MemberChange,
    MemberFile,
    PoolChange,
    PoolCreate,
    Simulation,
)
from lantern.routing.pools.service import FileRules

router = APIRouter(tags=["routing"])

_FILE = {
    "application/json": {"schema": MemberFile.model_json_schema()},
    "text/csv": {"schema": {"type": "string"}},
}


@router.post("/v1/routing/pools", status_code=201, response_model=PoolShown)
@needs("write")
async def create_pool(call: Current, body: PoolCreate) -> Any:
    """Make a pool."""
    return flat.answer(await service.create(call, body), 201)


@router.get("/v1/routing/pools", response_model=PoolList)
@needs("read")
async def list_pools(
    call: Current,
    page: Annotated[http.Page, Depends(http.page)],
    q: Annotated[str, Query(max_length=100)] = "",
) -> Any:
    """List pools by name; `q` is a part of it."""
    found, total = await service.table(call.tx, _kept(q), page.per_page, page.offset)
    paging = {"total": total, "page": page.page, "per_page": page.per_page}
    return flat.answer({"pools": found, **paging})


@router.get("/v1/routing/pools/{pool}", response_model=PoolShown)
@needs("read")
async def get_pool(call: Current, pool: str) -> Any:
    """A pool with its members, who may be picked now, and who is next."""
    return flat.answer(await service.show(call.tx, _kept(pool)))


@router.put("/v1/routing/pools/{pool}", response_model=PoolShown)
@needs("write")
async def put_pool(call: Current, pool: str, body: PoolChange) -> Any:
    """Replace members and policy; who stays keeps its turns."""
    return flat.answer(await service.put(call, _kept(pool), body))


@router.delete("/v1/routing/pools/{pool}", status_code=204)
@needs("write")
async def delete_pool(call: Current, pool: str) -> Response:
    """Delete a pool; its assignments stay readable."""
    await service.delete(call, _kept(pool))
    return Response(status_code=204)


@router.post(
    "/v1/routing/pools/{pool}/members",
    response_model=Imported,
    openapi_extra={"requestBody": {"required": True, "content": _FILE}},
)
@needs("write")
async def import_members(
    call: Current,
    request: Request,
    pool: str,
    mode: Literal["merge", "replace"] = "merge",
    partial: bool = False,
) -> Any:
    """Add and change members by a CSV file, as `text/csv` or in JSON."""
    text = _text(request.headers.get("content-type", ""), await request.body())
    rules = FileRules(mode == "replace", partial)
    return flat.answer(await service.import_members(call, _kept(pool), text, rules))


@router.patch("/v1/routing/pools/{pool}/members/{user_id}", response_model=PoolShown)
@needs("write")
async def change_member(call: Current, pool: str, user_id: str, body: MemberChange) -> Any:
    """Change any subset of a member."""
    return flat.answer(await service.change_member(call, _kept(pool), _kept(user_id), body))


@router.delete("/v1/routing/pools/{pool}/members/{user_id}", status_code=204)
@needs("write")
async def remove_member(call: Current, pool: str, user_id: str) -> Response:
    """Take a member out of a pool."""
    await service.remove_member(call, _kept(pool), _kept(user_id))
    return Response(status_code=204)


@router.post("/v1/routing/pools/{pool}/simulate", response_model=Simulated)
@needs("write", folds=True)
async def simulate(call: Current, pool: str, body: Simulation) -> Any:
    """Who would have got what, had the pool been another; changes nothing, costs nothing."""
    await call.admit()  # no transaction is held open while it computes
    return flat.answer(await service.simulate(call, _kept(pool), body))


def _text(kind: str, body: bytes) -> str:
    if kind.partition(";")[0].strip().lower() != "text/csv":
        try:
            return MemberFile.model_validate_json(body).csv
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            if faults[0]["type"] == "json_invalid":
                hint = "a file needs `Content-Type: text/csv`, JSON has it in the field `csv`"
                raise BadRequest.field("body", f"is not valid JSON; {hint}") from None
            located = [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
            raise RequestValidationError(located) from None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise BadRequest.field("csv", "is not UTF-8") from None
    if "\0" in text:
        raise BadRequest.field("csv", "may not contain the character NUL")
    return text


def _kept(text: str) -> str:
    """A name from a path or query as Postgres can compare it: none has the character NUL."""
    return text.replace("\0", "\ufffd")
