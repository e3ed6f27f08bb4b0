"""What a wire protocol has to offer to `call`: the modules `openai` and `anthropic` have this shape."""

from collections.abc import Sequence
from typing import Protocol

from lantern.llm.types import (
    Chunk,
    Done,
    Finish,
    Limits,
    Message,
    Model,
    ModelError,
    Tool,
    ToolCall,
)


class Reader(Protocol):
    """The state of one answer.

    `alive`: the model produced something (the caller resets it; comments and pings do not count).
    `finish`: it gave its reason to stop. `ended`: nothing more will come. `failure`: what went
    wrong, to be raised after the chunk it came with.
    """

    finish: Finish | None
    alive: bool
    ended: bool
    failure: ModelError | None

    def read(self, events: list[bytes]) -> Chunk:
        """What the data of these events brings."""

    def end(self) -> Done:
        """The end of the answer, once `finish` or `ended` is there."""

    def calls(self) -> list[ToolCall]:
        """The tool calls, whole."""


class Wire(Protocol):
    """A wire protocol."""

    def url(self, base_url: str) -> str:
        """Where calls go."""

    def headers(self, key: str | None) -> dict[str, str]:
        """Headers that carry the key."""

    def body(
        self,
        model: Model,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        limits: Limits,
        quirks: frozenset[str],
    ) -> bytes:
        """The request as JSON. `quirks`: what this model's server was found not to know."""

    def adapt(self, refusal: bytes) -> str | None:
        """The quirk that a 400 tells of, if another try with it is worth while."""

    def reader(self, model: str) -> Reader:
        """A reader for one answer of the model with this name."""
