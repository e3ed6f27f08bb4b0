"""Digest of a row and link of a seal, computed apart from the database.

docs/logs.md defines both. An auditor's program of twenty lines gives the same bytes.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

START = bytes(32)  # what the first link of a chain stands on

# In this order; `salt` is added behind them.
FIELDS = (
    "tenant_id",
    "id",
    "at",
    "action",
    "object",
    "object_id",
    "pool",
    "assigned_to",
    "prev_owner",
    "sequence",
    "reason",
    "request_id",
    "idempotency_key",
    "diff",
)


def canonical(values: Sequence[str | int | datetime | None]) -> bytes:
    """The fields as `<bytes>:<UTF-8>` one behind the other, `-` for null; times to the microsecond."""
    return b"".join(map(_field, values))


def _field(value: str | int | datetime | None) -> bytes:
    if value is None:
        return b"-"
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).replace(tzinfo=None)
        text = f"{moment.isoformat(timespec='microseconds')}Z".encode()
    else:
        text = str(value).encode()
    return b"%d:%b" % (len(text), text)


def digest(values: Sequence[str | int | datetime | None], salt: bytes) -> bytes:
    """SHA-256 of the canonical fields and the salt."""
    return hashlib.sha256(canonical(values) + salt).digest()


def link(previous: bytes, chain_seq: int, row_id: int, row_digest: bytes) -> bytes:
    """SHA-256 of the link before, place and row as 8 bytes each, and the row's digest."""
    place = chain_seq.to_bytes(8, "big") + row_id.to_bytes(8, "big", signed=True)
    return hashlib.sha256(previous + place + row_digest).digest()
