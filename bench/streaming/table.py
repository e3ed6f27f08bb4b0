"""Results -> one Markdown table: a row a figure, a column a target, what was wanted beside it."""

import statistics
import time
from dataclasses import dataclass

OURS, PEER = "lantern", "agno-pg"


@dataclass(frozen=True)
class Row:
    """One figure: where it lies in a result, and what Lantern's should be."""

    title: str
    scenario: str
    path: tuple[str, ...]
    digits: int = 1
    most: float | None = None  # Lantern's figure at most this
    ratio: float | None = None  # at least this many times better than the peer
    more_is_better: bool = False
    plain: bool = False  # a ratio says nothing
    combine: str = "median"  # over the passes


def spread(title: str, scenario: str, figure: str, digits=2, **wanted) -> list[Row]:
    """p50 and p95 of one figure; `p50=` and `p95=` are the most that is wanted."""
    return [
        Row(f"{title} {p}", scenario, (figure, p), digits, most=wanted.get(p))
        for p in ("p50", "p95")
    ]


def burst(workers: int) -> list[Row]:
    scenario, at = f"zero-{workers}", f"c={workers}"
    return [
        Row(
            f"runs/s, {at}",
            scenario,
            ("runs_per_s",),
            ratio=8 if workers == 64 else None,
            more_is_better=True,
        ),
        Row(f"CPU ms a run, {at}", scenario, ("cpu_ms_per_run",), 2, most=8),
        Row(f"of which Postgres, {at}", scenario, ("db_cpu_ms_per_run",), 2, plain=True),
        Row(f"errors, {at}", scenario, ("errors",), 0, most=0, plain=True, combine="sum"),
    ]


ROWS = [
    *spread("TTFT added ms, 1 stream,", "paced-1", "ttft_added_ms", p50=7),
    Row("of which before the model, p50", "paced-1", ("before_model_ms", "p50"), 2),
    *spread("token transit ms, 1 stream,", "paced-1", "transit_ms"),
    Row("CPU ms a run, 1 stream", "paced-1", ("cpu_ms_per_run",)),
    *spread("TTFT added ms, 16 streams,", "paced-16", "ttft_added_ms"),
    *spread("token transit ms, 16 streams,", "paced-16", "transit_ms", p95=10),
    Row("CPU ms a run, 16 streams", "paced-16", ("cpu_ms_per_run",)),
    *(row for workers in (1, 16, 64, 256) for row in burst(workers)),
    Row("total ms, c=64, p95", "zero-64", ("total_ms", "p95"), 0),
    Row("bytes a run", "zero-64", ("bytes_per_run",), 0),
    Row("256 silent streams, CPU %", "idle-256", ("cpu_percent",), 2, most=5),
    Row("256 silent streams, lost", "idle-256", ("errors",), 0, most=0, plain=True, combine="sum"),
    Row("256 silent streams, PSS MB", "idle-256", ("pss_mb",), 0),
    Row("ready after s", "ready", ("seconds",), 2, most=2),
    Row("idle PSS MB", "idle", ("pss_mb",), 0, most=200),
    Row("idle CPU %", "idle", ("cpu_percent",), 2, most=5),
    Row("PSS MB after the load", "zero-256", ("memory_after", "pss_mb"), 0),
    Row("load side, most cores", "*", ("load_cores",), 2, plain=True, combine="max"),
    Row(
        "others on this machine, most cores", "*", ("foreign_cores",), 2, plain=True, combine="max"
    ),
]
COMBINE = {"median": statistics.median, "sum": sum, "max": max}


def values(results: list[dict], target: str, row: Row) -> list[float]:
    found = []
    for result in results:
        if result["target"] != target:
            continue
        scenarios = result["scenarios"]
        names = scenarios if row.scenario == "*" else [row.scenario]
        for value in (scenarios.get(name) for name in names):
            for key in row.path:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                found.append(value)
    return found


def figure(results: list[dict], target: str, row: Row) -> float | None:
    found = values(results, target, row)
    return COMBINE[row.combine](found) if found else None


def times_better(row: Row, ours: float | None, peer: float | None) -> float | None:
    if row.plain or not ours or not peer:
        return None
    return ours / peer if row.more_is_better else peer / ours


def verdict(row: Row, ours: float | None, better: float | None) -> tuple[str, str]:
    """(what was wanted, whether it was met)"""
    if row.most is not None:
        wanted = f"<= {row.most:g}" if row.most else "0"
        return wanted, "" if ours is None else "yes" if ours <= row.most else "**no**"
    if row.ratio is not None:
        met = "" if better is None else "yes" if better >= row.ratio else "**no**"
        return f">= {row.ratio:g} x {PEER}", met
    return "", ""


def line(results: list[dict], targets: list[str], row: Row) -> str | None:
    got = {name: figure(results, name, row) for name in targets}
    if all(value is None for value in got.values()):
        return None
    better = times_better(row, got.get(OURS), got.get(PEER))
    wanted, met = verdict(row, got.get(OURS), better)
    cells = ["-" if got[n] is None else f"{got[n]:.{row.digits}f}" for n in targets]
    ratio = "" if better is None else f"{better:.1f}"
    return "| " + " | ".join([row.title, wanted, met, *cells, ratio]) + " |"


def render(results: list[dict], facts: str) -> str:
    names = list(dict.fromkeys(result["target"] for result in results))
    targets = sorted(names, key=lambda n: {OURS: 0, PEER: 1}.get(n, 2))  # the rest keeps its order
    head = ["figure", "wanted", "met", *targets, f"{OURS} / {PEER}, times better"]
    lines = [line(results, targets, row) for row in ROWS]
    return "\n".join(
        [
            f"Streaming benchmark, {time.strftime('%Y-%m-%d')}. {facts}.",
            "One core for each target and its Postgres; 50 tokens a run. How: README.md.",
            "",
            "| " + " | ".join(head) + " |",
            "|---" * len(head) + "|",
            *(text for text in lines if text),
            "",
        ]
    )
