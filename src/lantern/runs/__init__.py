"""Runs: one execution of an agent (later of a batch), durable, streamed, cancellable.

URLs: /v1/agents/{name}/runs, /v1/runs. Tables: runs, run_steps, run_events, stream_tickets.
"""

from lantern.runs import agent as _agent
from lantern.runs.engine import Engine
from lantern.runs.service import (
    cancel,
    cancel_as_operator,
    fetch,
    fetch_as_operator,
    start_as_operator,
    table,
    table_as_operator,
)

_agent.register()

__all__ = [
    "Engine",
    "cancel",
    "cancel_as_operator",
    "fetch",
    "fetch_as_operator",
    "start_as_operator",
    "table",
    "table_as_operator",
]
