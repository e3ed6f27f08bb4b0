"""`client.keys`, `client.agents`, `client.runs`: names for the calls, for asyncio."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Unpack

from . import _calls
from ._models import Agent, AgentChanges, AgentFields, ApiKey, NewApiKey, Run
from ._stream import AsyncRunStream
from ._transport import AsyncTransport


class AsyncKeys:
    """API keys; needs a key with scope `admin`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._send = transport.send

    async def create(
        self,
        name: str,
        *,
        scopes: Sequence[str] | None = None,
        agents: Sequence[str] | None = None,
        expires_at: datetime | None = None,
    ) -> NewApiKey:
        """Make a key; `raw_key` of the answer is shown this once. Never sent twice by itself."""
        return await self._send(_calls.create_key(name, scopes, agents, expires_at))

    def list(self, *, per_page: int = 100) -> AsyncIterator[ApiKey]:
        """All keys in force, without their secrets; pages are fetched as the iteration goes."""
        return self._transport.pages(lambda page: _calls.list_keys(page, per_page))

    async def delete(self, key_id: str) -> None:
        """Revoke a key, at once and everywhere."""
        await self._send(_calls.delete_key(key_id))


class AsyncAgents:
    """Agents: a name, a system prompt, a model, what the agent may reach, its limits."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._send = transport.send

    async def create(self, name: str, **fields: Unpack[AgentFields]) -> Agent:
        """Make an agent; Conflict when the name is taken."""
        return await self._send(_calls.create_agent(name, fields))

    def list(self, *, per_page: int = 100) -> AsyncIterator[Agent]:
        """All agents; pages are fetched as the iteration reaches them."""
        return self._transport.pages(lambda page: _calls.list_agents(page, per_page))

    async def get(self, name: str) -> Agent:
        """One agent; NotFound."""
        return await self._send(_calls.get_agent(name))

    async def update(self, name: str, **changes: Unpack[AgentChanges]) -> Agent:
        """Change some fields; the whole agent."""
        return await self._send(_calls.update_agent(name, changes))

    async def delete(self, name: str) -> None:
        """Archive an agent; its name is free again, its runs stay readable."""
        await self._send(_calls.delete_agent(name))


class AsyncRuns:
    """Runs of agents."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._send = transport.send

    async def create(
        self,
        agent: str,
        input: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a run. The same key within 24 h gives the same run; one is made up if not given."""
        return await self._send(_calls.create_run(agent, input, idempotency_key, labels))

    async def run(
        self,
        agent: str,
        input: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> AsyncRunStream:
        """Start a run and follow it."""
        run = await self.create(agent, input, idempotency_key=idempotency_key, labels=labels)
        return self.stream(run.run_id)

    async def get(self, run_id: str) -> Run:
        """One run with its steps; NotFound."""
        return await self._send(_calls.get_run(run_id))

    def list(
        self, agent: str, *, status: str | None = None, per_page: int = 100
    ) -> AsyncIterator[Run]:
        """The runs of an agent; pages are fetched as the iteration reaches them."""
        return self._transport.pages(lambda page: _calls.list_runs(agent, status, page, per_page))

    async def cancel(self, run_id: str, *, reason: str | None = None) -> Run:
        """End a run; Conflict when it has completed or failed before."""
        return await self._send(_calls.cancel_run(run_id, reason))

    def stream(self, run_id: str, *, after: int | None = None) -> AsyncRunStream:
        """A run's events from its first, or from behind `after`, to its last."""
        return AsyncRunStream(self._transport, run_id, after)
