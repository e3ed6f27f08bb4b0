"""The events of a run's stream, a union told apart by `type`; unknown ones pass as UnknownEvent."""

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from ._models import Model, RunError

_FINAL = frozenset({"run.complete", "run.failed", "run.cancelled"})


class BaseEvent(Model):
    """What every event has. `seq` rises through a run, with gaps where another node took over."""

    type: str = ""
    run_id: str | None = None
    seq: int | None = None
    timestamp: datetime | None = None
    ts: datetime | None = None
    kind: str | None = None
    data: dict[str, Any] | None = None

    @property
    def final(self) -> bool:
        """Whether the stream ends with this event."""
        return self.type in _FINAL


class StepStartEvent(BaseEvent):
    """A step begins."""

    type: Literal["step.start"]
    step: str


class TokenEvent(BaseEvent):
    """A piece of text, as the model sent it."""

    type: Literal["token"]
    content: str
    step: str | None = None


class StepCompleteEvent(BaseEvent):
    """A step is done; it is never run again."""

    type: Literal["step.complete"]
    step: str
    duration_ms: int | None = None


class StepFailedEvent(BaseEvent):
    """A step gave up."""

    type: Literal["step.failed"]
    step: str
    error: RunError | str | None = None


class StepRestartEvent(BaseEvent):
    """A step begins anew: the text that it has sent so far is void."""

    type: Literal["step.restart"]
    step: str
    attempt: int | None = None


class ToolCallEvent(BaseEvent):
    """The model asks for a tool."""

    type: Literal["tool.call"]
    step: str | None = None
    tool: str
    arguments: Any = None


class ToolResultEvent(BaseEvent):
    """The tool has answered, or failed."""

    type: Literal["tool.result"]
    step: str | None = None
    tool: str
    ok: bool


class ApprovalRequiredEvent(BaseEvent):
    """The run waits for a person."""

    type: Literal["approval.required"]
    step: str | None = None
    approval_id: str


class ProgressEvent(BaseEvent):
    """How far a batch has come."""

    type: Literal["progress"]
    done: int
    total: int | None = None


class RunCompleteEvent(BaseEvent):
    """The run is done; the last event."""

    type: Literal["run.complete"]


class RunFailedEvent(BaseEvent):
    """The run failed; the last event."""

    type: Literal["run.failed"]
    error: RunError | str | None = None


class RunCancelledEvent(BaseEvent):
    """The run was cancelled; the last event."""

    type: Literal["run.cancelled"]


class UnknownEvent(BaseEvent):
    """An event that this version of the library has no class for; all its fields are kept."""


KnownEvent = (
    StepStartEvent
    | TokenEvent
    | StepCompleteEvent
    | StepFailedEvent
    | StepRestartEvent
    | ToolCallEvent
    | ToolResultEvent
    | ApprovalRequiredEvent
    | ProgressEvent
    | RunCompleteEvent
    | RunFailedEvent
    | RunCancelledEvent
)
Event = KnownEvent | UnknownEvent

_KNOWN: TypeAdapter[KnownEvent] = TypeAdapter(Annotated[KnownEvent, Field(discriminator="type")])


def parse(data: str, id_: str | None) -> Event:
    """One message's JSON as an event; `id_` gives its `seq`. ValueError if it is no JSON object."""
    fields = json.loads(data)
    if not isinstance(fields, dict):
        raise ValueError("an event is a JSON object")  # noqa: TRY004 - wrong text, not a wrong type
    if id_ is not None and id_.isdecimal():
        fields["seq"] = int(id_)
    try:
        return _KNOWN.validate_python(fields)
    except ValidationError:
        # A newer server may know more types, or other fields in one: show it, do not stop the run.
        return UnknownEvent.model_construct(None, **{**fields, "type": str(fields.get("type", ""))})
