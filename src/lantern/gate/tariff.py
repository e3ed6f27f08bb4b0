"""What things cost: prices are rows, by operation and item; here is how an operation reads them.

An operation registers how a request of it maps to items, so that `POST /v1/credits/estimate` can
say beforehand what a call would cost. Prices are never constants in code: a tenant's own row wins
over the operator's, which wins over the one a migration brought.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from lantern.core.db import Tx
from lantern.core.errors import BadRequest, Internal

ChargeOn = Literal["success", "query"]
Items = Callable[[Mapping[str, Any]], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Price:
    """Credits for one item. `charge_on` `query`: a miss is charged too; `success`: a hit alone."""

    credits: Decimal
    charge_on: ChargeOn

    def of(self, *, hit: bool) -> Decimal:
        """What to charge once it is known whether something was found."""
        return self.credits if hit or self.charge_on == "query" else Decimal(0)


@dataclass(frozen=True, slots=True)
class Operation:
    """A priced operation. `items` gives for a request how often each item is charged at most."""

    name: str
    describe: str
    items: Items
    certain: frozenset[str]  # items that are charged whenever a request has them


_known: dict[str, Operation] = {}


def register(name: str, describe: str, items: Items, certain: Collection[str] = ()) -> Operation:
    """Make an operation known to estimates; `items` raises BadRequest for a wrong request."""
    operation = Operation(name, describe, items, frozenset(certain))
    _known[name] = operation
    return operation


def find(name: str) -> Operation:
    """A registered operation. Raises BadRequest listing those there are."""
    if name not in _known:
        names = ", ".join(sorted(_known)) or "none"
        raise BadRequest.field("operation", f"unknown; known are: {names}")
    return _known[name]


async def prices(tx: Tx, operation: str) -> dict[str, Price]:
    """Every item's price for the tenant of this transaction."""
    rows = await tx.all(
        "select t.item, p.credits, p.charge_on from tariff t,"
        " lateral price(t.operation, t.item) p where t.operation = %s",
        (operation,),
    )
    return {row["item"]: Price(row["credits"], row["charge_on"]) for row in rows}


async def price(tx: Tx, operation: str, item: str) -> Price:
    """One item's price for the tenant of this transaction."""
    row = await tx.one("select credits, charge_on from price(%s, %s)", (operation, item))
    if row is None or row["credits"] is None:
        raise Internal(f"no migration gives a price for {operation} {item}")
    return Price(row["credits"], row["charge_on"])
