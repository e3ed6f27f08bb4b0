"""Rules of agents: names, models that exist, what cannot run yet."""

import re
from typing import Any

from pydantic import ValidationError

from lantern.agents import store
from lantern.agents.models import Agent, AgentChange, AgentCreate, Guardrails
from lantern.core import clock, http, ids
from lantern.core.db import Row, Tx
from lantern.core.errors import BadRequest, Conflict, LanternError, NotFound
from lantern.gate import audit
from lantern.gate.auth import Call
from lantern.llm import Models

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
RESERVED = http.BATCHES | {"batches", "runs"}


async def create(call: Call, body: AgentCreate, models: Models) -> dict[str, Any]:
    """Make an agent. BadRequest: reserved name, unknown model. Conflict: the name is taken."""
    call.check_agent(body.name)
    row = await _insert(call.tx, call.tenant, body, models)
    await audit.record(call, "agent.create", "agent", row["id"])
    return whole(row)


async def create_as_operator(
    tx: Tx, tenant: int, body: AgentCreate, models: Models
) -> dict[str, Any]:
    """Make an agent from the command line."""
    row = await _insert(tx, tenant, body, models)
    await audit.record_command(tx, tenant, "agent.create", "agent", row["id"])
    return whole(row)


async def get(tx: Tx, name: str) -> dict[str, Any]:
    """The agent of this name, or NotFound."""
    return whole(await _row(tx, name))


async def of_run(tx: Tx, agent_id: str) -> Row:
    """The settings a run works under; its agent may be archived by now."""
    row = await store.by_id(tx, agent_id)
    if row is None:
        raise not_found(agent_id)
    return row


async def change(call: Call, name: str, body: AgentChange, models: Models) -> dict[str, Any]:
    """Change any subset of an agent's fields."""
    row = await _row(call.tx, name, lock=True)
    values = {k: v for k, v in body.model_dump(exclude_unset=True).items() if v is not None}
    for field, current in (("name", row["name"]), ("id", row["id"])):
        if values.pop(field, current) != current:
            raise BadRequest.field(field, "cannot be changed")
    if "model" in values:
        _check_model(values["model"], models)
    if "guardrails" in values:
        values["guardrails"] = _merged(row["guardrails"], values["guardrails"])
    if values:
        row = await store.update(call.tx, row["id"], values) or row
        await audit.record(call, "agent.change", "agent", row["id"], {"fields": sorted(values)})
    return whole(row)


async def archive(call: Call, name: str) -> None:
    """Free the name. Runs of the agent stay readable, running ones end normally."""
    await audit.record(call, "agent.archive", "agent", await _archive(call.tx, name))


async def archive_as_operator(tx: Tx, tenant: int, name: str) -> None:
    """Free the name from the command line."""
    await audit.record_command(tx, tenant, "agent.archive", "agent", await _archive(tx, name))


async def table(call: Call, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """A page of the agents that the key covers."""
    names = None if call.agents == ["*"] else call.agents
    rows, total = await store.page(call.tx, names, limit, offset)
    return [line(row) for row in rows], total


async def find(call: Call, part: str, limit: int) -> list[dict[str, Any]]:
    """Agents that the key covers, by a part of their name."""
    names = None if call.agents == ["*"] else call.agents
    return [line(row) for row in await store.find(call.tx, part, names, limit)]


async def table_as_operator(tx: Tx, limit: int) -> list[dict[str, Any]]:
    """The tenant's agents, newest first."""
    rows, _ = await store.page(tx, None, limit, 0)
    return [line(row) for row in rows]


def refusal(name: str, verdict: str, field: str | None = None) -> LanternError:
    """Why an agent starts no run."""
    if verdict == "paused":
        return Conflict(f"Agent '{name}' is paused")
    if verdict == "refuses":
        return Conflict(f"Agent '{name}' cannot run: this server does not enforce '{field}' yet")
    return not_found(name)


def not_found(name: str) -> NotFound:
    """The seed's own words."""
    return NotFound(f"Agent '{name}' not found")


def line(row: Row) -> dict[str, Any]:
    """An agent in a list."""
    names = ("name", "description", "model", "status", "id", "labels")
    times = {name: clock.iso(row[name]) for name in ("created_at", "updated_at")}
    return {**{name: row[name] for name in names}, **times}


def whole(row: Row) -> dict[str, Any]:
    """All of an agent."""
    names = ("system_prompt", "connectors", "surfaces", "privacy_level")
    guardrails = Guardrails.model_validate(row["guardrails"]).model_dump()
    own = {**{name: row[name] for name in names}, "guardrails": guardrails, "schedule": None}
    return Agent.model_validate({**line(row), **own}).model_dump()


async def _row(tx: Tx, name: str, *, lock: bool = False) -> Row:
    row = await store.by_name(tx, name, lock=lock) if NAME.fullmatch(name) else None
    if row is None:
        raise not_found(name)
    return row


async def _insert(tx: Tx, tenant: int, body: AgentCreate, models: Models) -> Row:
    if body.name in RESERVED:
        raise BadRequest.field("name", f"'{body.name}' is reserved")
    _check_model(body.model, models)
    values = {**body.model_dump(), "id": body.id or ids.new("agent")}
    row = await store.insert(tx, tenant, values)
    if row is None:
        raise Conflict(f"Agent '{body.name}' already exists")
    return row


async def _archive(tx: Tx, name: str) -> str:
    row = await _row(tx, name, lock=True)
    await store.update(tx, row["id"], {"status": "archived"})
    return str(row["id"])


def _check_model(name: str, models: Models) -> None:
    if not models.known(name):
        models.candidates(name)  # raises UnknownModel, which lists the names


def _merged(current: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    try:
        return Guardrails.model_validate({**current, **change}).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(["guardrails", *(str(part) for part in first["loc"])])
        raise BadRequest.field(name, first["msg"]) from None
