"""What leaves the log: by retention, on request; what stays of it; months; statistics."""

import asyncio
import datetime
import stat

import pytest
from callers import code_of
from entries import DAY, FULL, as_owner, fill, problem, sealed, walk

from lantern import logs
from lantern.core import clock, jobs, timers
from lantern.core.errors import BadRequest, Unavailable
from lantern.gate import route_log
from lantern.logs import jobs as log_jobs
from lantern.logs import service, signing
from lantern.settings import Settings

RETENTION = "/v1/logs/retention"
CLEANUP = "/v1/logs/retention/cleanup"


def ago(days: float) -> datetime.datetime:
    return clock.now() - datetime.timedelta(days=days)


async def rows(db, tenant) -> int:
    async with db.transaction(tenant.id) as tx:
        return (await tx.one("select count(*) as n from route_log"))["n"]


# ---------------------------------------------------------------- statistics
async def test_statistics(api, db, tenant):
    await fill(db, tenant.id, 20, step="2 hours")
    await fill(db, tenant.id, 3, action="enrich", object="Contact", pool=None, user=None)
    for path in ("/v1/logs/routing/stats", "/v1/logs/stats"):
        body = (await api.get(path, params=FULL)).json()
        assert body.pop("by_user") == {f"005Kz{n % 17}": 1 + (n <= 3) for n in range(1, 18)}
        assert body == {
            "success": True,
            "from": "2026-03-01",
            "to": "2026-03-02",
            "total": 23,
            "group_by": "action",
            "groups": [{"key": "assign", "count": 20}, {"key": "enrich", "count": 3}],
            "by_action": {"assign": 20, "enrich": 3},
            "by_object": {"Lead": 20, "Contact": 3},
            "by_pool": {"emea-sdr": 20},
            "by_day": [
                {"date": "2026-03-01", "count": 15},
                {"date": "2026-03-02", "count": 8},
            ],
        }
    body = (await api.get(path, params={**FULL, "group_by": "day", "object": "lead"})).json()
    assert body["groups"] == [
        {"key": "2026-03-01", "count": 12},
        {"key": "2026-03-02", "count": 8},
    ]
    assert body["total"] == 20
    for group, first in (("pool", "emea-sdr"), ("user", "005Kz1"), ("object", "Lead")):
        body = (await api.get(path, params={**FULL, "group_by": group})).json()
        assert (body["group_by"], body["groups"][0]["key"]) == (group, first)


async def test_statistics_of_nothing(api):
    body = (await api.get("/v1/logs/stats", params=FULL)).json()
    assert (body["total"], body["by_action"], body["by_day"], body["groups"]) == (0, {}, [], [])


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"to": "2026-03-01"}, "from"),
        ({**FULL, "to": "x"}, "to"),
        ({**FULL, "group_by": "week"}, "group_by"),
        ({**FULL, "action": "x"}, "action"),
    ],
)
async def test_a_wrong_question_to_the_statistics(api, params, name):
    answer = await api.get("/v1/logs/routing/stats", params=params)
    assert (answer.status_code, code_of(answer)) == (400, "bad_request")
    assert answer.json()["error"].startswith(f"{name}: ")


# ---------------------------------------------------------------- retention
async def test_everybody_starts_with_a_year(api):
    body = (await api.get(RETENTION)).json()
    upcoming = body.pop("next_cleanup_at")
    assert upcoming.endswith("T03:00:00Z")
    assert body == {
        "success": True,
        "retention_days": 365,
        "cleanup_cron": "0 3 * * *",
        "per_action": {"assign": None, "convert": None, "merge": None, "enrich": None},
        "last_cleanup_at": None,
        "deleted_last_run": None,
    }


