"""The only door to language models: `Models.stream(model, messages, tools, limits)`.

Two wire protocols (OpenAI chat completions, Anthropic messages) and a built-in extractive model
that needs no network. The table of models comes from `[[models]]` or from the environment.
"""

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from decimal import Decimal
from typing import Self

from lantern.core.web import Web
from lantern.llm import builtin, models, prices
from lantern.llm.builtin import PLAN_CUE
from lantern.llm.call import Caller
from lantern.llm.probe import Probe, probe
from lantern.llm.router import AUTO, CAPABILITIES, Outcome, Router
from lantern.llm.types import (
    Choice,
    Chunk,
    Done,
    Limits,
    Message,
    Model,
    ModelError,
    NoModel,
    Price,
    Tool,
    ToolCall,
    UnknownModel,
    Usage,
)
from lantern.settings import Settings

__all__ = [
    "AUTO",
    "CAPABILITIES",
    "PLAN_CUE",
    "Choice",
    "Chunk",
    "Done",
    "Limits",
    "Message",
    "Model",
    "ModelError",
    "Models",
    "NoModel",
    "Outcome",
    "Price",
    "Probe",
    "Tool",
    "ToolCall",
    "UnknownModel",
    "Usage",
]


class Models:
    """The models of one process: which there are, who answers, the call itself, what it cost."""

    def __init__(
        self, table: Sequence[Model], web: Web, environ: Mapping[str, str], pace: float = 0.0
    ) -> None:
        """`environ`: where keys are read at each call. `pace`: seconds between the builtin's words.

        A table without a built-in model gets one at its end.
        """
        if not any(model.protocol == "builtin" for model in table):
            table = [*table, models.BUILTIN]
        self._router = Router(table)
        self._caller = Caller(web, environ, self._note)
        self._pace = pace

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        web: Web,
        environ: Mapping[str, str] | None = None,
        pace: float = 0.0,
    ) -> Self:
        """The table of `[[models]]`, or of the environment; looks for nothing on the network."""
        environ = os.environ if environ is None else environ
        table = models.configured(settings.models) or models.from_environment(environ)
        return cls(table, web, environ, pace)

    @classmethod
    async def open(
        cls,
        settings: Settings,
        web: Web,
        environ: Mapping[str, str] | None = None,
        pace: float = 0.0,
    ) -> Self:
        """As `from_settings`, and without `[[models]]` a local Ollama is looked for as well."""
        environ = os.environ if environ is None else environ
        if settings.models:
            return cls.from_settings(settings, web, environ, pace)
        table = models.from_environment(environ)
        names = {model.name for model in table}
        found = await models.discover(web, environ)
        table += [model for model in found if model.name not in names]
        return cls(table, web, environ, pace)

    async def close(self) -> None:
        """Let go of connections that outlived their answer; `Web` closes the rest."""
        self._caller.close()

    @property
    def table(self) -> list[Model]:
        """Every model, in order of preference."""
        return self._router.table

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """How the last call of each model went, by name; this process alone."""
        return self._router.outcomes

    def rests(self, model: Model) -> float:
        """Seconds for which a model is left alone, because it failed; 0: it is not."""
        return self._router.rests(model)

    def known(self, name: str) -> bool:
        """Whether an agent may name it: a model, `auto` or a capability."""
        return self._router.known(name)

    def candidates(self, wanted: str, privacy: str = "standard") -> list[Choice]:
        """Who may answer, best first, each with why. Raises UnknownModel or NoModel."""
        return self._router.candidates(wanted, privacy)

    def stream(
        self,
        model: Model,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        limits: Limits | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """The answer as it comes; the last chunk carries `done`. Raises ModelError.

        Close the generator (`contextlib.aclosing`) to end a call early. Outcomes are noted for
        later choices by the call itself.
        """
        if model.protocol == "builtin":
            return builtin.stream(messages, limits or Limits(), model.pace or self._pace)
        return self._caller.stream(model, messages, tools, limits or Limits())

    async def probe(self, model: Model) -> Probe:
        """Whether a model answers now: it is asked for a few tokens."""
        found = await probe(lambda messages, limits: self.stream(model, messages, (), limits))
        if found.seconds is not None:
            self.note_ok(model)  # it was cut off after its first token
        return found

    def cost(self, model: Model, usage: Usage | None) -> Decimal | None:
        """US dollars; None when the price or the usage is not known."""
        return None if usage is None else prices.cost(model, usage)

    def note_ok(self, model: Model) -> None:
        """The model answered."""
        self._router.note_ok(model)

    def note_error(self, model: Model, error: ModelError) -> None:
        """The model failed; it rests for a while."""
        self._router.note_error(model, error)

    def _note(self, model: Model, error: ModelError | None) -> None:
        if error is None:
            self.note_ok(model)
        else:
            self.note_error(model, error)
