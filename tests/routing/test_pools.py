"""Pools over HTTP: made, read, replaced, changed by member and by file; refusals name the field."""

import asyncio

import httpx
import pytest
from callers import make_key
from hypothesis import given
from hypothesis import strategies as st

from lantern.core.errors import BadRequest
from lantern.gate.auth import Call, Door
from lantern.routing.eligibility import WEEK, Person
from lantern.routing.pools import hours, service, store
from lantern.routing.pools.models import PoolCreate
from lantern.routing.pools.pool import Member

POOLS = "/v1/routing/pools"
CSV = {"Content-Type": "text/csv"}


def people(*users: str, **more) -> list[dict]:
    return [{"user_id": user, **more} for user in users]


async def make(api: httpx.AsyncClient, name: str = "emea", *users: str, **more) -> dict:
    body = {"pool": name, "members": people(*(users or ("ann", "bob", "eve"))), **more}
    answer = await api.post(POOLS, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def assign(api: httpx.AsyncClient, record: str, pool: str = "emea", **more) -> dict:
    body = {"object": "lead", "sf_id": record, "pool": pool, **more}
    answer = await api.post("/v1/routing/assign", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(api: httpx.AsyncClient, body: dict, status: int = 400) -> str:
    answer = await api.post(POOLS, json={"pool": "p", **body})
    assert answer.status_code == status, answer.text
    assert answer.json()["success"] is False
    return answer.json()["error"]


def by_user(pool: dict) -> dict[str, dict]:
    return {member["user_id"]: member for member in pool["members"]}


async def test_a_pool_is_made_and_read(api):
    made = await make(api)
    assert made["success"] is True
    assert (made["pool"], made["version"], made["sequence"], made["pool_size"]) == ("emea", 1, 0, 3)
    assert made["next"] == ["ann", "bob", "eve"] * 3 + ["ann"]
    assert [m["turns"] for m in made["members"]] == [0, 0, 0]
    assert made["policy"]["skip"] == "forfeit"
    assert made["policy"]["dedupe_minutes"] == 1440
    read = (await api.get(f"{POOLS}/emea")).json()
    assert read == made


async def test_everything_of_a_member_is_kept(api):
    given_member = {
        "user_id": "005Kz00000QQrr8",
        "name": "Ann",
        "active": True,
        "weight": 3,
        "order": 7,
        "timezone": "Asia/Kathmandu",
        "working_hours": [
            {"days": ["mon", "tue"], "from": "09:00", "to": "17:30"},
            {"days": ["sun"], "from": "22:00", "to": "06:00"},
        ],
        "holidays": ["2026-12-25"],
        "out_of_office": [{"from": "2026-12-24T10:00:00Z", "to": "2026-12-26T10:00:00+05:45"}],
        "caps": {"hour": 1, "day": 0, "week": 30, "open": None},
        "credit_back": False,
    }
    made = await make(api, "one", members=[given_member])
    member = made["members"][0]
    shown = {name: member[name] for name in given_member}
    assert shown == {
        **given_member,
        "out_of_office": [{"from": "2026-12-24T10:00:00Z", "to": "2026-12-26T04:15:00Z"}],
    }
    policy = {
        "fallback": {"user_id": None, "queue_id": "00G1"},
        "skip": "catch_up",
        "max_catch_up": 5,
        "hold_minutes": 15,
        "respect_schedule": False,
        "sticky_owner": True,
        "sticky_counts": True,
        "dedupe_minutes": 0,
        "reset_reasons": ["bad_fit"],
        "sla": {
            "minutes": 30,
            "on_breach": "queue",
            "max_hops": 0,
            "escalate_to": None,
            "refund_turn": True,
        },
    }
    put = await api.put(f"{POOLS}/one", json={"members": [given_member], "policy": policy})
    assert put.json()["policy"] == policy
    assert put.json()["members"][0] == member | {"reason": "cap_day"}  # hours count no more


async def test_times_without_an_offset_are_the_members_own(api):
    away = [{"from": "2026-12-24", "to": "2027-01-02T12:00"}]
    made = await make(api, members=people("a", timezone="Europe/Berlin", out_of_office=away))
    assert made["members"][0]["out_of_office"] == [
        {"from": "2026-12-23T23:00:00Z", "to": "2027-01-02T11:00:00Z"}
    ]


async def test_base_order_is_order_then_position(api):
    members = [*people("a", order=2), *people("b", order=1), *people("c", order=1)]
    made = await make(api, members=members)
    assert [m["user_id"] for m in made["members"]] == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"members": people("a", "b", "c", "d", weight=0)}, "members.0.weight"),
        ({"members": [*people("a"), {"user_id": "b", "weight": 101}]}, "members.1.weight"),
        ({"members": people("a", "a")}, "members.1.user_id"),
        ({"members": people("001Kz00000AAbb1", "001Kz00000AAbb1IAD")}, "members.1.user_id"),
        ({"members": people("x" * 65)}, "members.0.user_id"),
        ({"members": people("")}, "members.0.user_id"),
        ({"members": people("a\0")}, "members.0.user_id"),
        ({"members": people("a", timezone="Mars/Base")}, "members.0.timezone"),
        ({"members": people("a", timezone="MET")}, "members.0.timezone"),
        ({"members": people("a", holidays=["25.12.2026"])}, "members.0.holidays.0"),
        ({"members": people("a", caps={"day": -1})}, "members.0.caps.day"),
        ({"members": people("a", caps={"year": 1})}, "members.0.caps.year"),
        ({"members": people("a", surname="B")}, "members.0.surname"),
        (
            {"members": people("a", working_hours=[{"days": ["mon"], "from": "9", "to": "10:00"}])},
            "members.0.working_hours.0.from",
        ),
        (
            {
                "members": people(
                    "a", working_hours=[{"days": ["mon"], "from": "09:00", "to": "09:00"}]
                )
            },
            "members.0.working_hours.0",
        ),
        (
            {"members": people("a", out_of_office=[{"from": "2026-01-02", "to": "2026-01-01"}])},
            "members.0",
        ),
        (
            {"members": people("a", out_of_office=[{"from": 5, "to": "2026-01-01"}])},
            "members.0.out_of_office.0.from",
        ),
        ({"members": people(*map(str, range(501)))}, "members"),
        ({"members": people(*map(str, range(201)), weight=100)}, "members"),
        ({"policy": {"skip": "never"}}, "policy.skip"),
        ({"policy": {"max_catch_up": 21}}, "policy.max_catch_up"),
        ({"policy": {"fallback": {}}}, "policy.fallback"),
        ({"policy": {"fallback": {"user_id": "a", "queue_id": "b"}}}, "policy.fallback"),
        ({"policy": {"sla": {"minutes": 0}}}, "policy.sla.minutes"),
        ({"policy": {"sla": {"minutes": 5, "on_breach": "escalate"}}}, "policy.sla"),
        ({"policy": {"sla": {"minutes": 5, "on_breach": "queue"}}}, "policy"),
        ({"pool": "a/b"}, "pool"),
        ({"pool": ".."}, "pool"),
        ({"pool": " a"}, "pool"),
        ({"pool": ""}, "pool"),
        ({"sequence": -1}, "sequence"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_field_is_named(api, body, field):
    assert (await refused(api, body)).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("ann", "members.0: Input should be a JSON object"),
        ({"user_id": "ann", "caps": 3}, "members.0.caps: Input should be a JSON object"),
        ({"user_id": "ann", "caps": {"daily": 3}}, "members.0.caps.daily: Unknown field"),
        (
            {"user_id": "ann", "working_hours": [{"days": ["mon"], "from": "9:00", "to": "17:00"}]},
            "members.0.working_hours.0.from: Must be a time from 00:00 to 24:00, like 09:00",
        ),
    ],
)
async def test_a_wrong_field_is_explained_in_words_of_json(api, member, said):
    answer = await api.post("/v1/routing/pools", json={"pool": "p", "members": [member]})
    assert (answer.status_code, answer.json()["error"]) == (400, said)


