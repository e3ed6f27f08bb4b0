"""What pools look like in requests."""

import re
from datetime import UTC, date, datetime, tzinfo
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from lantern.core import http
from lantern.core.errors import BadRequest
from lantern.gate import flat
from lantern.routing import eligibility
from lantern.routing.pools import hours

MOST_MEMBERS = 500
MOST_WEIGHT = 20_000  # of all active members: the slots of a round
MOST_REPLAYED = 20_000
_YEARS = range(1970, 2200)
_WALL = r"(([01]\d|2[0-3]):[0-5]\d|24:00)"


def _name(text: str) -> str:
    if text != text.strip() or not text.isprintable() or text in (".", ".."):
        raise PydanticCustomError("name", "Must be printable, without spaces around it")
    return text


def _slashless(value: Any) -> Any:
    if isinstance(value, str) and "/" in value:
        raise PydanticCustomError("name", "May not contain a slash: it stands in addresses")
    return value


def _wall(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(_WALL, value):
        raise PydanticCustomError("time", "Must be a time from 00:00 to 24:00, like 09:00")
    return value


def _text(value: Any) -> Any:
    # pydantic also takes numbers for times and dates: nobody means seconds since 1970 here.
    if isinstance(value, date) or (isinstance(value, str) and "-" in value[1:]):
        return value
    raise PydanticCustomError("time", "Must be an ISO-8601 date or date-time like 2026-12-24")


def _zone(name: str) -> str:
    if name not in eligibility.zones():
        raise PydanticCustomError("timezone", "Must be UTC or an IANA time zone like Europe/Berlin")
    return name


def _in_reach(moment: date) -> date:
    if moment.year not in _YEARS:
        raise PydanticCustomError("time", "Must lie between the years 1970 and 2199")
    return moment


Name = Annotated[
    str,
    Field(min_length=1, max_length=100, pattern="^[^/]*$"),
    BeforeValidator(_slashless),
    AfterValidator(_name),
]
UserId = Annotated[str, Field(min_length=1, max_length=64)]
Wall = Annotated[str, Field(pattern=f"^{_WALL}$"), BeforeValidator(_wall)]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Zone = Annotated[str, Field(max_length=60), AfterValidator(_zone)]
Moment = Annotated[datetime, BeforeValidator(_text), AfterValidator(_in_reach)]
Day = Annotated[date, BeforeValidator(_text), AfterValidator(_in_reach)]
Cap = Annotated[int, Field(ge=0, le=1_000_000)]


class Hours(http.Model):
    """A block of working hours; it crosses midnight where `to` is not later than `from`."""

    days: Annotated[list[Weekday], Field(min_length=1, max_length=7)]
    from_: Annotated[Wall, Field(alias="from")]
    to: Wall

    @model_validator(mode="after")
    def _some_time(self) -> "Hours":
        if self.from_ in (self.to, "24:00"):
            raise PydanticCustomError("hours", "From 00:00 to 24:00 is the whole day")
        return self

    def block(self) -> hours.Block:
        """As the week is made of."""
        return hours.Block(tuple(self.days), self.from_, self.to)


class Absence(http.Model):
    """Out of office from a moment to another; without an offset in the member's time zone."""

    from_: Annotated[Moment, Field(alias="from")]
    to: Moment

    def moments(self, there: tzinfo) -> tuple[datetime, datetime]:
        """Both ends in UTC."""
        ends = [self.from_, self.to]
        first, last = (m if m.tzinfo else m.replace(tzinfo=there) for m in ends)
        return first.astimezone(UTC), last.astimezone(UTC)


class Caps(http.Model):
    """How many at most: in the hour, day and week of the member's clock, and not accepted yet."""

    hour: Cap | None = None
    day: Cap | None = None
    week: Cap | None = None
    open: Cap | None = None


class Member(http.Model):
    """A member of a pool."""

    user_id: UserId
    name: Annotated[str, Field(max_length=200)] | None = None
    active: bool = True
    weight: Annotated[int, Field(ge=1, le=100)] = 1
    order: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    timezone: Zone = "UTC"
    working_hours: Annotated[list[Hours], Field(max_length=50)] | None = None
    holidays: Annotated[list[Day], Field(max_length=400)] = []
    out_of_office: Annotated[list[Absence], Field(max_length=100)] = []
    caps: Caps = Caps()
    credit_back: bool = True

    @model_validator(mode="after")
    def _absences_end(self) -> "Member":
        there = eligibility.zone(self.timezone)
        for number, absence in enumerate(self.out_of_office):
            first, last = absence.moments(there)
            if first >= last:
                raise PydanticCustomError(
                    "out_of_office", f"Absence {number} ends before it begins"
                )
        return self


class MemberChange(flat.Body):
    """Body of `PATCH .../members/{user_id}`: any subset. `caps` changes the caps it names."""

    name: Annotated[str, Field(max_length=200)] | None = None
    active: bool | None = None
    weight: Annotated[int, Field(ge=1, le=100)] | None = None
    order: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] | None = None
    timezone: Zone | None = None
    working_hours: Annotated[list[Hours], Field(max_length=50)] | None = None
    holidays: Annotated[list[Day], Field(max_length=400)] | None = None
    out_of_office: Annotated[list[Absence], Field(max_length=100)] | None = None
    caps: Caps | None = None
    credit_back: bool | None = None


