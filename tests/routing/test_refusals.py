"""Assigning and its assignments over HTTP: the seed's answer, the same call twice, every refusal."""

import re
from typing import Any

import httpx
import pytest
from callers import caller, code_of, forget_failures, make_key

from lantern.core.db import Database
from routing.lay import lay_pool

ROUTE = "/v1/routing/assign"
TEAM = [{"user_id": name} for name in ("ann", "bob", "cid")]
BODY = {"object": "lead", "sf_id": "r1", "pool": "team"}
NINE = [
    "success",
    "assigned_to",
    "sequence",
    "pool_size",
    "timestamp",
    "credits_consumed",
    "credits_remaining",
    "processing_time_ms",
    "cached",
]


@pytest.fixture
async def team(db: Database, tenant) -> str:
    return await lay_pool(db, tenant.id, "team", TEAM)


async def assign(api: httpx.AsyncClient, sf_id: str = "r1", **more: Any) -> httpx.Response:
    headers = more.pop("headers", None)
    return await api.post(ROUTE, json={**BODY, "sf_id": sf_id, **more}, headers=headers)


async def spend(db: Database, tenant: int, credits: int) -> None:
    async with db.transaction(tenant) as tx:
        await tx.run(
            "select ledger_move(%s, 'charge', %s, %s, 'rest', '{}')", (tenant, -credits, credits)
        )


async def stored(db: Database, tenant: int, sql: str) -> list[dict[str, Any]]:
    async with db.transaction(tenant) as tx:
        return await tx.all(sql)


def wrong(answer: httpx.Response, field: str) -> None:
    """A flat 400 whose message begins with the field's name, and whose details name it."""
    assert answer.status_code == 400, answer.text
    assert code_of(answer) == "bad_request"
    body = answer.json()
    assert body["error"].startswith(f"{field}:"), body["error"]
    assert field in [".".join(map(str, d["loc"][1:])) for d in body["details"]]


# ---------------------------------------------------------------- the seed's answer
@pytest.mark.parametrize(("rules", "price"), [(None, 1), ({"reason": "user_request"}, 2)])
async def test_the_request_of_the_seed(api, db, tenant, rules, price):
    await spend(db, tenant.id, 950)
    members = [{"user_id": f"0055g00000Ax{i:06d}", "order": i} for i in range(17)]
    await lay_pool(db, tenant.id, "AE_Pool_West", members, sequence=1244)
    asked = {
        "object": "Lead",
        "sf_id": "00Q5g00000Bcd12",
        "pool": "AE_Pool_West",
        "exclude_inactive": True,
        "reset_rules": rules,
    }
    answer = await api.post(ROUTE, json=asked)
    body = answer.json()
    assert answer.status_code == 200
    assert list(body) == NINE
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", body.pop("timestamp"))
    took = body.pop("processing_time_ms")
    assert isinstance(took, int)
    assert took >= 0
    assert body == {
        "success": True,
        "assigned_to": members[0]["user_id"],
        "sequence": 1245,
        "pool_size": 17,
        "credits_consumed": price,
        "credits_remaining": 50 - price,
        "cached": False,
    }
    assert all(type(body[name]) is int for name in ("credits_consumed", "credits_remaining"))
    assert answer.headers["x-credits-remaining"] == str(50 - price)


async def test_both_ways_through_the_server_answer_alike(api, team):
    usual = await api.post(f"{ROUTE}?", json=BODY, headers={"last-event-id": "1"})
    busy = await assign(api, "r2", explain=False)
    assert list(usual.json()) == list(busy.json()) == NINE
    assert (usual.json()["sequence"], busy.json()["sequence"]) == (1, 2)


async def test_explain_adds_how_it_came_about(api, db, tenant):
    await lay_pool(db, tenant.id, "team", [*TEAM, {"user_id": "off", "active": False}])
    body = (await assign(api, explain=True)).json()
    assert re.fullmatch(r"asg_[0-9a-z]{26}", body["assignment_id"])
    assert (body["method"], body["eligible_size"], body["pool_size"]) == ("rotation", 3, 3)
    assert (body["rotation_epoch"], body["crm_write"]) == (0, "off")
    assert body["skipped"] == [{"user_id": "off", "reason": "inactive"}]