async def test_a_name_is_taken_once(api):
    await make(api)
    answer = await api.post(POOLS, json={"pool": "emea"})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    both = await asyncio.gather(*(api.post(POOLS, json={"pool": "race"}) for _ in range(4)))
    assert sorted(answer.status_code for answer in both) == [201, 409, 409, 409]


async def test_pools_are_listed_by_name(api):
    for name in ("emea-sdr", "apac", "EMEA", "50%"):
        await make(api, name)
    pages = [(await api.get(POOLS, params={"per_page": 3, "page": n})).json() for n in (1, 2)]
    assert (pages[0]["total"], pages[0]["page"], pages[0]["per_page"]) == (4, 1, 3)
    names = [pool["pool"] for page in pages for pool in page["pools"]]
    assert sorted(names) == ["50%", "EMEA", "apac", "emea-sdr"]
    found = (await api.get(POOLS, params={"q": "emea"})).json()["pools"]
    assert {pool["pool"] for pool in found} == {"emea-sdr", "EMEA"}
    assert (await api.get(POOLS, params={"q": "%"})).json()["total"] == 1
    assert found[0]["pool_size"] == 3


async def test_put_keeps_sequence_and_turns_of_who_stays(api):
    await make(api, "emea", "ann", "bob", "eve")
    for n in range(7):
        await assign(api, f"r{n}")
    put = await api.put(
        f"{POOLS}/emea", json={"members": people("new", "bob", "ann"), "policy": {"skip": "hold"}}
    )
    pool = put.json()
    assert (put.status_code, pool["version"], pool["sequence"]) == (200, 2, 7)
    assert {u: m["turns"] for u, m in by_user(pool).items()} == {"new": 0, "bob": 2, "ann": 3}
    assert pool["policy"]["skip"] == "hold"
    assert pool["next"][:6] == ["bob", "new", "ann"] * 2
    got = [(await assign(api, f"s{n}"))["assigned_to"] for n in range(6)]
    assert got == pool["next"][:6]
    assert (await assign(api, "t"))["sequence"] == 14