class Fallback(http.Model):
    """Who takes what nobody may: a user or a queue."""

    user_id: UserId | None = None
    queue_id: UserId | None = None

    @model_validator(mode="after")
    def _one(self) -> "Fallback":
        if (self.user_id is None) == (self.queue_id is None):
            raise PydanticCustomError("fallback", "Name either user_id or queue_id")
        return self


class Sla(http.Model):
    """What happens to an assignment that nobody accepts in time."""

    minutes: Annotated[int, Field(ge=1, le=43_200)]
    on_breach: Literal["reassign", "escalate", "queue"] = "reassign"
    max_hops: Annotated[int, Field(ge=0, le=20)] = 3
    escalate_to: UserId | None = None
    refund_turn: bool = False

    @model_validator(mode="after")
    def _to_whom(self) -> "Sla":
        if self.on_breach == "escalate" and self.escalate_to is None:
            raise PydanticCustomError("sla", "on_breach escalate needs escalate_to")
        return self


class Policy(http.Model):
    """How a pool treats who is out, the same object again, and assignments without an answer."""

    fallback: Fallback | None = None
    skip: Literal["forfeit", "catch_up", "hold"] = "forfeit"
    max_catch_up: Annotated[int, Field(ge=1, le=20)] = 3
    hold_minutes: Annotated[int, Field(ge=5, le=240)] = 60
    respect_schedule: bool = True
    sticky_owner: bool = False
    sticky_counts: bool = False
    dedupe_minutes: Annotated[int, Field(ge=0, le=43_200)] = 1440
    reset_reasons: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=50)]
        | None
    ) = None
    sla: Sla | None = None

    @model_validator(mode="after")
    def _a_queue_to_go_to(self) -> "Policy":
        queue = self.fallback and self.fallback.queue_id
        if self.sla and self.sla.on_breach == "queue" and not queue:
            raise PydanticCustomError("sla", "sla.on_breach queue needs fallback.queue_id")
        return self


Members = Annotated[list[Member], Field(max_length=MOST_MEMBERS)]


class PoolCreate(flat.Body):
    """Body of `POST /v1/routing/pools`."""

    pool: Name
    members: Members = []
    policy: Policy = Policy()
    sequence: Annotated[int, Field(ge=0, le=10**15)] = 0


class PoolChange(flat.Body):
    """Body of `PUT /v1/routing/pools/{pool}`: the members and the policy from now on."""

    members: Members
    policy: Policy = Policy()
    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None


class MemberFile(flat.Body):
    """Body of `POST .../members` as JSON."""

    csv: Annotated[str, Field(max_length=1_000_000)]


class Simulation(flat.Body):
    """Body of `POST .../simulate`: the pool as it might be; what is left out stays as it is."""

    members: Members | None = None
    policy: Policy | None = None
    days: Annotated[int, Field(ge=1, le=90)] = 30
    limit: Annotated[int, Field(ge=1, le=MOST_REPLAYED)] = MOST_REPLAYED


def wrong(loc: tuple[str | int, ...], message: str) -> BadRequest:
    """One wrong field of the body, named by its path."""
    detail = {"loc": ["body", *loc], "msg": message, "type": "value_error"}
    return BadRequest(f"{'.'.join(map(str, loc))}: {message}", details=[detail])


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The field and the message of the first fault."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ".".join(str(part)[:100] for part in fault["loc"]) or "out_of_office", fault["msg"]
