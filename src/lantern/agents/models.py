"""What an agent looks like on the wire."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from lantern.core.http import Model

Short = Annotated[str, Field(max_length=200)]
Text = Annotated[str, Field(max_length=100_000)]
Names = Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=50)]
Labels = Annotated[
    dict[Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=500)]],
    Field(max_length=50),
]
Privacy = Literal["standard", "strict", "local"]
AgentName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Guardrails(Model):
    """Limits that the server enforces. Money in US dollars, times in seconds."""

    max_cost_per_run: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    max_cost_per_day: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    max_steps: int = Field(20, ge=1, le=1000)
    max_seconds: int = Field(900, ge=1, le=86_400)
    max_tokens_per_step: int = Field(4096, ge=1, le=1_000_000)
    block_pii: bool = False
    require_approval: Names = []
    approval_ttl_hours: int = Field(72, ge=1, le=720)


class AgentCreate(Model):
    """Body of `POST /v1/agents`."""

    name: AgentName
    description: Annotated[str, Field(max_length=2000)] = ""
    system_prompt: Text = ""
    model: Short = "auto"
    connectors: Names = []
    surfaces: Names = []
    privacy_level: Privacy = "standard"
    guardrails: Guardrails = Field(default_factory=Guardrails)
    labels: Labels = {}
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None


class AgentChange(Model):
    """Body of `PATCH /v1/agents/{name}`: any subset. Guardrails are merged field by field."""

    name: str | None = None
    description: Annotated[str, Field(max_length=2000)] | None = None
    system_prompt: Text | None = None
    model: Short | None = None
    connectors: Names | None = None
    surfaces: Names | None = None
    privacy_level: Privacy | None = None
    guardrails: dict[str, Any] | None = None
    labels: Labels | None = None
    status: Literal["active", "paused"] | None = None
    id: str | None = None


class Schedule(BaseModel):
    """When an agent runs by itself."""

    cron: str
    timezone: str


class AgentLine(BaseModel):
    """An agent in a list."""

    name: str
    description: str
    model: str
    status: Literal["active", "paused", "archived"]
    created_at: str
    updated_at: str
    id: str
    labels: dict[str, str]


class Agent(AgentLine):
    """A whole agent."""

    system_prompt: str
    connectors: list[str]
    surfaces: list[str]
    privacy_level: Privacy
    guardrails: Guardrails
    schedule: Schedule | None


class AgentList(BaseModel):
    """A page of agents. `nextPageToken` is null at the end."""

    agents: list[AgentLine]
    total: int
    page: int
    per_page: int
    nextPageToken: str | None  # noqa: N815 - the name that client libraries read
