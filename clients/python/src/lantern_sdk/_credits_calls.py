"""The operations of credits as values."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ._calls import Call, given, jsonable, nothing, once, path_of, query
from ._credits_models import (
    Cap,
    Day,
    Estimate,
    Price,
    Receipt,
    ReceiptFilters,
    Remaining,
    Tariff,
    Usage,
    UsageFilters,
)
from ._models import Page

Credits = Decimal | int | float


def remaining() -> Call[Remaining]:
    """GET /v1/credits/remaining."""
    return Call("GET", path_of("credits", "remaining"), Remaining.model_validate)


def usage(start: Day, end: Day, group_by: str | None, filters: UsageFilters) -> Call[Usage]:
    """GET /v1/credits/usage."""
    params = query(start_date=start, end_date=end, group_by=group_by, **filters)
    return Call("GET", path_of("credits", "usage"), Usage.model_validate, params=params)


def list_receipts(filters: ReceiptFilters, page: int, per_page: int) -> Call[Page[Receipt]]:
    """GET /v1/credits/receipts, one page."""
    params = query(**filters, page=page, per_page=per_page)
    read = Page[Receipt].model_validate
    return Call("GET", path_of("credits", "receipts"), read, params=params)


def get_receipt(receipt_id: str) -> Call[Receipt]:
    """GET /v1/credits/receipts/{id}."""
    return Call("GET", path_of("credits", "receipts", receipt_id), Receipt.model_validate)


def tariff() -> Call[list[Price]]:
    """GET /v1/credits/tariff."""

    def read(answer: Any) -> list[Price]:
        return Tariff.model_validate(answer).tariff

    return Call("GET", path_of("credits", "tariff"), read)


def set_price(operation: str, item: str, credits: Credits, charge_on: str | None) -> Call[Price]:
    """PUT /v1/credits/tariff/{operation}/{item}."""
    body = jsonable(given(credits=credits, charge_on=charge_on))
    return Call("PUT", path_of("credits", "tariff", operation, item), Price.model_validate, body)


def unset_price(operation: str, item: str) -> Call[Price]:
    """DELETE /v1/credits/tariff/{operation}/{item}."""
    return Call("DELETE", path_of("credits", "tariff", operation, item), Price.model_validate)


def create_cap(scope: str, period: str, credits: Credits, subject: str | None) -> Call[Cap]:
    """POST /v1/credits/caps."""
    body = jsonable(given(scope=scope, subject=subject, period=period, credits=credits))
    return Call("POST", path_of("credits", "caps"), Cap.model_validate, body, headers=once())


def list_caps(page: int, per_page: int) -> Call[Page[Cap]]:
    """GET /v1/credits/caps, one page."""
    params = query(page=page, per_page=per_page)
    return Call("GET", path_of("credits", "caps"), Page[Cap].model_validate, params=params)


def delete_cap(cap_id: str) -> Call[None]:
    """DELETE /v1/credits/caps/{id}."""
    return Call("DELETE", path_of("credits", "caps", cap_id), nothing)


def estimate(operation: str, request: Mapping[str, Any], count: int) -> Call[Estimate]:
    """POST /v1/credits/estimate."""
    body = jsonable(given(operation=operation, request=request, count=count))
    path = path_of("credits", "estimate")
    return Call("POST", path, Estimate.model_validate, body, again=True)
