"""Tenants are kept apart by the database itself: read from its catalogue, then tried."""

import re
from pathlib import Path

import psycopg
import pytest

from lantern.core.db import APP_ROLE, Database, DatabaseError

OF_TENANTS = {
    "agents",
    "api_keys",
    "audit_log",
    "credit_balances",
    "credit_cap_uses",
    "credit_caps",
    "credit_days",
    "credit_ledger",
    "credit_reservations",
    "dashboard_links",
    "dashboard_sessions",
    "idempotency",
    "log_chains",
    "log_checkpoints",
    "log_erasures",
    "log_retention",
    "log_seals",
    "log_unsealed",
    "route_log",
    "outbox",
    "routing_assignments",
    "routing_members",
    "routing_pools",
    "routing_rotations",
    "run_events",
    "run_steps",
    "runs",
    "stream_tickets",
    "tenant_tariff",
    "tenants",
}
# Without a tenant; each is named in the decision record.
OF_NOBODY = {"nodes", "rate", "schema_migrations", "tariff", "timers"}
ALL = (
    "select c.oid, c.relname as name from pg_class c where c.relnamespace = 'lantern'::regnamespace"
)


@pytest.fixture
async def boss(dsn):
    """The owner of the tables, a superuser here: it sees everything."""
    async with await psycopg.AsyncConnection.connect(
        dsn, autocommit=True, row_factory=psycopg.rows.dict_row
    ) as connection:
        yield connection


async def rows_of(connection, sql: str) -> list[dict]:
    return await (await connection.execute(sql)).fetchall()


def record() -> str:
    return next((Path(__file__).parents[2] / "docs" / "adr").glob("0008-*.md")).read_text("utf-8")


async def test_every_table_is_in_one_of_the_lists(boss):
    found = await rows_of(boss, f"{ALL} and c.relkind in ('r', 'p')")
    assert {row["name"] for row in found} == OF_TENANTS | OF_NOBODY
    for name in OF_NOBODY:
        assert f"`{name}`" in record()
    others = await rows_of(boss, f"{ALL} and c.relkind in ('v', 'm', 'f')")
    assert not others, "a view would need security_invoker"


async def test_tables_of_tenants_force_row_level_security(boss):
    found = await rows_of(
        boss,
        "select c.relname as name, c.relrowsecurity as on, c.relforcerowsecurity as forced"
        " from pg_class c where c.relnamespace = 'lantern'::regnamespace and c.relkind in ('r', 'p')",
    )
    on = {row["name"] for row in found if row["on"] and row["forced"]}
    assert on == OF_TENANTS


async def test_each_of_them_has_the_two_policies_and_no_other(boss):
    found = await rows_of(boss, "select * from pg_policies where schemaname = 'lantern'")
    by_table: dict[str, dict] = {}
    for row in found:
        by_table.setdefault(row["tablename"], {})[row["policyname"]] = row
    assert set(by_table) == OF_TENANTS
    for name, policies in by_table.items():
        assert set(policies) == {"tenant", "system"}, name
        tenant, system = policies["tenant"], policies["system"]
        assert (tenant["roles"], tenant["cmd"]) == (["lantern_app"], "ALL")
        assert (system["roles"], system["cmd"]) == (["lantern_system"], "ALL")
        column = "id" if name == "tenants" else "tenant_id"
        assert re.fullmatch(rf"\({column} = (lantern\.)?tenant\(\)\)", tenant["qual"]), name
        assert tenant["with_check"] is None  # so the same condition binds what is written


async def test_tables_of_tenants_have_the_column(boss):
    found = await rows_of(
        boss,
        "select table_name as name, is_nullable as may_be_null from information_schema.columns"
        " where table_schema = 'lantern' and column_name = 'tenant_id'",
    )
    assert {row["name"] for row in found} == OF_TENANTS - {"tenants"}
    assert {row["may_be_null"] for row in found} == {"NO"}


async def test_the_roles_cannot_log_in_bypass_or_become_more(boss):
    roles = await rows_of(
        boss, "select * from pg_roles where rolname in ('lantern_app', 'lantern_system')"
    )
    assert len(roles) == 2
    for role in roles:
        for power in ("super", "bypassrls", "canlogin", "createrole", "createdb", "replication"):
            assert not role[f"rol{power}"], (role["rolname"], power)
    members = await rows_of(
        boss,
        "select 1 from pg_auth_members m join pg_roles r on r.oid = m.member"
        " where r.rolname in ('lantern_app', 'lantern_system')",
    )
    assert not members
    owned = await rows_of(
        boss,
        f"{ALL} and c.relkind in ('r', 'p') and c.relowner in (select oid from pg_roles"
        " where rolname in ('lantern_app', 'lantern_system'))",
    )
    # An owner may switch the policies off; nobody becomes this one but its own functions.
    assert [row["name"] for row in owned] == ["route_log"]


async def test_the_months_of_the_log_are_closed_and_carry_the_policies_too(boss):
    months = await rows_of(
        boss,
        "select c.relname as name, c.relrowsecurity and c.relforcerowsecurity as forced,"
        " pg_get_userbyid(c.relowner) as owner, has_table_privilege('lantern_app', c.oid,"
        " 'select, insert, update, delete') as open from pg_class c"
        " where c.relnamespace = 'lantern_log'::regnamespace and c.relkind not in ('i', 't')",
    )
    assert len(months) >= 4
    for month in months:
        assert month["forced"], month
        assert month["owner"] == "lantern_system", month
        assert not month["open"], month
    policies = await rows_of(boss, "select * from pg_policies where schemaname = 'lantern_log'")
    by_table: dict[str, set] = {}
    for row in policies:
        by_table.setdefault(row["tablename"], set()).add(
            (row["policyname"], row["qual"].replace("lantern.", ""))
        )
    assert set(by_table) == {month["name"] for month in months}
    for found in by_table.values():
        assert found == {("tenant", "(tenant_id = tenant())"), ("system", "true")}
    rights = await rows_of(
        boss,
        "select has_schema_privilege('lantern_app', 'lantern_log', 'usage, create') as app,"
        " has_schema_privilege('lantern_system', 'lantern', 'create') as system",
    )
    assert rights == [{"app": False, "system": False}]


