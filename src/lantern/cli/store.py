"""All SQL of the command line: tenants, nodes, prices of all tenants, backup."""

from datetime import datetime
from decimal import Decimal

from lantern.core.db import APP_ROLE, Database, Row, Tx
from lantern.gate import sessions
from lantern.settings import Settings

WELCOME_CREDITS = 1000
FIRST_TENANT = 1
FIRST_TENANT_LOCK = 0x74656E616E74  # "tenant"
SCHEMAS = ("lantern", "lantern_log", "dbos")  # all that is ours in a database
OLD = "lantern_replaced"
SYSTEM_ROLE = "lantern_system"  # sees every tenant's rows; owner of the functions that cross them


async def tenants(db: Database) -> list[Row]:
    """Every tenant: id, name, plan, created_at, balance, keys."""
    return await db.all("select * from list_tenants()")


async def create_tenant(db: Database, name: str, plan: str) -> int:
    """A new tenant with its first credits; its id."""
    row = await db.one("select create_tenant(%s, %s, %s) as id", (name, plan, WELCOME_CREDITS))
    assert row is not None
    return int(row["id"])


async def first_tenant(db: Database) -> None:
    """An empty database gets its tenant 1, also when several start on it at once."""
    if await tenants(db):
        return
    async with db.transaction() as tx:
        await tx.run("select pg_advisory_xact_lock(%s)", (FIRST_TENANT_LOCK,))
        await tx.run(
            "select create_tenant('default', 'team', %s) where not exists"
            " (select from list_tenants())",
            (WELCOME_CREDITS,),
        )


async def sign_in_link(db: Database, settings: Settings, tenant: int, *, roams: bool) -> str:
    """The secret of a new link to the dashboard. `roams`: it may go to any tenant."""
    seconds = settings.dashboard.link_minutes * 60
    async with db.transaction(tenant) as tx:
        return await sessions.make_link(tx, tenant, seconds, roams=roams)


async def server_facts(db: Database) -> dict[str, str]:
    """Settings of the database server that `doctor` looks at."""
    names = ["server_version", "fsync", "full_page_writes", "synchronous_commit"]
    rows = await db.all("select name, setting from pg_settings where name = any (%s)", (names,))
    return {row["name"]: row["setting"] for row in rows}


async def now(db: Database) -> datetime:
    """The database's clock."""
    row = await db.one("select clock_timestamp() as at")
    assert row is not None
    at: datetime = row["at"]
    return at


async def set_default_price(
    tx: Tx, name: tuple[str, str], credits: Decimal | None, charge_on: str | None
) -> bool:
    """The operator's price for all tenants; None: the one this version came with. Whether it is there.

    The server's own role cannot write it. Each tenant's audit log has a row: it concerns them all.
    """
    params = {"operation": name[0], "item": name[1], "credits": credits, "charge_on": charge_on}
    kept = "own_charge_on" if credits is not None else "null"
    await tx.run(f"set local role {SYSTEM_ROLE}")
    changed = await tx.run(
        "update tariff set own_credits = %(credits)s,"
        f" own_charge_on = coalesce(%(charge_on)s, {kept})"
        " where operation = %(operation)s and item = %(item)s",
        params,
    )
    await tx.run(
        "insert into audit_log (tenant_id, actor, action, object, object_id, detail)"
        " select n.id, 'operator', %(action)s, 'price', t.operation || '/' || t.item,"
        "  jsonb_build_object('credits', coalesce(t.own_credits, t.credits)::text,"
        "   'charge_on', coalesce(t.own_charge_on, t.charge_on))"
        " from tariff t, tenants n where t.operation = %(operation)s and t.item = %(item)s",
        {**params, "action": "tariff.unset" if credits is None else "tariff.set"},
    )
    await tx.run(f"set local role {APP_ROLE}")
    return changed > 0


# ---------------------------------------------------------------- backup and restore, as the owner
async def bypasses_row_security(db: Database) -> bool:
    """Whether the owner's role sees every row, as the one of the embedded server does."""
    row = await db.one(
        "select rolsuper or rolbypassrls as free from pg_roles where rolname = session_user"
    )
    return bool(row and row["free"])


async def let_system_read_jobs(db: Database) -> None:
    """So that one role can read all that a backup takes."""
    await _as_owner(
        db,
        """
        do $$ begin
            if to_regnamespace('dbos') is not null then
                grant usage on schema dbos to lantern_system;
                grant select on all tables in schema dbos to lantern_system;
                grant select on all sequences in schema dbos to lantern_system;
            end if;
            grant select on all sequences in schema lantern to lantern_system;
        end $$""",
    )


async def has_old(db: Database) -> bool:
    """Whether an earlier restore was cut off."""
    row = await db.one("select to_regnamespace(%s) is not null as found", (OLD,))
    return bool(row and row["found"])


async def set_aside(db: Database) -> None:
    """Rename what is there."""
    await _rename(db, "", "_replaced")


async def put_back(db: Database) -> None:
    """Undo `set_aside`."""
    await _rename(db, "_replaced", "")


async def drop_old(db: Database) -> None:
    """Remove what a restore has replaced."""
    for name in SCHEMAS:
        await _as_owner(db, f"drop schema if exists {name}_replaced cascade")


async def give_to_system(db: Database) -> None:
    """As the migrations do: what crosses tenants belongs to the role that may."""
    await _as_owner(
        db,
        """
        do $$
        declare
            f regprocedure;
            t regclass;
        begin
            grant create on schema lantern to lantern_system;
            for f in select p.oid::regprocedure from pg_proc p
                where p.pronamespace = 'lantern'::regnamespace and p.prosecdef
            loop
                execute format('alter function %s owner to lantern_system', f);
                execute format('revoke all on function %s from public', f);
                execute format('grant execute on function %s to lantern_app', f);
            end loop;
            -- The log and its months; backups from before it have none.
            if to_regclass('lantern.route_log') is not null then
                grant usage, create on schema lantern_log to lantern_system;
                for t in select relid from pg_partition_tree('lantern.route_log') loop
                    execute format('alter table %s owner to lantern_system', t);
                end loop;
            end if;
            revoke create on schema lantern from lantern_system;
        end $$""",
    )


async def _rename(db: Database, now: str, then: str) -> None:
    for name in SCHEMAS:
        await _as_owner(
            db,
            f"""
            do $$ begin
                if to_regnamespace('{name}{now}') is not null then
                    alter schema {name}{now} rename to {name}{then};
                end if;
            end $$""",
        )


async def _as_owner(db: Database, sql: str) -> None:
    async with db.transaction() as tx:
        await tx.run("set local role none")
        await tx.run("set local statement_timeout = 0")
        await tx.run(sql)
