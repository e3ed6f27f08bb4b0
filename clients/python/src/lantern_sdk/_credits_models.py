"""Balance, use, receipts, prices, caps and estimates, typed; credits are exact decimals."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypedDict

from ._models import Model

Day = date | str  # a date-time is a date as well


class Remaining(Model):
    """What is left, and the sum of all grants."""

    remaining_credits: Decimal
    total_credits: Decimal


class UsageGroup(Model):
    """Part of a use; `others`: how many groups it stands for, where there are too many."""

    value: str | None = None
    credits: Decimal
    others: int | None = None


class Usage(Model):
    """What was used in a time; the groups add up to `credits_used`."""

    start_date: str
    end_date: str
    credits_used: Decimal
    groups: list[UsageGroup] = []


class Receipt(Model):
    """A row of the ledger; `kind`: grant, charge, reserve, settle or release."""

    id: str
    kind: str
    amount: Decimal
    """What it added to the balance: below 0 for a charge."""
    used: Decimal
    balance_after: Decimal
    ref: str
    operation: str | None = None
    workflow_id: str | None = None
    workflow_run_id: str | None = None
    key_id: str | None = None
    tags: dict[str, str] = {}
    steps: list[dict[str, Any]] = []
    created_at: datetime


class Price(Model):
    """A price; `default_*`: what holds without a price of the tenant's own."""

    operation: str
    item: str
    credits: Decimal
    charge_on: str
    own: bool
    default_credits: Decimal
    default_charge_on: str
    description: str = ""


class Tariff(Model):
    """Every price that holds for this tenant."""

    tariff: list[Price]


class Cap(Model):
    """A cap with what counts against it now; `scope`: account, key or tag, `period`: day, month, total."""

    id: str
    scope: str
    subject: str | None = None
    period: str
    credits: Decimal
    used: Decimal
    left: Decimal
    period_started_at: datetime | None = None
    created_at: datetime


class EstimateItem(Model):
    """An item of the tariff, for all calls together."""

    item: str
    credits: Decimal
    charge_on: str
    at_most: Decimal
    expected: Decimal


class BasedOn(Model):
    """The past an estimate rests on: charges of the operation in the last days."""

    charges: int
    days: int


class Estimate(Model):
    """What calls would cost; `reason`: why `at_most_credits` would be refused."""

    operation: str
    count: int
    at_most_credits: Decimal
    expected_credits: Decimal
    based_on: BasedOn
    items: list[EstimateItem]
    affordable: bool
    reason: str | None = None


class UsageFilters(TypedDict, total=False):
    """Which use."""

    workflow_id: str
    workflow_run_id: str
    key_id: str
    operation: str
    custom_key: str
    custom_value: str


class ReceiptFilters(TypedDict, total=False):
    """Which receipts; a date as `end` means its whole day."""

    kind: str
    operation: str
    key_id: str
    start: Day
    end: Day