async def test_put_with_a_version_refuses_what_it_has_not_seen(api):
    await make(api)
    body = {"members": people("ann"), "version": 1}
    assert (await api.put(f"{POOLS}/emea", json=body)).status_code == 200
    second = await api.put(f"{POOLS}/emea", json=body)
    assert second.status_code == 409
    assert "version 2" in second.json()["error"]


async def test_another_spelling_of_an_id_is_the_same_member(api):
    await make(api, "sf", "001Kz00000AAbb1")
    await assign(api, "r", "sf")
    put = await api.put(f"{POOLS}/sf", json={"members": people("001Kz00000AAbb1IAD")})
    assert [(m["user_id"], m["turns"]) for m in put.json()["members"]] == [("001Kz00000AAbb1", 1)]


async def test_a_deleted_pool_is_gone_and_its_sequence_is_not(api):
    await make(api)
    for n in range(3):
        made = await assign(api, f"r{n}", explain=True)
    assert (await api.delete(f"{POOLS}/emea")).status_code == 204
    for answer in (await api.get(f"{POOLS}/emea"), await api.delete(f"{POOLS}/emea")):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    past = await api.get(f"/v1/routing/assignments/{made['assignment_id']}")
    assert past.json()["assignment"]["pool"] == "emea"
    assert (await make(api))["sequence"] == 3
    assert (await assign(api, "new"))["sequence"] == 4


async def test_a_sequence_may_be_brought_along(api):
    await make(api, sequence=1243)
    assert (await assign(api, "r"))["sequence"] == 1244


async def test_one_member_is_changed(api):
    await make(api, "emea", "ann", "bob")
    change = {"active": False, "caps": {"day": 3}, "working_hours": []}
    pool = (await api.patch(f"{POOLS}/emea/members/ann", json=change)).json()
    ann = by_user(pool)["ann"]
    assert (ann["active"], ann["caps"]["day"], ann["working_hours"]) == (False, 3, [])
    assert (ann["eligible"], ann["reason"], pool["pool_size"]) == (False, "inactive", 1)
    assert pool["next"] == ["bob"] * 10
    back = {"active": True, "caps": {"week": 9}, "working_hours": None, "metadata": {"by": "hr"}}
    pool = (await api.patch(f"{POOLS}/emea/members/ann", json=back)).json()
    ann = by_user(pool)["ann"]
    assert ann["caps"] == {"hour": None, "day": 3, "week": 9, "open": None}
    assert (ann["eligible"], ann["working_hours"], pool["version"]) == (True, None, 3)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"active": None}, "active"),
        ({"weight": 0}, "weight"),
        ({"user_id": "x"}, "user_id"),
        ({"out_of_office": [{"from": "2026-01-02", "to": "2026-01-01"}]}, "out_of_office"),
    ],
)
async def test_a_wrong_change_is_named(api, change, field):
    await make(api)
    answer = await api.patch(f"{POOLS}/emea/members/ann", json=change)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{field}: ")
    assert (await api.get(f"{POOLS}/emea")).json()["version"] == 1


