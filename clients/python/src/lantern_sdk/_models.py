"""What the server answers, typed. Fields that a newer server adds are kept, not refused."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypedDict, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

T = TypeVar("T")

# The names under which the server puts the items of a page.
LISTED = ("agents", "runs", "keys", "pools", "assignments", "receipts", "caps")
FINAL_STATUSES = frozenset({"completed", "failed", "cancelled"})


class Model(BaseModel):
    """Base of all models of this library."""

    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=True, protected_namespaces=())


class Guardrails(Model):
    """Limits that the server enforces on each run of an agent; money in USD."""

    max_cost_per_run: float | None = None
    max_cost_per_day: float | None = None
    max_steps: int | None = None
    max_seconds: int | None = None
    max_tokens_per_step: int | None = None
    block_pii: bool = False
    require_approval: list[str] = []
    approval_ttl_hours: int | None = None


class Schedule(Model):
    """When an agent runs by itself: five-field cron in an IANA time zone."""

    cron: str
    timezone: str = "UTC"


class Agent(Model):
    """An agent; an item of a list carries the first fields only."""

    name: str
    description: str | None = None
    model: str = "auto"
    status: str = "active"
    created_at: datetime | None = None
    updated_at: datetime | None = None
    system_prompt: str | None = None
    connectors: list[str] = []
    surfaces: list[str] = []
    privacy_level: str = "standard"
    guardrails: Guardrails | None = None
    schedule: Schedule | None = None
    id: str | None = None
    labels: dict[str, Any] | None = None


class Tokens(Model):
    """Tokens that a model read and wrote."""

    input: int = 0
    output: int = 0


class Step(Model):
    """One step of a run; a step that still runs has `started_at` and no duration."""

    name: str
    status: str
    duration_ms: int | None = None
    model_used: str | None = None
    why: str | None = None
    tokens: Tokens | None = None
    cost_usd: Decimal | None = None
    started_at: datetime | None = None


class RunError(Model):
    """Why a run failed."""

    code: str | None = None
    message: str = ""
    step: str | None = None


class Output(Model):
    """What a run wrote."""

    text: str | None = None
    format: str | None = None
    data: Any = None


class Run(Model):
    """A run; `status` is queued, running, paused, completed, failed or cancelled."""

    run_id: str
    status: str
    agent: str | None = None
    created_at: datetime | None = None
    steps: list[Step] = []
    input: Any = None
    output: Output | None = None
    error: RunError | None = None
    cost_usd: Decimal | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    labels: dict[str, Any] | None = None

    @property
    def finished(self) -> bool:
        """Whether the status is one that nothing changes any more."""
        return self.status in FINAL_STATUSES


class ApiKey(Model):
    """A key as the server keeps it: its first characters, never the key."""

    id: str
    name: str
    prefix: str | None = None
    scopes: list[str] = []
    agents: list[str] = []
    created_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class NewApiKey(Model):
    """The answer to `keys.create`, the only one that carries the key itself."""

    key: ApiKey
    raw_key: str | None = Field(default=None, repr=False)


class Page(Model, Generic[T]):
    """One page of a listing."""

    items: list[T] = Field(validation_alias=AliasChoices(*LISTED))
    total: int
    page: int
    per_page: int

    @property
    def last(self) -> bool:
        """Whether no page follows."""
        return not self.items or self.page * self.per_page >= self.total


class AgentFields(TypedDict, total=False):
    """What `agents.create` takes beside the name; what is left out gets the server's default."""

    description: str
    system_prompt: str
    model: str
    connectors: Sequence[str]
    surfaces: Sequence[str]
    privacy_level: str
    guardrails: Guardrails | Mapping[str, Any]
    labels: Mapping[str, str]


class AgentChanges(AgentFields, total=False):
    """What `agents.update` takes; what is left out stays as it is."""

    status: str