# ---------------------------------------------------------------- the same again
async def test_15_and_18_characters_are_one_record(api, team):
    first = (await assign(api, "001Kz00000AAbb1")).json()
    again = (await assign(api, "001Kz00000AAbb1IAD")).json()
    assert (again["cached"], again["credits_consumed"]) == (True, 0)
    same = ("assigned_to", "sequence", "timestamp", "credits_remaining")
    assert [again[name] for name in same] == [first[name] for name in same]
    assert (await assign(api, "001Kz00000AAbB1")).json()["cached"] is False


async def test_15_and_18_characters_are_one_member(api, db, tenant):
    await lay_pool(db, tenant.id, "team", [{"user_id": "ann"}, {"user_id": "001Kz00000AAbb1IAD"}])
    rules = {"reason": "vip", "place_user_at_top": "001Kz00000AAbb1"}
    assert (await assign(api, reset_rules=rules)).json()["assigned_to"] == "001Kz00000AAbb1IAD"


async def test_the_object_may_come_in_any_case_and_tells_records_apart(api, team):
    first = (await assign(api, object="LEAD")).json()
    assert (await assign(api, object="Lead")).json()["cached"] is True
    assert (await assign(api, object="lead")).json()["sequence"] == first["sequence"]
    other = (await assign(api, object="Contact")).json()
    assert (other["cached"], other["sequence"]) == (False, 2)


async def test_the_same_idempotency_key_is_the_same_answer_for_nothing(api, db, tenant, team):
    key = {"Idempotency-Key": "once"}
    rules = {"reason": "user_request"}
    first = await assign(api, headers=key, reset_rules=rules)
    again = await assign(api, headers=key, reset_rules=rules)
    assert again.json() == {**first.json(), "cached": True, "credits_consumed": 0}
    assert again.headers["idempotent-replayed"] == "true"
    other = await assign(api, "r2", headers=key)
    assert (other.status_code, code_of(other)) == (409, "conflict")
    assert len(await stored(db, tenant.id, "select * from routing_assignments")) == 1
    rows = await stored(db, tenant.id, "select idempotency_key from route_log")
    assert [row["idempotency_key"] for row in rows] == ["once"]


async def test_what_was_refused_leaves_its_idempotency_key_free(api, db, tenant):
    key = {"Idempotency-Key": "later"}
    assert (await assign(api, headers=key)).status_code == 404
    await lay_pool(db, tenant.id, "team", TEAM)
    assert (await assign(api, headers=key)).json()["sequence"] == 1


# ---------------------------------------------------------------- what was spent
async def test_tags_of_header_and_body_reach_the_ledger(api, db, tenant, team):
    tags = {"X-Lantern-Tags": "team=west, campaign=old"}
    answer = await assign(api, headers=tags, metadata={"campaign": "q1"})
    assert answer.status_code == 200, answer.text
    sql = "select tags, steps, operation, used from credit_ledger where kind = 'charge'"
    (row,) = await stored(db, tenant.id, sql)
    assert row["tags"] == {"team": "west", "campaign": "q1"}
    assert row["steps"] == [{"item": "assign", "credits": 1}]
    assert (row["operation"], row["used"]) == ("routing.assign", 1)


async def test_every_answer_tells_the_balance_in_its_header_too(api, team):
    for number in range(3):
        answer = await assign(api, f"r{number}")
        left = answer.json()["credits_remaining"]
        assert left == 999 - number
        assert answer.headers["x-credits-remaining"] == str(left)
    assert (await assign(api, "r0")).headers["x-credits-remaining"] == "997"


