"""`client.credits`: names for the calls, blocking and for asyncio."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Unpack

from . import _credits_calls as _calls
from ._credits_calls import Credits as Amount
from ._credits_models import (
    Cap,
    Day,
    Estimate,
    Price,
    Receipt,
    ReceiptFilters,
    Remaining,
    Usage,
    UsageFilters,
)
from ._transport import AsyncTransport, Transport


class Caps:
    """What the account, a key or a tag may use in a period; changes need scope `admin`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._send = transport.send

    def create(
        self, scope: str, period: str, credits: Amount, *, subject: str | None = None
    ) -> Cap:
        """Add a cap; `subject`: the id of a key, or a tag as key=value."""
        return self._send(_calls.create_cap(scope, period, credits, subject))

    def list(self, *, per_page: int = 100) -> Iterator[Cap]:
        """All caps, oldest first; pages are fetched as the iteration goes."""
        return self._transport.pages(lambda page: _calls.list_caps(page, per_page))

    def delete(self, cap_id: str) -> None:
        """Remove a cap."""
        self._send(_calls.delete_cap(cap_id))


class Credits:
    """What operations cost, what was used, what is left. Nothing here costs credits."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._send = transport.send
        self.caps = Caps(transport)

    def remaining(self) -> Remaining:
        """What is left, and the sum of all grants."""
        return self._send(_calls.remaining())

    def usage(
        self, start: Day, end: Day, *, group_by: str | None = None, **filters: Unpack[UsageFilters]
    ) -> Usage:
        """What was used from `start` to the whole of `end`, in groups with `group_by`."""
        return self._send(_calls.usage(start, end, group_by, filters))

    def receipts(
        self, *, per_page: int = 100, **filters: Unpack[ReceiptFilters]
    ) -> Iterator[Receipt]:
        """Every movement of the balance, newest first; pages are fetched as the iteration goes."""
        return self._transport.pages(lambda page: _calls.list_receipts(filters, page, per_page))

    def receipt(self, receipt_id: str) -> Receipt:
        """One movement with its steps; NotFound."""
        return self._send(_calls.get_receipt(receipt_id))

    def tariff(self) -> list[Price]:
        """Every price that holds for this tenant."""
        return self._send(_calls.tariff())

    def set_price(
        self, operation: str, item: str, credits: Amount, *, charge_on: str | None = None
    ) -> Price:
        """Set a price of this tenant's own; Forbidden where the operator keeps the prices."""
        return self._send(_calls.set_price(operation, item, credits, charge_on))

    def unset_price(self, operation: str, item: str) -> Price:
        """Go back to the default price."""
        return self._send(_calls.unset_price(operation, item))

    def estimate(
        self, operation: str, request: Mapping[str, Any] | None = None, *, count: int = 1
    ) -> Estimate:
        """What calls of an operation would cost; `request` is a body of the operation."""
        return self._send(_calls.estimate(operation, request or {}, count))


class AsyncCaps:
    """What the account, a key or a tag may use in a period; changes need scope `admin`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._send = transport.send

    async def create(
        self, scope: str, period: str, credits: Amount, *, subject: str | None = None
    ) -> Cap:
        """Add a cap; `subject`: the id of a key, or a tag as key=value."""
        return await self._send(_calls.create_cap(scope, period, credits, subject))

    def list(self, *, per_page: int = 100) -> AsyncIterator[Cap]:
        """All caps, oldest first; pages are fetched as the iteration goes."""
        return self._transport.pages(lambda page: _calls.list_caps(page, per_page))

    async def delete(self, cap_id: str) -> None:
        """Remove a cap."""
        await self._send(_calls.delete_cap(cap_id))


class AsyncCredits:
    """What operations cost, what was used, what is left. Nothing here costs credits."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._send = transport.send
        self.caps = AsyncCaps(transport)

    async def remaining(self) -> Remaining:
        """What is left, and the sum of all grants."""
        return await self._send(_calls.remaining())

    async def usage(
        self, start: Day, end: Day, *, group_by: str | None = None, **filters: Unpack[UsageFilters]
    ) -> Usage:
        """What was used from `start` to the whole of `end`, in groups with `group_by`."""
        return await self._send(_calls.usage(start, end, group_by, filters))

    def receipts(
        self, *, per_page: int = 100, **filters: Unpack[ReceiptFilters]
    ) -> AsyncIterator[Receipt]:
        """Every movement of the balance, newest first; pages are fetched as the iteration goes."""
        return self._transport.pages(lambda page: _calls.list_receipts(filters, page, per_page))

    async def receipt(self, receipt_id: str) -> Receipt:
        """One movement with its steps; NotFound."""
        return await self._send(_calls.get_receipt(receipt_id))

    async def tariff(self) -> list[Price]:
        """Every price that holds for this tenant."""
        return await self._send(_calls.tariff())

    async def set_price(
        self, operation: str, item: str, credits: Amount, *, charge_on: str | None = None
    ) -> Price:
        """Set a price of this tenant's own; Forbidden where the operator keeps the prices."""
        return await self._send(_calls.set_price(operation, item, credits, charge_on))

    async def unset_price(self, operation: str, item: str) -> Price:
        """Go back to the default price."""
        return await self._send(_calls.unset_price(operation, item))

    async def estimate(
        self, operation: str, request: Mapping[str, Any] | None = None, *, count: int = 1
    ) -> Estimate:
        """What calls of an operation would cost; `request` is a body of the operation."""
        return await self._send(_calls.estimate(operation, request or {}, count))
