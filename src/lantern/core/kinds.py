"""The registry of run kinds: a capability registers how its runs execute, `runs` executes them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol, TypeVar

import orjson

from lantern.core import ids
from lantern.core.db import Tx
from lantern.core.errors import LanternError


@dataclass(slots=True)
class RunRow:
    """What a run is before it does anything."""

    id: str
    tenant: int
    kind: str
    agent_id: str | None
    agent_name: str | None
    input: dict[str, Any]
    attempt: int
    agent: dict[str, Any] | None = None  # the settings it started with, where they are at hand


@dataclass(slots=True)
class StepResult:
    """What a step leaves behind. `output` is given back when the run goes on elsewhere."""

    output: str
    model_used: str | None = None
    why: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: Decimal | None = None
    notes: dict[str, Any] = field(default_factory=dict)


class RunFailed(LanternError):
    """A run ends as `failed`; `code` is one of the contract's run error codes."""

    status = 500

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # one class, a code for each reason


class Step(Protocol):
    """What the body of a step may do."""

    def tokens(self, deltas: list[str]) -> None:
        """Show text as the model writes it, one event for each delta."""

    async def restart(self) -> None:
        """The text shown so far in this step is void: the model failed in the middle."""


Part = TypeVar("Part")
Body = Callable[[Step], Awaitable[StepResult]]


class Work(Protocol):
    """A run as its kind sees it."""

    @property
    def run(self) -> RunRow:
        """The run."""

    def part(self, kind: type[Part]) -> Part:
        """A part of this process (the model table, the database) by its type."""

    async def step(self, name: str, body: Body) -> StepResult:
        """Run a named step once: a finished one gives its stored result back.

        It is durable when the next step begins or the run ends.
        """


Execute = Callable[[Work], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Kind:
    """How runs of a kind execute. `first_step` names the step that begins the run."""

    execute: Execute
    first_step: Callable[[dict[str, Any]], str]


_kinds: dict[str, Kind] = {}


def register(name: str, kind: Kind) -> None:
    """Make a kind known; called once, at start."""
    _kinds[name] = kind


def get(name: str) -> Kind:
    """The kind, or RunFailed: a run of a newer version may be in the database."""
    if name not in _kinds:
        raise RunFailed("internal_error", f"This server does not know runs of kind '{name}'")
    return _kinds[name]


async def start(  # noqa: PLR0913 - each is a column of its own
    tx: Tx,
    tenant: int,
    kind: str,
    run_input: dict[str, Any],
    *,
    run_id: str | None = None,
    agent: tuple[str, str] | None = None,
    labels: dict[str, str] | None = None,
) -> str:
    """Insert a queued run; any node with room starts it after the commit. Returns its id.

    `agent` is (id, name). The same `run_id` twice inserts once: schedules derive theirs.
    """
    made = run_id or ids.new("run")
    agent_id, agent_name = agent or (None, None)
    await tx.run(
        "insert into runs (id, tenant_id, kind, agent_id, agent_name, status, input, labels)"
        " values (%s, %s, %s, %s, %s, 'queued', %s::json, %s::jsonb) on conflict (id) do nothing",
        (
            made,
            tenant,
            kind,
            agent_id,
            agent_name,
            orjson.dumps(run_input).decode(),
            orjson.dumps(labels or {}).decode(),
        ),
    )
    await tx.run("select pg_notify('lantern', 'queued:')")
    return made
