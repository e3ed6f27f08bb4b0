"""Rules of pools: made, changed under the rotation's lock, deleted; every change is audited."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from lantern.core import clock, ids
from lantern.core.db import Row, Tx
from lantern.core.errors import BadRequest, Conflict, NotFound
from lantern.core.sfids import record_key
from lantern.gate import audit
from lantern.gate.auth import Call
from lantern.routing.pools import models, sheet, store
from lantern.routing.pools.models import MemberChange, Policy, PoolChange, PoolCreate, Simulation
from lantern.routing.pools.pool import Member, Pool, changed, made, member, view, wire
from lantern.routing.pools.replay import affordable
from lantern.routing.pools.simulation import simulate as decide_again

MOST_REFUSED = 100  # rows that an answer lists
# A simulation is pure computing: one at a time leaves the interpreter to the requests.
_one_at_a_time = ThreadPoolExecutor(1, "simulation")


@dataclass(frozen=True, slots=True)
class FileRules:
    """How a file is read: `replace` removes who is not in it, `partial` takes the good rows."""

    replace: bool = False
    partial: bool = False


async def create(call: Call, body: PoolCreate) -> dict[str, Any]:
    """Make a pool. Conflict: the name is taken."""
    pool = made(body.pool, body.policy, [member(m) for m in body.members])
    pool = replace(pool, id=ids.new("pool"), sequence=body.sequence)
    await check_zones(call.tx, pool.members)
    if not await store.insert(call.tx, call.tenant, pool):
        raise Conflict(f"Pool '{body.pool}' exists already")
    await _record(call, "pool.create", pool)
    return await show(call.tx, body.pool)


async def show(tx: Tx, name: str) -> dict[str, Any]:
    """A pool with its members, who may be picked now, and who is next."""
    pool, at = await fetch(tx, name), clock.now()
    return view(pool, await store.counts(tx, pool, at), at)


async def table(tx: Tx, q: str, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """A page of pools, by name."""
    rows, total = await store.page(tx, q, limit, offset)
    return [_line(row) for row in rows], total


async def names(tx: Tx, pools: set[str], users: set[str]) -> dict[str, str]:
    """What members are called, by user id; who has no name, or has left, is not in it."""
    return await store.names(tx, list(pools), list(users)) if users else {}


async def put(call: Call, name: str, body: PoolChange) -> dict[str, Any]:
    """Other members, another policy. Conflict: `version` is not the pool's."""
    pool = await _held(call.tx, name)
    if body.version not in (None, pool.version):
        raise Conflict(f"The pool is at version {pool.version}")
    members = [member(m) for m in body.members]
    await _rewrite(call, "pool.change", changed(pool, body.policy, members))
    return await show(call.tx, name)


async def change_policy(call: Call, name: str, policy: Policy, version: int) -> None:
    """Another policy for the same members. Conflict: `version` is not the pool's."""
    pool = await _held(call.tx, name)
    if version != pool.version:
        raise Conflict(f"The pool is at version {pool.version}")
    await _rewrite(call, "pool.change", changed(pool, policy, pool.members))


async def delete(call: Call, name: str) -> None:
    """End a pool; its assignments stay."""
    pool = await _held(call.tx, name)
    await store.delete(call.tx, pool.id)
    await _record(call, "pool.delete", pool)


async def change_member(call: Call, name: str, user: str, body: MemberChange) -> dict[str, Any]:
    """Change one member. BadRequest names the field."""
    pool = await _held(call.tx, name)
    place = _place(pool, user)
    old = wire(pool.members[place])
    change = body.model_dump(mode="json", exclude_unset=True, by_alias=True)
    change.pop("metadata", None)
    if change.get("caps"):
        change["caps"] = {**old["caps"], **change["caps"]}
    try:
        new = member(models.Member.model_validate({**old, **change}))
    except ValidationError as error:
        raise BadRequest.field(*models.first_fault(error)) from None
    members = [*pool.members[:place], new, *pool.members[place + 1 :]]
    await _rewrite(call, "pool.member.change", changed(pool, pool.policy, members), user)
    return await show(call.tx, name)


async def remove_member(call: Call, name: str, user: str) -> None:
    """Take a member out; the turns of the others go on."""
    pool = await _held(call.tx, name)
    place = _place(pool, user)
    members = [*pool.members[:place], *pool.members[place + 1 :]]
    await _rewrite(call, "pool.member.remove", changed(pool, pool.policy, members), user)


