"""Assignments on the wire."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from lantern.core.http import Model
from lantern.gate import flat

OBJECTS = ("lead", "contact", "opportunity", "account")
Status = Literal["assigned", "accepted", "void", "bad_fit", "rerouted"]


def _lower(value: Any) -> Any:
    # The two halves of the contract differ in case; both spellings mean the same (A6).
    return value.lower() if isinstance(value, str) else value


def _text(value: str) -> str:
    if value != value.strip():
        raise PydanticCustomError("spaces", "May not begin or end with a space")
    return value


Object = Annotated[
    Literal["lead", "contact", "opportunity", "account"],
    BeforeValidator(_lower),
]
Id = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_text)]
PoolName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_text)]
Reason = Annotated[str, Field(min_length=1, max_length=200)]


class ResetRules(Model):
    """Put before the pick, in the same transaction."""

    reason: Reason
    place_user_at_top: Id | None = None


class AssignRequest(flat.Body):
    """Body of `POST /v1/routing/assign`."""

    object: Object
    sf_id: Id
    pool: PoolName
    exclude_inactive: bool = True
    reset_rules: ResetRules | None = None
    current_owner: Id | None = None
    refresh_pool: bool = False
    explain: bool = False


class Skipped(BaseModel):
    """A member that could not be picked."""

    user_id: str
    reason: str


class Assigned(BaseModel):
    """Answer of `POST /v1/routing/assign`; the last six with `explain: true` alone."""

    success: bool
    assigned_to: str
    sequence: int
    pool_size: int
    timestamp: str
    assignment_id: str | None = None
    method: str | None = None
    eligible_size: int | None = None
    rotation_epoch: int | None = None
    crm_write: str | None = None
    skipped: list[Skipped] | None = None
    credits_consumed: float
    credits_remaining: float
    processing_time_ms: int
    cached: bool


class VoidRequest(flat.Body):
    """Body of `POST /v1/routing/assignments/{id}/void`."""

    reason: Reason | None = None


class Assignment(BaseModel):
    """A decision of the past."""

    assignment_id: str
    pool: str
    sequence: int
    rotation_epoch: int
    object: str
    sf_id: str
    assigned_to: str
    method: str
    status: Status
    prev_owner: str | None
    reason: str | None
    pool_size: int
    eligible_size: int
    hop: int
    rerouted_from: str | None
    credits: float
    timestamp: str
    breach_at: str | None
    accepted_at: str | None
    ended_at: str | None
    ended_why: str | None
    request_id: str | None


class AssignmentAnswer(BaseModel):
    """One assignment."""

    success: bool
    assignment: Assignment


class AssignmentList(BaseModel):
    """A page of assignments, newest first."""

    success: bool
    assignments: list[Assignment]
    total: int
    page: int
    per_page: int


class Candidate(BaseModel):
    """What a decision knew of a member. `wait` is in turns of the member; the smallest is next."""

    user_id: str
    wait: float
    eligible: bool
    reason: str | None
    picked: bool


class Explanation(BaseModel):
    """Answer of `GET /v1/routing/assignments/{id}/explain`."""

    success: bool
    assignment: Assignment
    summary: str
    candidates: list[Candidate]
    recomputed: str | None
    agrees: bool
    pool_version: int
    crm_write: str