async def test_one_member_leaves(api):
    await make(api)
    assert (await api.delete(f"{POOLS}/emea/members/bob")).status_code == 204
    pool = (await api.get(f"{POOLS}/emea")).json()
    assert pool["next"][:4] == ["ann", "eve"] * 2
    for verb in (api.delete(f"{POOLS}/emea/members/bob"), api.delete(f"{POOLS}/no/members/bob")):
        assert (await verb).status_code == 404
    assert (await api.patch(f"{POOLS}/emea/members/bob", json={})).status_code == 404


async def test_a_pool_may_be_empty(api):
    made = await make(api, "empty", members=[])
    assert (made["pool_size"], made["next"], made["members"]) == (0, [], [])
    pool = (await api.put(f"{POOLS}/empty", json={"members": people("a", "b")})).json()
    assert pool["next"][:2] == ["a", "b"]


async def test_reasons_show_who_may_be_picked_now(api):
    members = [
        *people("away", out_of_office=[{"from": "2020-01-01", "to": "2099-01-01"}]),
        *people("full", caps={"day": 0}),
        *people("closed", working_hours=[]),
        *people("open"),
    ]
    pool = await make(api, members=members)
    reasons = {u: m["reason"] for u, m in by_user(pool).items()}
    assert reasons == {
        "away": "out_of_office",
        "full": "cap_day",
        "closed": "outside_hours",
        "open": None,
    }
    assert pool["next"] == ["open"] * 10


async def test_caps_count_what_was_assigned(api):
    await make(api, members=people("a", "b", caps={"day": 2, "open": 5}))
    for n in range(4):
        await assign(api, f"r{n}")
    pool = (await api.get(f"{POOLS}/emea")).json()
    assert [m["reason"] for m in pool["members"]] == ["cap_day", "cap_day"]
    assert pool["next"] == []


# --- files --------------------------------------------------------------------------------------

FILE = """\ufeffName,user_id,weight,working_hours,holidays,out_of_office,cap_day,active,timezone
Ann,ann,2,mon-fri 09:00-17:30; sat 10:00-14:00,2026-12-25 2026-12-26,,5,yes,Europe/Berlin
Zoe,zoe,,sun-mon 22:00-06:00,,2026-12-24/2027-01-02;2027-02-01/2027-02-02,,no,
"""


async def put_file(api, text: str, **params) -> httpx.Response:
    return await api.post(f"{POOLS}/emea/members", content=text, headers=CSV, params=params)


async def test_a_file_adds_and_changes_members(api):
    await make(api)
    answer = await put_file(api, FILE)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "success": True,
        "pool": "emea",
        "version": 2,
        "added": 1,
        "updated": 1,
        "removed": 0,
        "refused": [],
    }
    members = by_user((await api.get(f"{POOLS}/emea")).json())
    assert [*members] == ["ann", "bob", "eve", "zoe"]
    ann, zoe = members["ann"], members["zoe"]
    assert (ann["name"], ann["weight"], ann["caps"]["day"], ann["active"]) == ("Ann", 2, 5, True)
    assert ann["working_hours"][0] == {
        "days": ["mon", "tue", "wed", "thu", "fri"],
        "from": "09:00",
        "to": "17:30",
    }
    assert ann["holidays"] == ["2026-12-25", "2026-12-26"]
    assert zoe["working_hours"] == [{"days": ["mon", "sun"], "from": "22:00", "to": "06:00"}]
    assert (zoe["active"], len(zoe["out_of_office"])) == (False, 2)
    again = await put_file(api, FILE)
    assert again.json() | {"version": 2, "updated": 0, "added": 0} == again.json()


async def test_an_empty_cell_leaves_what_is_there(api):
    await make(api, members=people("ann", weight=4, caps={"week": 9}))
    await put_file(api, "user_id,weight,cap_day\nann,,3\n")
    ann = (await api.get(f"{POOLS}/emea")).json()["members"][0]
    assert (ann["weight"], ann["caps"]["week"], ann["caps"]["day"]) == (4, 9, 3)


async def test_a_file_may_replace_the_members(api):
    await make(api)
    body = {"csv": "user_id\nbob\nnew\n"}
    answer = await api.post(f"{POOLS}/emea/members", json=body, params={"mode": "replace"})
    assert answer.json() | {"added": 1, "updated": 0, "removed": 2} == answer.json()
    assert [*by_user((await api.get(f"{POOLS}/emea")).json())] == ["bob", "new"]


