"""All SQL of assignments (pools have their own). The decision is `assign_owner` in the migrations."""

from datetime import datetime
from typing import Any

import orjson

from lantern.core.db import DatabaseError, Row, Tx, raised

_FIELDS = """id, pool_id, pool, pool_version, sequence, epoch, object, sf_id, record, assigned_to,
    method, status, prev_owner, reason, exclude_inactive, pool_size, eligible_size, users, waits,
    reasons, hop, rerouted_from, credits, request_id, key_id, created_at, accepted_at, ended_at,
    ended_why, breach_at"""

_POOL = """select id, name, fallback, fallback_kind, sla_minutes, sla_on_breach, sla_max_hops,
    sla_escalate_to, sla_refund_turn, activity_at from routing_pools where deleted_at is null"""

OUT_OF_CREDITS = "LN402"

# An assignment and those that it came from, one behind the other.
_CHAIN = """with recursive chain as (
    select id, assigned_to, rerouted_from, credits from routing_assignments where id = %s
    union all
    select a.id, a.assigned_to, a.rerouted_from, a.credits
    from chain c join routing_assignments a on a.id = c.rerouted_from where {stop})"""
_VOID = "a.status = 'void'"


async def assign(tx: Tx, tenant: int, request: dict[str, Any], at: datetime | None = None) -> Row:
    """Decide: one statement. `verdict` out_of_credits comes with `facts`, and nothing is kept."""
    try:
        row = await tx.one(
            "select * from assign_owner(%s, %s::jsonb, %s)",
            (tenant, orjson.dumps(request).decode(), at),
        )
    except DatabaseError as error:
        state, facts = raised(error)
        if state != OUT_OF_CREDITS:
            raise
        return {"verdict": "out_of_credits", "facts": facts}
    assert row is not None
    return row


async def fetch(tx: Tx, assignment: str) -> Row | None:
    """One assignment of the tenant."""
    return await tx.one(f"select {_FIELDS} from routing_assignments where id = %s", (assignment,))


async def fetch_locked(tx: Tx, assignment: str) -> Row | None:
    """One assignment, its pool's row held: first the pool, as `assign_owner` does."""
    row = await fetch(tx, assignment)
    if row is None:
        return None
    await lock(tx, row["pool_id"])
    return await fetch(tx, assignment)


async def lock(tx: Tx, pool_id: str) -> None:
    """Hold the pool's row: what follows is in step with its decisions."""
    await tx.run("select from routing_rotations where pool_id = %s for update", (pool_id,))


async def page(tx: Tx, where: dict[str, Any], limit: int, offset: int) -> tuple[list[Row], int]:
    """Assignments, newest first, and how many there are. `where`: pool, record, user, ..., or None."""
    condition = """(%(pool)s::text is null or pool = %(pool)s)
        and (%(record)s::text is null or record = %(record)s)
        and (%(assigned_to)s::text is null or assigned_to = %(assigned_to)s)
        and (%(status)s::text is null or status = %(status)s)
        and (%(since)s::timestamptz is null or created_at >= %(since)s)
        and (%(until)s::timestamptz is null or created_at < %(until)s)"""
    rows = await tx.all(
        f"select {_FIELDS} from routing_assignments where {condition}"
        " order by created_at desc, id desc limit %(limit)s offset %(offset)s",
        {**where, "limit": limit, "offset": offset},
    )
    total = await tx.one(f"select count(*) as n from routing_assignments where {condition}", where)
    return rows, total["n"] if total else 0


async def accept(tx: Tx, assignment: str) -> bool:
    """From assigned to accepted; False when it is neither."""
    return (
        await tx.run(
            "update routing_assignments set status = 'accepted',"
            " accepted_at = coalesce(accepted_at, clock_timestamp())"
            " where id = %s and status in ('assigned', 'accepted')",
            (assignment,),
        )
        > 0
    )


