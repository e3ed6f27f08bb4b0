"""`lantern logs`: export, signatures checked without a database, the chain, statistics, clean-up."""

import csv
import io
import json

import psycopg
import pytest
from parts import clone_database

from cli.conftest import Commands, environment, lantern

ROWS = (
    "select lantern.log_route(%s, %s::timestamptz + n * interval '1 minute', 'assign', 'Lead',"
    " '00Q' || n, 'emea', '005' || (n %% 3), null, n, '=1+1', 'req_' || n, null, null)"
    " from generate_series(1, %s) n"
)


@pytest.fixture
def filled(pg, cli_dsn, commands, tmp_path):
    """A tenant with 1,200 sealed rows, the options that name it, and its signing key's place."""
    tenant = commands("tenants", "create", "--name", "logged", "--json").json["tenant"]
    with psycopg.connect(cli_dsn, options="-c search_path=lantern", autocommit=True) as connection:
        connection.execute(ROWS, (tenant, "2026-03-01T00:00:00Z", 1200))
        connection.execute("select seal_logs(100000)")
    return tenant, ("--tenant", str(tenant), "--data-dir", str(tmp_path / "data"))


def test_a_signed_file_is_checked_without_a_database(commands, filled, tmp_path):
    _, options = filled
    file = tmp_path / "march.csv"
    done = commands(
        "logs", "export", "--from", "2026-03-01", "--to", "2026-03-31", "--format", "csv",
        "--out", file, "--sign", *options, "--json",
    )  # fmt: skip
    assert (done.json["rows"], done.json["signed"]) == (1200, True)
    (first, *others) = csv.DictReader(io.StringIO(file.read_text()))
    assert (first["object_id"], first["reason"], len(others)) == ("00Q1", "'=1+1", 1199)
    signed = json.loads((tmp_path / "march.csv.sig").read_text())
    assert json.loads(signed["statement"])["chain"]["chain_seq"] == 1200
    key = commands("logs", "key", *options[2:]).out.split()
    assert key == [signed["public_key"], signed["key_id"]]

    alone = environment()  # knows of no database
    signature = ("--signature", tmp_path / "march.csv.sig")
    good = lantern("logs", "verify", file, *signature, "--public-key", key[0], env=alone)
    assert (good.code, good.err) == (0, "")
    assert good.out.startswith(
        f"intact: {file}: 1200 rows, 2026-03-01 to 2026-03-31, signed by lk_"
    )
    hint = lantern("logs", "verify", file, env=alone)
    assert "compare the key" in hint.out
    other = commands("logs", "verify", file, "--public-key", "A" * 43 + "=")
    assert (other.code, other.out[:7]) == (1, "broken:")

    file.write_bytes(file.read_bytes().replace(b"00Q7,", b"00Q8,", 1))
    bad = lantern("logs", "verify", file, *signature, "--json", env=alone)
    assert bad.code == 1
    assert json.loads(bad.out)["problem"] == "The content is not what was signed"


def test_what_cannot_be_checked(commands, tmp_path):
    file = tmp_path / "some.json"
    assert commands("logs", "verify", file).error == f"No such file: {file}"
    file.write_text('{"logs":[]}')
    assert commands("logs", "verify", file).error.startswith("No signature: ")
    (tmp_path / "some.json.sig").write_text('{"statement":"x","value":"","public_key":""}')
    assert commands("logs", "verify", file).error == "The signature has no statement"
    wrong = commands("logs", "verify", file, "--public-key", "short")
    assert wrong.error.startswith("public_key: ")


def test_export_to_standard_output_and_its_filters(cli_dsn, commands, filled):
    _, options = filled
    env = environment(cli_dsn)
    body = json.loads(lantern("logs", "export", *options, env=env).out)
    assert (body["success"], body["count"], body["truncated"]) == (True, 1200, False)
    assert body["from"] == "1970-01-01"
    more = ("--object", "lead", "--action", "assign", "--pool", "us", "--format", "csv")
    text = lantern("logs", "export", *more, *options, env=env).out
    assert text.startswith("timestamp,object,")
    assert text.count("\n") == 1
    wrong = commands("logs", "export", "--from", "soon", *options)
    assert wrong.error.startswith("from: ")
    assert commands("logs", "export", "--sign", *options).code == 2
    assert commands("logs", "export", "--object", "x", *options).error.startswith("object: ")


