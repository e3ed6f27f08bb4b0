"""`client.routing`: names for the calls, blocking and for asyncio."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Unpack

from . import _routing_calls as _calls
from ._routing_calls import Members, Rules
from ._routing_models import (
    Assigned,
    AssignFields,
    Assignment,
    AssignmentFilters,
    Explanation,
    Imported,
    MemberChanges,
    Pool,
    Simulated,
)
from ._transport import AsyncTransport, Transport


class Pools:
    """Pools: members in rotation, by weight, and a policy."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._send = transport.send

    def create(
        self,
        pool: str,
        *,
        members: Members = (),
        policy: Rules | None = None,
        sequence: int | None = None,
    ) -> Pool:
        """Make a pool; Conflict when the name is taken. `sequence`: the last number given before."""
        return self._send(_calls.create_pool(pool, members, policy, sequence))

    def list(self, q: str | None = None, *, per_page: int = 100) -> Iterator[Pool]:
        """All pools, or those with `q` in their name; pages are fetched as the iteration goes."""
        return self._transport.pages(lambda page: _calls.list_pools(q, page, per_page))

    def get(self, pool: str) -> Pool:
        """One pool with its members, who may be picked now and who is next; NotFound."""
        return self._send(_calls.get_pool(pool))

    def put(
        self,
        pool: str,
        members: Members,
        *,
        policy: Rules | None = None,
        version: int | None = None,
    ) -> Pool:
        """Replace members and policy (None: the defaults). Conflict when `version` is not the last."""
        return self._send(_calls.put_pool(pool, members, policy, version))

    def delete(self, pool: str) -> None:
        """Delete a pool; its assignments stay readable."""
        self._send(_calls.delete_pool(pool))

    def import_csv(
        self, pool: str, csv: str, *, mode: str = "merge", partial: bool = False
    ) -> Imported:
        """Add and change members by a CSV text; `partial` takes the good rows of a bad file."""
        return self._send(_calls.import_members(pool, csv, mode, partial))

    def change_member(self, pool: str, user_id: str, **changes: Unpack[MemberChanges]) -> Pool:
        """Change some fields of a member; the whole pool."""
        return self._send(_calls.change_member(pool, user_id, changes))

    def remove_member(self, pool: str, user_id: str) -> None:
        """Take a member out of a pool."""
        self._send(_calls.remove_member(pool, user_id))

    def simulate(
        self,
        pool: str,
        *,
        members: Members | None = None,
        policy: Rules | None = None,
        days: int = 30,
        limit: int | None = None,
    ) -> Simulated:
        """Who would have got what, had the pool been another; changes nothing, costs nothing."""
        return self._send(_calls.simulate(pool, members, policy, days, limit))


