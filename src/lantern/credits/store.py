"""All SQL of credits that reads, and that of prices and caps; what moves a balance is the gate's."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from lantern.core import lookback
from lantern.core.db import Row, Tx

# ---------------------------------------------------------------- usage
_GROUPS = {
    "day": "to_char(l.created_at at time zone 'UTC', 'YYYY-MM-DD')",
    "operation": "l.operation",
    "key": "l.key_id",
    "workflow": "l.workflow_id",
    "tag": "l.tags ->> %(tag)s",
}
_FILTERS = {
    "kind": "l.kind = %(kind)s",
    "operation": "l.operation = %(operation)s",
    "key_id": "l.key_id = %(key_id)s",
    "workflow_id": "l.workflow_id = %(workflow_id)s",
    "run_id": "l.run_id = %(run_id)s",
    "custom_key": "l.tags ? %(custom_key)s",
    "custom_value": "l.tags ->> %(custom_key)s = %(custom_value)s",
    "start": "l.created_at >= %(start)s",
    "end": "l.created_at < %(end)s",
}
GROUPS = tuple(_GROUPS)
_RECEIPT = (
    "l.id, l.kind, l.amount, l.used, l.balance_after, l.ref, l.operation, l.workflow_id,"
    " l.run_id, l.key_id, l.tags, l.steps, l.created_at"
)


def _where(tenant: int, filters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    given = {name: value for name, value in filters.items() if value is not None}
    conditions = ["l.tenant_id = %(tenant)s", *(_FILTERS[name] for name in given)]
    return " and ".join(conditions), {**given, "tenant": tenant}


async def used(tx: Tx, tenant: int, filters: dict[str, Any]) -> Row:
    """The sum of what was used, as `credits`."""
    where, params = _where(tenant, filters)
    row = await tx.one(
        f"select coalesce(sum(l.used), 0) as credits from credit_ledger l where {where}", params
    )
    assert row is not None
    return row


async def used_by(
    tx: Tx, tenant: int, filters: dict[str, Any], group: tuple[str, str | None], limit: int
) -> list[Row]:
    """The same in groups: value, credits, groups; the smallest ones share the last row."""
    where, params = _where(tenant, filters)
    name, tag = group
    order = "value" if name == "day" else "credits desc, value"
    return await tx.all(
        f"with found as (select {_GROUPS[name]} as value, sum(l.used) as credits"
        f"  from credit_ledger l where {where} and l.used <> 0 group by 1),"
        " ranked as (select *, least(%(limit)s, row_number() over (order by credits desc, value))"
        "  as place from found)"
        " select case when count(*) = 1 then min(value) end as value, sum(credits) as credits,"
        f" count(*) as groups from ranked group by place order by count(*), {order}",
        {**params, "tag": tag, "limit": limit},
    )


# ---------------------------------------------------------------- receipts
async def receipts(
    tx: Tx, tenant: int, filters: dict[str, Any], limit: int, offset: int
) -> tuple[list[Row], int]:
    """A page of the ledger, newest first, and how many rows there are."""
    where, params = _where(tenant, filters)
    rows = await tx.all(
        f"select {_RECEIPT} from credit_ledger l where {where}"
        " order by l.created_at desc, l.id desc limit %(limit)s offset %(offset)s",
        {**params, "limit": limit, "offset": offset},
    )
    total = await tx.one(f"select count(*) as n from credit_ledger l where {where}", params)
    return rows, total["n"] if total else 0


def newest(tenant: int, filters: dict[str, Any]) -> lookback.Source:
    """Receipts newest first, for pages that look through a bounded number of rows."""
    given = {name: value for name, value in filters.items() if value is not None}
    period = [_FILTERS[name] for name in ("start", "end") if name in given]
    rest = [_FILTERS[name] for name in given if name not in ("start", "end")]
    chosen = (
        f"select page.at, page.counted, {_RECEIPT} from page join credit_ledger l on l.id = page.id"
    )
    return lookback.Source(
        "credit_ledger",
        "created_at",
        " and ".join(["tenant_id = %(tenant)s", *period]).replace("l.", ""),
        f"{chosen} and l.tenant_id = %(tenant)s",
        (" and ".join(rest) or "true").replace("l.", ""),
        {**given, "tenant": tenant},
    )


# ---------------------------------------------------------------- by day
async def last_day(tx: Tx, tenant: int) -> date | None:
    """The last day that is added up; all before it are."""
    row = await tx.one("select max(day) as day from credit_days where tenant_id = %s", (tenant,))
    return row["day"] if row else None


async def add_up(tx: Tx, tenant: int, after: date, before: date) -> None:
    """Add up the days between these, once; a day is UTC."""
    await tx.run(
        "insert into credit_days (tenant_id, day, operation, used)"
        " select %(tenant)s, (l.created_at at time zone 'UTC')::date, coalesce(l.operation, ''),"
        "  sum(l.used) from credit_ledger l where l.tenant_id = %(tenant)s and l.used <> 0"
        "  and l.created_at >= (%(after)s::date + 1)::timestamp at time zone 'UTC'"
        "  and l.created_at < %(before)s::date::timestamp at time zone 'UTC'"
        " group by 2, 3 order by 2, 3 on conflict do nothing",  # two at once: in one order
        {"tenant": tenant, "after": after, "before": before},
    )


async def by_day(tx: Tx, tenant: int, first: date, after: date | None) -> list[Row]:
    """Use by day and operation since `first`: what is added up to `after`, the rest from the ledger."""
    return await tx.all(
        "select day, operation, used from credit_days"
        " where tenant_id = %(tenant)s and day >= %(first)s and day <= %(after)s"
        " union all select (l.created_at at time zone 'UTC')::date, coalesce(l.operation, ''),"
        "  sum(l.used) from credit_ledger l where l.tenant_id = %(tenant)s and l.used <> 0"
        "  and l.created_at >= greatest(%(first)s::date, %(after)s::date + 1)::timestamp"
        "   at time zone 'UTC' group by 1, 2 order by 1, 2 limit 20000",
        {"tenant": tenant, "first": first, "after": after},
    )


async def receipt(tx: Tx, tenant: int, number: int) -> Row | None:
    """One row of the ledger."""
    return await tx.one(
        f"select {_RECEIPT} from credit_ledger l where l.tenant_id = %s and l.id = %s",
        (tenant, number),
    )


async def history(
    tx: Tx, tenant: int, operation: str, since: datetime, limit: int
) -> tuple[int, dict[str, Decimal]]:
    """How many charges of an operation there were (the newest), and how often each item in all."""
    rows = await tx.all(
        "with paid as materialized (select l.id, l.steps from credit_ledger l"
        "  where l.tenant_id = %(tenant)s and l.created_at >= %(since)s"
        "  and l.operation = %(operation)s and l.kind in ('charge', 'settle')"
        "  order by l.created_at desc limit %(limit)s)"
        " select null as item, count(*) as times from paid"
        " union all select s ->> 'item', sum(coalesce((s ->> 'times')::numeric, 1))"
        " from paid, jsonb_array_elements(paid.steps) s where s ? 'item' group by 1",
        {"tenant": tenant, "operation": operation, "since": since, "limit": limit},
    )
    times = {row["item"]: Decimal(row["times"]) for row in rows}
    return int(times.pop(None)), times


# ---------------------------------------------------------------- prices
_PRICE = """
select t.operation, t.item, t.description, p.credits, p.charge_on, o.item is not null as own,
    coalesce(t.own_credits, t.credits) as default_credits,
    coalesce(t.own_charge_on, t.charge_on) as default_charge_on
