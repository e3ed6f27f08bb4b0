"""All SQL of pools, their members and the rotation's row."""

from collections.abc import Sequence
from datetime import datetime

import orjson

from lantern.core.db import DatabaseError, Row, Tx, facts
from lantern.routing import eligibility
from lantern.routing.eligibility import Counts
from lantern.routing.pools import rows
from lantern.routing.pools.models import MOST_MEMBERS
from lantern.routing.pools.pool import Pool

_UNKNOWN_ZONE = "22023"

_NAMES = ", ".join(rows.POLICY)
_MARKS = ", ".join(f"%({name})s" for name in rows.POLICY)

_OF_MEMBER = (
    "routing_assignments a where a.tenant_id = tenant() and a.pool_id = %s and a.assigned_to = u.id"
)
_LIVE = "p.name = %s and p.deleted_at is null"


async def load(tx: Tx, name: str) -> Pool | None:
    """A pool with members and rotation, of one moment; None: there is none of that name."""
    found = await tx.all(
        f"select p.id, p.name as pool, p.version, p.ring, p.created_at, p.updated_at, {_NAMES},"
        " r.sequence, r.epoch, r.last, r.at_top, m.user_id, m.name, m.active, m.weight,"
        ' m."order", m.timezone, m.hours, m.holidays, m.out_of_office, m.cap_hour, m.cap_day,'
        " m.cap_week, m.cap_open, m.credit_back, m.crm_active, m.gaps, m.seat,"
        " r.waits[m.place] as wait, r.cursors[m.place] as cursor, r.turns[m.place] as turns"
        " from routing_pools p"
        " join routing_rotations r on (r.tenant_id, r.pool_id) = (p.tenant_id, p.id)"
        " left join routing_members m on (m.tenant_id, m.pool_id) = (p.tenant_id, p.id)"
        f" where {_LIVE} order by m.place limit {MOST_MEMBERS}",
        (name,),
    )
    return rows.pool(found) if found else None


async def lock(tx: Tx, name: str) -> str | None:
    """Hold the rotation: no decision is made until the transaction ends. Returns the pool's id."""
    row = await tx.one(
        "select p.id from routing_pools p join routing_rotations r"
        f" on (r.tenant_id, r.pool_id) = (p.tenant_id, p.id) where {_LIVE} for update of r",
        (name,),
    )
    return row["id"] if row else None


async def insert(tx: Tx, tenant: int, pool: Pool) -> bool:
    """Add a pool; False when the name is taken. It goes on from a deleted pool's sequence."""
    row = await tx.one(
        f"insert into routing_pools (tenant_id, id, name, ring, {_NAMES})"
        f" values (%(tenant)s, %(id)s, %(name)s, %(ring)s, {_MARKS})"
        " on conflict (tenant_id, name) where deleted_at is null do nothing returning id",
        {
            "tenant": tenant,
            "id": pool.id,
            "name": pool.name,
            "ring": pool.ring.length,
            **rows.columns(pool.policy),
        },
    )
    if row is None:
        return False
    await _insert_members(tx, tenant, pool)
    await tx.run(
        "insert into routing_rotations (tenant_id, pool_id, sequence, users, waits, cursors, turns)"
        " select %(tenant)s, %(id)s, greatest(%(sequence)s, max(r.sequence)), %(users)s::text[],"
        " %(waits)s::bigint[], %(cursors)s::int[], %(turns)s::bigint[] from routing_rotations r"
        " join routing_pools p on (p.tenant_id, p.id) = (r.tenant_id, r.pool_id)"
        " where p.name = %(name)s and p.deleted_at is not null",
        {
            "tenant": tenant,
            "id": pool.id,
            "name": pool.name,
            "sequence": pool.sequence,
            **rows.rotation(pool),
        },
    )
    return True