async def end(tx: Tx, assignment: str, status: str, why: str | None) -> bool:
    """Void it, or re-route it; False when it has ended already. It keeps its number."""
    return (
        await tx.run(
            "update routing_assignments set status = %s, ended_at = clock_timestamp(),"
            " ended_why = %s where id = %s and status in ('assigned', 'accepted')",
            (status, why, assignment),
        )
        > 0
    )


async def give_turn_back(tx: Tx, row: Row) -> bool:
    """The member's last turn is ahead of it again, unless it takes no credit back."""
    found = await tx.one(
        "select give_turn_back(%s, %s, %s) as given",
        (row["pool_id"], row["assigned_to"], row["epoch"]),
    )
    return bool(found and found["given"])


async def has_later_owner(tx: Tx, row: Row) -> bool:
    """Whether the record got an owner after this assignment, in whichever pool, who has it still."""
    later = await tx.one(
        "select 1 from routing_assignments where record = %s and object = %s"
        " and status in ('assigned', 'accepted') and created_at > %s limit 1",
        (row["record"], row["object"], row["created_at"]),
    )
    return later is not None


async def holders(tx: Tx, assignment: str) -> list[str]:
    """Who has held this record on its way to where it is: this owner and those it was moved from."""
    rows = await tx.all(
        f"{_CHAIN.format(stop='true')} select distinct assigned_to from chain", (assignment,)
    )
    return [row["assigned_to"] for row in rows]


async def paid(tx: Tx, assignment: str) -> str | None:
    """The assignment that was charged for this one: itself, or the void one that it replaced."""
    row = await tx.one(
        f"{_CHAIN.format(stop=_VOID)} select id from chain where credits > 0 limit 1", (assignment,)
    )
    return str(row["id"]) if row else None


async def pool(tx: Tx, name: str) -> Row | None:
    """What the server itself has to know of a pool in force, by name."""
    return await tx.one(f"{_POOL} and name = %s", (name,))


async def pool_by_id(tx: Tx, pool_id: str) -> Row | None:
    """The same, by id."""
    return await tx.one(f"{_POOL} and id = %s", (pool_id,))


async def members(tx: Tx, pool_id: str) -> list[str]:
    """User ids of a pool, in base order."""
    rows = await tx.all(
        "select user_id from routing_members where pool_id = %s order by place", (pool_id,)
    )
    return [row["user_id"] for row in rows]


async def remember_activity(tx: Tx, pool_id: str, active: dict[str, bool]) -> None:
    """What the CRM said of the members, and that it was asked now."""
    await note_activity(tx, pool_id, active)
    await tx.run(
        "update routing_pools set activity_at = clock_timestamp() where id = %s", (pool_id,)
    )


async def note_activity(tx: Tx, pool_id: str, active: dict[str, bool]) -> None:
    """What the CRM said of some members, without having been asked about all."""
    await lock(tx, pool_id)
    await tx.run(
        "update routing_members m set crm_active = x.value::boolean"
        " from jsonb_each_text(%s::jsonb) x where m.pool_id = %s and m.user_id = x.key",
        (orjson.dumps(active).decode(), pool_id),
    )


async def gap_lengths(tx: Tx, pool_id: str) -> tuple[int, dict[str, int]]:
    """The ring's length and how many turns a round gives each member."""
    rows = await tx.all(
        "select p.ring, m.user_id, cardinality(m.gaps) as turns from routing_pools p"
        " join routing_members m on m.pool_id = p.id where p.id = %s",
        (pool_id,),
    )
    return (rows[0]["ring"] if rows else 1), {row["user_id"]: row["turns"] for row in rows}


# ---------------------------------------------------------------- lists without an end
LOOKED = 20_000  # rows that a condition without an index may look at
ENDED = ("void", "bad_fit", "rerouted")  # few: they have an index
_NEWEST = ("created_at desc, id desc", "(created_at, id) < (%(at)s, %(id)s)")
_BY_NUMBER = ("sequence desc", "sequence < %(sequence)s")
_TABLE = "routing_assignments a where a.tenant_id = tenant()"


async def position(tx: Tx, assignment: str) -> Row | None:
    """Where an assignment stands in the lists."""
    return await tx.one(
        "select id, created_at as at, sequence from routing_assignments where id = %s",
        (assignment,),
    )


