"""Which model answers: the one that is named, or the configured order without those that fail.

A pure choice over the table, with one memory: who failed lately and until when to leave it alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from lantern.core import clock
from lantern.llm.types import Choice, Kind, Model, ModelError, NoModel, UnknownModel

AUTO = "auto"
CAPABILITIES = frozenset({AUTO, "fast", "balanced", "best", "code", "vision"})

LONGEST_COOLDOWN = 300.0
_COOLDOWN: dict[Kind, float] = {
    "auth": 60.0,
    "rate": 10.0,
    "server": 5.0,
    "garbage": 5.0,
    "timeout": 10.0,
    "hangup": 2.0,
}


@dataclass(frozen=True, slots=True)
class _Rest:
    kind: Kind
    until: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the last call of a model went, as this process saw it; `kind` None: it answered."""

    at: datetime
    kind: Kind | None


class Router:
    """Chooses among the models of one process."""

    def __init__(self, table: Sequence[Model], now: Callable[[], float] = clock.monotonic) -> None:
        self.table = list(table)
        self._now = now
        self._resting: dict[str, _Rest] = {}
        self.outcomes: dict[str, Outcome] = {}

    def known(self, name: str) -> bool:
        """Whether an agent may name it."""
        return name in CAPABILITIES or any(model.name == name for model in self.table)

    def candidates(self, wanted: str, privacy: str = "standard") -> list[Choice]:
        """Who may answer, best first. Raises UnknownModel, or NoModel when privacy leaves none."""
        if wanted not in CAPABILITIES:
            return [self._named(wanted, privacy)]
        real = [model for model in self.table if model.protocol != "builtin"]
        spare = [model for model in self.table if model.protocol == "builtin"]
        if privacy == "local" and real:
            spare = []
            real = [model for model in real if model.self_hosted]
            if not real:
                raise NoModel(
                    "privacy_level 'local' needs a model marked self_hosted = true in [[models]]"
                )
        up = [model for model in real if not self._rest(model)]
        down = [model for model in real if self._rest(model)]
        return [self._choice(wanted, model) for model in [*up, *down, *spare]]

    def note_ok(self, model: Model) -> None:
        """It answered: whatever was held against it is forgotten."""
        self._resting.pop(model.name, None)
        self.outcomes[model.name] = Outcome(clock.now(), None)

    def note_error(self, model: Model, error: ModelError) -> None:
        """It failed: leave it alone for as long as it asked for, or as its kind of failure takes."""
        self.outcomes[model.name] = Outcome(clock.now(), error.kind)
        if error.kind not in _COOLDOWN or model.protocol == "builtin":
            return
        seconds = _COOLDOWN[error.kind] if error.retry_after is None else error.retry_after
        until = self._now() + min(seconds, LONGEST_COOLDOWN)
        self._resting[model.name] = _Rest(error.kind, until)

    def rests(self, model: Model) -> float:
        """Seconds for which it is left alone, because it failed; 0: it is not."""
        rest = self._rest(model)
        return rest.until - self._now() if rest else 0.0

    def _named(self, wanted: str, privacy: str) -> Choice:
        for model in self.table:
            if model.name == wanted:
                break
        else:
            names = ", ".join([AUTO, *(model.name for model in self.table)])
            raise UnknownModel.field("model", f"no model is named '{wanted}'; there are: {names}")
        if privacy == "local" and not model.self_hosted:
            raise NoModel(
                f"privacy_level 'local' forbids model '{wanted}': it is not marked "
                "self_hosted = true in [[models]]"
            )
        return Choice(model, f"named: '{wanted}'")

    def _choice(self, wanted: str, model: Model) -> Choice:
        if model.protocol == "builtin":
            real = any(other.protocol != "builtin" for other in self.table)
            return Choice(model, f"{wanted}: {'the last resort' if real else 'no other model'}")
        if rest := self._rest(model):
            left = rest.until - self._now()
            return Choice(model, f"{wanted}: failed lately ({rest.kind}), rests {left:.0f} s more")
        return Choice(model, f"{wanted}: first configured model that is up")

    def _rest(self, model: Model) -> _Rest | None:
        rest = self._resting.get(model.name)
        if rest is not None and rest.until <= self._now():
            del self._resting[model.name]
            return None
        return rest