async def rewrite(tx: Tx, tenant: int, pool: Pool) -> None:
    """Keep a changed pool; its rotation must be locked."""
    pairs = ", ".join(f"{name} = %({name})s" for name in rows.POLICY)
    await tx.run(
        f"update routing_pools set {pairs}, ring = %(ring)s, version = version + 1,"
        " updated_at = clock_timestamp() where id = %(id)s",
        {"id": pool.id, "ring": pool.ring.length, **rows.columns(pool.policy)},
    )
    await tx.run("delete from routing_members where pool_id = %s", (pool.id,))
    await _insert_members(tx, tenant, pool)
    await tx.run(
        "update routing_rotations set users = %(users)s::text[],"
        " waits = %(waits)s::bigint[], cursors = %(cursors)s::int[], turns = %(turns)s::bigint[],"
        " at_top = %(at_top)s::text[], last = %(last)s where pool_id = %(id)s",
        {"id": pool.id, **rows.rotation(pool)},
    )


async def delete(tx: Tx, pool_id: str) -> None:
    """The name is free again; assignments stay readable."""
    await tx.run(
        "update routing_pools set deleted_at = clock_timestamp() where id = %s", (pool_id,)
    )


async def page(tx: Tx, q: str, limit: int, offset: int) -> tuple[list[Row], int]:
    """Pools by name, and how many there are. `q`: part of the name."""
    where = "p.deleted_at is null and position(lower(%(q)s) in lower(p.name)) > 0"
    found = await tx.all(
        "select p.id, p.name as pool, p.version, r.sequence, r.epoch as rotation_epoch,"
        " p.created_at, p.updated_at, (select count(*) from routing_members m"
        " where m.pool_id = p.id and m.active and m.crm_active is distinct from false) as pool_size"
        " from routing_pools p"
        " join routing_rotations r on (r.tenant_id, r.pool_id) = (p.tenant_id, p.id)"
        f" where {where} order by p.name, p.id limit %(limit)s offset %(offset)s",
        {"q": q, "limit": limit, "offset": offset},
    )
    total = await tx.one(f"select count(*) as n from routing_pools p where {where}", {"q": q})
    return found, total["n"] if total else 0


async def counts(tx: Tx, pool: Pool, at: datetime) -> dict[str, Counts]:
    """What counts against the caps at a moment, for the members that have any."""
    capped = [m for m in pool.members if m.person.caps != eligibility.NO_CAPS]
    if not capped:
        return {}
    begun = [eligibility.starts(at, m.person.timezone) for m in capped]
    since = [
        week if m.person.caps.week is not None else day if m.person.caps.day is not None else hour
        for m, (hour, day, week) in zip(capped, begun, strict=True)
    ]
    found = await tx.all(
        "select u.id, c.*, o.* from unnest(%s::text[], %s::timestamptz[], %s::timestamptz[],"
        " %s::timestamptz[], %s::bool[]) as u (id, hour, day, since, opens) cross join lateral ("
        "select count(*) filter (where a.created_at >= u.hour) as hour,"
        " count(*) filter (where a.created_at >= u.day) as day, count(*) as week"
        f" from {_OF_MEMBER} and a.status in ('assigned', 'accepted')"
        " and a.created_at >= u.since) c cross join lateral (select count(*) as open"
        f" from {_OF_MEMBER} and a.status = 'assigned' and u.opens) o",
        (
            [m.user_id for m in capped],
            [hour for hour, _, _ in begun],
            [day for _, day, _ in begun],
            since,
            [m.person.caps.open is not None for m in capped],
            pool.id,
            pool.id,
        ),
    )
    return {row.pop("id"): Counts(**row) for row in found}


async def history(tx: Tx, pool_id: str, days: int, limit: int) -> list[Row]:
    """The newest assignments of the last days, oldest first."""
    found = await tx.all(
        "select id, sequence, epoch, object, sf_id, record, assigned_to, method, status,"
        " prev_owner, reason, exclude_inactive, rerouted_from, created_at, accepted_at, ended_at"
        " from routing_assignments where pool_id = %s"
        " and created_at >= clock_timestamp() - make_interval(days => %s)"
        " order by sequence desc limit %s",
        (pool_id, days, limit),
    )
    return found[::-1]