async def test_retention_is_changed_by_what_is_named(api, db, tenant):
    async def put(**body):
        answer = await api.put(RETENTION, json=body)
        assert answer.status_code == 200
        return answer.json()

    body = await put(retention_days=30, per_action={"assign": 90}, metadata={"team": "ops"})
    assert (body["retention_days"], body["per_action"]["assign"]) == (30, 90)
    assert await timers_of(db, tenant) == []
    body = await put(cleanup_cron="15 4 * * 0")
    assert (body["retention_days"], body["per_action"]["assign"]) == (30, 90)
    assert body["cleanup_cron"] == "15 4 * * 0"
    (timer,) = await timers_of(db, tenant)
    assert (timer["job"], timer["cron"], timer["args"]) == (
        "logs.cleanup", "15 4 * * 0", {"tenant": tenant.id},
    )  # fmt: skip
    body = await put(per_action={"merge": 5, "assign": None})
    assert body["per_action"] == {"assign": None, "convert": None, "merge": 5, "enrich": None}
    assert (await put(cleanup_cron="0 3 * * *"))["cleanup_cron"] == "0 3 * * *"
    assert await timers_of(db, tenant) == []


async def timers_of(db, tenant):
    return await db.all("select * from timers where key = %s", (f"logs.cleanup:{tenant.id}",))


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"retention_days": 0}, "retention_days"),
        ({"retention_days": 3651}, "retention_days"),
        ({"retention_days": 1.5}, "retention_days"),
        ({"retention_days": "a year"}, "retention_days"),
        ({"cleanup_cron": "daily"}, "cleanup_cron"),
        ({"cleanup_cron": ""}, "cleanup_cron"),
        ({"cleanup_cron": "61 3 * * *"}, "cleanup_cron"),
        ({"cleanup_cron": "0 3 30 2 *"}, "cleanup_cron"),
        ({"per_action": {"assign": 0}}, "per_action.assign"),
        ({"per_action": {"delete": 5}}, "per_action.delete"),
        ({"per_action": 5}, "per_action"),
        ({"days": 5}, "days"),
    ],
)
async def test_a_wrong_retention_is_400_and_names_the_field(api, body, name):
    answer = await api.put(RETENTION, json=body)
    assert (answer.status_code, code_of(answer)) == (400, "bad_request")
    assert answer.json()["error"].startswith(f"{name}: ")


async def test_a_dry_run_changes_nothing_and_a_clean_up_does_what_it_said(api, db, tenant, keys):
    await fill(db, tenant.id, 6, start=ago(400))
    await fill(db, tenant.id, 4, start=ago(400), action="enrich", diff="{}")
    await fill(db, tenant.id, 5, start=ago(100), action="enrich", diff="{}")
    await fill(db, tenant.id, 3, start=ago(1))
    await sealed(db, tenant.id)
    await api.put(RETENTION, json={"per_action": {"enrich": 30}})
    for body in ({}, {"dry_run": True}, None):
        answer = await api.post(CLEANUP, json=body) if body is not None else await api.post(CLEANUP)
        told = answer.json()
        assert told["deleted"] == 15
        assert told["by_action"] == {"assign": 6, "enrich": 9}
        assert (told["dry_run"], told["pending"], told["partitions_dropped"]) == (True, False, [])
    assert await rows(db, tenant) == 18
    done = (await api.post(CLEANUP, json={"dry_run": False})).json()
    assert {**done, "dry_run": True} == told
    assert done["oldest_kept"] == told["oldest_kept"]
    assert done["oldest_kept"] > clock.iso(ago(2))
    assert await rows(db, tenant) == 3
    kept = (await api.get(RETENTION)).json()
    assert kept["deleted_last_run"] == 15
    assert kept["last_cleanup_at"] is not None
    report = await walk(db, tenant.id, keys)
    assert report.problem is None
    assert (report.checked, report.rows, dict(report.erased)) == (18, 3, {"retention": 15})
    assert (await api.post(CLEANUP, json={"dry_run": False})).json()["deleted"] == 0
    for wrong in ({"dry_run": "perhaps"}, {"dry_run": None}, {"all": True}):
        assert (await api.post(CLEANUP, json=wrong)).status_code == 400


async def test_an_action_may_be_kept_longer_than_the_others(api, db, tenant, keys):
    await fill(db, tenant.id, 3, start=ago(50))
    await fill(db, tenant.id, 3, start=ago(50), action="merge")
    await api.put(RETENTION, json={"retention_days": 10, "per_action": {"assign": 100}})
    done = (await api.post(CLEANUP, json={"dry_run": False})).json()
    assert done["by_action"] == {"merge": 3}
    assert await rows(db, tenant) == 3


