"""GET /v1/logs/routing: what it says, to whom, in which bytes, and how much memory that takes."""

import asyncio
import csv
import io
import json
import tracemalloc

import httpx
import pytest
from callers import caller, code_of, make_key
from entries import DAY, FULL, as_owner, fill
from servers import InProcess

from lantern import logs
from lantern.gate import route_log
from lantern.logs import export

URL = "/v1/logs/routing"
HEADER = (
    "timestamp,object,object_id,action,pool,assigned_to,prev_owner,sequence,reason,request_id,"
    "idempotency_key,diff"
)


async def write(db, tenant, **given):
    entry = {"at": DAY, "action": "assign", "object": "lead", "object_id": "00Q1", **given}
    async with db.transaction(tenant.id) as tx:
        return await route_log.write(tx, tenant.id, route_log.Entry(**entry))


async def test_the_envelope(api, db, tenant):
    await write(
        db, tenant, pool="emea-sdr", assigned_to="005A", prev_owner="005B", sequence=58,
        reason="bad_fit", request_id="req_t5w09",
    )  # fmt: skip
    answer = await api.get(URL, params=FULL)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert answer.json() == {
        "success": True,
        "from": "2026-03-01",
        "to": "2026-03-02",
        "count": 1,
        "total": 1,
        "truncated": False,
        "logs": [
            {
                "timestamp": "2026-03-01T00:00:00Z",
                "object": "Lead",
                "object_id": "00Q1",
                "action": "assign",
                "pool": "emea-sdr",
                "assigned_to": "005A",
                "prev_owner": "005B",
                "sequence": 58,
                "reason": "bad_fit",
                "request_id": "req_t5w09",
                "idempotency_key": None,
                "diff": None,
            }
        ],
    }


async def test_nothing_is_an_empty_list(api):
    body = (await api.get(URL, params=FULL)).json()
    assert (body["count"], body["total"], body["truncated"], body["logs"]) == (0, 0, False, [])
    assert (await api.get(URL, params={**FULL, "format": "csv"})).text == HEADER + "\r\n"


async def test_the_limit_is_1000_unless_said_and_the_total_is_true(api, db, tenant):
    await fill(db, tenant.id, 1500)
    body = (await api.get(URL, params=FULL)).json()
    assert (body["count"], body["total"], body["truncated"]) == (1000, 1500, True)
    sequences = [row["sequence"] for row in body["logs"]]
    assert sequences == list(range(1, 1001))
    body = (await api.get(URL, params={**FULL, "limit": 10_000})).json()
    assert (body["count"], body["total"], body["truncated"]) == (1500, 1500, False)
    body = (await api.get(URL, params={**FULL, "limit": 1500})).json()
    assert (body["count"], body["truncated"]) == (1500, False)


async def test_rows_of_one_moment_come_in_the_order_they_were_written(api, db, tenant):
    for n in range(5):
        await write(db, tenant, sequence=n)
    await write(db, tenant, at=DAY.replace(year=2025), sequence=9)
    body = (await api.get(URL, params={"from": "2025-01-01", "to": "2026-12-31"})).json()
    assert [row["sequence"] for row in body["logs"]] == [9, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("2026-03-01", "2026-03-01", 24),  # a last date counts whole
        ("2026-03-01", "2026-03-01T05:00:00Z", 5),  # a last moment is outside
        ("2026-03-01T05:00:00Z", "2026-03-01", 19),
        ("2026-03-01T05:00", "2026-03-01T05:00:00.001", 1),  # without a zone it is UTC
        ("2026-03-01T02:00:00+02:00", "2026-03-01T03:00:00+02:00", 1),
        ("2026-03-01T02:00:00 02:00", "2026-03-01T03:00:00 02:00", 1),  # a `+` not escaped
        ("2026-02-28", "2026-02-28", 0),
        ("0001-01-01", "9999-12-30", 24),
    ],
)
async def test_periods(api, db, tenant, first, last, expected):
    await fill(db, tenant.id, 24, step="1 hour")
    body = (await api.get(URL, params={"from": first, "to": last})).json()
    assert (body["count"], body["from"], body["to"]) == (expected, first, last)