# ---------------------------------------------------------------- wrong input
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"object": ...}, "object"),
    ({"sf_id": ...}, "sf_id"),
    ({"pool": ...}, "pool"),
    ({"object": "case"}, "object"),
    ({"object": None}, "object"),
    ({"object": 5}, "object"),
    ({"sf_id": ""}, "sf_id"),
    ({"sf_id": "x" * 65}, "sf_id"),
    ({"sf_id": " r1"}, "sf_id"),
    ({"sf_id": "r1\n"}, "sf_id"),
    ({"sf_id": "r\x001"}, "sf_id"),
    ({"sf_id": 17}, "sf_id"),
    ({"pool": ""}, "pool"),
    ({"pool": "x" * 101}, "pool"),
    ({"pool": "team "}, "pool"),
    ({"pool": ["team"]}, "pool"),
    ({"exclude_inactive": "perhaps"}, "exclude_inactive"),
    ({"exclude_inactive": None}, "exclude_inactive"),
    ({"reset_rules": "bad_fit"}, "reset_rules"),
    ({"reset_rules": {}}, "reset_rules.reason"),
    ({"reset_rules": {"reason": ""}}, "reset_rules.reason"),
    ({"reset_rules": {"reason": "x" * 201}}, "reset_rules.reason"),
    ({"reset_rules": {"reason": "a\x00b"}}, "reset_rules.reason"),
    ({"reset_rules": {"reason": "x", "why": 1}}, "reset_rules.why"),
    ({"reset_rules": {"reason": "x", "place_user_at_top": ""}}, "reset_rules.place_user_at_top"),
    (
        {"reset_rules": {"reason": "x", "place_user_at_top": "a" * 65}},
        "reset_rules.place_user_at_top",
    ),
    ({"reset_rules": {"reason": "x", "place_user_at_top": "eve"}}, "reset_rules.place_user_at_top"),
    ({"reset_rules": {"reason": "whim"}, "pool": "strict"}, "reset_rules.reason"),
    ({"current_owner": ""}, "current_owner"),
    ({"current_owner": "x" * 65}, "current_owner"),
    ({"current_owner": 7}, "current_owner"),
    ({"refresh_pool": "perhaps"}, "refresh_pool"),
    ({"explain": 3}, "explain"),
    ({"metadata": "west"}, "metadata"),
    ({"metadata": {"team": 1}}, "metadata.team"),
    ({"metadata": {"a b": "x"}}, "metadata"),
    ({"metadata": {"a": "x" * 257}}, "metadata"),
    ({"metadata": {f"k{i}": "x" for i in range(11)}}, "metadata"),
    ({"objekt": "lead"}, "objekt"),
]


async def test_every_wrong_field_is_named(api, db, tenant, team):
    await lay_pool(db, tenant.id, "strict", TEAM, reset_reasons=["bad_fit"])
    for given, field in WRONG:
        body = {k: v for k, v in {**BODY, **given}.items() if v is not ...}
        wrong(await api.post(ROUTE, json=body), field)
        keyed = await api.post(ROUTE, json=body, headers={"Idempotency-Key": "again"})
        wrong(keyed, field)
    assert await stored(db, tenant.id, "select id from routing_assignments") == []
    assert await stored(db, tenant.id, "select id from credit_ledger where kind <> 'grant'") == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'"lead"', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"object":"lead","sf_id":"\\ud800","pool":"team"}', "application/json"),
        (b'{"object":"lead","sf_id":"r1","pool":"team"}', "text/plain"),
    ],
)
async def test_a_body_that_is_no_json_object_is_400(api, team, content, kind):
    answer = await api.post(ROUTE, content=content, headers={"content-type": kind})
    assert (answer.status_code, code_of(answer)) == (400, "bad_request")


async def test_wrong_tags_of_the_header_are_named(api, team):
    for text in ("west", "a b=c", "k=" + "x" * 257, ",".join(f"k{i}=1" for i in range(11))):
        answer = await assign(api, headers={"X-Lantern-Tags": text})
        wrong(answer, "X-Lantern-Tags")


async def test_wrong_filters_are_named(api, team):
    for query, field in [
        ("status=lost", "status"),
        ("pool=" + "x" * 101, "pool"),
        ("sf_id=" + "x" * 65, "sf_id"),
        ("assigned_to=" + "x" * 65, "assigned_to"),
        ("pool=%00", "pool"),
        ("sf_id=a%00", "sf_id"),
        ("assigned_to=%00a", "assigned_to"),
        ("from=yesterday", "from"),
        ("to=2026-13-01T00:00:00Z", "to"),
        ("page=0", "page"),
        ("per_page=101", "per_page"),
    ]:
        wrong(await api.get(f"/v1/routing/assignments?{query}"), field)


async def test_wrong_reasons_of_a_void_are_named(api, team):
    made = (await assign(api, explain=True)).json()["assignment_id"]
    path = f"/v1/routing/assignments/{made}/void"
    wrong(await api.post(path, json={"reason": ""}), "reason")
    wrong(await api.post(path, json={"why": "x"}), "why")
    wrong(await api.post(path.replace("void", "accept"), json={"why": "x"}), "why")
    assert (await api.post(path)).status_code == 200


