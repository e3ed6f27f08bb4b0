"""What the log looks like on the wire."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from lantern.core.http import Model
from lantern.gate import flat

Days = Annotated[int, Field(ge=1, le=3650)]
Format = Literal["json", "csv"]
Grouping = Literal["action", "object", "pool", "user", "day"]
RecordId = Annotated[str, Field(min_length=1, max_length=200)]


class PerAction(Model):
    """Days for one action; null: as all others."""

    assign: Days | None = None
    convert: Days | None = None
    merge: Days | None = None
    enrich: Days | None = None


class RetentionSet(flat.Body):
    """Body of `PUT /v1/logs/retention`: what is not named stays as it is."""

    retention_days: Days | None = None
    cleanup_cron: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    per_action: PerAction | None = None


class Cleanup(flat.Body):
    """Body of `POST /v1/logs/retention/cleanup`."""

    dry_run: bool = True


class Erase(flat.Body):
    """Body of `POST /v1/logs/erase`."""

    object_ids: Annotated[list[RecordId], Field(min_length=1, max_length=1000)]


class Retention(BaseModel):
    """How long the log is kept."""

    success: bool
    retention_days: int
    cleanup_cron: str
    per_action: dict[str, int | None]
    last_cleanup_at: str | None
    next_cleanup_at: str
    deleted_last_run: int | None


class Cleaned(BaseModel):
    """What a clean-up removed, or would remove."""

    success: bool
    dry_run: bool
    deleted: int
    by_action: dict[str, int]
    oldest_kept: str | None
    partitions_dropped: list[str]
    pending: bool


class Erased(BaseModel):
    """What was erased on request."""

    success: bool
    deleted: int
    erasure_ids: list[str]


class Statistics(BaseModel):
    """Counts over a period."""

    success: bool
    period_from: str = Field(alias="from")
    to: str
    total: int
    group_by: Grouping
    groups: list[dict[str, Any]]
    by_action: dict[str, int]
    by_object: dict[str, int]
    by_pool: dict[str, int]
    by_user: dict[str, int]
    by_day: list[dict[str, Any]]


class Verified(BaseModel):
    """The state of the chain."""

    success: bool
    intact: bool
    complete: bool
    checked: int
    rows: int
    erased: dict[str, int]
    unsealed: int
    first: int
    head: dict[str, Any]
    checkpoint: dict[str, Any] | None
    problem: dict[str, Any] | None


class PublicKey(BaseModel):
    """The key that signs."""

    success: bool
    algorithm: str
    key_id: str
    public_key: str
