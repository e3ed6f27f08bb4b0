"""`client.keys`, `client.agents`, `client.runs`: names for the calls, blocking."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Unpack

from . import _calls
from ._models import Agent, AgentChanges, AgentFields, ApiKey, NewApiKey, Run
from ._stream import RunStream
from ._transport import Transport


class Keys:
    """API keys; needs a key with scope `admin`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._send = transport.send

    def create(
        self,
        name: str,
        *,
        scopes: Sequence[str] | None = None,
        agents: Sequence[str] | None = None,
        expires_at: datetime | None = None,
    ) -> NewApiKey:
        """Make a key; `raw_key` of the answer is shown this once. Never sent twice by itself."""
        return self._send(_calls.create_key(name, scopes, agents, expires_at))

    def list(self, *, per_page: int = 100) -> Iterator[ApiKey]:
        """All keys in force, without their secrets; pages are fetched as the iteration goes."""
        return self._transport.pages(lambda page: _calls.list_keys(page, per_page))

    def delete(self, key_id: str) -> None:
        """Revoke a key, at once and everywhere."""
        self._send(_calls.delete_key(key_id))


class Agents:
    """Agents: a name, a system prompt, a model, what the agent may reach, its limits."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._send = transport.send

    def create(self, name: str, **fields: Unpack[AgentFields]) -> Agent:
        """Make an agent; Conflict when the name is taken."""
        return self._send(_calls.create_agent(name, fields))

    def list(self, *, per_page: int = 100) -> Iterator[Agent]:
        """All agents; pages are fetched as the iteration reaches them."""
        return self._transport.pages(lambda page: _calls.list_agents(page, per_page))

    def get(self, name: str) -> Agent:
        """One agent; NotFound."""
        return self._send(_calls.get_agent(name))

    def update(self, name: str, **changes: Unpack[AgentChanges]) -> Agent:
        """Change some fields; the whole agent."""
        return self._send(_calls.update_agent(name, changes))

    def delete(self, name: str) -> None:
        """Archive an agent; its name is free again, its runs stay readable."""
        self._send(_calls.delete_agent(name))


class Runs:
    """Runs of agents."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._send = transport.send

    def create(
        self,
        agent: str,
        input: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a run. The same key within 24 h gives the same run; one is made up if not given."""
        return self._send(_calls.create_run(agent, input, idempotency_key, labels))

    def run(
        self,
        agent: str,
        input: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> RunStream:
        """Start a run and follow it."""
        run = self.create(agent, input, idempotency_key=idempotency_key, labels=labels)
        return self.stream(run.run_id)

    def get(self, run_id: str) -> Run:
        """One run with its steps; NotFound."""
        return self._send(_calls.get_run(run_id))

    def list(self, agent: str, *, status: str | None = None, per_page: int = 100) -> Iterator[Run]:
        """The runs of an agent; pages are fetched as the iteration reaches them."""
        return self._transport.pages(lambda page: _calls.list_runs(agent, status, page, per_page))

    def cancel(self, run_id: str, *, reason: str | None = None) -> Run:
        """End a run; Conflict when it has completed or failed before."""
        return self._send(_calls.cancel_run(run_id, reason))

    def stream(self, run_id: str, *, after: int | None = None) -> RunStream:
        """A run's events from its first, or from behind `after`, to its last."""
        return RunStream(self._transport, run_id, after)
