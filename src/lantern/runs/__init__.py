"""Runs: one execution of an agent (later of a batch), durable, streamed, cancellable.

URLs: /v1/agents/{name}/runs, /v1/runs. Tables: runs, run_steps, run_events, stream_tickets.
"""

from lantern.runs import agent as _agent
from lantern.runs.engine import Engine
from lantern.runs.reading import (
    Span,
    Wanted,
    browse,
    count,
    detail,
    figures,
    model_times,
    of_agents,
    oldest,
)
from lantern.runs.service import (
    cancel,
    cancel_as_operator,
    cancel_run,
    fetch,
    fetch_as_operator,
    queue,
    start_as_operator,
    table,
    table_as_operator,
)
from lantern.runs.stream import follow

_agent.register()

__all__ = [
    "Engine",
    "Span",
    "Wanted",
    "browse",
    "cancel",
    "cancel_as_operator",
    "cancel_run",
    "count",
    "detail",
    "fetch",
    "fetch_as_operator",
    "figures",
    "follow",
    "model_times",
    "of_agents",
    "oldest",
    "queue",
    "start_as_operator",
    "table",
    "table_as_operator",
]
