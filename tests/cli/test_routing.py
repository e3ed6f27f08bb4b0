"""`lantern routing`: a pool from a file, assignments, their explanations, a simulation."""

import json
from pathlib import Path

import pytest

MEMBERS = [{"user_id": "ann", "weight": 2}, {"user_id": "bob"}, {"user_id": "cid", "active": False}]


@pytest.fixture
def pool(commands, tmp_path: Path, request) -> str:
    """A pool of the test's own name in the shared database of the command line."""
    file = tmp_path / "pool.json"
    file.write_text(json.dumps({"pool": request.node.name, "members": MEMBERS}))
    made = commands("routing", "pools", "create", "-f", file, "--json").json
    assert [m["user_id"] for m in made["members"]] == ["ann", "bob", "cid"]
    return request.node.name


def assign(commands, pool: str, record: str, *options: str) -> dict:
    return commands("routing", "assign", pool, record, "--json", *options).json


def test_owners_take_turns_and_the_reason_is_told(commands, pool):
    made = [assign(commands, pool, f"lead-{n}") for n in range(3)]
    assert [m["assigned_to"] for m in made] == ["ann", "bob", "ann"]
    assert [m["sequence"] for m in made] == [1, 2, 3]
    assert made[2]["credits_remaining"] == made[0]["credits_remaining"] - 2
    again = assign(commands, pool, "lead-0")
    assert (again["cached"], again["credits_consumed"], again["assigned_to"]) == (True, 0, "ann")
    told = commands("routing", "explain", made[1]["assignment_id"])
    assert told.code == 0
    assert (
        f"Number 2 of pool '{pool}': bob had the shortest wait of 2 eligible members." in told.out
    )
    assert "cid" in told.out
    assert "inactive" in told.out
    assert told.out.rstrip().endswith("recomputed: bob, agrees: True")


def test_the_owner_is_promised_to_the_crm_of_the_server(commands, pool, builtin, tmp_path):
    assert assign(commands, pool, "l1")["crm_write"] == "off"
    config = tmp_path / "crm.toml"
    config.write_text(builtin.read_text() + '\n[crm]\nurl = "https://crm.example/hook"\n')
    assert assign(commands, pool, "l2", "--config", str(config))["crm_write"] == "pending"
    assert assign(commands, pool, "l3")["crm_write"] == "off"


def test_reset_rules_put_somebody_at_the_top(commands, pool):
    made = assign(commands, pool, "lead-1", "--reset", "user_request", "--top", "bob")
    assert (made["assigned_to"], made["method"], made["credits_consumed"]) == ("bob", "top", 2)
    wrong = commands("routing", "assign", pool, "lead-2", "--reset", "x", "--top", "nobody")
    assert (wrong.code, wrong.error) == (
        1,
        "reset_rules.place_user_at_top: is not in the pool",
    )
    assert commands("routing", "assign", pool, "lead-2", "--top", "bob").code == 2


def test_a_file_of_members_changes_the_pool(commands, pool, tmp_path):
    file = tmp_path / "members.csv"
    file.write_text("user_id,weight\nbob,3\ndan,1\n")
    made = commands("routing", "pools", "import", pool, file, "--json").json
    assert (made["added"], made["updated"], made["removed"]) == (1, 1, 0)
    shown = commands("routing", "pools", "show", pool, "--json").json
    assert [(m["user_id"], m["weight"]) for m in shown["members"]] == [
        ("ann", 2),
        ("bob", 3),
        ("cid", 1),
        ("dan", 1),
    ]
    file.write_text("user_id,weight\nbob,heavy\n")
    refused = commands("routing", "pools", "import", pool, file)
    assert "line 2, weight" in refused.error


def test_a_simulation_says_who_would_have_got_what(commands, pool, tmp_path):
    for n in range(6):
        assign(commands, pool, f"lead-{n}")
    same = commands("routing", "simulate", pool, "--json").json
    assert (same["assignments"], same["changed"]) == (6, 0)
    change = tmp_path / "change.json"
    change.write_text(json.dumps({"members": [{"user_id": "ann"}, {"user_id": "bob"}]}))
    told = commands("routing", "simulate", pool, "-f", change, "--json").json
    assert {m["user_id"]: m["would_get"] for m in told["members"]} == {
        "ann": 3,
        "bob": 3,
    }
    assert "would have gone elsewhere" in commands("routing", "simulate", pool, "-f", change).out


def test_what_is_wrong_is_one_line(commands, pool, tmp_path):
    assert (
        commands("routing", "assign", "no-such-pool", "x").error == "Pool 'no-such-pool' not found"
    )
    assert commands("routing", "explain", "asg_none").error == "Assignment not found"
    file = tmp_path / "wrong.json"
    file.write_text("{")
    assert "not JSON" in commands("routing", "pools", "create", "-f", file).error
    file.write_text(json.dumps({"pool": "p", "members": [{"user_id": "a", "weight": 0}]}))
    assert "members.0.weight" in commands("routing", "pools", "create", "-f", file).error
    assert commands("routing", "pools", "delete", pool).out == f"deleted {pool}\n"
    assert "not found" in commands("routing", "pools", "show", pool).error
    assert pool not in commands("routing", "pools", "list").out