from tariff t
left join tenant_tariff o on o.operation = t.operation and o.item = t.item
    and o.tenant_id = tenant(),
lateral price(t.operation, t.item) p"""


async def tariff(tx: Tx) -> list[Row]:
    """Every price, as it holds for the tenant of this transaction."""
    return await tx.all(f"{_PRICE} order by t.operation, t.item limit 1000")


async def price(tx: Tx, operation: str, item: str) -> Row | None:
    """One of them."""
    return await tx.one(f"{_PRICE} where t.operation = %s and t.item = %s", (operation, item))


async def set_price(tx: Tx, tenant: int, name: tuple[str, str], price: dict[str, Any]) -> None:
    """Give a tenant a price of its own; without `charge_on` it keeps the one in force."""
    await tx.run(
        "insert into tenant_tariff as o (tenant_id, operation, item, credits, charge_on)"
        " select %(tenant)s, %(operation)s, %(item)s, %(credits)s,"
        "  coalesce(%(charge_on)s, p.charge_on) from price(%(operation)s, %(item)s) p"
        " on conflict (tenant_id, operation, item) do update set credits = excluded.credits,"
        "  charge_on = excluded.charge_on, updated_at = clock_timestamp()",
        {**price, "tenant": tenant, "operation": name[0], "item": name[1]},
    )


async def unset_price(tx: Tx, tenant: int, operation: str, item: str) -> None:
    """Back to the default."""
    await tx.run(
        "delete from tenant_tariff where tenant_id = %s and operation = %s and item = %s",
        (tenant, operation, item),
    )


# ---------------------------------------------------------------- caps
_CAP = """
select c.id, c.scope, nullif(c.subject, '') as subject, c.period, c.credits, c.created_at,
    period_start(c.period, clock_timestamp()) as starts, coalesce(u.used, 0) as used
