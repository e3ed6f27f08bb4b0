"""Credits: what is left, what was used and for what, prices, caps, estimates.

URLs: /v1/credits. Tables: tenant_tariff, credit_caps, credit_cap_uses, credit_days; it reads credit_ledger, which
the gate writes.
"""

from lantern.credits.models import CapCreate, Estimate, Filters, PriceChange, Span, span
from lantern.credits.reading import MEAN_DAYS, Day, Pace, browse, daily, pace
from lantern.credits.service import (
    add_cap,
    caps,
    check_may_price,
    estimate,
    prices,
    receipt,
    receipts,
    remove_cap,
    set_price,
    unset_price,
    usage,
)

__all__ = [
    "MEAN_DAYS",
    "CapCreate",
    "Day",
    "Estimate",
    "Filters",
    "Pace",
    "PriceChange",
    "Span",
    "add_cap",
    "browse",
    "caps",
    "check_may_price",
    "daily",
    "estimate",
    "pace",
    "prices",
    "receipt",
    "receipts",
    "remove_cap",
    "set_price",
    "span",
    "unset_price",
    "usage",
]