async def zone_is_known(tx: Tx, names: Sequence[str]) -> bool:
    """Whether Postgres has these time zones too; if not, the transaction is lost."""
    try:
        await tx.all("select now() at time zone z from unnest(%s::text[]) z", (list(names),))
    except DatabaseError as error:
        if facts(error).get("sqlstate") == _UNKNOWN_ZONE:
            return False
        raise
    return True


async def _insert_members(tx: Tx, tenant: int, pool: Pool) -> None:
    columns = (
        'user_id, user_key, name, place, active, weight, "order", timezone, hours, holidays,'
        " out_of_office, cap_hour, cap_day, cap_week, cap_open, credit_back, crm_active, gaps, seat"
    )
    members = [rows.member_row(pool, place) for place in range(len(pool.members))]
    await tx.run(
        f"insert into routing_members (tenant_id, pool_id, {columns}) select %s, %s, {columns}"
        " from jsonb_to_recordset(%s::jsonb) as x (user_id text, user_key text, name text,"
        ' place int, active boolean, weight int, "order" int, timezone text,'
        " hours int4multirange, holidays date[], out_of_office tstzmultirange, cap_hour int,"
        " cap_day int, cap_week int, cap_open int, credit_back boolean, crm_active boolean,"
        " gaps bigint[], seat bigint)",
        (tenant, pool.id, orjson.dumps(members).decode()),
    )


async def names(tx: Tx, pools: Sequence[str], users: Sequence[str]) -> dict[str, str]:
    """What members of these pools in force are called, by user id."""
    found = await tx.all(
        "select m.user_id, max(m.name) as name from routing_pools p join routing_members m"
        " on (m.tenant_id, m.pool_id) = (p.tenant_id, p.id) where p.tenant_id = tenant()"
        " and p.name = any (%s) and p.deleted_at is null and m.user_id = any (%s)"
        " and m.name is not null group by m.user_id",
        (list(pools), list(users)),
    )
    return {row["user_id"]: row["name"] for row in found}


# ---------------------------------------------------------------- who got how many turns
# Turns that were given back count for nobody: the member has them still before it.
_NEWEST = """with newest as materialized (select sequence, created_at, pool_version, epoch, status,
    assigned_to, users, reasons, case
        when method = 'sticky' and %(sticky)s then 'turns'
        when method not in ('rotation', 'top', 'hold') then 'beside'
        when status = any (%(back)s) and not assigned_to = any (%(keep)s) then 'back'
        else 'turns' end as kind
    from routing_assignments where tenant_id = tenant() and pool_id = %(pool)s
    order by sequence desc limit %(most)s)"""


async def results(tx: Tx, pool: Pool, most: int) -> list[Row]:
    """The newest assignments of today's rotation, by who got them and what became of the turn."""
    return await tx.all(
        f"{_NEWEST} select assigned_to, kind, count(*) as n, min(sequence) as first,"
        " max(sequence) as last, min(created_at) as since, min(pool_version) as version,"
        " count(*) filter (where status = 'assigned') as open"
        " from newest where epoch = %(epoch)s group by assigned_to, kind",
        _turns(pool, most),
    )


async def masks(tx: Tx, pool: Pool, most: int) -> list[Row]:
    """Who could be picked at those of them that were turns of members: `users`, `reasons`, how often."""
    return await tx.all(
        f"{_NEWEST} select users, reasons, count(*) as n from newest where epoch = %(epoch)s"
        " and kind = 'turns' and assigned_to = any (%(members)s) group by users, reasons",
        _turns(pool, most),
    )


def _turns(pool: Pool, most: int) -> dict[str, object]:
    sla = pool.policy.sla
    return {
        "pool": pool.id,
        "epoch": pool.epoch,
        "most": most,
        "sticky": pool.policy.sticky_counts,
        "back": ["void", "bad_fit", *(["rerouted"] if sla and sla.refund_turn else [])],
        "members": [m.user_id for m in pool.members],
        "keep": [m.user_id for m in pool.members if not m.credit_back],
    }