# ---------------------------------------------------------------- who, and how often
async def test_without_a_key_everything_is_401(server, db):
    await forget_failures(db)
    async with caller(server.url) as nobody:
        for method, path in [
            ("POST", ROUTE),
            ("GET", "/v1/routing/assignments"),
            ("GET", "/v1/routing/assignments/asg_x"),
            ("GET", "/v1/routing/assignments/asg_x/explain"),
            ("POST", "/v1/routing/assignments/asg_x/accept"),
            ("POST", "/v1/routing/assignments/asg_x/void"),
        ]:
            answer = await nobody.request(method, path, content=b"{")
            assert (answer.status_code, code_of(answer)) == (401, "unauthorized"), path
    await forget_failures(db)


async def test_a_key_that_reads_assigns_nothing(server, db, tenant, team):
    read = await make_key(db, tenant.id, scopes=["read"])
    async with caller(server.url, read) as reader:
        assert (await reader.get("/v1/routing/assignments")).status_code == 200
        for path in (ROUTE, "/v1/routing/assignments/x/accept", "/v1/routing/assignments/x/void"):
            answer = await reader.post(path, json=BODY)
            assert (answer.status_code, code_of(answer)) == (403, "forbidden")
    agent = await make_key(db, tenant.id, agents=["a"])
    async with caller(server.url, agent) as one:
        answer = await assign(one)
        assert (answer.status_code, code_of(answer)) == (403, "forbidden")


async def test_over_the_limit_is_429_and_says_when(server, db, tenant, team):
    key = await make_key(db, tenant.id, limits={"plan": 0, "routing": 2})
    async with caller(server.url, key) as hasty:
        answers = [await assign(hasty, f"r{i}") for i in range(3)]
    assert [a.status_code for a in answers] == [200, 200, 429]
    assert code_of(answers[2]) == "rate_limited"
    assert answers[2].json()["retry_after"] == int(answers[2].headers["retry-after"]) > 0
    assert [a.headers["x-ratelimit-limit"] for a in answers] == ["2"] * 3


async def test_by_default_a_key_assigns_300_times_a_minute(api, team):
    assert (await assign(api)).headers["x-ratelimit-limit"] == "300"


async def test_without_credits_nothing_is_assigned(api, db, tenant, team):
    await spend(db, tenant.id, 999)
    rules = {"reason": "user_request"}
    for headers in ({}, {"Idempotency-Key": "poor"}):
        answer = await assign(api, reset_rules=rules, headers=headers)
        assert (answer.status_code, code_of(answer)) == (402, "insufficient_credits")
        body = answer.json()
        assert (body["credits_required"], body["credits_remaining"]) == (2, 1)
        assert body["details"] == {"reason": "account_balance"}
        assert answer.headers["x-credits-remaining"] == "1"
    rows = await stored(db, tenant.id, "select sequence, epoch, turns from routing_rotations")
    assert rows == [{"sequence": 0, "epoch": 0, "turns": [0, 0, 0]}]
    assert (await assign(api)).json()["credits_remaining"] == 0
    repeated = await assign(api)  # what was paid is answered for nothing
    assert (repeated.status_code, repeated.json()["cached"]) == (200, True)


# ---------------------------------------------------------------- not there, not now
async def test_what_is_not_there_is_404(api, db, tenant, server):
    for path in ("", "/explain"):
        for name in ("asg_none", "none", "%00", "asg_%00", "x" * 300):
            answer = await api.get(f"/v1/routing/assignments/{name}{path}")
            assert (answer.status_code, code_of(answer)) == (404, "not_found"), name
    for action in ("accept", "void"):
        answer = await api.post(f"/v1/routing/assignments/asg_none/{action}")
        assert (answer.status_code, code_of(answer)) == (404, "not_found")
    answer = await assign(api, pool="nobody")
    assert (answer.status_code, code_of(answer)) == (404, "not_found")
    assert "nobody" in answer.json()["error"]


async def test_another_tenants_assignments_are_not_there(api, db, server, tenant, team):
    made = (await assign(api, explain=True)).json()["assignment_id"]
    async with caller(server.url, server.key) as stranger:
        for method, path in [
            ("GET", ""),
            ("GET", "/explain"),
            ("POST", "/accept"),
            ("POST", "/void"),
        ]:
            answer = await stranger.request(method, f"/v1/routing/assignments/{made}{path}")
            assert answer.status_code == 404
        assert (await assign(stranger)).status_code == 404  # the pool is not there either


async def test_other_methods_are_405(api):
    answer = await api.put(ROUTE, json=BODY)
    assert (answer.status_code, code_of(answer)) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


