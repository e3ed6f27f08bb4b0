"""Prices, usage, receipts and caps from the command line."""

import psycopg
import pytest


@pytest.fixture
def tenant(commands):
    made = commands("tenants", "create", "--name", "credits", "--json").json
    return str(made["tenant"])


def price(commands, *options, item="assign"):
    done = commands("credits", "tariff", "--json", *options)
    assert done.code == 0, done.error
    (found,) = [
        row for row in done.json["tariff"]
        if (row["operation"], row["item"]) == ("routing.assign", item)
    ]  # fmt: skip
    return found["credits"], found["charge_on"]


def test_the_operators_prices_and_a_tenants(commands, tenant, cli_rows):
    assert price(commands) == (1, "success")
    assert price(commands, "--set", "routing.assign/assign=0.75", "--charge-on", "query") == (
        0.75, "query",
    )  # fmt: skip
    assert price(commands, "--tenant", tenant) == (0.75, "query")
    changed = price(commands, "--set", "routing.assign/assign=3", "--tenant", tenant)
    assert changed == (3, "query")
    assert price(commands) == (0.75, "query")
    assert price(commands, "--unset", "routing.assign/assign") == (1, "success")
    assert price(commands, "--tenant", tenant) == (3, "query")
    assert price(commands, "--unset", "routing.assign/assign", "--tenant", tenant) == (1, "success")
    rows = cli_rows(
        "select action, detail ->> 'credits' from audit_log where object = 'price'"
        " and actor = 'operator' and tenant_id = %s order by id", tenant,
    )  # fmt: skip
    assert rows == [
        ("tariff.set", "0.7500"), ("tariff.set", "3.0000"), ("tariff.unset", "1.0000"),
        ("tariff.unset", None),
    ]  # fmt: skip


def test_several_prices_change_together_or_not_at_all(commands):
    done = commands(
        "credits", "tariff", "--set", "routing.assign/reset=9", "--set", "routing.assign/nope=1"
    )
    assert (done.code, "routing.assign/nope" in done.error) == (1, True)
    assert price(commands, item="reset") == (1, "success")


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["tariff", "--set", "routing.assign/assign"], 2, "credits"),
        (["tariff", "--set", "routing.assign/assign=-1"], 2, "credits"),
        (["tariff", "--set", "routing.assign=1"], 2, "OPERATION/ITEM"),
        (["tariff", "--unset", "nope/nope"], 1, "nope/nope"),
        (["tariff", "--tenant", "999999"], 1, "999999"),
        (["usage", "--from", "yesterday"], 1, "--from"),
        (["usage", "--group-by", "moon"], 1, "group_by"),
        (["receipts", "--kind", "gift"], 2, "gift"),
        (["caps", "add", "5", "--per", "year"], 2, "year"),
        (["caps", "add", "-5", "--per", "day"], 2, ""),
        (["caps", "add", "5", "--per", "day", "--key", "a", "--tag", "b=c"], 2, "--tag"),
        (["caps", "add", "5", "--per", "day", "--key", "key_nope"], 1, "subject"),
        (["caps", "remove", "cap_nope"], 1, "Cap not found"),
    ],
)
def test_a_wrong_command(commands, options, code, word):
    done = commands("credits", *options)
    assert (done.code, word in done.error) == (code, True)


def test_usage_and_receipts(commands, tenant, cli_rows):
    cli_rows(
        "select 1 from ledger_move(%s, 'charge', -2.5, 2.5, 'a',"
        " '{\"operation\": \"routing.assign\", \"tags\": {\"team\": \"east\"}}')", int(tenant),
    )  # fmt: skip
    assert commands("credits", "usage", "--tenant", tenant).out == "2.5 credits used\n"
    grouped = commands("credits", "usage", "--group-by", "tag:team", "--tenant", tenant).out
    assert grouped.split() == ["VALUE", "CREDITS", "east", "2.5", "2.5", "credits", "used"]
    found = commands("credits", "usage", "--to", "2001-01-01", "--json", "--tenant", tenant).json
    assert found == {"tenant": int(tenant), "from": None, "to": "2001-01-01", "credits_used": 0}
    (row,) = commands("credits", "receipts", "--kind", "charge", "--json", "--tenant", tenant).json[
        "receipts"
    ]
    assert (row["amount"], row["used"], row["ref"]) == (-2.5, 2.5, "a")
    listed = commands("credits", "receipts", "--limit", "1", "--tenant", tenant).out.splitlines()
    assert len(listed) == 2
    assert "routing.assign" in listed[1]


def test_caps(commands, tenant):
    (key,) = commands("keys", "list", "--tenant", tenant, "--json").json["keys"]
    made = commands(
        "credits",
        "caps",
        "add",
        "5.5",
        "--per",
        "day",
        "--key",
        key["id"],
        "--tenant",
        tenant,
        "--json",
    ).json
    assert (made["scope"], made["subject"], made["credits"], made["left"]) == (
        "key",
        key["id"],
        5.5,
        5.5,
    )
    shown = commands(
        "credits", "caps", "add", "9", "--per", "month", "--tag", "a=b", "--tenant", tenant
    )
    assert "a=b" in shown.out
    account = commands(
        "credits", "caps", "add", "9", "--per", "total", "--tenant", tenant, "--json"
    ).json
    again = commands("credits", "caps", "add", "9", "--per", "total", "--tenant", tenant)
    assert (again.code, "remove it first" in again.error) == (1, True)
    assert commands("credits", "caps", "remove", account["id"], "--tenant", tenant).code == 0
    left = commands("credits", "caps", "list", "--tenant", tenant, "--json").json["caps"]
    assert [cap["period"] for cap in left] == ["day", "month"]
    assert len(commands("credits", "caps", "list", "--tenant", tenant).out.splitlines()) == 3


@pytest.fixture
def cli_rows(cli_dsn):
    """Ask the database itself, as its owner."""

    def ask(sql, *params):
        with psycopg.connect(cli_dsn) as connection:
            connection.execute("set search_path = lantern")
            return connection.execute(sql, params).fetchall()

    return ask
