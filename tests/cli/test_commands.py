"""Tenants, keys, credits, agents and runs from the command line."""

import hashlib
import json

import psycopg
import pytest


@pytest.fixture
def rows(cli_dsn):
    """Ask the database itself, as its owner."""

    def ask(sql, *params):
        with psycopg.connect(cli_dsn) as connection:
            connection.execute("set search_path = lantern")
            return connection.execute(sql, params).fetchall()

    return ask


def create_key(commands, *options):
    return commands("keys", "create", "--name", "test", "--json", *options).json


def test_a_key_is_shown_once_and_stored_as_its_hash(commands, rows):
    made = create_key(
        commands, "--scope", "read", "--scope", "forms", "--agent", "a", "--plan", "personal",
        "--limit", "plan=off", "--limit", "enrich=7/min",
    )  # fmt: skip
    assert made["key"].startswith("lnt_")
    assert made["key"].startswith(made["prefix"])
    assert (made["scopes"], made["agents"], made["plan"]) == (["read", "forms"], ["a"], "personal")
    ((digest, limits),) = rows("select hash, limits from api_keys where id = %s", made["id"])
    assert digest == hashlib.sha256(made["key"].encode()).digest()
    assert limits == {"plan": 0, "enrich": 7}
    listed = commands("keys", "list", "--json")
    assert made["id"] in listed.out
    assert made["key"] not in listed.out


def test_the_defaults_of_a_key(commands):
    made = create_key(commands)
    assert (made["scopes"], made["agents"], made["plan"]) == (["write"], ["*"], "team")
    plain = commands("keys", "create", "--name", "plain")
    assert plain.out.startswith("lnt_")
    assert len(plain.out.split()) == 1


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--limit", "nope=3", "nope"),
        ("--limit", "plan=-1", "plan=-1"),
        ("--scope", "root", "root"),
        ("--plan", "gold", "gold"),
        ("--agent", "Not A Name", "agents.0"),
    ],
)
def test_a_wrong_option_is_a_usage_error(commands, option, value, word):
    done = commands("keys", "create", "--name", "x", option, value)
    assert done.code == 2
    assert word in done.error


def test_revoking(commands):
    made = create_key(commands)
    assert commands("keys", "revoke", made["id"]).code == 0
    assert made["id"] not in commands("keys", "list").out
    again = commands("keys", "revoke", made["id"])
    assert (again.code, again.error) == (1, "Key not found")


def test_tenants_and_credits(commands, rows):
    made = commands("tenants", "create", "--name", "acme", "--plan", "enterprise", "--json").json
    tenant = str(made["tenant"])
    (key,) = commands("keys", "list", "--tenant", tenant, "--json").json["keys"]
    assert key["scopes"] == ["admin"]
    assert made["key"].startswith(key["prefix"])
    assert commands("credits", "grant", "12.5", "--tenant", tenant, "--json").json == {
        "tenant": made["tenant"], "remaining": 1012.5, "granted": 1012.5,
    }  # fmt: skip
    assert (
        commands("credits", "balance", "--tenant", tenant).out == "1012.5 of 1012.5 credits left\n"
    )
    assert "acme" in commands("tenants", "list").out
    assert rows("select action from audit_log where tenant_id = %s order by id", tenant) == [
        ("key.create",), ("credits.grant",),
    ]  # fmt: skip
    assert commands("credits", "grant", "0", "--tenant", tenant).code == 1
    assert commands("credits", "grant", "much", "--tenant", tenant).code == 2
    unknown = commands("keys", "create", "--name", "x", "--tenant", "99999")
    assert "Tenant 99999 not found" in unknown.error