from credit_caps c left join credit_cap_uses u on u.tenant_id = c.tenant_id and u.cap_id = c.id
    and u.starts = period_start(c.period, clock_timestamp())
where c.tenant_id = %(tenant)s"""


async def caps(tx: Tx, tenant: int, limit: int, offset: int) -> tuple[list[Row], int]:
    """A page of the caps with their use in the running period, oldest first, and how many."""
    params = {"tenant": tenant, "limit": limit, "offset": offset}
    rows = await tx.all(
        f"{_CAP} order by c.created_at, c.id limit %(limit)s offset %(offset)s", params
    )
    return rows, await count_caps(tx, tenant)


async def count_caps(tx: Tx, tenant: int) -> int:
    """How many there are."""
    row = await tx.one("select count(*) as n from credit_caps where tenant_id = %s", (tenant,))
    return row["n"] if row else 0


async def hold_balance(tx: Tx, tenant: int) -> None:
    """Nothing of the tenant's is charged until the commit; caps change only like this."""
    await tx.run("select 1 from credit_balances where tenant_id = %s for update", (tenant,))


async def add_cap(tx: Tx, tenant: int, cap: dict[str, Any]) -> Row | None:
    """Add a cap that knows what its running period has seen; None when there is one like it."""
    params = {**cap, "tenant": tenant}
    added = await tx.run(
        "insert into credit_caps (tenant_id, id, scope, subject, period, credits) values"
        " (%(tenant)s, %(id)s, %(scope)s, %(subject)s, %(period)s, %(credits)s)"
        " on conflict (tenant_id, subject, period) do nothing",
        params,
    )
    if not added:
        return None
    await tx.run("select count_cap(%(tenant)s, %(id)s)", params)
    await tx.run("update credit_balances set capped = true where tenant_id = %(tenant)s", params)
    return await tx.one(f"{_CAP} and c.id = %(id)s", params)


async def remove_cap(tx: Tx, tenant: int, cap_id: str) -> Row | None:
    """Remove a cap and its counters; returns it."""
    params = {"tenant": tenant, "id": cap_id}
    row = await tx.one(
        "delete from credit_caps where tenant_id = %(tenant)s and id = %(id)s"
        " returning scope, nullif(subject, '') as subject, period, credits",
        params,
    )
    await tx.run(
        "update credit_balances set capped = exists (select from credit_caps c"
        " where c.tenant_id = %(tenant)s) where tenant_id = %(tenant)s",
        params,
    )
    return row


async def has_key(tx: Tx, key_id: str) -> bool:
    """Whether the tenant has this key."""
    return await tx.one("select 1 from api_keys where id = %s", (key_id,)) is not None