class Assignments:
    """Decisions of the past."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._send = transport.send

    def list(
        self, *, per_page: int = 100, **filters: Unpack[AssignmentFilters]
    ) -> Iterator[Assignment]:
        """Assignments, newest first; pages are fetched as the iteration goes."""
        return self._transport.pages(lambda page: _calls.list_assignments(filters, page, per_page))

    def get(self, assignment_id: str) -> Assignment:
        """One assignment; NotFound."""
        return self._send(_calls.get_assignment(assignment_id))

    def accept(self, assignment_id: str) -> Assignment:
        """The owner has taken it up; its timer stops."""
        return self._send(_calls.accept_assignment(assignment_id))

    def void(self, assignment_id: str, *, reason: str | None = None) -> Assignment:
        """Take it back: its number stays, the turn returns to the member."""
        return self._send(_calls.void_assignment(assignment_id, reason))

    def explain(self, assignment_id: str) -> Explanation:
        """Why this owner."""
        return self._send(_calls.explain_assignment(assignment_id))


class Routing:
    """Gives records to the members of pools."""

    def __init__(self, transport: Transport) -> None:
        self._send = transport.send
        self.pools = Pools(transport)
        self.assignments = Assignments(transport)

    def assign(
        self,
        pool: str,
        object: str,
        sf_id: str,
        *,
        idempotency_key: str | None = None,
        tags: Mapping[str, str] | None = None,
        **fields: Unpack[AssignFields],
    ) -> Assigned:
        """Give a record to the next member. The same key within 24 h: the same answer, free."""
        record = {"pool": pool, "object": object, "sf_id": sf_id}
        return self._send(_calls.assign(record, fields, idempotency_key, tags))


class AsyncPools:
    """Pools: members in rotation, by weight, and a policy."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._send = transport.send

    async def create(
        self,
        pool: str,
        *,
        members: Members = (),
        policy: Rules | None = None,
        sequence: int | None = None,
    ) -> Pool:
        """Make a pool; Conflict when the name is taken. `sequence`: the last number given before."""
        return await self._send(_calls.create_pool(pool, members, policy, sequence))

    def list(self, q: str | None = None, *, per_page: int = 100) -> AsyncIterator[Pool]:
        """All pools, or those with `q` in their name; pages are fetched as the iteration goes."""
        return self._transport.pages(lambda page: _calls.list_pools(q, page, per_page))

    async def get(self, pool: str) -> Pool:
        """One pool with its members, who may be picked now and who is next; NotFound."""
        return await self._send(_calls.get_pool(pool))

    async def put(
        self,
        pool: str,
        members: Members,
        *,
        policy: Rules | None = None,
        version: int | None = None,
    ) -> Pool:
        """Replace members and policy (None: the defaults). Conflict when `version` is not the last."""
        return await self._send(_calls.put_pool(pool, members, policy, version))

    async def delete(self, pool: str) -> None:
        """Delete a pool; its assignments stay readable."""
        await self._send(_calls.delete_pool(pool))

    async def import_csv(
        self, pool: str, csv: str, *, mode: str = "merge", partial: bool = False
    ) -> Imported:
        """Add and change members by a CSV text; `partial` takes the good rows of a bad file."""
        return await self._send(_calls.import_members(pool, csv, mode, partial))

    async def change_member(
        self, pool: str, user_id: str, **changes: Unpack[MemberChanges]
    ) -> Pool:
        """Change some fields of a member; the whole pool."""
        return await self._send(_calls.change_member(pool, user_id, changes))

    async def remove_member(self, pool: str, user_id: str) -> None:
        """Take a member out of a pool."""
        await self._send(_calls.remove_member(pool, user_id))

    async def simulate(
        self,
        pool: str,
        *,
        members: Members | None = None,
        policy: Rules | None = None,
        days: int = 30,
        limit: int | None = None,
    ) -> Simulated:
        """Who would have got what, had the pool been another; changes nothing, costs nothing."""
        return await self._send(_calls.simulate(pool, members, policy, days, limit))


class AsyncAssignments:
    """Decisions of the past."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._send = transport.send

    def list(
        self, *, per_page: int = 100, **filters: Unpack[AssignmentFilters]
    ) -> AsyncIterator[Assignment]:
        """Assignments, newest first; pages are fetched as the iteration goes."""
        return self._transport.pages(lambda page: _calls.list_assignments(filters, page, per_page))

    async def get(self, assignment_id: str) -> Assignment:
        """One assignment; NotFound."""
        return await self._send(_calls.get_assignment(assignment_id))

    async def accept(self, assignment_id: str) -> Assignment:
        """The owner has taken it up; its timer stops."""
        return await self._send(_calls.accept_assignment(assignment_id))

    async def void(self, assignment_id: str, *, reason: str | None = None) -> Assignment:
        """Take it back: its number stays, the turn returns to the member."""
        return await self._send(_calls.void_assignment(assignment_id, reason))

    async def explain(self, assignment_id: str) -> Explanation:
        """Why this owner."""
        return await self._send(_calls.explain_assignment(assignment_id))


class AsyncRouting:
    """Gives records to the members of pools."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._send = transport.send
        self.pools = AsyncPools(transport)
        self.assignments = AsyncAssignments(transport)

    async def assign(
        self,
        pool: str,
        object: str,
        sf_id: str,
        *,
        idempotency_key: str | None = None,
        tags: Mapping[str, str] | None = None,
        **fields: Unpack[AssignFields],
    ) -> Assigned:
        """Give a record to the next member. The same key within 24 h: the same answer, free."""
        record = {"pool": pool, "object": object, "sf_id": sf_id}
        return await self._send(_calls.assign(record, fields, idempotency_key, tags))
