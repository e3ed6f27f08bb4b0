"""What reports, prices, caps and estimates look like on the wire, their queries included."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from lantern.core.errors import BadRequest
from lantern.core.times import moment
from lantern.gate.flat import Body
from lantern.gate.tariff import ChargeOn

MOST_CREDITS = 10**13  # the ledger's numbers end below 10^14

Kind = Literal["grant", "charge", "reserve", "settle", "release"]
CapScope = Literal["account", "key", "tag"]
Period = Literal["day", "month", "total"]


def _number(value: Any) -> Any:
    # 1.1 becomes the decimal that was written, not the binary fraction beside it.
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise PydanticCustomError("number", "Input should be a number")
    return str(value) if isinstance(value, float) else value


Exact = BeforeValidator(_number)
PriceCredits = Annotated[Decimal, Exact, Field(ge=0, le=1_000_000, decimal_places=4)]


class PriceChange(Body):
    """Body of `PUT /v1/credits/tariff/{operation}/{item}`."""

    credits: PriceCredits
    charge_on: ChargeOn | None = None


class CapCreate(Body):
    """Body of `POST /v1/credits/caps`. `subject`: a key's id, or a tag as key=value."""

    scope: CapScope
    subject: Annotated[str, Field(min_length=1, max_length=321)] | None = None
    period: Period
    credits: Annotated[Decimal, Exact, Field(ge=0, le=MOST_CREDITS, decimal_places=4)]


class Estimate(Body):
    """Body of `POST /v1/credits/estimate`; `request` is a body of the operation."""

    operation: Annotated[str, Field(min_length=1, max_length=100)]
    request: dict[str, Any] = {}
    count: Annotated[int, Field(ge=1, le=1_000_000)] = 1


@dataclass(frozen=True, slots=True)
class Span:
    """Moments from `start` to before `end`, UTC; None: open."""

    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows of the ledger a report is about."""

    workflow_id: str | None = None
    run_id: str | None = None
    key_id: str | None = None
    operation: str | None = None
    kind: str | None = None
    custom_key: str | None = None
    custom_value: str | None = None

    def within(self, span: Span) -> dict[str, Any]:
        """As the store takes them. Raises BadRequest for a value without its key."""
        if self.custom_value is not None and self.custom_key is None:
            raise BadRequest.field("custom_value", "needs custom_key", "query")
        given = {name: getattr(self, name) for name in self.__slots__}
        for name, value in given.items():
            if value is not None and "\0" in value:
                raise BadRequest.field(name, "May not contain the character NUL", "query")
        return {**given, "start": span.start, "end": span.end}


def span(
    start: str | None, end: str | None, names: tuple[str, str] = ("start_date", "end_date")
) -> Span:
    """ISO dates or date-times; a date as the end means its whole day. Raises BadRequest."""
    first = None if start is None else moment(names[0], start)
    last = None if end is None else moment(names[1], end, end=True, after=True)
    if first is not None and last is not None and last <= first:
        raise BadRequest.field(names[1], f"lies before {names[0]}", "query")
    return Span(first, last)


class Line(NamedTuple):
    """An item of an estimate, for all calls together."""

    item: str
    credits: Decimal
    charge_on: ChargeOn
    at_most: Decimal
    expected: Decimal


class Remaining(BaseModel):
    """Answer of `GET /v1/credits/remaining`."""

    success: Literal[True]
    tenant_id: int
    remaining_credits: float
    total_credits: float


class UsageGroup(BaseModel):
    """Part of a usage. `others`: how many groups this one stands for, where there are too many."""

    value: str | None
    credits: float
    others: int | None = None


class Usage(BaseModel):
    """Answer of `GET /v1/credits/usage`; the groups add up to `credits_used`."""

    success: Literal[True]
    tenant_id: int
    start_date: str
    end_date: str
    credits_used: float
    groups: list[UsageGroup] | None = None


class Receipt(BaseModel):
    """A row of the ledger: what moved the balance, by how much, for what."""

    id: str
    kind: Kind
    amount: float
    used: float
    balance_after: float
    ref: str
    operation: str | None
    workflow_id: str | None
    workflow_run_id: str | None
    key_id: str | None
    tags: dict[str, str]
    steps: list[dict[str, Any]]
    created_at: str


class OneReceipt(Receipt):
    """Answer of `GET /v1/credits/receipts/{id}`."""

    success: Literal[True]


class Receipts(BaseModel):
    """A page of receipts, newest first."""

    success: Literal[True]
    receipts: list[Receipt]
    total: int
    page: int
    per_page: int


class TariffPrice(BaseModel):
    """A price. `default_*`: what holds without a price of the tenant's own."""

    operation: str
    item: str
    credits: float
    charge_on: ChargeOn
    own: bool
    default_credits: float
    default_charge_on: ChargeOn
    description: str


class OnePrice(TariffPrice):
    """Answer of a change of a price."""

    success: Literal[True]


class Tariff(BaseModel):
    """Answer of `GET /v1/credits/tariff`."""

    success: Literal[True]
    tariff: list[TariffPrice]


class Cap(BaseModel):
    """A cap, with what counts against it in the running period."""

    id: str
    scope: CapScope
    subject: str | None
    period: Period
    credits: float
    used: float
    left: float
    period_started_at: str | None
    created_at: str


class OneCap(Cap):
    """Answer of `POST /v1/credits/caps`."""

    success: Literal[True]


class Caps(BaseModel):
    """A page of caps, oldest first."""

    success: Literal[True]
    caps: list[Cap]
    total: int
    page: int
    per_page: int


class Removed(BaseModel):
    """Answer of a removal."""

    success: Literal[True]
    id: str


class EstimateItem(BaseModel):
    """`Line` on the wire."""

    item: str
    credits: float
    charge_on: ChargeOn
    at_most: float
    expected: float


class BasedOn(BaseModel):
    """Whose past an estimate rests on: charges of the operation in the last days."""

    charges: int
    days: int


class Estimated(BaseModel):
    """Answer of `POST /v1/credits/estimate`. `reason`: why `at_most_credits` would be refused."""

    success: Literal[True]
    operation: str
    count: int
    at_most_credits: float
    expected_credits: float
    based_on: BasedOn
    items: list[EstimateItem]
    affordable: bool
    reason: str | None = None
