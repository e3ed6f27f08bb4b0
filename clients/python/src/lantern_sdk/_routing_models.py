"""Pools, members and assignments, typed."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypedDict

from pydantic import AliasChoices, ConfigDict, Field

from ._models import Model

FROM = AliasChoices("from", "from_")


class _Span(Model):
    model_config = ConfigDict(populate_by_name=True)


class WorkingHours(_Span):
    """Wall clock times like `09:00`, on days like `mon`; over midnight where `to` is the earlier."""

    days: list[str]
    from_: str = Field(validation_alias=FROM, serialization_alias="from")
    to: str


class Absence(_Span):
    """Out of office; a moment without an offset is one of the member's time zone."""

    from_: datetime = Field(validation_alias=FROM, serialization_alias="from")
    to: datetime


class MemberCaps(Model):
    """How many at most: an hour, day and week of the member's clock, and not accepted yet."""

    hour: int | None = None
    day: int | None = None
    week: int | None = None
    open: int | None = None


class Member(Model):
    """A member of a pool, as one is put in."""

    user_id: str
    name: str | None = None
    active: bool = True
    weight: int = 1
    order: int = 0
    timezone: str = "UTC"
    working_hours: list[WorkingHours] | None = None
    holidays: list[date] = []
    out_of_office: list[Absence] = []
    caps: MemberCaps = MemberCaps()
    credit_back: bool = True


class PoolMember(Member):
    """A member as the server shows it; it may be sent back as it is, in `pools.put`."""

    crm_active: bool | None = None
    turns: int = 0
    wait: float = 0.0
    """In turns of its own until its next; below 0 it is owed some."""
    eligible: bool = True
    reason: str | None = None


class Fallback(Model):
    """Who takes what nobody may: a user or a queue."""

    user_id: str | None = None
    queue_id: str | None = None


class Sla(Model):
    """What happens to an assignment that nobody accepts in time: reassign, escalate or queue."""

    minutes: int
    on_breach: str = "reassign"
    max_hops: int = 3
    escalate_to: str | None = None
    refund_turn: bool = False


class Policy(Model):
    """How a pool treats who is out, the same record again, and assignments without an answer."""

    fallback: Fallback | None = None
    skip: str = "forfeit"
    max_catch_up: int = 3
    hold_minutes: int = 60
    respect_schedule: bool = True
    sticky_owner: bool = False
    sticky_counts: bool = False
    dedupe_minutes: int = 1440
    reset_reasons: list[str] | None = None
    sla: Sla | None = None


class Pool(Model):
    """A pool; an item of a list carries the fields up to `updated_at` only."""

    pool: str
    id: str
    version: int
    sequence: int
    rotation_epoch: int
    pool_size: int
    created_at: datetime
    updated_at: datetime
    policy: Policy | None = None
    at_top: list[str] = []
    next: list[str] = []
    members: list[PoolMember] = []


class RefusedRow(Model):
    """A row of a file that could not be taken."""

    line: int
    field: str
    message: str


class Imported(Model):
    """What a file of members changed."""

    pool: str
    version: int
    added: int
    updated: int
    removed: int
    refused: list[RefusedRow] = []


class Share(Model):
    """What a member got and would get."""

    user_id: str
    got: int
    would_get: int
    share: float
    would_share: float


class OtherOwner(Model):
    """An assignment that would go elsewhere; `would_get` None: to nobody."""

    assignment_id: str
    sequence: int
    at: datetime
    sf_id: str
    got: str
    would_get: str | None = None
    why: str


class Simulated(Model):
    """The stored assignments, decided again by the changed pool."""

    pool: str
    days: int
    assignments: int
    truncated: bool
    members: list[Share]
    unassigned: int
    repeated: int
    changed: int
    examples: list[OtherOwner]


class Skipped(Model):
    """A member that could not be picked."""

    user_id: str
    reason: str


class Assigned(Model):
    """Who got the record; the fields from `assignment_id` on come with `explain=True` alone."""

    assigned_to: str
    sequence: int
    pool_size: int
    timestamp: datetime
    credits_consumed: Decimal
    credits_remaining: Decimal
    processing_time_ms: int
    cached: bool
    assignment_id: str | None = None
    method: str | None = None
    eligible_size: int | None = None
    rotation_epoch: int | None = None
    crm_write: str | None = None
    skipped: list[Skipped] = []


class Assignment(Model):
    """A decision of the past; `status`: assigned, accepted, void, bad_fit or rerouted."""

    assignment_id: str
    pool: str
    sequence: int
    rotation_epoch: int
    object: str
    sf_id: str
    assigned_to: str
    method: str
    status: str
    prev_owner: str | None = None
    reason: str | None = None
    pool_size: int
    eligible_size: int
    hop: int
    rerouted_from: str | None = None
    credits: Decimal
    timestamp: datetime
    breach_at: datetime | None = None
    accepted_at: datetime | None = None
    ended_at: datetime | None = None
    ended_why: str | None = None
    request_id: str | None = None


class Candidate(Model):
    """What a decision knew of a member. `wait` is in turns of the member; the smallest is next."""

    user_id: str
    wait: float
    eligible: bool
    reason: str | None = None
    picked: bool


class Explanation(Model):
    """Why this owner; `agrees`: deciding again from what was stored gives the same."""

    assignment: Assignment
    summary: str
    candidates: list[Candidate]
    recomputed: str | None = None
    agrees: bool
    pool_version: int
    crm_write: str


class AssignFields(TypedDict, total=False):
    """What `routing.assign` takes beside pool, object and record."""

    exclude_inactive: bool
    reset_rules: Mapping[str, str]
    current_owner: str
    refresh_pool: bool
    explain: bool
    metadata: Mapping[str, str]


class AssignmentFilters(TypedDict, total=False):
    """Which assignments; moments with a time zone, `end` is outside."""

    pool: str
    sf_id: str
    assigned_to: str
    status: str
    start: datetime | str
    end: datetime | str


class MemberChanges(TypedDict, total=False):
    """What `pools.change_member` takes; what is left out stays as it is."""

    name: str | None
    active: bool
    weight: int
    order: int
    timezone: str
    working_hours: Sequence[WorkingHours | Mapping[str, Any]] | None
    holidays: Sequence[date]
    out_of_office: Sequence[Absence | Mapping[str, Any]]
    caps: MemberCaps | Mapping[str, int | None]
    credit_back: bool
