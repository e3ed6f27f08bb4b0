"""Routing in the dashboard: pools, whose turn it is, assignments and why, what if."""

import re
from html import unescape
from urllib.parse import quote

import pytest
from callers import make_key
from routing.test_pools import assign, make, people

from lantern import routing
from lantern.routing import store

from .browser import signed_in

HOME = "/dashboard/routing"
POOL = f"{HOME}/pools/emea"


@pytest.fixture
async def browser(server, tenant):
    async with signed_in(server, tenant) as signed:
        yield signed


async def text(browser, path: str, status: int = 200) -> str:
    answer = await browser.get(path)
    assert answer.status_code == status, answer.text
    return plain(answer.text)


def plain(html: str) -> str:
    """The words of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


async def version(api, pool: str = "emea") -> int:
    return (await api.get(f"/v1/routing/pools/{pool}")).json()["version"]


async def following(browser, answer) -> str:
    assert answer.status_code == 303, answer.text
    return await text(browser, answer.headers["location"])


# ---------------------------------------------------------------- pools
async def test_a_tenant_without_pools_is_told_what_one_is_and_how_to_make_one(browser):
    page = await text(browser, HOME)
    assert "No pools yet" in page
    assert '/v1/routing/pools"' in page


async def test_a_pool_is_made_of_lines_of_ids_names_and_weights(browser, api):
    lines = "ann, Ann Okafor, 5\n\nbob,Bob\ncem"
    answer = await browser.submit(f"{HOME}/new", pool="emea", members=lines, fallback="lead")
    page = await following(browser, answer)
    assert "Pool emea is there" in page
    assert "Ann Okafor" in page
    pool = (await api.get("/v1/routing/pools/emea")).json()
    assert [(m["user_id"], m["name"], m["weight"]) for m in pool["members"]] == [
        ("ann", "Ann Okafor", 5),
        ("bob", "Bob", 1),
        ("cem", None, 1),
    ]
    assert pool["policy"]["fallback"]["user_id"] == "lead"


async def test_the_first_line_may_name_the_columns_and_tabs_may_part_them(browser, api):
    await browser.submit(f"{HOME}/new", pool="a", members="weight,user_id,cap_day\n2,ann,20")
    await browser.submit(f"{HOME}/new", pool="b", members="ann\tAnn\t3\nbob\tBob\t1")
    ann = (await api.get("/v1/routing/pools/a")).json()["members"][0]
    assert (ann["user_id"], ann["weight"], ann["caps"]["day"]) == ("ann", 2, 20)
    pool = (await api.get("/v1/routing/pools/b")).json()
    assert [m["weight"] for m in pool["members"]] == [3, 1]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"pool": ""}, "at least 1 character"),
        ({"pool": "a/b"}, "May not contain a slash"),
        ({"pool": "taken"}, "exists already"),
        ({"pool": "p", "members": "ann\n\nbob,Bob,500"}, "line 3, weight:"),
        ({"pool": "p", "members": "user_id,weight\nann,0"}, "line 2, weight:"),
        ({"pool": "p", "members": "ann\nann"}, "line 2, user_id: is in the file twice"),
        ({"pool": "p", "members": "user_id,shoe\nann,9"}, "unknown column"),
        ({"pool": "p", "fallback": "x" * 65}, "at most 64 characters"),
    ],
)
async def test_a_wrong_pool_is_refused_beside_the_field_and_keeps_what_was_typed(
    browser, api, fields, told
):
    await make(api, "taken")
    answer = await browser.submit(f"{HOME}/new", **{"members": "zed, Zed", **fields})
    assert answer.status_code == 400
    assert told in plain(answer.text)
    assert unescape(answer.text).count(fields.get("members", "zed, Zed")) == 1
    assert (await api.get("/v1/routing/pools")).json()["total"] == 1


async def test_pools_are_found_by_a_part_of_the_name(browser, api):
    await make(api, "emea-inbound")
    await make(api, "apac")
    assert "apac" not in await text(browser, f"{HOME}?q=EMEA")
    assert "No pool is called that" in await text(browser, f"{HOME}?q=nix")


@pytest.mark.parametrize(
    "name", ["A & B #1?", 'say "é" 100%', "new", "assignments", "../x".replace("/", ";"), "<b>'"]
)
async def test_a_pool_has_a_page_whatever_printable_name_it_has(browser, api, name):
    await make(api, name, "ann", "x/y?&#")
    place = f"{HOME}/pools/{quote(name, safe='')}"
    assert place in (await browser.get(HOME)).text
    assert place in (await browser.get("/dashboard/find", params={"q": name})).text
    assert (await browser.get(place)).status_code == 200
    answer = await browser.submit(f"{place}/members", user_id="x/y?&#", weight="7", order="0")
    assert "x/y?&# is changed" in await following(browser, answer)
    answer = await browser.submit(f"{place}/assign", object="lead", sf_id="r1")
    assert name in await following(browser, answer)
    assert name in await following(browser, await browser.submit(f"{place}/delete"))
    await text(browser, place, 404)


async def test_a_pool_shows_whose_turn_it_is_and_who_may_not_be_picked_and_why(browser, api):
    away = {"out_of_office": [{"from": "2020-01-01", "to": "2190-01-01"}]}
    members = [*people("ann"), *people("bob", active=False), *people("cem", **away)]
    await api.post("/v1/routing/pools", json={"pool": "emea", "members": members})
    page = await text(browser, POOL)
    assert "Active members 2 of 3" in page
    assert "1 ann 2 ann 3 ann" in page
    assert "bob inactive" in page
    assert "cem out of office" in page


async def test_an_empty_pool_says_so(browser, api):
    await api.post("/v1/routing/pools", json={"pool": "emea"})
    page = await text(browser, POOL)
    assert "Nobody is in it yet" in page
    assert "None yet" in page


# ---------------------------------------------------------------- got against due
async def fair(db, tenant) -> routing.pools.Fairness:
    async with db.transaction(tenant.id) as tx:
        return await routing.pools.fairness(tx, "emea")


async def test_got_is_within_a_turn_of_due_by_weight(browser, api, db, tenant):
    members = [*people("ann", weight=5), *people("bob", "cem")]
    await api.post("/v1/routing/pools", json={"pool": "emea", "members": members})
    for n in range(10):
        await assign(api, f"r{n}")
    found = await fair(db, tenant)
    assert [round(share.due, 2) for share in found.shares] == [7.14, 1.43, 1.43]
    assert sum(share.got for share in found.shares) == found.turns == 10
    assert found.worst <= 1
    page = await text(browser, POOL)
    assert "Counted over all 10 assignments of rotation 0, numbers 1 to 10" in page
    assert "Not accepted yet 10 of 10" in page


async def test_who_could_not_be_picked_is_due_nothing_of_that_turn(api, db, tenant):
    await make(api)
    for n in range(3):
        await assign(api, f"r{n}")
    await api.patch("/v1/routing/pools/emea/members/eve", json={"active": False})
    for n in range(4):
        await assign(api, f"s{n}")
    found = await fair(db, tenant)
    assert [(share.got, share.due) for share in found.shares] == [(3, 3), (3, 3), (1, 1)]
    assert found.changed


async def test_a_turn_given_back_one_beside_the_rotation_and_one_of_who_left_count_for_nobody(
    api, db, tenant
):
    await make(api, policy={"fallback": {"user_id": "lead"}})
    for n in range(6):
        await assign(api, f"r{n}")
    rows = (await api.get("/v1/routing/assignments?assigned_to=ann")).json()["assignments"]
    await api.post(f"/v1/routing/assignments/{rows[0]['assignment_id']}/void")
    await api.delete("/v1/routing/pools/emea/members/eve")
    for user in ("ann", "bob"):
        await api.patch(f"/v1/routing/pools/emea/members/{user}", json={"active": False})
    assert (await assign(api, "r6"))["assigned_to"] == "lead"
    found = await fair(db, tenant)
    assert (found.turns, found.back, found.left, found.beside) == (3, 1, 2, 1)
    assert [(share.user_id, share.got, share.due) for share in found.shares] == [
        ("ann", 1, 1.5),
        ("bob", 2, 1.5),
    ]


async def test_a_reset_begins_the_count_again(api, db, tenant):
    await make(api)
    await assign(api, "r1")
    await assign(api, "r2", reset_rules={"reason": "new quarter"})
    found = await fair(db, tenant)
    assert (found.turns, found.first, found.last, found.whole) == (1, 2, 2, True)


# ---------------------------------------------------------------- members and policy
async def test_a_member_is_changed_in_a_dialog_and_keeps_what_the_dialog_does_not_ask(browser, api):
    hours = [{"days": ["mon"], "from": "09:00", "to": "17:00"}]
    await api.post(
        "/v1/routing/pools",
        json={"pool": "emea", "members": people("ann", working_hours=hours, caps={"day": 9})},
    )
    part = await browser.get(f"{POOL}/members?user=ann", headers={"hx-request": "true"})
    assert part.text.lstrip().startswith("<dialog")
    assert "data-show" in (await browser.get(f"{POOL}/members?user=ann")).text
    fields = {"user_id": "ann", "name": "Ann", "weight": "4", "order": "0", "timezone": "UTC"}
    answer = await browser.submit(f"{POOL}/members", **fields, **{"caps.week": "30"})
    assert "Ann is changed" in await following(browser, answer)
    ann = (await api.get("/v1/routing/pools/emea")).json()["members"][0]
    assert (ann["name"], ann["weight"], ann["active"]) == ("Ann", 4, False)
    assert ann["caps"] == {"hour": None, "day": None, "week": 30, "open": None}
    assert ann["working_hours"] == hours


@pytest.mark.parametrize(
    ("field", "value"),
    [("weight", "0"), ("weight", ""), ("timezone", "Mars/Base"), ("caps.day", "x")],
)
async def test_a_wrong_member_is_refused_in_the_open_dialog(browser, api, field, value):
    await make(api)
    fields = {"user_id": "ann", "weight": "4", "order": "0", "timezone": "UTC", field: value}
    answer = await browser.submit(f"{POOL}/members", **fields)
    assert answer.status_code == 400
    assert "data-show" in answer.text
    assert f'id="{field}-fault"' in answer.text
    assert await version(api) == 1


async def test_a_member_is_taken_out_and_one_who_is_not_there_is_404(browser, api):
    await make(api)
    answer = await browser.submit(f"{POOL}/members/remove", user_id="ann")
    assert "ann is out" in await following(browser, answer)
    assert (await browser.submit(f"{POOL}/members/remove", user_id="ann")).status_code == 404
    await text(browser, f"{POOL}/members?user=ann", 404)


async def test_members_are_brought_in_by_lines_merged_or_in_place_of_those_there(browser, api):
    await make(api)
    where = f"{POOL}/members/import"
    answer = await browser.submit(where, csv="ann,Ann,3\nzoe", mode="merge")
    assert "1 added, 1 updated, 0 removed" in await following(browser, answer)
    answer = await browser.submit(where, csv="user_id\nzoe", mode="replace")
    assert "0 added, 0 updated, 3 removed" in await following(browser, answer)
    for lines, told in (("yan\nzoe,Zoe,900", "line 2, weight:"), (" ", "No line is there")):
        refused = await browser.submit(where, csv=lines, mode="merge")
        assert refused.status_code == 400
        assert told in plain(refused.text)
        assert "data-show" in refused.text
    assert len((await api.get("/v1/routing/pools/emea")).json()["members"]) == 1


POLICY = {
    "fallback_kind": "queue_id",
    "fallback": "q1",
    "skip": "catch_up",
    "max_catch_up": "5",
    "hold_minutes": "60",
    "dedupe_minutes": "90",
    "sla.minutes": "45",
    "sla.on_breach": "queue",
    "sla.max_hops": "2",
}


async def test_the_policys_form_changes_its_fields_and_no_other(browser, api):
    kept = {"reset_reasons": ["bad_fit"], "sticky_counts": True}
    sla = {"minutes": 5, "refund_turn": True}
    await make(api, policy={**kept, "sla": sla})
    assert "5 min, else the next member gets it" in await text(browser, POOL)
    assert (await browser.get(f"{POOL}/policy")).status_code == 200
    answer = await browser.submit(f"{POOL}/policy", version="1", sticky_owner="on", **POLICY)
    page = await following(browser, answer)
    assert "45 min, else the fallback queue gets it" in page
    assert "same owner within 1 h 30 min" in page
    policy = (await api.get("/v1/routing/pools/emea")).json()["policy"]
    assert policy == {
        **kept,
        "fallback": {"user_id": None, "queue_id": "q1"},
        "skip": "catch_up",
        "max_catch_up": 5,
        "hold_minutes": 60,
        "respect_schedule": False,
        "sticky_owner": True,
        "dedupe_minutes": 90,
        "sla": {
            "minutes": 45,
            "on_breach": "queue",
            "max_hops": 2,
            "escalate_to": None,
            "refund_turn": True,
        },
    }
    gone = {"fallback_kind": "", "sla.minutes": ""}
    assert (await browser.submit(f"{POOL}/policy", version="2", **POLICY | gone)).status_code == 303
    policy = (await api.get("/v1/routing/pools/emea")).json()["policy"]
    assert (policy["fallback"], policy["sla"]) == (None, None)


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"dedupe_minutes": "-1"}, 400, 'id="dedupe_minutes-fault"'),
        ({"fallback": ""}, 400, 'id="fallback-fault"'),
        ({"fallback_kind": ""}, 400, "needs fallback.queue_id"),
        ({"sla.on_breach": "escalate"}, 400, 'id="sla.escalate_to-fault"'),
        ({"sla.minutes": "soon"}, 400, 'id="sla.minutes-fault"'),
        ({"version": "7"}, 409, "somebody was faster"),
        ({"version": "x"}, 409, "somebody was faster"),
    ],
)
async def test_a_wrong_policy_is_refused_and_what_was_typed_stays(
    browser, api, change, status, told
):
    await make(api)
    answer = await browser.submit(f"{POOL}/policy", **{"version": "1", **POLICY, **change})
    assert answer.status_code == status
    assert told in answer.text
    assert f'value="{change.get("max_catch_up", "5")}"' in answer.text
    assert await version(api) == 1


# ---------------------------------------------------------------- assign
async def test_a_record_is_assigned_at_the_apis_price_and_the_same_again_for_nothing(browser, api):
    await api.post(
        "/v1/routing/pools", json={"pool": "emea", "members": people("ann", name="Ann Okafor")}
    )
    assert "An assignment 1 credit" in await text(browser, f"{POOL}/assign")
    answer = await browser.submit(f"{POOL}/assign", object="lead", sf_id="r1", current_owner="zed")
    page = await following(browser, answer)
    assert "Ann Okafor got number 1: 1 credit, 999 left" in page
    assert "ann had the shortest wait of 1 eligible members" in page
    again = await browser.submit(f"{POOL}/assign", object="lead", sf_id="r1")
    assert again.headers["location"] == answer.headers["location"]
    assert "nothing was charged" in await following(browser, again)
    assert (await api.get("/v1/credits/remaining")).json()["remaining_credits"] == 999


async def test_reset_rules_place_a_member_at_the_top(browser, api):
    await make(api)
    rules = {"reset_rules.reason": "vip", "reset_rules.place_user_at_top": "eve"}
    answer = await browser.submit(f"{POOL}/assign", object="lead", sf_id="r1", **rules)
    assert "eve got number 1: 2 credits, 998 left" in await following(browser, answer)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"sf_id": ""}, "sf_id"),
        ({"sf_id": "x" * 65}, "sf_id"),
        ({"object": "ship"}, "object"),
        ({"reset_rules.place_user_at_top": "ann"}, "reset_rules.reason"),
        ({"reset_rules.reason": "mood"}, "reset_rules.reason"),
    ],
)
async def test_a_wrong_record_is_refused_beside_the_field(browser, api, fields, field):
    await make(api, policy={"reset_reasons": ["bad_fit"]})
    answer = await browser.submit(f"{POOL}/assign", **{"object": "lead", "sf_id": "r1", **fields})
    assert answer.status_code == 400
    assert f'id="{field}-fault"' in answer.text
    assert (await api.get("/v1/routing/assignments")).json()["total"] == 0


async def test_where_nobody_may_be_picked_each_members_reason_is_told(browser, api):
    await api.post(
        "/v1/routing/pools", json={"pool": "emea", "members": people("ann", active=False)}
    )
    answer = await browser.submit(f"{POOL}/assign", object="lead", sf_id="r1")
    assert answer.status_code == 409
    assert "ann inactive" in plain(answer.text)
    assert "without a fallback a request is refused" in await text(browser, POOL)


async def test_without_credits_nothing_is_assigned(browser, api):
    await make(api)
    cap = {"scope": "account", "period": "day", "credits": 1}
    assert (await api.post("/v1/credits/caps", json=cap)).status_code == 201
    rules = {"reset_rules.reason": "vip"}
    answer = await browser.submit(f"{POOL}/assign", object="lead", sf_id="r1", **rules)
    assert answer.status_code == 402
    assert 'role="alert"' in answer.text
    assert (await api.get("/v1/routing/assignments")).json()["total"] == 0


async def test_a_pool_that_is_not_there_is_404_everywhere(browser):
    for rest in ("", "/assign", "/simulate", "/policy", "/members?user=ann"):
        await text(browser, f"{HOME}/pools/nix{rest}", 404)
    sent = {"object": "lead", "sf_id": "r1", "version": "1", "weight": "1", "csv": "ann"}
    for rest in ("/assign", "/simulate", "/policy", "/delete", "/members/import"):
        assert (await browser.submit(f"{HOME}/pools/nix{rest}", **sent)).status_code == 404


# ---------------------------------------------------------------- assignments
async def test_assignments_are_filtered_by_record_owner_pool_and_state(browser, api):
    await make(api)
    await make(api, "apac", "zoe")
    for n in range(3):
        await assign(api, f"r{n}")
    await assign(api, "r9", "apac")
    rows = (await api.get("/v1/routing/assignments?sf_id=r0")).json()["assignments"]
    await api.post(f"/v1/routing/assignments/{rows[0]['assignment_id']}/void")

    async def shown(query: str) -> list[str]:
        page = (await browser.get(f"{HOME}/assignments?{query}")).text
        return re.findall(r'assignments/asg_\w+">(r\d)<', page)

    assert await shown("") == ["r9", "r2", "r1", "r0"]
    assert await shown("pool=emea") == ["r2", "r1", "r0"]
    assert await shown("owner=zoe") == ["r9"]
    assert await shown("record=r1") == ["r1"]
    assert await shown("status=void") == ["r0"]
    assert await shown("pool=emea&status=assigned") == ["r2", "r1"]
    assert await shown("pool=apac&status=void") == []
    assert await shown("owner=ann&pool=emea&record=r0&status=void") == ["r0"]
    assert "No assignment is like that" in await text(browser, f"{HOME}/assignments?pool=nix")
    await text(browser, f"{HOME}/assignments?status=odd", 400)


async def test_a_deleted_pools_assignments_are_found_by_its_name_together_with_its_heirs(
    browser, api
):
    await make(api)
    await assign(api, "r1")
    await api.delete("/v1/routing/pools/emea")
    await make(api)
    await assign(api, "r2")
    page = (await browser.get(f"{HOME}/assignments?pool=emea")).text
    assert re.findall(r'assignments/asg_\w+">(r\d)<', page) == ["r2", "r1"]


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"pool": "emea"},
        {"owner": "ann"},
        {"owner": "ann", "status": "assigned"},
        {"pool": "emea", "status": "accepted"},
        {"status": "assigned"},
        {"status": "void"},
        {"pool": "apac", "status": "void"},
    ],
    ids=str,
)
async def test_every_list_comes_whole_and_in_order_whatever_it_looks_at_a_time(
    api, db, tenant, monkeypatch, wanted
):
    await make(api)
    await make(api, "apac", "ann", "zoe")
    for n in range(24):
        made = await assign(api, f"r{n}", "apac" if n % 3 else "emea", explain=True)
        if n % 4:
            verb = "accept" if n % 4 == 1 else "void"
            await api.post(f"/v1/routing/assignments/{made['assignment_id']}/{verb}")
    names = {"owner": "assigned_to"}
    query = {names.get(name, name): value for name, value in wanted.items()}
    answer = await api.get("/v1/routing/assignments", params={**query, "per_page": 100})
    every = [row["assignment_id"] for row in answer.json()["assignments"]]
    monkeypatch.setattr(store, "LOOKED", 5)
    found, after, pages = [], None, 0
    async with db.transaction(tenant.id) as tx:
        while pages == 0 or after:
            part = await routing.browse(tx, routing.Wanted(**wanted), after, 4)
            found += [row["assignment_id"] for row in part.assignments]
            after, pages = part.older, pages + 1
        counted = await routing.count(tx, routing.Wanted(**wanted), 100)
    assert found == every
    assert pages >= len(every) / 4
    assert counted in (None, len(every))


async def test_a_list_that_was_cut_offers_to_look_further(browser, api, monkeypatch):
    await make(api)
    rows = [await assign(api, f"r{n}", explain=True) for n in range(8)]
    await api.post(f"/v1/routing/assignments/{rows[0]['assignment_id']}/accept")
    monkeypatch.setattr(store, "LOOKED", 5)
    page = (await browser.get(f"{HOME}/assignments?status=accepted")).text
    assert "None among these" in page
    further = unescape(re.search(r'href="([^"]*after=[^"]*)"', page)[1])
    assert "r0" in (await browser.get(further)).text


async def test_an_assignment_says_why_and_is_accepted_and_taken_back(browser, api):
    await make(api)
    made = await assign(api, "r1", explain=True)
    here = f"{HOME}/assignments/{made['assignment_id']}"
    page = await text(browser, here)
    assert "Number 1 of pool 'emea': ann had the shortest wait of 3 eligible members." in page
    assert "made again, the same" in page
    assert "ann picked 0.000 could be picked" in page
    assert "ann has accepted it" in await following(browser, await browser.submit(f"{here}/accept"))
    answer = await browser.submit(f"{here}/void", reason="left the company")
    page = await following(browser, answer)
    assert "Void: its number stays" in page
    assert "left the company" in page
    assert (await browser.submit(f"{here}/accept")).status_code == 409


async def test_an_assignment_that_ended_otherwise_is_not_taken_back_and_a_wrong_reason_neither(
    browser, api
):
    await make(api)
    made = await assign(api, "r1", explain=True)
    here = f"{HOME}/assignments/{made['assignment_id']}"
    assert (await browser.submit(f"{here}/void", reason="x" * 201)).status_code == 400
    await assign(api, "r1", reset_rules={"reason": "bad_fit"})
    answer = await browser.submit(f"{here}/void")
    assert answer.status_code == 409
    assert "The assignment is bad_fit" in plain(answer.text)
    for odd in ("asg_nix", "nix"):
        await text(browser, f"{HOME}/assignments/{odd}", 404)


# ---------------------------------------------------------------- what if
async def test_what_if_tells_who_would_have_got_what_and_changes_nothing(browser, api):
    await make(api)
    for n in range(6):
        await assign(api, f"r{n}")
    assert "as here" in await text(browser, f"{POOL}/simulate")
    sent = {"days": "30", "skip": "forfeit", "user": ["ann", "bob", "eve"]}
    answer = await browser.submit(
        f"{POOL}/simulate", **sent, weight=["4", "1", "1"], active=["ann", "bob"], more="new, Nora"
    )
    assert answer.status_code == 200
    page = plain(answer.text)
    assert "Looked at 6 all of 30 d" in page
    assert "ann 2 33.3 % 4 66.7 %" in page
    assert "eve 2 33.3 % 0 0.0 %" in page
    assert "weight 1 ann" not in page
    assert await version(api) == 1
    assert (await api.get("/v1/credits/remaining")).json()["remaining_credits"] == 994


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"days": "91"}, "less than or equal to 90"),
        ({"weight": ["0"]}, "greater than or equal to 1"),
        ({"skip": "odd"}, "Input should be"),
        ({"more": "x\ny,Y,900"}, "line 2, weight:"),
        ({"more": "ann"}, "is in the pool twice"),
    ],
)
async def test_a_wrong_what_if_is_refused(browser, api, change, told):
    await make(api, "emea", "ann")
    sent = {"days": "30", "skip": "forfeit", "user": ["ann"], "weight": ["1"], "active": ["ann"]}
    answer = await browser.submit(f"{POOL}/simulate", **{**sent, **change})
    assert answer.status_code == 400
    assert told in plain(answer.text)


async def test_what_if_without_a_past_says_so(browser, api):
    await make(api)
    answer = await browser.submit(f"{POOL}/simulate", days="7")
    assert "Nothing to decide again" in plain(answer.text)


# ---------------------------------------------------------------- who may
async def test_a_key_that_reads_sees_no_action_and_may_send_none(server, tenant, api, db):
    await make(api)
    key = await make_key(db, tenant.id, scopes=["read"])
    async with signed_in(server, tenant, key) as reader:
        page = (await reader.get(POOL)).text
        assert "Assign a record" not in page
        assert f"{POOL}/delete" not in page
        assert (await reader.get(f"{POOL}/assign")).status_code == 403
        assert (await reader.submit(f"{POOL}/delete")).status_code == 403
    assert await version(api) == 1


async def test_a_key_of_named_agents_sees_no_pools(server, tenant, db):
    key = await make_key(db, tenant.id, agents=["one"])
    async with signed_in(server, tenant, key) as limited:
        for path in (HOME, POOL, f"{HOME}/assignments"):
            assert (await limited.get(path)).status_code == 403


async def test_another_tenants_pool_is_not_there(browser, server):
    async with signed_in(server, tenant=None, key=server.key) as other:
        answer = await other.submit(f"{HOME}/new", pool="theirs", members="ann")
        assert answer.status_code in (303, 400)
        assert (await other.get(f"{HOME}/pools/theirs")).status_code == 200
    await text(browser, f"{HOME}/pools/theirs", 404)
