"""Routes of credits: none of them costs any."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from lantern import credits
from lantern.core import http
from lantern.credits.models import (
    CapCreate,
    Caps,
    Estimate,
    Estimated,
    Kind,
    OneCap,
    OnePrice,
    OneReceipt,
    PriceChange,
    Receipts,
    Remaining,
    Removed,
    Tariff,
    Usage,
)
from lantern.gate import flat, ledger
from lantern.gate.auth import Current
from lantern.gate.limits import needs

router = APIRouter(tags=["credits"])

Pages = Annotated[http.Page, Depends(http.page)]
Word = Annotated[str | None, Query(max_length=256)]
When = Annotated[str, Query(min_length=1, max_length=40)]
TagKey = Annotated[str | None, Query(max_length=64)]


async def _may_price(request: Request) -> None:
    credits.check_may_price(request.app.state.settings.credits.tenants_set_prices)


@router.get("/v1/credits/remaining", response_model=Remaining)
@needs("read")
async def get_remaining(call: Current) -> Any:
    """What is left, and the sum of all grants."""
    found = await ledger.balance(call.tx, call.tenant)
    return flat.answer(
        {
            "tenant_id": call.tenant,
            "remaining_credits": found.remaining,
            "total_credits": found.granted,
        }
    )


async def _of_use(
    workflow_id: Word = None,
    workflow_run_id: Word = None,
    key_id: Word = None,
    operation: Word = None,
    custom_key: TagKey = None,
    custom_value: Word = None,
) -> credits.Filters:
    return credits.Filters(
        workflow_id=workflow_id,
        run_id=workflow_run_id,
        key_id=key_id,
        operation=operation,
        custom_key=custom_key,
        custom_value=custom_value,
    )


@router.get("/v1/credits/usage", response_model=Usage, response_model_exclude_none=True)
@needs("read")
async def get_usage(
    call: Current,
    start_date: When,
    end_date: When,
    filters: Annotated[credits.Filters, Depends(_of_use)],
    group_by: Annotated[str | None, Query(max_length=70)] = None,
) -> Any:
    """What was used in a time, as a whole or in groups that add up to it."""
    within = filters.within(credits.span(start_date, end_date))
    used = await credits.usage(call.tx, call.tenant, within, group_by)
    echo = {"tenant_id": call.tenant, "start_date": start_date, "end_date": end_date}
    return flat.answer(echo | used)


async def _of_receipts(
    kind: Kind | None = None, operation: Word = None, key_id: Word = None
) -> credits.Filters:
    return credits.Filters(kind=kind, operation=operation, key_id=key_id)


@router.get("/v1/credits/receipts", response_model=Receipts)
@needs("read")
async def list_receipts(
    call: Current,
    page: Pages,
    filters: Annotated[credits.Filters, Depends(_of_receipts)],
    start: Annotated[str | None, Query(alias="from", max_length=40)] = None,
    end: Annotated[str | None, Query(alias="to", max_length=40)] = None,
) -> Any:
    """Every movement of the balance, newest first; their amounts add up to it."""
    within = filters.within(credits.span(start, end, ("from", "to")))
    found, total = await credits.receipts(call.tx, call.tenant, within, page.per_page, page.offset)
    return flat.answer({"receipts": found, "total": total, **page.model_dump()})


@router.get("/v1/credits/receipts/{receipt_id}", response_model=OneReceipt)
@needs("read")
async def get_receipt(call: Current, receipt_id: str) -> Any:
    """One movement, with its steps."""
    return flat.answer(await credits.receipt(call.tx, call.tenant, receipt_id))


@router.get("/v1/credits/tariff", response_model=Tariff)
@needs("read")
async def get_tariff(call: Current) -> Any:
    """Every price that holds for this tenant."""
    return flat.answer({"tariff": await credits.prices(call.tx)})


@router.put(
    "/v1/credits/tariff/{operation}/{item}",
    response_model=OnePrice,
    dependencies=[Depends(_may_price)],
)
@needs("admin")
async def put_price(call: Current, operation: str, item: str, body: PriceChange) -> Any:
    """Set a price of this tenant's own."""
    name = (operation, item)
    return flat.answer(await credits.set_price(call.tx, call.tenant, name, body, call))


@router.delete(
    "/v1/credits/tariff/{operation}/{item}",
    response_model=OnePrice,
    dependencies=[Depends(_may_price)],
)
@needs("admin")
async def delete_price(call: Current, operation: str, item: str) -> Any:
    """Go back to the default price."""
    return flat.answer(await credits.unset_price(call.tx, call.tenant, (operation, item), call))


@router.get("/v1/credits/caps", response_model=Caps)
@needs("read")
async def list_caps(call: Current, page: Pages) -> Any:
    """Caps, with what is used and left of each."""
    found, total = await credits.caps(call.tx, call.tenant, page.per_page, page.offset)
    return flat.answer({"caps": found, "total": total, **page.model_dump()})


@router.post("/v1/credits/caps", status_code=201, response_model=OneCap)
@needs("admin")
async def create_cap(call: Current, body: CapCreate) -> Any:
    """Cap what the account, a key or a tag may use in a period."""
    return flat.answer(await credits.add_cap(call.tx, call.tenant, body, call), 201)


@router.delete("/v1/credits/caps/{cap_id}", response_model=Removed)
@needs("admin")
async def delete_cap(call: Current, cap_id: str) -> Any:
    """Remove a cap."""
    await credits.remove_cap(call.tx, call.tenant, cap_id, call)
    return flat.answer({"id": cap_id})


@router.post("/v1/credits/estimate", response_model=Estimated, response_model_exclude_none=True)
@needs("read")
async def post_estimate(call: Current, body: Estimate) -> Any:
    """What calls of an operation would cost, at most and by this tenant's own past."""
    return flat.answer(await credits.estimate(call, body))