async def test_rows_that_nobody_has_sealed_yet_are_sealed_and_go(api, db, tenant, keys):
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "select log_route(%s, %s, 'assign', 'Lead', 'x', null, null, null, null, null, null,"
            " null, null)",
            (tenant.id, ago(500)),
        )
        found = await service.expire(tx, tenant.id, keys, service.Policy(), clock.now())
        assert found == {"assign": 1}
    report = await walk(db, tenant.id, keys)
    assert (report.problem, dict(report.erased)) == (None, {"retention": 1})


async def test_too_much_for_one_request_goes_on_as_a_job(api, db, tenant, keys, monkeypatch):
    monkeypatch.setattr(service, "BATCH", 10)
    monkeypatch.setattr(service, "MOST_AT_ONCE", 20)
    await fill(db, tenant.id, 55, start=ago(500))
    done = (await api.post(CLEANUP, json={"dry_run": False})).json()
    assert (done["deleted"], done["pending"]) == (20, True)
    assert await db.one(
        "select 1 as found from dbos.workflow_status where name = 'logs.cleanup'"
        " and workflow_uuid like '%%req_%%'"
    )
    await logs.clean_tenant(db, tenant.id)
    assert await rows(db, tenant) == 0
    assert (await walk(db, tenant.id, keys)).problem is None


async def test_the_daily_job_takes_all_without_a_schedule_of_their_own(api, db, tenant, keys):
    other = (await db.one("select create_tenant('other', 'team', 5) as id"))["id"]
    for owner in (tenant.id, other):
        await fill(db, owner, 3, start=ago(500))
        await sealed(db, owner)
    await api.put(RETENTION, json={"cleanup_cron": "0 5 * * *"})
    await log_jobs.clean_up(db)
    assert await rows(db, tenant) == 3
    async with db.transaction(other) as tx:
        assert await tx.one("select count(*) as n from route_log") == {"n": 0}
    await log_jobs.clean_up(db, tenant.id)
    assert await rows(db, tenant) == 0
    assert "logs.cleanup" in jobs.names()
    timer = await db.one("select cron, args from timers where key = 'logs.cleanup'")
    assert timer == {"cron": "0 3 * * *", "args": {}}
    with pytest.raises(BadRequest):
        timers.next_fire("x", "UTC", clock.now())


async def test_a_timer_starts_the_job_that_cleans(api, db, tenant, keys):
    other = (await db.one("select create_tenant('other', 'team', 5) as id"))["id"]
    for owner in (tenant.id, other):
        await fill(db, owner, 3, start=ago(500))
        await sealed(db, owner)
    await api.put(RETENTION, json={"cleanup_cron": "0 5 * * *"})
    due = "update timers set due_at = clock_timestamp() where key = any (%s)"
    await db.run(due, (["logs.cleanup", f"logs.cleanup:{tenant.id}"],))
    for owner in (tenant.id, other):
        for _ in range(400):
            async with db.transaction(owner) as tx:
                left = await tx.one("select count(*) as n from route_log")
            if left == {"n": 0}:
                break
            await asyncio.sleep(0.1)
        assert left == {"n": 0}
    assert (await walk(db, tenant.id, keys)).problem is None


# ---------------------------------------------------------------- erasure
async def test_rows_about_a_person_go_and_the_chain_says_why(api, db, tenant, keys):
    await fill(db, tenant.id, 30)
    await fill(db, tenant.id, 30)
    await fill(db, tenant.id, 1, object_id="00QKz00000ZZyy")  # with its number: 15 characters
    await sealed(db, tenant.id)
    long = logs.query.ids_of("00QKz00000ZZyy1")[1]
    answer = await api.post("/v1/logs/erase", json={"object_ids": ["00QKz7", "00QKz9", long]})
    body = answer.json()
    assert (body["success"], body["deleted"], len(body["erasure_ids"])) == (True, 5, 1)
    assert await rows(db, tenant) == 56
    report = await walk(db, tenant.id, keys)
    assert (report.problem, dict(report.erased)) == (None, {"subject": 5})
    async with db.transaction(tenant.id) as tx:
        (told,) = await tx.all("select * from log_erasures")
        audit = await tx.one("select * from audit_log where action = 'logs.erase'")
    assert "00QKz" not in told["detail"]  # nor anywhere else
    assert audit["detail"] == {"rows": 5}
    body = (await api.post("/v1/logs/erase", json={"object_ids": ["00QKz7"]})).json()
    assert (body["deleted"], body["erasure_ids"]) == (0, [])