async def import_members(call: Call, name: str, text: str, rules: FileRules) -> dict[str, Any]:
    """Add and change members by a CSV file. BadRequest: rows are refused, and not `partial`."""
    pool = await _held(call.tx, name)
    known = {m.key: m for m in pool.members}
    found = sheet.read(text, {} if rules.replace else known)
    if not rules.partial:
        _all_or_nothing(found)
    named = {m.key: m for m in found.members}
    gone = {key for key in known if key not in named and key not in found.spared}
    gone = gone if rules.replace else set()
    stay = [named.pop(m.key, m) for m in pool.members if m.key not in gone]
    new = changed(pool, pool.policy, [*stay, *named.values()])
    before = {m.key: m for m in pool.members}
    updated = sum(m.key in before and m != before[m.key] for m in new.members)
    counts = {"added": len(named), "updated": updated, "removed": len(gone)}
    if any(counts.values()):
        await _rewrite(call, "pool.import", new)
    version = pool.version + any(counts.values())
    refused = found.refused[:MOST_REFUSED]
    return {"pool": pool.name, "version": version, **counts, "refused": refused}


def members_in(text: str) -> list[dict[str, Any]]:
    """The members of a CSV text, as requests carry them. BadRequest: rows are refused."""
    found = sheet.read(text, {})
    _all_or_nothing(found)
    return [wire(someone) for someone in found.members]


async def simulate(call: Call, name: str, body: Simulation) -> dict[str, Any]:
    """Decide the past again with a changed pool; the connection is free while it computes."""
    async with call.db.transaction(call.tenant) as tx:
        pool = await fetch(tx, name)
        members = pool.members if body.members is None else [member(m) for m in body.members]
        await check_zones(tx, members)
        pool = changed(pool, body.policy or pool.policy, members)
        limit = min(body.limit, affordable(pool))
        history = await store.history(tx, pool.id, body.days, limit + 1)
    loop = asyncio.get_running_loop()
    shown = history[-limit:]
    found = await loop.run_in_executor(_one_at_a_time, decide_again, pool, shown)
    return {"pool": name, "days": body.days, "truncated": len(history) > limit, **found}


async def fetch(tx: Tx, name: str) -> Pool:
    """A pool by its name. NotFound."""
    pool = await store.load(tx, name)
    if pool is None:
        raise NotFound(f"Pool '{name[:100]}' not found")
    return pool


async def check_zones(tx: Tx, members: Sequence[Member]) -> None:
    """BadRequest for a time zone that this Postgres does not know."""
    zones = sorted({m.person.timezone for m in members} - {"UTC"})
    if zones and not await store.zone_is_known(tx, zones):
        raise BadRequest.field("timezone", "one of these is not known to Postgres: " + str(zones))


async def _held(tx: Tx, name: str) -> Pool:
    while True:
        held = await store.lock(tx, name)
        pool = await fetch(tx, name)  # as it is now that nobody else changes it
        if pool.id == held:
            return pool
        # While this one waited, the pool was deleted and another one took its name.


async def _rewrite(call: Call, action: str, pool: Pool, user: str | None = None) -> None:
    await check_zones(call.tx, pool.members)
    await store.rewrite(call.tx, call.tenant, pool)
    await _record(call, action, pool, user)


async def _record(call: Call, action: str, pool: Pool, user: str | None = None) -> None:
    detail: dict[str, Any] = {"pool": pool.name, "members": len(pool.members)}
    if user is not None:
        detail["user_id"] = user
    await audit.record(call, action, "pool", pool.id, detail)


def _all_or_nothing(found: sheet.Sheet) -> None:
    if found.refused:
        first = found.refused[0]
        raise BadRequest(
            f"{len(found.refused)} rows are refused, nothing was changed; "
            f"line {first['line']}, {first['field']}: {first['message']}",
            details={"refused": found.refused[:MOST_REFUSED]},
        )


def _place(pool: Pool, user: str) -> int:
    for place, someone in enumerate(pool.members):
        if someone.key == record_key(user):
            return place
    raise NotFound("No such member in this pool")


def _line(row: Row) -> dict[str, Any]:
    times = {name: clock.iso(row.pop(name)) for name in ("created_at", "updated_at")}
    return {**row, **times}
