"""What a run looks like on the wire."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from lantern.agents import NAME
from lantern.core.http import Model

Status = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]
Labels = Annotated[
    dict[Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=500)]],
    Field(max_length=50),
]
Key = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$")]


class RunCreate(Model):
    """Body of `POST /v1/agents/{name}/runs`."""

    input: dict[str, Any]
    idempotency_key: Key | None = None
    labels: Labels = {}


class RunCreateAlias(RunCreate):
    """Body of `POST /v1/runs`."""

    agent_name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    stream: bool = False


class Cancel(Model):
    """Optional body of `POST /v1/runs/{run_id}/cancel`."""

    reason: Annotated[str, Field(max_length=500)] | None = None


class RunMade(BaseModel):
    """A run that was accepted."""

    run_id: str
    agent: str
    status: Status
    created_at: str
    id: str


class Tokens(BaseModel):
    """Tokens of a step."""

    input: int
    output: int


class Step(BaseModel):
    """A step; a running one has `started_at` and no figures yet."""

    name: str
    status: Literal["running", "completed", "failed", "cancelled"]
    started_at: str
    duration_ms: int | None = None
    model_used: str | None = None
    why: str | None = None
    tokens: Tokens | None = None
    cost_usd: float | None = None
    error: str | None = None


class RunLine(BaseModel):
    """A run in a list."""

    run_id: str
    id: str
    agent: str | None
    agent_id: str | None
    tenant_id: str
    status: Status
    labels: dict[str, str]
    cost_usd: float | None
    tokens_in: int
    tokens_out: int
    created_at: str
    started_at: str | None
    finished_at: str | None


class Run(RunLine):
    """A whole run."""

    steps: list[Step]
    input: dict[str, Any]
    output: dict[str, Any] | None
    error: dict[str, Any] | None


class RunList(BaseModel):
    """A page of runs of one agent."""

    runs: list[RunLine]
    total: int
    page: int
    per_page: int


class RunListAlias(BaseModel):
    """A page of runs. `nextPageToken` is null at the end."""

    runs: list[RunLine]
    nextPageToken: str | None  # noqa: N815 - the name that client libraries read


class Cancelled(BaseModel):
    """A cancelled run."""

    run_id: str
    status: Literal["cancelled"]


class Ticket(BaseModel):
    """Opens the stream of one run once, within a minute."""

    ticket: str
    expires_at: str


class Events(BaseModel):
    """Stored events of a run."""

    events: list[dict[str, Any]]
    next_seq: int