REFUSED = [
    ({"to": "2026-03-01"}, "from"),
    ({"from": "2026-03-01"}, "to"),
    ({**FULL, "from": ""}, "from"),
    ({**FULL, "from": "yesterday"}, "from"),
    ({**FULL, "from": "20260301"}, "from"),
    ({**FULL, "from": "1772323200"}, "from"),
    ({**FULL, "from": "2026-02-30"}, "from"),
    ({**FULL, "from": "2026-03-01T25:00:00Z"}, "from"),
    ({**FULL, "from": "2026-03-01T00:00:00+99:00"}, "from"),
    ({**FULL, "from": "0001-01-01T00:00:00+10:00"}, "from"),
    ({**FULL, "from": "2026-03-01\u0000"}, "from"),
    ({**FULL, "from": "x" * 41}, "from"),
    ({**FULL, "to": "9999-12-31"}, "to"),
    ({**FULL, "to": "2026-02-01"}, "to"),
    ({"from": "2026-03-01T05:00:00Z", "to": "2026-03-01T05:00:00Z"}, "to"),
    ({**FULL, "object": "Campaign"}, "object"),
    ({**FULL, "object": ""}, "object"),
    ({**FULL, "action": "delete"}, "action"),
    ({**FULL, "pool": ""}, "pool"),
    ({**FULL, "pool": "a\u0000"}, "pool"),
    ({**FULL, "pool": "x" * 201}, "pool"),
    ({**FULL, "object_id": "a\u0000"}, "object_id"),
    ({**FULL, "assigned_to": "a\u0000"}, "assigned_to"),
    ({**FULL, "format": "xml"}, "format"),
    ({**FULL, "include_diff": "perhaps"}, "include_diff"),
    ({**FULL, "limit": 0}, "limit"),
    ({**FULL, "limit": 10_001}, "limit"),
    ({**FULL, "limit": "many"}, "limit"),
    ({**FULL, "signed": "true", "format": "csv"}, "signed"),
]


@pytest.mark.parametrize(
    ("params", "name"),
    REFUSED,
    ids=[f"{name}-{params.get(name)!r:.40}" for params, name in REFUSED],
)
async def test_a_wrong_query_is_400_and_names_the_field(api, params, name):
    answer = await api.get(URL, params=params)
    assert answer.status_code == 400
    assert code_of(answer) == "bad_request"
    assert answer.json()["error"].startswith(f"{name}: ")
    assert answer.json()["details"][0]["loc"] == ["query", name]


async def test_filters(api, db, tenant):
    await fill(db, tenant.id, 3)
    await fill(db, tenant.id, 2, object="Contact", action="enrich", pool=None, diff='{"a":{}}')
    await fill(db, tenant.id, 4, pool="us")

    async def count(**filters):
        return (await api.get(URL, params={**FULL, **filters})).json()["count"]

    assert await count() == 9
    for spelling in ("contact", "Contact", "CONTACT"):
        assert await count(object=spelling) == 2
    assert await count(action="enrich") == 2
    assert await count(pool="us") == 4
    assert await count(pool="u%") == 0
    assert await count(pool="us", object="lead", action="assign") == 4
    assert await count(object_id="00QKz1") == 3
    assert await count(assigned_to="005Kz4") == 1


async def test_15_and_18_characters_are_one_record(api, db, tenant):
    await write(db, tenant, object_id="00QKz00000ZZyy9")
    await write(db, tenant, object_id="00QKz00000ZZyy9MAD")
    assert logs.query.ids_of("00QKz00000ZZyy9")[1][:15] == "00QKz00000ZZyy9"
    long = logs.query.ids_of("00QKz00000ZZyy9")[1]
    await write(db, tenant, object_id=long)
    for form in ("00QKz00000ZZyy9", long):
        body = (await api.get(URL, params={**FULL, "object_id": form})).json()
        assert {row["object_id"] for row in body["logs"]} == {"00QKz00000ZZyy9", long}


def test_the_three_characters_of_an_id():
    assert logs.query.ids_of("00Q000000000001") == ["00Q000000000001", "00Q000000000001EAA"]
    assert logs.query.ids_of("00Q000000000001EAA") == ["00Q000000000001EAA", "00Q000000000001"]
    assert logs.query.ids_of("00Q000000000001EAB") == ["00Q000000000001EAB"]
    assert logs.query.ids_of("lead-7") == ["lead-7"]