@pytest.mark.parametrize(
    "ids", [[], ["x"] * 1001, [""], ["x" * 201], ["a\0"], "x", None, [None], [5]]
)
async def test_a_wrong_erasure_is_400(api, ids):
    answer = await api.post("/v1/logs/erase", json={"object_ids": ids})
    assert (answer.status_code, code_of(answer)) == (400, "bad_request")
    assert answer.json()["error"].startswith("object_ids")


async def test_many_rows_go_in_batches(db, tenant, keys, monkeypatch):
    monkeypatch.setattr(service, "BATCH", 10)
    await fill(db, tenant.id, 1, object_id="other")
    for _ in range(25):
        await fill(db, tenant.id, 1)
    async with db.transaction(tenant.id) as tx:
        count, names = await logs.erase(tx, tenant.id, keys, ["00QKz1"])
    assert (count, len(names)) == (25, 3)
    report = await walk(db, tenant.id, keys)
    assert (report.problem, report.rows, dict(report.erased)) == (None, 1, {"subject": 25})


async def test_deleted_and_erased_are_told_apart(db, tenant, dsn, keys):
    await fill(db, tenant.id, 30)
    async with db.transaction(tenant.id) as tx:
        await logs.erase(tx, tenant.id, keys, [f"00QKz{n}" for n in (3, 4, 5, 20)])
    await as_owner(dsn, "delete from route_log where tenant_id = %s and sequence = 19", tenant.id)
    report = await walk(db, tenant.id, keys)
    assert dict(report.erased) == {"subject": 3}
    assert (report.problem.kind, report.problem.chain_seq) == ("row_missing", 19)


async def test_an_erasure_cannot_be_forged_widened_or_taken_away(db, tenant, dsn, keys):
    await fill(db, tenant.id, 30)
    async with db.transaction(tenant.id) as tx:
        await logs.erase(tx, tenant.id, keys, ["00QKz10"])
    await as_owner(
        dsn, "update log_erasures set ranges = '{[10,12)}' where tenant_id = %s", tenant.id
    )
    assert await problem(db, tenant.id, keys) == ("signature", 10)
    await as_owner(
        dsn, "update log_erasures set ranges = '{[10,11)}' where tenant_id = %s", tenant.id
    )
    assert (await walk(db, tenant.id, keys)).problem is None
    await as_owner(
        dsn, "update log_erasures set kind = 'retention' where tenant_id = %s", tenant.id
    )
    assert await problem(db, tenant.id, keys) == ("signature", 10)
    await as_owner(dsn, "delete from log_erasures where tenant_id = %s", tenant.id)
    assert await problem(db, tenant.id, keys) == ("row_missing", 10)


async def test_another_key_is_not_believed_unless_it_is_trusted(db, tenant, keys, tmp_path):
    await fill(db, tenant.id, 3)
    async with db.transaction(tenant.id) as tx:
        await logs.erase(tx, tenant.id, keys, ["00QKz2"])
    place = tmp_path / "other"
    assert await problem(db, tenant.id, logs.Keys(Settings(data_dir=place))) == ("unknown_key", 2)
    trusted = {"trusted_keys": [signing.encode(keys.public)]}
    both = logs.Keys(Settings(data_dir=place, logs=trusted))
    assert (await walk(db, tenant.id, both)).problem is None