BAD = "user_id,weight,timezone\nann,2,\nbob,heavy,\nnew,1,Mars/Base\nnew2,3,\n,1,\n"


async def test_a_file_with_refused_rows_changes_nothing(api):
    await make(api)
    answer = await put_file(api, BAD)
    assert answer.status_code == 400
    refused_rows = answer.json()["details"]["refused"]
    assert [(row["line"], row["field"]) for row in refused_rows] == [
        (3, "weight"),
        (4, "timezone"),
        (6, "user_id"),
    ]
    assert answer.json()["error"].startswith("3 rows are refused")
    assert (await api.get(f"{POOLS}/emea")).json()["version"] == 1


async def test_unless_it_may_be_taken_in_part(api):
    await make(api)
    answer = (await put_file(api, BAD, partial=True, mode="replace")).json()
    assert (answer["added"], answer["updated"], answer["removed"]) == (1, 1, 1)
    assert len(answer["refused"]) == 3
    members = by_user((await api.get(f"{POOLS}/emea")).json())
    assert sorted(members) == ["ann", "bob", "new2"]  # bob's row was refused: bob stays


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "csv: is empty"),
        ("user_id,colour\na,red\n", "csv: unknown column 'colour'"),
        ("name\nAnn\n", "csv: has no column user_id"),
        ("user_id,user_id\na,b\n", "csv: names a column twice"),
        ('user_id\n"a\n', "csv: line"),
        ("user_id\na\0\n", "csv: may not contain the character NUL"),
    ],
)
async def test_a_file_that_is_none_is_refused(api, text, message):
    await make(api)
    answer = await put_file(api, text)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(message)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("a,,mon 9-17,,,", "working_hours"),
        ("a,,moonday 09:00-17:00,,,", "working_hours"),
        ("a,maybe,,,,", "active"),
        ("a,,,2026-13-01,,", "holidays"),
        ("a,,,,tomorrow,", "out_of_office"),
        ("a,,,,2026-01-02/2026-01-01,", "out_of_office"),
        ("a,,,,,-1", "cap_hour"),
        ("a,,,,,1,1", "line"),
        ("a,,[1],,,", "working_hours"),
    ],
)
async def test_a_refused_row_says_which_cell(api, row, field):
    await make(api)
    text = f"user_id,active,working_hours,holidays,out_of_office,cap_hour\n{row}\n"
    answer = await put_file(api, text)
    assert answer.status_code == 400, answer.text
    assert answer.json()["details"]["refused"][0]["field"] == field


async def test_a_file_that_is_not_utf8_or_not_json_is_refused(api):
    await make(api)
    latin = "user_id,name\na,\xfc\n".encode("latin-1")
    answer = await api.post(f"{POOLS}/emea/members", content=latin, headers=CSV)
    assert answer.json()["error"] == "csv: is not UTF-8"
    for body in ({"csv": 5}, {"csv": "user_id", "x": 1}, {}):
        answer = await api.post(f"{POOLS}/emea/members", json=body)
        assert answer.status_code == 400, answer.text
    answer = await api.post(f"{POOLS}/emea/members", content=b"{", headers={"content-type": "a/b"})
    assert answer.status_code == 400


# --- who, and what is left behind ---------------------------------------------------------------


async def test_a_reading_key_changes_nothing(server, db, tenant, api):
    await make(api)
    key = await make_key(db, tenant.id, scopes=["read"], limits={})
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as reader:
        assert (await reader.get(POOLS)).status_code == 200
        assert (await reader.get(f"{POOLS}/emea")).status_code == 200
        for verb, path, body in (
            ("POST", POOLS, {"pool": "x"}),
            ("PUT", f"{POOLS}/emea", {"members": []}),
            ("DELETE", f"{POOLS}/emea", None),
            ("POST", f"{POOLS}/emea/members", {"csv": "user_id"}),
            ("PATCH", f"{POOLS}/emea/members/ann", {}),
            ("DELETE", f"{POOLS}/emea/members/ann", None),
            ("POST", f"{POOLS}/emea/simulate", {}),
        ):
            answer = await reader.request(verb, path, json=body)
            assert answer.status_code == 403, (verb, path)