def test_the_whole_chain(cli_dsn, commands, filled):
    tenant, options = filled
    done = commands("logs", "verify", *options)
    assert done.code == 0
    assert done.out.startswith("intact: 1,200 seals, 1,200 rows, none erased, 0 not sealed yet")
    with psycopg.connect(cli_dsn, options="-c search_path=lantern", autocommit=True) as connection:
        connection.execute(
            "update route_log set assigned_to = 'me' where tenant_id = %s and sequence = 700",
            (tenant,),
        )
    done = commands("logs", "verify", *options)
    assert done.code == 1
    assert done.out.startswith("broken at seal 700: payload: The row is not what was sealed")
    found = json.loads(commands("logs", "verify", "--json", *options).out)
    assert (found["intact"], found["checked"], found["problem"]["chain_seq"]) == (False, 699, 700)


def test_statistics(commands, filled):
    _, options = filled
    found = commands("logs", "stats", "--from", "2026-03-01", *options, "--json").json
    assert (found["total"], found["by_user"]) == (1200, {"0050": 400, "0051": 400, "0052": 400})
    table = commands("logs", "stats", *options).out.splitlines()
    assert table[0].split() == ["BY", "KEY", "ROWS"]
    assert table[-1].split() == ["all", "1200"]


def test_clean_up_tells_first_and_removes_when_told(cli_dsn, commands, filled):
    tenant, options = filled
    with psycopg.connect(cli_dsn, options="-c search_path=lantern", autocommit=True) as connection:
        connection.execute(ROWS, (tenant, "2020-03-01T00:00:00Z", 30))
    assert commands("logs", "cleanup", *options).out == "would delete 30 rows\n"
    found = commands("logs", "cleanup", "--dry-run", "--json", *options).json
    assert (found["dry_run"], found["by_action"]) == (True, {"assign": 30})
    assert commands("logs", "cleanup", "--apply", *options).out == "deleted 30 rows\n"
    assert commands("logs", "cleanup", *options).out == "would delete 0 rows\n"
    done = commands("logs", "verify", *options)
    assert "30 erased by retention" in done.out


def test_a_backup_brings_the_log_back_with_all_that_guards_it(
    pg, builtin, filled, cli_dsn, tmp_path
):
    tenant, options = filled
    file, target = tmp_path / "lantern.dump", clone_database(pg)
    with Commands("--config", str(builtin), env=environment(cli_dsn)) as commands:
        assert commands("backup", file).code == 0
    with Commands("--config", str(builtin), env=environment(target)) as commands:
        assert commands("restore", file).code == 0
        assert commands("logs", "verify", *options).out.startswith("intact: 1,200 seals")
        with psycopg.connect(target, options="-c search_path=lantern", autocommit=True) as there:
            owners = there.execute(
                "select distinct pg_get_userbyid(c.relowner) from pg_class c where c.oid in"
                " (select relid from pg_partition_tree('route_log'))"
            ).fetchall()
            assert owners == [("lantern_system",)]
            there.execute("set role lantern_app")
            made = there.execute("select make_log_months(4)").fetchone()
            assert made is not None
            assert len(made[0]) == 2, "months can be made"
            there.execute("select set_config('app.tenant', %s, false)", (str(tenant),))
            there.execute(ROWS, (tenant, "2026-04-01T00:00:00Z", 5))
            there.execute(ROWS, (tenant, "2020-04-01T00:00:00Z", 5))
            for sql in ("delete from route_log", "select * from lantern_log.route_log_others"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    there.execute(sql)
        assert commands("logs", "cleanup", "--apply", *options).out == "deleted 5 rows\n"
        assert commands("logs", "verify", *options).out.startswith("intact: 1,2")
        assert commands("doctor", "--json").json["ok"]
