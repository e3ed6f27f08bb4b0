"""What pools look like in answers."""

from typing import Literal

from pydantic import BaseModel, Field


class HoursShown(BaseModel):
    """A block of working hours."""

    days: list[str]
    from_: str = Field(alias="from")
    to: str


class AbsenceShown(BaseModel):
    """Out of office, in UTC."""

    from_: str = Field(alias="from")
    to: str


class CapsShown(BaseModel):
    """Caps; null: none."""

    hour: int | None
    day: int | None
    week: int | None
    open: int | None


class MemberShown(BaseModel):
    """A member with its turns. `wait` counts its own turns until the next; below 0 it is owed."""

    user_id: str
    name: str | None
    active: bool
    weight: int
    order: int
    timezone: str
    working_hours: list[HoursShown] | None
    holidays: list[str]
    out_of_office: list[AbsenceShown]
    caps: CapsShown
    credit_back: bool
    crm_active: bool | None
    turns: int
    wait: float
    eligible: bool
    reason: str | None


class FallbackShown(BaseModel):
    """Who takes what nobody may."""

    user_id: str | None
    queue_id: str | None


class SlaShown(BaseModel):
    """What happens to an assignment that nobody accepts in time."""

    minutes: int
    on_breach: Literal["reassign", "escalate", "queue"]
    max_hops: int
    escalate_to: str | None
    refund_turn: bool


class PolicyShown(BaseModel):
    """The policy, with its defaults."""

    fallback: FallbackShown | None
    skip: Literal["forfeit", "catch_up", "hold"]
    max_catch_up: int
    hold_minutes: int
    respect_schedule: bool
    sticky_owner: bool
    sticky_counts: bool
    dedupe_minutes: int
    reset_reasons: list[str] | None
    sla: SlaShown | None


class PoolLine(BaseModel):
    """A pool in a list. `pool_size`: active members."""

    pool: str
    id: str
    version: int
    sequence: int
    rotation_epoch: int
    pool_size: int
    created_at: str
    updated_at: str


class PoolShown(PoolLine):
    """A pool. `next`: the next picks if nobody's eligibility changes."""

    success: bool
    policy: PolicyShown
    at_top: list[str]
    next: list[str]
    members: list[MemberShown]


class PoolList(BaseModel):
    """A page of pools, by name."""

    success: bool
    pools: list[PoolLine]
    total: int
    page: int
    per_page: int


class Refused(BaseModel):
    """A row of a file that could not be taken."""

    line: int
    field: str
    message: str


class Imported(BaseModel):
    """What a file changed."""

    success: bool
    pool: str
    version: int
    added: int
    updated: int
    removed: int
    refused: list[Refused]


class Share(BaseModel):
    """What a member got and would get; shares of all that were assigned."""

    user_id: str
    got: int
    would_get: int
    share: float
    would_share: float


class Example(BaseModel):
    """An assignment that would go elsewhere; `would_get` null: to nobody."""

    assignment_id: str
    sequence: int
    at: str
    sf_id: str
    got: str
    would_get: str | None
    why: str


class Simulated(BaseModel):
    """The stored assignments, decided again by the changed pool."""

    success: bool
    pool: str
    days: int
    assignments: int
    truncated: bool
    members: list[Share]
    unassigned: int
    repeated: int
    changed: int
    examples: list[Example]