async def test_another_tenant_sees_no_pool(server, db, api):
    await make(api)
    row = await db.one("select create_tenant('other', 'team', 10) as id")
    key = await make_key(db, row["id"])
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as other:
        assert (await other.get(f"{POOLS}/emea")).status_code == 404
        assert (await other.get(POOLS)).json()["total"] == 0
        assert (await other.post(POOLS, json={"pool": "emea"})).status_code == 201


async def test_changes_are_audited(api, db, tenant):
    await make(api)
    await api.put(f"{POOLS}/emea", json={"members": people("ann", "bob")})
    await api.patch(f"{POOLS}/emea/members/ann", json={"weight": 2})
    await put_file(api, "user_id\nnew\n")
    await api.delete(f"{POOLS}/emea/members/ann")
    await api.delete(f"{POOLS}/emea")
    async with db.transaction(tenant.id) as tx:
        rows = await tx.all("select action from audit_log where object = 'pool' order by at, id")
    assert [row["action"] for row in rows] == [
        "pool.create",
        "pool.change",
        "pool.member.change",
        "pool.import",
        "pool.member.remove",
        "pool.delete",
    ]


async def test_changes_and_assignments_at_the_same_time_lose_nothing(api):
    users = [f"u{n}" for n in range(6)]
    await make(api, "emea", *users)

    async def change(n: int) -> None:
        body = {"weight": n % 3 + 1, "order": n}
        answer = await api.patch(f"{POOLS}/emea/members/u{n % 6}", json=body)
        assert answer.status_code == 200

    work = [assign(api, f"r{n}") for n in range(60)] + [change(n) for n in range(30)]
    answers = [answer for answer in await asyncio.gather(*work) if answer]
    assert sorted(answer["sequence"] for answer in answers) == [*range(1, 61)]
    pool = (await api.get(f"{POOLS}/emea")).json()
    assert pool["version"] == 31
    assert sum(member["turns"] for member in pool["members"]) == 60


# --- working hours ------------------------------------------------------------------------------


@given(st.sets(st.integers(0, WEEK), max_size=20))
def test_minutes_become_blocks_and_minutes_again(cuts):
    ordered = sorted(cuts)
    ranges = tuple(zip(ordered[::2], ordered[1::2], strict=False))
    assert hours.week(hours.blocks(ranges)) == ranges


def test_the_whole_week_is_one_block():
    blocks = hours.blocks(((0, WEEK),))
    assert blocks == [hours.Block(hours.DAYS, "00:00", "24:00")]
    assert hours.week(blocks) == ((0, WEEK),)


def test_days_may_run_over_the_week():
    assert hours.parse("sat-mon 08:00-09:00") == [
        {"days": ["sat", "sun", "mon"], "from": "08:00", "to": "09:00"}
    ]
    assert hours.parse("mon, wed 08:00-24:00")[0]["days"] == ["mon", "wed"]


async def test_a_zone_that_postgres_does_not_have_is_found_out(db, tenant):
    async with db.transaction(tenant.id) as tx:
        assert await store.zone_is_known(tx, ["Asia/Kathmandu", "Europe/Berlin"])
    with pytest.raises(BadRequest, match="timezone: "):
        async with db.transaction(tenant.id) as tx:
            await service.check_zones(
                tx, [Member("u", None, 0, 1, True, Person(timezone="Mars/Base"))]
            )


async def test_a_change_that_waited_for_a_deleted_pool_holds_the_one_that_took_its_name(db, tenant):
    def call() -> Call:
        door = Door("routing", 0, {}, "write", True, "127.0.0.1", 0)
        return Call("req_test", door, None, db, tenant.id, "key_test")

    async def hold() -> None:
        async with db.transaction(tenant.id) as tx:
            held = await service._held(tx, "team")
            async with db.transaction(tenant.id) as other:
                free = await other.all(
                    "select pool_id from routing_rotations for update skip locked"
                )
            assert held.id not in [row["pool_id"] for row in free]

    async with db.transaction(tenant.id) as tx:
        first = call()
        first.open_tx = tx
        await service.create(first, PoolCreate(pool="team"))
    async with db.transaction(tenant.id) as tx:
        second = call()
        second.open_tx = tx
        await service.delete(second, "team")
        waiting = asyncio.create_task(hold())
        while not await db.one("select 1 from pg_locks where not granted"):
            await asyncio.sleep(0.02)
        await service.create(second, PoolCreate(pool="team"))
    await waiting
