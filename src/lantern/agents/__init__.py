"""Agents: named settings that a run executes under.

URLs: /v1/agents, /v1/agents/{name}. Tables: agents.
"""

from lantern.agents.models import Agent, AgentChange, AgentCreate, Guardrails
from lantern.agents.service import (
    NAME,
    archive,
    archive_as_operator,
    change,
    create,
    create_as_operator,
    find,
    get,
    of_run,
    refusal,
    table,
    table_as_operator,
)

__all__ = [
    "NAME",
    "Agent",
    "AgentChange",
    "AgentCreate",
    "Guardrails",
    "archive",
    "archive_as_operator",
    "change",
    "create",
    "create_as_operator",
    "find",
    "get",
    "of_run",
    "refusal",
    "table",
    "table_as_operator",
]