async def test_nobody_eligible_is_409_free_and_says_why(api, db, tenant):
    members = [{"user_id": "ann", "active": False}, {"user_id": "bob", "cap_day": 0}]
    await lay_pool(db, tenant.id, "team", members)
    answer = await assign(api)
    assert (answer.status_code, code_of(answer)) == (409, "no_eligible_user")
    skipped = [{"user_id": "ann", "reason": "inactive"}, {"user_id": "bob", "reason": "cap_day"}]
    assert answer.json()["details"] == {"skipped": skipped}
    assert answer.headers["x-credits-remaining"] == "1000"
    rows = await stored(db, tenant.id, "select sequence from routing_rotations")
    assert rows == [{"sequence": 0}]
    assert (await assign(api, exclude_inactive=False)).json()["assigned_to"] == "ann"


async def test_a_miss_is_charged_where_the_tariff_says_so(api, db, tenant):
    await lay_pool(db, tenant.id, "team", [{"user_id": "ann", "active": False}])
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "insert into tenant_tariff (tenant_id, operation, item, credits, charge_on)"
            " values (%s, 'routing.assign', 'assign', 0.25, 'query')",
            (tenant.id,),
        )
    left = ["999.75", "999.5"]
    for headers in ({}, {"Idempotency-Key": "miss"}):
        answer = await assign(api, headers=headers)
        assert (answer.status_code, code_of(answer)) == (409, "no_eligible_user")
        assert answer.headers["x-credits-remaining"] == left.pop(0)
    (row,) = await stored(db, tenant.id, "select balance from credit_balances")
    assert row["balance"] == 999.5


async def test_a_bad_fit_that_nobody_else_can_take_changes_nothing(api, db, tenant):
    await lay_pool(db, tenant.id, "team", [{"user_id": "ann"}], sla_minutes=60)
    made = (await assign(api, explain=True)).json()["assignment_id"]
    for headers in ({}, {"Idempotency-Key": "bad"}):
        answer = await assign(api, reset_rules={"reason": "bad_fit"}, headers=headers)
        assert (answer.status_code, code_of(answer)) == (409, "no_eligible_user")
        assert answer.json()["details"]["skipped"] == [{"user_id": "ann", "reason": "bad_fit"}]
        now = (await api.get(f"/v1/routing/assignments/{made}")).json()["assignment"]
        assert (now["status"], now["ended_at"]) == ("assigned", None)
        rows = await stored(db, tenant.id, "select turns, cursors from routing_rotations")
        assert rows == [{"turns": [1], "cursors": [1]}]
        assert await db.one("select 1 as x from timers where key = %s", (f"routing.sla:{made}",))


async def test_asking_the_crm_anew_needs_a_crm(api, team):
    answer = await assign(api, refresh_pool=True)
    assert (answer.status_code, code_of(answer)) == (409, "not_connected")
    assert "[crm]" in answer.json()["error"]


async def test_what_has_ended_cannot_be_taken_up_or_ended_otherwise(api, db, tenant, team):
    made = (await assign(api, explain=True)).json()["assignment_id"]
    path = f"/v1/routing/assignments/{made}"
    for _ in range(2):
        voided = await api.post(f"{path}/void", json={"reason": "typo"})
        assert voided.json()["assignment"]["status"] == "void"
        assert voided.json()["assignment"]["ended_why"] == "typo"
    late = await api.post(f"{path}/accept")
    assert (late.status_code, code_of(late)) == (409, "conflict")
    assert "void" in late.json()["error"]
    await assign(api, "r2", explain=True)
    other = (await assign(api, "r2", reset_rules={"reason": "bad_fit"}, explain=True)).json()
    lost = (await api.get("/v1/routing/assignments?status=bad_fit")).json()["assignments"]
    assert len(lost) == 1
    assert lost[0]["assigned_to"] != other["assigned_to"]
    late = await api.post(f"/v1/routing/assignments/{lost[0]['assignment_id']}/void")
    assert (late.status_code, code_of(late)) == (409, "conflict")


async def test_a_void_can_be_assigned_again_and_keeps_its_number(api, team):
    first = (await assign(api, explain=True)).json()
    await api.post(f"/v1/routing/assignments/{first['assignment_id']}/void")
    again = (await assign(api)).json()
    assert (again["cached"], again["sequence"]) == (False, 2)
    assert again["assigned_to"] == first["assigned_to"]  # the turn came back
