"""The text of a run, put together from its events; a step that restarts takes its text back."""

from ._events import Event, StepRestartEvent, StepStartEvent, TokenEvent


class Transcript:
    """The text of each step so far."""

    def __init__(self) -> None:
        self._pieces: dict[str, list[str]] = {}
        self._step = ""  # a reader who joined in mid-step does not know its name
        self._speaker = ""

    def add(self, event: Event) -> None:
        """Take in the next event."""
        if isinstance(event, TokenEvent):
            self._speaker = event.step or self._step
            self._pieces.setdefault(self._speaker, []).append(event.content)
        elif isinstance(event, StepStartEvent | StepRestartEvent):
            self._step = event.step
            self._pieces[event.step] = []

    @property
    def text(self) -> str:
        """The text of the step that spoke last; when the run is complete, its answer."""
        return "".join(self._pieces.get(self._speaker, ()))

    @property
    def steps(self) -> dict[str, str]:
        """The text of every step, by name."""
        return {step: "".join(pieces) for step, pieces in self._pieces.items()}
