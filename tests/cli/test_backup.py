"""A backup read into another database is the same installation."""

import json
import secrets

import httpx
import psycopg
import pytest
from parts import clone_database
from servers import InProcess

from cli.conftest import Commands, environment, lantern

pytestmark = pytest.mark.xdist_group("backup")

INPUT = json.dumps({"q": "Who?", "documents": [{"title": "A", "text": "Eve leads Acme."}]})


@pytest.fixture(scope="module")
def filled(pg, builtin, tmp_path_factory):
    """A key and a run of a database, and its backup."""
    with Commands("--config", str(builtin), env=environment(clone_database(pg))) as commands:
        key = commands("keys", "create", "--name", "k").out.strip()
        commands("agents", "create", "--name", "clerk")
        run = commands("run", "clerk", "--input", INPUT, "--json").json
        file = tmp_path_factory.mktemp("backup") / "lantern.dump"
        made = commands("backup", file, "--json").json
        assert made["bytes"] == file.stat().st_size > 10_000
        assert file.stat().st_mode & 0o777 == 0o600
        return key, run, file


def test_key_and_runs_survive_in_a_new_data_directory(filled, builtin, tmp_path):
    key, run, file = filled
    data = ("--data-dir", str(tmp_path / "new"), "--config", str(builtin))
    with Commands(*data, env=environment()) as commands:
        assert commands("restore", file, "--json").json["tenants"] == 1
        assert commands("runs", "get", run["run_id"], "--json").json == run
        again = commands("restore", file)
        assert again.error == "The database is not empty: --force replaces what is there"
        assert commands("restore", file, "--force").code == 0
        new = commands("run", "clerk", "--input", INPUT, "--json").json
        assert new["status"] == "completed", "what crosses tenants works as well"
        assert commands("migrate", "--json").json == {"applied": []}
        before = commands("keys", "list", "--json").json
        (tmp_path / "broken").write_bytes(file.read_bytes()[:-5000])
        broken = commands("restore", tmp_path / "broken", "--force")
        assert broken.error.startswith("pg_restore: ")
        assert commands("keys", "list", "--json").json == before, "nothing was lost"
    assert key.startswith(before["keys"][0]["prefix"])


def test_a_key_still_opens_the_door(filled, pg):
    key, run, file = filled
    dsn = clone_database(pg)
    assert lantern("restore", file, env=environment(dsn)).code == 0
    with InProcess(dsn) as server:
        answer = httpx.get(
            f"{server.url}/v1/runs/{run['run_id']}", headers={"Authorization": f"Bearer {key}"}
        )
        assert answer.json()["output"] == run["output"]
        refused = lantern("restore", file, "--force", env=environment(dsn))
        assert "stop them first" in refused.error


def test_an_owner_whom_row_level_security_binds_gets_all_rows(pg, builtin, tmp_path):
    name, password = f"owner_{secrets.token_hex(4)}", secrets.token_hex(8)
    source, target = (psycopg.conninfo.make_conninfo(pg.dsn, dbname=f"{name}_{n}") for n in "ab")
    with psycopg.connect(pg.dsn, autocommit=True) as connection:
        connection.execute(f"create role {name} login createrole password '{password}'")
        # Roles of the cluster exist already, and their maker alone may grant them.
        connection.execute(f"grant lantern_app, lantern_system to {name} with admin option")
        for n in "ab":
            connection.execute(f"create database {name}_{n} owner {name}")
    login = {"user": name, "password": password}
    source, target = (psycopg.conninfo.make_conninfo(dsn, **login) for dsn in (source, target))
    file = tmp_path / "plain.dump"
    with Commands("--config", str(builtin), env=environment(source)) as commands:
        assert "0001_foundation.sql" in commands("migrate").out
        commands("tenants", "create", "--name", "one")
        commands("tenants", "create", "--name", "two")
        commands("agents", "create", "--name", "clerk", "--tenant", "2")
        assert commands("backup", file).code == 0
    with Commands("--config", str(builtin), env=environment(target)) as commands:
        assert commands("restore", file, "--json").json["tenants"] == 2
        done = commands("run", "clerk", "--input", INPUT, "--tenant", "2", "--json").json
        assert done["status"] == "completed"
        assert commands("doctor", "--json").json["ok"]


def test_what_is_no_backup(commands, tmp_path):
    (tmp_path / "text").write_text("hello")
    assert commands("restore", tmp_path / "text").error.startswith("pg_restore: ")
    assert commands("restore", tmp_path / "none").error == f"No such file: {tmp_path / 'none'}"
    assert commands("backup", tmp_path / "no" / "folder").code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
