"""Agents: named settings that a run executes under.

URLs: /v1/agents, /v1/agents/{name}. Tables: agents.
"""

from lantern.agents.models import Agent, AgentChange, AgentCreate, Guardrails
from lantern.agents.service import NAME, archive, change, create, get, of_run, refusal, table

__all__ = [
    "NAME",
    "Agent",
    "AgentChange",
    "AgentCreate",
    "Guardrails",
    "archive",
    "change",
    "create",
    "get",
    "of_run",
    "refusal",
    "table",
]
