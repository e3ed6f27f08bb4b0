"""The words of a model call: what goes in, what comes out, what can go wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from lantern.core.errors import BadRequest, LanternError, Upstream

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "tool_calls", "content_filter"]
Protocol = Literal["openai", "anthropic", "builtin"]
Kind = Literal["auth", "rate", "server", "garbage", "timeout", "hangup", "bad_request"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asks for; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool the model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. An assistant's turn may carry tool calls, a tool's turn names the one it answers."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(slots=True)
class Usage:
    """Tokens as the provider counts them."""

    input: int
    output: int


@dataclass(slots=True)
class Done:
    """The end of an answer. `usage` is None where the provider does not report it."""

    finish_reason: Finish
    usage: Usage | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Chunk:
    """What one read of the socket brought: each delta as the model sent it, never joined.

    Tool calls come whole, in the chunk that carries `done`.
    """

    deltas: list[str] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    done: Done | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one call; times in seconds. A timeout of None is the model's own setting."""

    max_tokens: int = 4096
    connect_timeout: float = 10.0
    first_token_timeout: float | None = None
    idle_timeout: float | None = None


class Price(NamedTuple):
    """US dollars for a million tokens; `tiered`: a long input costs more than this."""

    input: Decimal
    output: Decimal
    tiered: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """One row of the model table. Its key is read from the environment when a call is made."""

    name: str
    protocol: Protocol
    base_url: str
    provider_model: str
    api_key_env: str | None = None
    self_hosted: bool = False
    abilities: frozenset[str] = frozenset()
    price: Price | None = None
    first_token_timeout: float = 20.0
    idle_timeout: float = 60.0
    pace: float = 0.0  # seconds between two words, built-in alone


class Choice(NamedTuple):
    """A model that may answer, and in one line why it stands where it stands."""

    model: Model
    why: str


RETRYABLE: frozenset[Kind] = frozenset({"rate", "server", "garbage", "timeout", "hangup"})


class ModelError(Upstream):
    """A model call failed. The message never holds a key or a prompt.

    `retryable`: the same call may succeed later. `started`: text had come before it failed.
    `retry_after` in seconds, where the provider named it.
    """

    def __init__(
        self, model: str, kind: Kind, message: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(f"model '{model}': {message}")
        self.model = model
        self.kind: Kind = kind
        self.retryable = kind in RETRYABLE
        self.retry_after = retry_after
        self.started = False


class NoModel(LanternError):
    """No configured model may take the call."""

    status = 503
    code = "no_model"


class UnknownModel(BadRequest):
    """No model of the table has this name."""
