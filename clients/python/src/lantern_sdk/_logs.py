"""`client.logs`: names for the calls, blocking and for asyncio; exports are read as they come."""

from collections.abc import AsyncIterator, Iterator
from typing import IO, Unpack

from . import _logs_calls as _calls
from ._calls import Call
from ._credits_models import Day
from ._logs_models import (
    Cleaned,
    CsvExport,
    CsvOptions,
    ExportOptions,
    ExportSummary,
    LogFilters,
    LogRow,
    LogStats,
    Retention,
    RetentionChanges,
    Verified,
)
from ._rows import RowReader
from ._transport import AsyncTransport, Transport


class RowExport:
    """Iterate for rows; after the last one `summary` is there. Each iteration asks anew."""

    def __init__(self, transport: Transport, call: Call[None]) -> None:
        self.summary: ExportSummary | None = None
        self._transport = transport
        self._call = call

    def __iter__(self) -> Iterator[LogRow]:
        reader = RowReader()
        with self._transport.download(self._call) as response:
            for chunk in response.iter_bytes():
                yield from reader.feed(chunk)
        self.summary = reader.end()


class LogRetention:
    """How long the log is kept; changes need scope `admin`."""

    def __init__(self, transport: Transport) -> None:
        self._send = transport.send

    def get(self) -> Retention:
        """How long, and when the next clean-up is."""
        return self._send(_calls.get_retention())

    def put(self, **changes: Unpack[RetentionChanges]) -> Retention:
        """Change how long the log is kept, by action where `per_action` says so."""
        return self._send(_calls.put_retention(changes))


class Logs:
    """The log of decisions: append-only, chained, kept for a time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._send = transport.send
        self.retention = LogRetention(transport)

    def export(self, start: Day, end: Day, **options: Unpack[ExportOptions]) -> RowExport:
        """Rows of a period, ascending, read as they come; a date as `end` counts whole."""
        return RowExport(self._transport, _calls.export(start, end, options))

    def export_csv(
        self, file: IO[bytes], start: Day, end: Day, **options: Unpack[CsvOptions]
    ) -> CsvExport:
        """Write the rows of a period to `file` as CSV."""
        with self._transport.download(_calls.export_csv(start, end, options)) as response:
            size = sum(file.write(chunk) for chunk in response.iter_bytes())
            return CsvExport(size, response.headers.get("x-log-truncated") == "true")

    def stats(
        self, start: Day, end: Day, *, group_by: str = "action", **filters: Unpack[LogFilters]
    ) -> LogStats:
        """How many rows there are, by action, object, pool, user and day."""
        return self._send(_calls.stats(start, end, group_by, filters))

    def cleanup(self, *, dry_run: bool = True) -> Cleaned:
        """What a clean-up would remove or, with `dry_run=False`, remove it; scope `admin`."""
        return self._send(_calls.clean_up(dry_run))

    def verify(self, *, after: int = 0, limit: int | None = None) -> Verified:
        """Check the chain behind a place, `limit` links at most; scope `admin`."""
        return self._send(_calls.verify(after, limit))


class AsyncRowExport:
    """Iterate for rows; after the last one `summary` is there. Each iteration asks anew."""

    def __init__(self, transport: AsyncTransport, call: Call[None]) -> None:
        self.summary: ExportSummary | None = None
        self._transport = transport
        self._call = call

    async def __aiter__(self) -> AsyncIterator[LogRow]:
        reader = RowReader()
        async with self._transport.download(self._call) as response:
            async for chunk in response.aiter_bytes():
                for row in reader.feed(chunk):
                    yield row
        self.summary = reader.end()


class AsyncLogRetention:
    """How long the log is kept; changes need scope `admin`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._send = transport.send

    async def get(self) -> Retention:
        """How long, and when the next clean-up is."""
        return await self._send(_calls.get_retention())

    async def put(self, **changes: Unpack[RetentionChanges]) -> Retention:
        """Change how long the log is kept, by action where `per_action` says so."""
        return await self._send(_calls.put_retention(changes))


class AsyncLogs:
    """The log of decisions: append-only, chained, kept for a time."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._send = transport.send
        self.retention = AsyncLogRetention(transport)

    def export(self, start: Day, end: Day, **options: Unpack[ExportOptions]) -> AsyncRowExport:
        """Rows of a period, ascending, read as they come; a date as `end` counts whole."""
        return AsyncRowExport(self._transport, _calls.export(start, end, options))

    async def export_csv(
        self, file: IO[bytes], start: Day, end: Day, **options: Unpack[CsvOptions]
    ) -> CsvExport:
        """Write the rows of a period to `file` as CSV."""
        async with self._transport.download(_calls.export_csv(start, end, options)) as response:
            size = 0
            async for chunk in response.aiter_bytes():
                size += file.write(chunk)
            return CsvExport(size, response.headers.get("x-log-truncated") == "true")

    async def stats(
        self, start: Day, end: Day, *, group_by: str = "action", **filters: Unpack[LogFilters]
    ) -> LogStats:
        """How many rows there are, by action, object, pool, user and day."""
        return await self._send(_calls.stats(start, end, group_by, filters))

    async def cleanup(self, *, dry_run: bool = True) -> Cleaned:
        """What a clean-up would remove or, with `dry_run=False`, remove it; scope `admin`."""
        return await self._send(_calls.clean_up(dry_run))

    async def verify(self, *, after: int = 0, limit: int | None = None) -> Verified:
        """Check the chain behind a place, `limit` links at most; scope `admin`."""
        return await self._send(_calls.verify(after, limit))
