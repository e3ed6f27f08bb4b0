"""A run in the terminal: a live list of steps over the text, or plain lines where nobody watches."""

import sys
from typing import Any, Protocol, Self

import orjson
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.spinner import Spinner
from rich.text import Text

Event = dict[str, Any]

MARKS = {"done": "[green]✓[/]", "failed": "[red]✗[/]", "cancelled": "[yellow]■[/]"}
TAIL = 8000  # characters of the text that are drawn while it grows
# What a model writes must not steer the terminal.
_HARMLESS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


class Display(Protocol):
    """Takes events one by one; a context manager around them."""

    def event(self, event: Event) -> None:
        """Show an event."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """End."""


class Silent:
    """Shows nothing: for --json."""

    def event(self, event: Event) -> None:
        """Ignore it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Raw(Silent):
    """Each event as it is, a line each."""

    def event(self, event: Event) -> None:
        """Print it."""
        print(orjson.dumps(event).decode(), flush=True)


class Plain(Silent):
    """Lines and text without any control sequence."""

    def __init__(self) -> None:
        self._open = False  # the cursor stands behind text

    def event(self, event: Event) -> None:
        """Print it."""
        step = event.get("step")
        match event["type"]:
            case "token":
                sys.stdout.write(event["content"])
                sys.stdout.flush()
                self._open = True
            case "step.start":
                self._line(f"[{step}]")
            case "step.restart":
                self._line(f"[{step}] starts again: what it wrote is void")
            case "step.complete":
                self._line(f"[{step}] done in {seconds(event['duration_ms'])}")
            case "step.failed":
                self._line(f"[{step}] failed: {event['error']}")
            case "run.cancelled":
                self._line("[cancelled]")

    def _line(self, text: str) -> None:
        print(f"\n{text}" if self._open else text, flush=True)
        self._open = False


class Watch:
    """A live display for a person; at the end the steps and the whole answer stay."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.steps: list[tuple[str, str, str]] = []  # name, state, remark
        self.text: list[str] = []
        self._spinner = Spinner("dots")
        self._live = Live(
            console=console, get_renderable=self._draw, refresh_per_second=15, transient=True
        )

    def event(self, event: Event) -> None:
        """Take it in; the live display draws by itself."""
        match event["type"]:
            case "token":
                self.text.append(event["content"].translate(_HARMLESS))
            case "step.start":
                self.text.clear()
                self.steps.append((event["step"], "running", ""))
            case "step.restart":
                self.text.clear()
                self._now("running", "starts again")
            case "step.complete":
                self._now("done", seconds(event["duration_ms"]))
            case "step.failed":
                self._now("failed", str(event["error"]))
            case "run.cancelled":
                self._now("cancelled", "cancelled")

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)
        for step in self.steps:
            self.console.print(_line(step))
        if self.text:
            self.console.print()
            self.console.print(Markdown("".join(self.text)))

    def _now(self, state: str, remark: str) -> None:
        name = self.steps.pop()[0] if self.steps else "run"
        self.steps.append((name, state, remark))

    def _draw(self) -> RenderableType:
        lines: list[RenderableType] = [
            self._spinner if step[1] == "running" else _line(step) for step in self.steps
        ]
        if self.steps:
            self._spinner.update(text=Text(" ".join(self.steps[-1][::2])))
        room = max(3, self.console.height - len(lines) - 3)
        text = Text("".join(self.text)[-TAIL:])
        tail = text.wrap(self.console, self.console.width)[-room:]
        return Group(*lines, Text(), *tail)


def _line(step: tuple[str, str, str]) -> Text:
    name, state, remark = step
    return Text.from_markup(f"{MARKS.get(state, '·')} ") + Text(f"{name}  {remark}")


def seconds(milliseconds: int) -> str:
    """`0.8 s`."""
    return f"{milliseconds / 1000:.1f} s"


def cost(usd: float | None) -> str:
    """`$0.0012`, or that nobody knows."""
    return "no price known" if usd is None else f"${usd:.4f}"


def summary(run: dict[str, Any]) -> list[str]:
    """What a run took, a line for each step and one for all."""
    lines = []
    for step in run["steps"]:
        tokens = step.get("tokens") or {"input": 0, "output": 0}
        lines.append(
            f"{step['name']}: {step['status']}, {seconds(step.get('duration_ms') or 0)},"
            f" {step.get('model_used') or 'no model'},"
            f" {tokens['input']} + {tokens['output']} tokens, {cost(step.get('cost_usd'))}"
        )
    total = f"{run['tokens_in']} + {run['tokens_out']} tokens, {cost(run['cost_usd'])}"
    return [*lines, f"{run['run_id']}: {run['status']}, {total}"]