def test_agents(commands, tmp_path):
    prompt = tmp_path / "prompt.md"
    prompt.write_text("Be brief.")
    given = ("agents", "create", "--name", "clerk", "--system-prompt-file", prompt, "--json")
    made = commands(*given).json
    assert made["system_prompt"] == "Be brief."
    assert "already exists" in commands(*given).error
    assert commands("agents", "get", "clerk", "--json").json == made
    assert [a["name"] for a in commands("agents", "list", "--json").json["agents"]] == ["clerk"]
    assert "builtin" in commands("agents", "create", "--name", "b", "--model", "gpt-0").error
    assert "reserved" in commands("agents", "create", "--name", "runs").error
    assert commands("agents", "delete", "clerk").code == 0
    assert commands("agents", "get", "clerk").error == "Agent 'clerk' not found"


DOCUMENTS = [{"title": "Acme", "text": "Acme was founded in 1990. Mary Stone leads Acme today."}]


def test_a_run_without_a_server_is_worked_on_by_the_command(commands, rows, tmp_path):
    commands("agents", "create", "--name", "reader")
    file = tmp_path / "input.json"
    file.write_text(json.dumps({"q": "Who leads Acme?", "documents": DOCUMENTS}))
    shown = commands("run", "reader", "--input-file", file)
    assert shown.code == 0
    for part in (
        "[plan]\n",
        "[plan done",
        "[write]\n",
        "Mary Stone leads Acme today.",
        "completed",
    ):
        assert part.replace("[plan done", "[plan] done") in shown.out
    assert rows("select count(*) from nodes") == [(0,)], "the node has left"

    run = commands("run", "reader", "--input-file", file, "--json").json
    assert [(s["name"], s["status"]) for s in run["steps"]] == [
        ("plan", "completed"), ("write", "completed"),
    ]  # fmt: skip
    listed = commands("runs", "list", "--agent", "reader", "--status", "completed", "--json").json
    assert listed["runs"][0]["run_id"] == run["run_id"]
    assert commands("runs", "get", run["run_id"], "--json").json == run
    assert "write" in commands("runs", "get", run["run_id"]).out
    assert "completed" in commands("runs", "cancel", run["run_id"]).error


def test_events_are_lines_of_json(commands):
    commands("agents", "create", "--name", "lister")
    shown = commands("run", "lister", "--input", '{"q": "hi"}', "--events")
    events = [json.loads(line) for line in shown.out.splitlines()]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert (events[0]["type"], events[-1]["type"]) == ("step.start", "run.complete")


def test_a_run_that_cannot_start(commands):
    assert commands("run", "nobody", "--input", "{}").error == "Agent 'nobody' not found"
    for given in ("[1]", "{", "3"):
        assert commands("run", "nobody", "--input", given).code == 2
    assert commands("run", "nobody").code == 2


def test_a_run_that_fails_exits_with_1(commands, tmp_path):
    config = tmp_path / "dead.toml"
    config.write_text('[[models]]\nname = "dead"\nbase_url = "http://127.0.0.1:9/v1"\n')
    commands("agents", "create", "--name", "unlucky", "--model", "dead", "--config", config)
    shown = commands("run", "unlucky", "--input", '{"q": "hi"}', "--config", config)
    assert shown.code == 1
    assert "[write] failed" in shown.out
    assert "cannot be reached" in shown.err


def test_migrate_and_doctor(commands, tmp_path):
    assert commands("migrate", "--json").json == {"applied": []}
    report = commands("doctor", "--json").json
    found = {check["name"]: check for check in report["checks"]}
    assert report["ok"]
    assert {"python", "disk", "port", "postgres", "migrations", "role", "clock"} <= found.keys()
    assert found["model builtin"]["status"] == "warn"
    assert found["durability"]["status"] == "warn", "tests run without fsync"
    assert all(check["mend"] for check in report["checks"] if check["status"] != "ok")

    config = tmp_path / "dead.toml"
    config.write_text('[[models]]\nname = "dead"\nbase_url = "http://127.0.0.1:9/v1"\n')
    sick = commands("doctor", "--config", config)
    assert sick.code == 1
    assert "fail  model dead" in sick.out
    assert "-> check `base_url`" in sick.out