async def browse(
    tx: Tx, wanted: dict[str, str], after: Row | None, limit: int
) -> tuple[list[Row], str | None]:
    """Assignments behind a position, newest first, and the id of the last one that was looked at.

    None: it was looked to the end. `wanted`: pool, record, owner, status, what is asked for alone.
    """
    source, rest, (order, behind) = await _source(tx, wanted)
    most = LOOKED if rest else limit
    place = f" and {behind}" if after else ""
    back = order.replace(" desc", "")
    found = await tx.one(
        f"with looked as materialized ({source.format(where=place, order=order)}),"
        f" ends as (select distinct on (part) *, count(*) over (partition by part) as n"
        f" from looked order by part, {back}),"
        f" cut as (select * from ends where n >= %(most)s order by {order} limit 1)"
        f" select (select id from cut) as cut, (select array_agg(id order by {order}) from ("
        f" select * from looked l where {rest or 'true'} and not exists (select from cut c"
        f" where (l.{back.replace(', ', ', l.')}) < (c.{back.replace(', ', ', c.')}))"
        f" order by {order} limit %(limit)s) f) as ids",
        {**wanted, **(after or {}), "limit": limit, "most": most},
    )
    ids: list[str] = (found and found["ids"]) or []
    rows = await tx.all(f"select {_FIELDS} from routing_assignments where id = any (%s)", (ids,))
    by_id = {row["id"]: row for row in rows}
    return [by_id[one] for one in ids], found["cut"] if found else None


async def count(tx: Tx, wanted: dict[str, str], most: int) -> int | None:
    """How many there are, up to `most`; None: that cannot be told from an index."""
    source, rest, (order, _) = await _source(tx, wanted)
    if rest:
        return None
    row = await tx.one(
        f"select count(*) as n from (select 1 from ({source.format(where='', order=order)}) s"
        " limit %(most)s) c",
        {**wanted, "most": most},
    )
    return row["n"] if row else 0


async def _source(tx: Tx, wanted: dict[str, str]) -> tuple[str, str, tuple[str, str]]:
    """Rows that an index finds in order, up to `most` a part; the conditions that it leaves; the order."""
    conditions = {
        "pool": "pool = %(pool)s",
        "owner": "assigned_to = %(owner)s",
        "status": "status = %(status)s",
    }
    rest = {name: text for name, text in conditions.items() if name in wanted}
    fields = "select a.id, a.created_at, a.sequence, a.pool, a.assigned_to, a.status"
    if "record" in wanted:  # a handful: no order that another index offers
        here = "".join(f" and a.{text}" for text in rest.values())
        plain = "a.created_at + interval '0' desc, a.id desc"
        return (
            f"{fields}, 0 as part from {_TABLE} and a.record = %(record)s{here}{{where}}"
            f" order by {plain} limit %(most)s",
            "",
            _NEWEST,
        )
    ending = "{where} order by {order} limit %(most)s"
    if wanted.get("status") in ENDED:
        del rest["status"]
        few = f" and a.status = %(status)s and a.status in {ENDED}"
        return (
            f"{fields}, 0 as part from {_TABLE}{few}{ending}",
            " and ".join(rest.values()),
            _NEWEST,
        )
    if "pool" not in wanted and "owner" not in wanted:
        source = f"{fields}, 0 as part from {_TABLE}{ending}"
        return source, " and ".join(rest.values()), _NEWEST
    named = "where p.name = %(pool)s" if rest.pop("pool", None) else ""
    owned = " and a.assigned_to = %(owner)s" if rest.pop("owner", None) else ""
    # A pool's numbers go on where those of a deleted one of its name end.
    source = (
        f"select a.* from routing_pools p cross join lateral ({fields}, p.id as part from {_TABLE}"
        f" and a.pool_id = p.id{owned}{ending}) a {named}"
    )
    return source, " and ".join(rest.values()), _NEWEST if owned else _BY_NUMBER
