"""Where the bars of a chart go. Templates draw them: a chart is SVG from the server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lantern.runs import Span

WIDTH = 1000.0  # units across, whatever the pixels are


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a waterfall: `x` and `width` in units, the span it stands for, its colour's class."""

    span: Span
    x: float
    width: float
    tone: str
    took_ms: float


def waterfall(spans: Sequence[Span], whole_ms: float) -> list[Bar]:
    """Bars in proportion to the whole time; one that goes on ends at now."""
    whole = max(1.0, whole_ms, *(float(span.end_ms or 0) for span in spans))
    bars = []
    for span in spans:
        end = whole if span.end_ms is None else float(span.end_ms)
        took = max(0.0, end - span.start_ms)
        width = max(4.0, took / whole * WIDTH)
        x = min(span.start_ms / whole * WIDTH, WIDTH - width)
        bars.append(Bar(span, round(x, 1), round(width, 1), _tone(span), took))
    return bars


def _tone(span: Span) -> str:
    if span.part != "work":
        return {"queued": "wait", "void": "void"}[span.part]
    return {"completed": "done", "failed": "bad", "cancelled": "wait"}.get(span.status, "work")


@dataclass(frozen=True, slots=True)
class Column:
    """A stacked column: x, its parts as (series, y, height) from the bottom up, in units of 100."""

    label: str
    x: float
    width: float
    parts: list[tuple[str, float, float]]
    values: Mapping[str, Any]
    total: Any


def columns(rows: Sequence[tuple[str, Mapping[str, Any]]], series: Sequence[str]) -> list[Column]:
    """Stacked columns, the highest one 100 units high. `rows`: (label, value by series).

    A value below 0, such as a refund, has no part; it counts in the total.
    """
    most = max((sum(max(0.0, float(v)) for v in values.values()) for _, values in rows), default=0)
    step = WIDTH / max(1, len(rows))
    found = []
    for at, (label, values) in enumerate(rows):
        top, parts = 100.0, []
        for name in series:
            height = float(values.get(name, 0)) / (most or 1) * 100
            if height > 0:
                top -= height
                parts.append((name, round(top, 2), round(height, 2)))
        left, wide = round(at * step + step * 0.1, 2), round(step * 0.8, 2)
        found.append(Column(label, left, wide, parts, values, sum(values.values())))
    return found