async def test_the_server_works_as_the_bound_role(db):
    row = await db.one("select current_user as role, current_setting('is_superuser') as super")
    assert row["role"] == APP_ROLE
    for sql in (
        "alter table runs disable row level security",
        "alter table runs no force row level security",
        "drop policy tenant on runs",
        "create table lantern.mine (a int)",
        "create function lantern.f() returns int language sql as 'select 1'",
        "truncate runs",
        "update credit_ledger set amount = 0",
        "delete from audit_log",
        "insert into tenants (name) values ('more')",
    ):
        with pytest.raises(DatabaseError):
            await db.run(sql)


async def test_functions_that_cross_tenants_are_the_documented_ones(boss):
    found = await rows_of(
        boss,
        "select p.proname as name, r.rolname as owner, p.proconfig as config,"
        " has_function_privilege('lantern_app', p.oid, 'execute') as app,"
        " (p.proacl::text like '%%{=X%%' or p.proacl::text like '%%,=X%%' or p.proacl is null)"
        " as public from pg_proc p join pg_roles r on r.oid = p.proowner"
        " where p.pronamespace = 'lantern'::regnamespace and p.prosecdef",
    )
    lines = [line.split("|")[1] for line in record().splitlines() if line.startswith("| `")]
    documented = {name for line in lines for name in re.findall(r"`(\w+)`", line)}
    assert {row["name"] for row in found} == documented - {"lantern_app", "lantern_system"}
    for row in found:
        assert row["owner"] == "lantern_system", row
        assert row["config"] == ["search_path=lantern, pg_temp"], row
        assert row["app"], row
        assert not row["public"], row


async def test_nothing_else_belongs_to_the_one_who_sees_all(boss):
    found = await rows_of(
        boss,
        "select p.proname from pg_proc p join pg_roles r on r.oid = p.proowner"
        " where r.rolname = 'lantern_system' and not p.prosecdef",
    )
    assert not found


async def test_without_a_tenant_nothing_is_there(db, api):
    await api.post("/v1/agents", json={"name": "a", "model": "small"})
    await api.post("/v1/agents/a/runs", json={"input": {}})
    for table in sorted(OF_TENANTS):
        assert await db.all(f"select 1 from {table} limit 1") == [], table
    async with db.transaction() as tx:
        assert await tx.all("select 1 from agents") == []


async def test_the_tenant_ends_with_its_transaction(db, tenant):
    async with db.transaction(tenant.id) as tx:
        assert await tx.one("select count(*) as n from api_keys") == {"n": 1}
    for _ in range(20):  # whichever connection of the pool comes
        assert await db.one("select count(*) as n from api_keys") == {"n": 0}
    with pytest.raises(ZeroDivisionError):
        async with db.transaction(tenant.id) as tx:
            raise ZeroDivisionError
    assert await db.one("select count(*) as n from api_keys") == {"n": 0}


async def test_a_tenant_reaches_no_row_of_another(db: Database, tenant, boss):
    other = (await db.one("select create_tenant('other', 'team', 5) as id"))["id"]
    await boss.execute(
        "insert into lantern.agents (tenant_id, id, name) values (%s, 'theirs', 'theirs')",
        (other,),
    )
    async with db.transaction(tenant.id) as tx:
        for table in sorted(OF_TENANTS):
            column = "id" if table == "tenants" else "tenant_id"
            row = await tx.one(
                f"select count(*) as n from {table} where {column} <> %s", (tenant.id,)
            )
            assert row == {"n": 0}, table
        assert await tx.run("update agents set name = 'stolen' where id = 'theirs'") == 0
        assert await tx.run("delete from agents where id = 'theirs'") == 0
        assert await tx.run("update tenants set name = 'x' where id = %s", (other,)) == 0
    writes = [
        ("insert into agents (tenant_id, id, name) values (%s, 'x', 'x')", (other,)),
        ("insert into audit_log (tenant_id, action) values (%s, 'x')", (other,)),
        ("update credit_balances set tenant_id = %s", (other,)),
        ("update tenants set id = 1000000 + %s", (other,)),
        (
            "insert into idempotency (tenant_id, key_id, route, key, body_hash)"
            " values (%s, 'k', 'r', 'k', '')",
            (other,),
        ),
    ]
    for sql, params in writes:
        with pytest.raises(DatabaseError, match=r"row-level security|violates"):
            async with db.transaction(tenant.id) as tx:
                await tx.run(sql, params)
    (theirs,) = await rows_of(boss, "select name from lantern.agents where id = 'theirs'")
    assert theirs["name"] == "theirs"


async def test_the_same_name_and_id_in_two_tenants(server, api, db):
    other = (await db.one("select create_tenant('other', 'team', 5) as id"))["id"]
    await api.post("/v1/agents", json={"name": "same", "id": "same"})
    async with db.transaction(other) as tx:
        await tx.run(
            "insert into agents (tenant_id, id, name) values (%s, 'same', 'same')", (other,)
        )
    assert (await api.get("/v1/agents")).json()["total"] == 1
    assert (await api.delete("/v1/agents/same")).status_code == 204
    async with db.transaction(other) as tx:
        row = await tx.one("select status from agents where id = 'same'")
    assert row == {"status": "active"}
