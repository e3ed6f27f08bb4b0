"""The log as JSON or CSV, made while it is read: memory does not grow with the rows."""

import asyncio
import csv
import hashlib
import io
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from lantern.core import clock
from lantern.core.db import Database, Tx
from lantern.core.errors import Unavailable
from lantern.logs import signing, store
from lantern.logs.models import Format
from lantern.logs.query import Query
from lantern.logs.signing import Keys
from lantern.settings import LogsSettings

NAMES = (
    "timestamp",
    "object",
    "object_id",
    "action",
    "pool",
    "assigned_to",
    "prev_owner",
    "sequence",
    "reason",
    "request_id",
    "idempotency_key",
    "diff",
)
RETRY_SECONDS = 5
_FORMULA = tuple("=+-@\t\r")


class Readers:
    """Long reads of this process: a few at once, on connections that no request waits for."""

    def __init__(self, db: Database, settings: LogsSettings) -> None:
        self.db = db
        self.settings = settings
        self._turns = asyncio.Semaphore(settings.readers)

    @asynccontextmanager
    async def snapshot(self, tenant: int) -> AsyncIterator[Tx]:
        """A tenant's log as it is now. Raises `Unavailable` when no turn comes in time."""
        try:
            async with asyncio.timeout(self.settings.wait_seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable(
                "Too many exports run at once; try again",
                headers={"Retry-After": str(RETRY_SECONDS)},
            ) from None
        try:
            async with self.db.reading(tenant) as tx:
                yield tx
        finally:
            self._turns.release()


@dataclass
class Tally:
    """What has gone out: complete once the source has ended (a truncated CSV has no total)."""

    count: int = 0
    total: int = 0
    truncated: bool = False
    sha256: Any = field(default_factory=hashlib.sha256)  # over the rows, brackets included


class Body:
    """A body whose first part is there already, so that what fails at once fails before it."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        self._first = first
        self._rest = rest

    @classmethod
    async def begin(cls, source: AsyncGenerator[bytes, None]) -> "Body":
        """Wait for the first part."""
        return cls(await anext(source), source)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        async for part in self._rest:
            yield part

    async def aclose(self) -> None:
        """Give back what the source holds."""
        await self._rest.aclose()


async def body(
    readers: Readers,
    tenant: int,
    query: Query,
    kind: Format,
    tally: Tally,
    signer: Keys | None = None,
) -> AsyncGenerator[bytes, None]:
    """The answer of an export: a JSON envelope, with `signer` signed, or a CSV file."""
    async with readers.snapshot(tenant) as tx:
        parts = as_csv(tx, query, tally) if kind == "csv" else as_json(tx, query, tally)
        async with aclosing(parts):
            async for part in parts:
                yield part
        if kind == "json":
            if signer:
                said = await statement(tx, tenant, query, tally, tally.sha256.hexdigest())
                signed = orjson.dumps(signature(signer, {**said, "covers": "logs"}))
                yield b',"signature":' + signed
            yield b"}"


async def as_json(tx: Tx, query: Query, tally: Tally) -> AsyncGenerator[bytes, None]:
    """The envelope but for its closing brace. What has to be counted comes behind the rows."""
    given = {"success": True, "from": query.period.first, "to": query.period.last}
    yield orjson.dumps(given)[:-1] + b',"logs":'
    lead = b"["
    async with aclosing(store.rows(tx, query)) as pages:
        async for page in pages:
            rows = [_entry(row, query.include_diff) for row in page]
            part = lead + b",".join(rows)
            lead = b","
            tally.count += len(page)
            tally.sha256.update(part)
            yield part
    end = b"[]" if lead == b"[" else b"]"
    tally.sha256.update(end)
    await _count(tx, query, tally)
    told = {"count": tally.count, "total": tally.total, "truncated": tally.truncated}
    yield end + b"," + orjson.dumps(told)[1:-1]


async def as_csv(tx: Tx, query: Query, tally: Tally) -> AsyncGenerator[bytes, None]:
    """RFC 4180, with a header; no cell is a formula to a spreadsheet.

    Whether rows are left out is known before the first part: only a header of HTTP can say it.
    """
    tally.truncated = query.limit is not None and await store.has_more(tx, query)
    yield ",".join(NAMES).encode() + b"\r\n"
    async with aclosing(store.rows(tx, query)) as pages:
        async for page in pages:
            text = io.StringIO()
            csv.writer(text, lineterminator="\r\n").writerows(
                [clock.iso(row[0]), *map(_cell, row[1:])] for row in page
            )
            tally.count += len(page)
            yield text.getvalue().encode()
    if not tally.truncated:
        tally.total = tally.count


def _entry(row: tuple[Any, ...], include_diff: bool) -> bytes:
    entry = dict(zip(NAMES, row, strict=True))
    entry["timestamp"] = clock.iso(row[0])
    diff = entry.pop("diff")
    if include_diff:
        entry["diff"] = None if diff is None else orjson.Fragment(diff)
    return orjson.dumps(entry)


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


async def _count(tx: Tx, query: Query, tally: Tally) -> None:
    full = query.limit is not None and tally.count >= query.limit
    tally.total = await store.count(tx, query) if full else tally.count
    tally.truncated = tally.total > tally.count


def file_name(query: Query, kind: Format) -> str:
    """`route-logs-<from>-<to>.csv`, without what file systems refuse."""
    period = f"{query.period.first}-{query.period.last}"
    return f"route-logs-{period.replace(':', '').replace(' ', '')}.{kind}"


# ---------------------------------------------------------------- signatures
async def statement(tx: Tx, tenant: int, query: Query, tally: Tally, sha256: str) -> dict[str, Any]:
    """What a signature says: which bytes, what was asked for, where the chain ended."""
    chain = await store.chain(tx)
    return {
        "tenant": tenant,
        "from": query.period.first,
        "to": query.period.last,
        "filters": query.filters,
        "include_diff": query.include_diff,
        "count": tally.count,
        "total": tally.total,
        "truncated": tally.truncated,
        "sha256": sha256,
        "signed_at": clock.iso(clock.now()),
        "chain": chain and {"chain_seq": chain["chain_seq"], "link": bytes(chain["link"]).hex()},
    }


def signature(keys: Keys, said: dict[str, Any]) -> dict[str, str]:
    """The statement as text, and the signature over exactly this text."""
    text = orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode()
    return {
        "algorithm": "Ed25519",
        "key_id": keys.key_id,
        "public_key": signing.encode(keys.public),
        "statement": text,
        "value": signing.encode(keys.sign(to_sign(text))),
    }


def to_sign(text: str) -> bytes:
    """The bytes that are signed for a statement."""
    return b"lantern-export-1\n" + text.encode()
