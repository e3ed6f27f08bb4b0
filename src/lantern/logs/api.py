"""Routes of the log."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from lantern.core import http
from lantern.core.errors import BadRequest
from lantern.gate import flat
from lantern.gate.auth import Current
from lantern.gate.limits import needs
from lantern.logs import export, query, service, signing, verify
from lantern.logs.models import (
    Cleaned,
    Cleanup,
    Erase,
    Erased,
    Format,
    Grouping,
    PublicKey,
    Retention,
    RetentionSet,
    Statistics,
    Verified,
)

router = APIRouter(tags=["logs"])

MOST_SEALS = 100_000
Text = Annotated[str | None, Query(min_length=1, max_length=200)]


async def _filters(
    pool: Text = None,
    object: Text = None,
    action: Text = None,
    object_id: Text = None,
    assigned_to: Text = None,
) -> dict[str, str | None]:
    return {
        "pool": pool,
        "object": object,
        "action": action,
        "object_id": object_id,
        "assigned_to": assigned_to,
    }


async def _period(
    first: Annotated[str, Query(alias="from", max_length=40)],
    last: Annotated[str, Query(alias="to", max_length=40)],
) -> query.Period:
    return query.period(first, last)


Filters = Annotated[dict[str, str | None], Depends(_filters)]
Period = Annotated[query.Period, Depends(_period)]
_FILES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, "text/csv": {}}, "description": "Rows, as they come"}
}


@router.get("/v1/logs/routing", responses=_FILES, status_code=200, response_class=http.FileStream)
@needs("read", stream=True)
async def export_rows(  # noqa: PLR0913 - one parameter for each of the query
    call: Current,
    request: Request,
    period: Period,
    filters: Filters,
    format: Format = "json",
    include_diff: bool = True,
    limit: Annotated[int, Query(ge=1, le=query.MOST_ROWS)] = 1000,
    signed: bool = False,
) -> Any:
    """Rows of a period, ascending, as JSON or CSV; streamed."""
    if signed and format == "csv":
        raise BadRequest.field(
            "signed", "is for `format=json`; `lantern logs` signs files", "query"
        )
    wanted = query.read(period, limit=limit, include_diff=include_diff, **filters)
    readers: export.Readers = request.app.state.readers
    keys, tally = signing.keys() if signed else None, export.Tally()
    source = export.body(readers, call.tenant, wanted, format, tally, keys)
    made = await export.Body.begin(source)
    stall = readers.settings.stall_seconds
    if format == "json":
        return http.FileStream(made, stall, "application/json", {})
    headers = {
        "content-disposition": f'attachment; filename="{export.file_name(wanted, format)}"',
        "x-log-truncated": str(tally.truncated).lower(),
    }
    return http.FileStream(made, stall, "text/csv", headers)


@router.get("/v1/logs/routing/stats", response_model=Statistics)
@router.get("/v1/logs/stats", response_model=Statistics)
@needs("read")
async def statistics(
    call: Current, period: Period, filters: Filters, group_by: Grouping = "action"
) -> Any:
    """How many rows there are, by action, object, pool, user and day."""
    wanted = query.read(period, limit=None, include_diff=False, **filters)
    return flat.answer(await service.statistics(call.tx, wanted, group_by))


@router.get("/v1/logs/retention", response_model=Retention)
@needs("read")
async def get_retention(call: Current) -> Any:
    """How long the log is kept, and when the next clean-up is."""
    return flat.answer(await service.retention(call.tx))


@router.put("/v1/logs/retention", response_model=Retention)
@needs("admin")
async def set_retention(call: Current, body: RetentionSet) -> Any:
    """Change how long the log is kept."""
    await service.set_retention(call, body)
    return flat.answer(await service.retention(call.tx))


@router.post("/v1/logs/retention/cleanup", response_model=Cleaned)
@needs("admin")
async def clean_up(call: Current, body: Cleanup | None = None) -> Any:
    """What a clean-up would remove or, with `dry_run: false`, remove it."""
    dry = body is None or body.dry_run
    return flat.answer(await (service.preview(call.tx) if dry else service.clean(call)))


@router.post("/v1/logs/erase", response_model=Erased)
@needs("admin")
async def erase(call: Current, body: Erase) -> Any:
    """Remove every row about these records; their seals stay."""
    return flat.answer(await service.erase_on_request(call, body.object_ids))


@router.get("/v1/logs/verify", response_model=Verified)
@needs("admin", stream=True)
async def check(
    call: Current,
    request: Request,
    after: Annotated[int, Query(ge=0, lt=1 << 62)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_SEALS)] = MOST_SEALS,
) -> Any:
    """Check the chain behind a place, `limit` seals at most; `head` says where to go on."""
    readers: export.Readers = request.app.state.readers
    async with readers.snapshot(call.tenant) as tx:
        report = await verify.walk(tx, call.tenant, signing.keys(), after, limit)
    return flat.answer(service.shown(report))


@router.get("/v1/logs/key", response_model=PublicKey)
@needs("read")
async def public_key(_call: Current) -> Any:
    """The public key that signs exports, erasures and checkpoints."""
    return flat.answer(service.public_key(signing.keys()))