async def test_include_diff(api, db, tenant):
    diff = {"Title": {"old": None, "new": 'Ünïcode \u2603 "quoted"'}}
    await write(db, tenant, action="enrich", diff=diff)
    (row,) = (await api.get(URL, params=FULL)).json()["logs"]
    assert row["diff"] == diff
    (row,) = (await api.get(URL, params={**FULL, "include_diff": "false"})).json()["logs"]
    assert "diff" not in row
    text = (await api.get(URL, params={**FULL, "format": "csv"})).text
    (line,) = csv.DictReader(io.StringIO(text))
    assert json.loads(line["diff"]) == diff
    answer = await api.get(URL, params={**FULL, "format": "csv", "include_diff": "false"})
    assert answer.text.endswith(",,,\r\n")


async def test_csv_byte_for_byte(api, db, tenant):
    await write(
        db, tenant, pool='a "b", c', assigned_to="005\nA", sequence=7, reason="bad_fit",
        diff={"A": {"old": 1, "new": 2}}, at=DAY.replace(hour=7, microsecond=123456),
    )  # fmt: skip
    answer = await api.get(URL, params={**FULL, "format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["x-log-truncated"] == "false"
    disposition = 'attachment; filename="route-logs-2026-03-01-2026-03-02.csv"'
    assert answer.headers["content-disposition"] == disposition
    assert (
        answer.content
        == (
            f"{HEADER}\r\n"
            '2026-03-01T07:00:00.123Z,Lead,00Q1,assign,"a ""b"", c","005\nA",,7,bad_fit,,,'
            '"{""A"":{""old"":1,""new"":2}}"\r\n'
        ).encode()
    )


async def test_a_file_name_has_nothing_that_file_systems_refuse(api, db, tenant):
    await fill(db, tenant.id, 2)
    period = {"from": "2026-03-01T00:00:00Z", "to": "2026-03-02"}
    answer = await api.get(URL, params={**period, "format": "csv", "limit": 1})
    name = 'filename="route-logs-2026-03-01T000000Z-2026-03-02.csv"'
    assert answer.headers["content-disposition"].endswith(name)
    assert answer.headers["x-log-truncated"] == "true"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
async def test_no_cell_is_a_formula(api, db, tenant, start):
    evil = f'{start}HYPERLINK("http://x")'
    await write(db, tenant, object_id=evil, pool=evil, reason=evil, idempotency_key=evil)
    text = (await api.get(URL, params={**FULL, "format": "csv"})).text
    (line,) = csv.DictReader(io.StringIO(text, newline=""))
    for name in ("object_id", "pool", "reason", "idempotency_key"):
        assert line[name] == f"'{evil}"
    (row,) = (await api.get(URL, params=FULL)).json()["logs"]
    assert row["pool"] == evil  # JSON is no spreadsheet


async def test_who_may_read(server, db, tenant):
    async with caller(server.url) as client:
        answer = await client.get(URL, params=FULL)
        assert (answer.status_code, code_of(answer)) == (401, "unauthorized")
    for options in ({"scopes": ["forms"]}, {"scopes": ["read"], "agents": ["clerk"]}):
        async with caller(server.url, await make_key(db, tenant.id, **options)) as client:
            answer = await client.get(URL, params=FULL)
            assert (answer.status_code, code_of(answer)) == (403, "forbidden")
    async with caller(server.url, await make_key(db, tenant.id, scopes=["read"])) as client:
        assert (await client.get(URL, params=FULL)).status_code == 200
        for method, path in (
            ("GET", "/v1/logs/verify"),
            ("PUT", "/v1/logs/retention"),
            ("POST", "/v1/logs/retention/cleanup"),
            ("POST", "/v1/logs/erase"),
        ):
            assert (await client.request(method, path, json={})).status_code == 403, path


async def test_another_tenant_sees_nothing(server, api, db, tenant):
    await fill(db, tenant.id, 3)
    async with caller(server.url, server.key) as client:
        assert (await client.get(URL, params=FULL)).json()["total"] == 0
        answer = await client.get("/v1/logs/stats", params=FULL)
        assert answer.json()["total"] == 0
        assert (await client.post("/v1/logs/erase", json={"object_ids": ["00QKz1"]})).json()[
            "deleted"
        ] == 0
    assert (await api.get(URL, params=FULL)).json()["total"] == 3


async def test_memory_does_not_grow_with_the_rows(db, tenant, server):
    await fill(db, tenant.id, 10_000, diff='{"Title": {"old": null, "new": "Head of Operations"}}')
    readers = export.Readers(db, server.app.settings.logs)
    for kind in ("json", "csv"):
        peaks = {}
        for limit in (500, 1000, 10_000):  # the first one warms up
            query = logs.read(logs.period(*FULL.values()), limit=limit, include_diff=True)
            tracemalloc.start()
            size = 0
            async for part in export.body(readers, tenant.id, query, kind, export.Tally()):
                size += len(part)
            peaks[limit] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert size > 1_400_000
        # All rows at once would be megabytes; the server's thread allocates a little meanwhile.
        assert peaks[10_000] < peaks[1000] + 500_000, peaks


async def test_the_first_rows_go_out_before_the_others_are_read(api, db, tenant, server, dsn):
    await fill(db, tenant.id, 10_000)
    query = logs.read(logs.period(*FULL.values()), limit=10_000, include_diff=True)
    readers = export.Readers(db, server.app.settings.logs)
    source = export.body(readers, tenant.id, query, "json", export.Tally())
    head, rows = await anext(source), await anext(source)
    assert head.endswith(b'"logs":')
    assert rows.count(b'"timestamp"') == 250
    reading = await as_owner(
        dsn,
        "select count(*) from pg_stat_activity where query like 'FETCH%%'"
        " and datname = current_database() and state = 'idle in transaction'",
    )
    assert reading == 1
    await source.aclose()
    parts = []
    async with api.stream("GET", URL, params={**FULL, "limit": 10_000}) as answer:
        parts = [part async for part in answer.aiter_raw()]
    assert len(parts[0]) < sum(map(len, parts)) / 10
    assert json.loads(b"".join(parts))["count"] == 10_000


@pytest.fixture
async def narrow(dsn, tmp_path):
    """A server that lets one reader in and has little patience."""
    settings = {"readers": 1, "wait_seconds": 0.2, "stall_seconds": 1.0}
    running = InProcess(dsn, logs=settings, data_dir=tmp_path)
    await asyncio.to_thread(running.__enter__)
    yield running.url
    await asyncio.to_thread(running.__exit__)


async def test_who_gets_no_turn_is_told_so_and_who_reads_nothing_loses_it(narrow, db, tenant):
    await fill(db, tenant.id, 10_000, reason="x" * 3000)  # more than the buffers of a socket
    async with caller(narrow, tenant.key) as client:
        params = {**FULL, "limit": 10_000}
        async with client.stream("GET", URL, params=params) as slow:
            assert slow.status_code == 200
            answer = await client.get(URL, params=FULL)
            assert (answer.status_code, code_of(answer)) == (503, "unavailable")
            assert answer.headers["retry-after"] == "5"
            for _ in range(100):
                await asyncio.sleep(0.1)
                answer = await client.get(URL, params={**FULL, "limit": 1})
                if answer.status_code == 200:
                    break
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                await slow.aread()  # cut off, not ended as if it were whole
        async with client.stream("GET", URL, params=params) as left:
            assert left.status_code == 200
        for _ in range(20):
            answer = await client.get(URL, params={**FULL, "limit": 1})
            if answer.status_code == 200:
                break
        assert answer.status_code == 200


async def test_a_signed_answer_can_be_checked_by_anybody(api, db, tenant):
    await fill(db, tenant.id, 300)
    key = (await api.get("/v1/logs/key")).json()
    answer = await api.get(URL, params={**FULL, "limit": 200, "signed": "true", "pool": "emea-sdr"})
    public = logs.read_public(key["public_key"])
    found = logs.check(answer.content, None, public)
    assert found["intact"]
    said = found["statement"]
    assert (said["tenant"], said["from"], said["count"]) == (tenant.id, "2026-03-01", 200)
    assert (said["total"], said["truncated"]) == (300, True)
    assert said["filters"] == {"pool": "emea-sdr"}
    assert found["key_id"] == key["key_id"] == answer.json()["signature"]["key_id"]
    assert not logs.check(answer.content.replace(b"req_77", b"req_78", 1), None, public)["intact"]
    wrong = answer.content.replace(rb"\"count\":200", rb"\"count\":199", 1)
    assert wrong != answer.content
    assert not logs.check(wrong, None, public)["intact"]
    assert not logs.check(answer.content, None, bytes(32))["intact"]


async def test_an_empty_signed_answer(api):
    answer = await api.get(URL, params={**FULL, "signed": "true"})
    assert logs.check(answer.content, None, None)["intact"]