# ---------------------------------------------------------------- checkpoints
async def test_a_checkpoint_takes_the_place_of_seals_without_rows(api, db, tenant, dsn, keys):
    await fill(db, tenant.id, 40, start=ago(500))
    await fill(db, tenant.id, 10, start=ago(300))
    await sealed(db, tenant.id)
    head = (await walk(db, tenant.id, keys)).head
    await logs.clean_tenant(db, tenant.id)
    async with db.transaction(tenant.id) as tx:
        assert await tx.one("select min(chain_seq) as n from log_seals") == {"n": 41}
        (mark,) = await tx.all("select * from log_checkpoints")
    assert mark["chain_seq"] == 40
    report = await walk(db, tenant.id, keys)
    assert (report.problem, report.first, report.checked, report.rows) == (None, 41, 10, 10)
    assert report.head == head
    body = (await api.get("/v1/logs/verify")).json()
    assert body["checkpoint"]["chain_seq"] == 40
    await logs.clean_tenant(db, tenant.id)
    async with db.transaction(tenant.id) as tx:
        assert len(await tx.all("select * from log_checkpoints")) == 1
    await fill(db, tenant.id, 2)
    await sealed(db, tenant.id)
    report = await walk(db, tenant.id, keys)
    assert (report.problem, report.rows, report.head[0]) == (None, 12, 52)
    await as_owner(
        dsn, "update log_checkpoints set link = sha256('') where tenant_id = %s", tenant.id
    )
    assert (await problem(db, tenant.id, keys))[0] == "signature"
    await as_owner(dsn, "delete from log_checkpoints where tenant_id = %s", tenant.id)
    assert await problem(db, tenant.id, keys) == ("seal_missing", 1)


async def test_checkpoints_follow_each_other_in_large_chains(db, tenant, keys, monkeypatch):
    monkeypatch.setattr(log_jobs, "CHECKPOINT_SEALS", 15)
    await fill(db, tenant.id, 40, start=ago(500))
    await fill(db, tenant.id, 5)
    await logs.clean_tenant(db, tenant.id)
    async with db.transaction(tenant.id) as tx:
        marks = await tx.all("select chain_seq from log_checkpoints order by 1")
    assert [mark["chain_seq"] for mark in marks] == [15, 30, 40]
    report = await walk(db, tenant.id, keys)
    assert (report.problem, report.first, report.rows) == (None, 41, 5)


async def test_no_checkpoint_hides_a_broken_chain(db, tenant, dsn, keys):
    await fill(db, tenant.id, 20, start=ago(500))
    await sealed(db, tenant.id)
    await as_owner(dsn, "delete from route_log where tenant_id = %s and sequence = 7", tenant.id)
    await logs.clean_tenant(db, tenant.id)
    async with db.transaction(tenant.id) as tx:
        assert await tx.all("select * from log_checkpoints") == []
    assert await problem(db, tenant.id, keys) == ("row_missing", 7)


async def test_what_one_action_keeps_longer_keeps_its_seals(api, db, tenant, keys):
    await fill(db, tenant.id, 5, start=ago(500))
    await fill(db, tenant.id, 5, start=ago(500), action="merge")
    await api.put(RETENTION, json={"per_action": {"merge": 1000}})
    await logs.clean_tenant(db, tenant.id)
    async with db.transaction(tenant.id) as tx:
        assert await tx.all("select * from log_checkpoints") == []
    report = await walk(db, tenant.id, keys)
    assert (report.problem, report.rows, dict(report.erased)) == (None, 5, {"retention": 5})


# ---------------------------------------------------------------- months
async def months(dsn) -> list[str]:
    text = await as_owner(
        dsn,
        "select string_agg(c.relname, ' ' order by 1) from pg_inherits i join pg_class c"
        " on c.oid = i.inhrelid where i.inhparent = 'route_log'::regclass",
    )
    return text.split()


async def test_the_months_ahead_are_there(db, dsn):
    async with db.transaction() as tx:
        await route_log.make_months(tx)
        assert await route_log.make_months(tx) == []
    assert len(await months(dsn)) >= 4
    assert "route_log_others" in await months(dsn)


