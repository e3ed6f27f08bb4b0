"""A ledger from before receipts: the migration says of each row what was used."""

import psycopg

from lantern.core import ids, migrate

OLD = """
select set_config('app.tenant', create_tenant('old', 'team', 100)::text, false);
insert into credit_ledger (tenant_id, kind, amount, balance_after, ref) values
    (1, 'charge', -7, 93, 'a'), (1, 'reserve', -50, 43, 'b'), (1, 'settle', 9.5, 52.5, 'b'),
    (1, 'reserve', -10, 42.5, 'c'), (1, 'release', 10, 52.5, 'c'), (1, 'reserve', -2, 50.5, 'd');
"""


def test_used_is_known_also_where_the_owner_is_no_superuser(pg, dsn, monkeypatch):
    everything, owner, name = migrate.files(), ids.new("plain"), ids.new("db")
    with psycopg.connect(pg.dsn, autocommit=True) as boss:
        boss.execute(f"create role {owner} login createrole password 'plain'")
        boss.execute(f"grant lantern_app, lantern_system to {owner}")
        boss.execute(f"create database {name} owner {owner}")
        try:
            theirs = psycopg.conninfo.make_conninfo(
                pg.dsn, dbname=name, user=owner, password="plain"
            )
            monkeypatch.setattr(migrate, "files", lambda: everything[:1])
            migrate.apply(theirs)
            with psycopg.connect(theirs) as old:
                old.execute("set search_path = lantern")
                old.execute("set role lantern_app")
                old.execute(OLD)
            monkeypatch.setattr(migrate, "files", lambda: everything)
            migrate.apply(theirs)
            with psycopg.connect(theirs) as new:
                new.execute("set role lantern_system")
                rows = new.execute(
                    "select kind, used from lantern.credit_ledger order by id"
                ).fetchall()
        finally:
            boss.execute(f"drop database {name} with (force)")
            boss.execute(f"drop owned by {owner}")
            boss.execute(f"drop role {owner}")
    assert [(kind, float(used)) for kind, used in rows] == [
        ("grant", 0), ("charge", 7), ("reserve", 0), ("settle", 40.5), ("reserve", 0),
        ("release", 0), ("reserve", 0),
    ]  # fmt: skip
