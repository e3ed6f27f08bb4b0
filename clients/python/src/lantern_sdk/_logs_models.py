"""The log's rows, counts, retention and chain, typed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from pydantic import Field

from ._models import Model


class LogRow(Model):
    """One decision, as it was written down; without `include_diff` the `diff` is None."""

    timestamp: datetime
    object: str
    object_id: str
    action: str
    pool: str | None = None
    assigned_to: str | None = None
    prev_owner: str | None = None
    sequence: int | None = None
    reason: str | None = None
    request_id: str | None = None
    idempotency_key: str | None = None
    diff: Any = None


class ExportSummary(Model):
    """What an export says behind its rows; `truncated`: there are more than `limit`."""

    count: int
    total: int
    truncated: bool
    signature: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CsvExport:
    """A CSV file that was written; `truncated`: rows beyond `limit` are not in it."""

    size: int
    truncated: bool


class GroupCount(Model):
    """How many rows a group has."""

    key: str
    count: int


class DayCount(Model):
    """How many rows a day has."""

    date: str
    count: int


class LogStats(Model):
    """Counts over a period."""

    start: str = Field(validation_alias="from")
    end: str = Field(validation_alias="to")
    total: int
    group_by: str
    groups: list[GroupCount]
    by_action: dict[str, int]
    by_object: dict[str, int]
    by_pool: dict[str, int]
    by_user: dict[str, int]
    by_day: list[DayCount]


class Retention(Model):
    """How long the log is kept."""

    retention_days: int
    cleanup_cron: str
    per_action: dict[str, int | None] = {}
    last_cleanup_at: datetime | None = None
    next_cleanup_at: datetime | None = None
    deleted_last_run: int | None = None


class Cleaned(Model):
    """What a clean-up removed, or would remove; `pending`: a job removes the rest."""

    dry_run: bool
    deleted: int
    by_action: dict[str, int] = {}
    oldest_kept: datetime | None = None
    partitions_dropped: list[str] = []
    pending: bool = False


class ChainPlace(Model):
    """A place of the chain and the link there."""

    chain_seq: int
    link: str


class Checkpoint(ChainPlace):
    """A signed place that stands for the links before it."""

    at: datetime
    key_id: str


class ChainProblem(Model):
    """Where and how the chain is broken."""

    kind: str
    message: str
    chain_seq: int | None = None
    row_id: int | None = None


class Verified(Model):
    """The state of the chain; not `complete`: go on with `after=head.chain_seq`."""

    intact: bool
    complete: bool
    checked: int
    rows: int
    erased: dict[str, int] = {}
    unsealed: int
    first: int
    head: ChainPlace
    checkpoint: Checkpoint | None = None
    problem: ChainProblem | None = None


class LogFilters(TypedDict, total=False):
    """Which rows."""

    pool: str
    object: str
    action: str
    object_id: str
    assigned_to: str


class CsvOptions(LogFilters, total=False):
    """Which rows, how many at most, and whether with what changed."""

    include_diff: bool
    limit: int


class ExportOptions(CsvOptions, total=False):
    """As for CSV, and whether the server signs the rows."""

    signed: bool


class RetentionChanges(TypedDict, total=False):
    """What `retention.put` takes; what is left out stays as it is."""

    retention_days: int
    cleanup_cron: str
    per_action: dict[str, int | None]