async def test_a_row_of_a_month_that_is_not_there_is_kept_and_moves_when_it_is(
    db, tenant, dsn, keys
):
    now = clock.now()
    year, month = divmod(now.year * 12 + now.month - 1 + 5, 12)
    start = datetime.datetime(year, month + 1, 10, tzinfo=datetime.UTC)
    await fill(db, tenant.id, 5, start=start)
    name = f"route_log_{year}_{month + 1:02}"
    assert name not in await months(dsn)
    async with db.transaction() as tx:
        assert name in await route_log.make_months(tx, 5)
    moved = await as_owner(
        dsn, f"select count(*) from lantern_log.{name} where tenant_id = %s", tenant.id
    )
    assert moved == 5
    await sealed(db, tenant.id)
    assert (await walk(db, tenant.id, keys)).rows == 5


async def make_past_month(dsn, name, first, end):
    await as_owner(
        dsn,
        "do $$ begin set local role lantern_system;"
        f" perform add_log_month('{name}', '{first}+00', '{end}+00'); end $$",
    )


async def test_a_month_is_dropped_when_nobody_keeps_any_of_it(api, db, tenant, dsn, keys):
    other = (await db.one("select create_tenant('other', 'team', 5) as id"))["id"]
    await make_past_month(dsn, "route_log_2019_07", "2019-07-01", "2019-08-01")
    start = DAY.replace(year=2019, month=7, day=10)
    for owner in (tenant.id, other):
        await fill(db, owner, 5, start=start)
        await sealed(db, owner)
    done = (await api.post(CLEANUP, json={"dry_run": False})).json()
    assert (done["deleted"], done["partitions_dropped"]) == (5, [])
    await logs.clean_tenant(db, other)
    done = (await api.post(CLEANUP, json={"dry_run": False})).json()
    assert done["partitions_dropped"] == ["route_log_2019_07"]
    assert "route_log_2019_07" not in await months(dsn)
    await fill(db, tenant.id, 1, start=start)  # still has a place
    await sealed(db, tenant.id)
    report = await walk(db, tenant.id, keys)
    assert (report.problem, report.rows) == (None, 1)


async def test_a_reader_puts_the_drop_off_and_no_writer_waits(db, tenant, dsn):
    await make_past_month(dsn, "route_log_2018_07", "2018-07-01", "2018-08-01")
    await fill(db, tenant.id, 3)
    async with db.reading(tenant.id) as reader:
        await reader.all("select * from route_log")
        async with db.transaction() as tx:
            assert await route_log.drop_months(tx) == []
        await fill(db, tenant.id, 3)
    async with db.transaction() as tx:
        assert await route_log.drop_months(tx) == ["route_log_2018_07"]
    assert await rows(db, tenant) == 6


# ---------------------------------------------------------------- the key
def test_the_key_is_made_once_and_is_for_its_owner_alone(tmp_path):
    keys = logs.Keys(Settings(data_dir=tmp_path / "data"))
    file = tmp_path / "data" / signing.FILE
    assert len(keys.public) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == [signing.FILE]
    assert logs.Keys(Settings(data_dir=tmp_path / "data")).public == keys.public
    file.write_text("nothing")
    with pytest.raises(Unavailable, match="holds no signing key"):
        _ = logs.Keys(Settings(data_dir=tmp_path / "data")).public


def test_nodes_share_a_key_by_setting(tmp_path):
    seed = signing.encode(bytes(range(32)))
    keys = logs.Keys(Settings(data_dir=tmp_path, logs={"signing_key": seed}))
    assert keys.key_id == "lk_56475aa75463474c"
    assert list(tmp_path.iterdir()) == []
    assert "signing_key=None" not in repr(keys._settings.logs)
    assert seed not in repr(keys._settings.logs)
    for wrong in ("", "short", "not base64!"):
        with pytest.raises(Unavailable, match=r"logs\.signing_key"):
            _ = logs.Keys(Settings(data_dir=tmp_path, logs={"signing_key": wrong})).public


async def test_the_key_by_http(api):
    body = (await api.get("/v1/logs/key")).json()
    assert body["algorithm"] == "Ed25519"
    assert body["key_id"] == signing.key_id(logs.read_public(body["public_key"]))
