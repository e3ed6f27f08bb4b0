"""The chain: sealed within a second in the order of commits, and every change to it is found."""

import asyncio
import hashlib
import random

import pytest
from entries import DAY, as_owner, fill, problem, sealed, waiting, walk
from hypothesis import given
from hypothesis import strategies as st

from lantern import logs
from lantern.core.db import Database, DatabaseError
from lantern.gate import seals
from lantern.logs import digest


async def row_at(db: Database, tenant: int, chain_seq: int) -> int:
    async with db.transaction(tenant) as tx:
        row = await tx.one("select row_id from log_seals where chain_seq = %s", (chain_seq,))
    assert row is not None
    return int(row["row_id"])


async def test_a_running_server_seals_by_itself(server, db, tenant):
    await fill(db, tenant.id, 50)
    while await waiting(db, tenant.id):  # the test's own time limit ends it
        await asyncio.sleep(0.02)


async def test_digest_and_link_are_what_the_page_says(db, tenant, keys):
    """Computed here with nothing of ours, from docs/logs.md."""
    await fill(db, tenant.id, 3, pool="Zürich \u2603", diff='{"a": 1}', reason=None)
    await sealed(db, tenant.id)
    async with db.transaction(tenant.id) as tx:
        rows = await tx.all("select * from route_log order by id")
        chain = await tx.all("select * from log_seals order by chain_seq")
    link = b"\0" * 32
    for row, seal in zip(rows, chain, strict=True):
        text = b""
        for name in (
            "tenant_id", "id", "at", "action", "object", "object_id", "pool", "assigned_to",
            "prev_owner", "sequence", "reason", "request_id", "idempotency_key", "diff",
        ):  # fmt: skip
            value = row[name]
            if value is None:
                text += b"-"
                continue
            if name == "at":
                value = value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            data = str(value).encode()
            text += str(len(data)).encode() + b":" + data
        digest = hashlib.sha256(text + row["salt"]).digest()
        assert digest == row["digest"] == seal["digest"]
        place = seal["chain_seq"].to_bytes(8, "big") + row["id"].to_bytes(8, "big")
        link = hashlib.sha256(link + place + digest).digest()
        assert link == seal["link"]
    assert [seal["chain_seq"] for seal in chain] == [1, 2, 3]
    assert len({row["salt"] for row in rows}) == 3


async def test_odd_values_are_sealed_and_verify(db, tenant, keys):
    async with db.transaction(tenant.id) as tx:
        for at in (
            "0001-01-01 00:00:00+00",
            "9999-12-30 23:59:59.999999+00",
            "2026-03-29 01:30+01",
        ):
            for text in ("", "-", "5:hello", "\u2028\U0001f600", "x" * 5000):
                await tx.run(
                    "select log_route(%s, %s, 'merge', 'Lead', %s, %s, null, null, -1, %s, '', '',"
                    ' \'{"a": "\\u0000"}\')',
                    (tenant.id, at, text, text or None, text),
                )
    await sealed(db, tenant.id)
    report = await walk(db, tenant.id, keys)
    assert (report.problem, report.rows, report.complete) == (None, 15, True)


async def test_a_diff_that_is_no_json_is_refused(db, tenant):
    for diff in ("{", "", "nan"):
        with pytest.raises(DatabaseError):
            await fill(db, tenant.id, 1, diff=diff)


async def test_an_empty_chain_holds(db, tenant, keys):
    report = await walk(db, tenant.id, keys)
    assert (report.problem, report.checked, report.complete) == (None, 0, True)
    await fill(db, tenant.id, 2)
    report = await walk(db, tenant.id, keys)
    assert report.problem is None
    assert report.checked + report.waiting == 2


async def test_writers_at_once_some_of_which_give_up(db, tenant, keys):
    """Seals are gapless, each committed row has one, rolled-back rows have none."""
    stop = asyncio.Event()

    async def write(seed: int) -> int:
        dice, written = random.Random(seed), 0
        for _ in range(30):
            n = dice.randint(1, 5)
            try:
                async with db.transaction(tenant.id) as tx:
                    await tx.run(
                        "select log_route(%s, now(), 'assign', 'Lead', 'x', 'p', null, null, n,"
                        " null, null, null, null) from generate_series(1, %s) n",
                        (tenant.id, n),
                    )
                    await asyncio.sleep(dice.random() / 100)
                    if dice.random() < 0.3:
                        raise ZeroDivisionError
                written += n
            except ZeroDivisionError:
                pass
        return written

    async def seal() -> None:
        while not stop.is_set():
            await seals.seal(db)

    sealers = [asyncio.create_task(seal()) for _ in range(2)]
    written = sum(await asyncio.gather(*(write(seed) for seed in range(6))))
    stop.set()
    await asyncio.gather(*sealers)
    await sealed(db, tenant.id)
    report = await walk(db, tenant.id, keys)
    assert (report.problem, report.rows, report.head[0]) == (None, written, written)


async def test_a_row_that_waits_twice_is_sealed_once_and_holds_up_nobody(db, tenant, keys):
    await fill(db, tenant.id, 3)
    await sealed(db, tenant.id)
    async with db.transaction(tenant.id) as tx:
        await tx.run(
            "insert into log_unsealed select tenant_id, id, at, digest from route_log"
            " where sequence = 2"
        )
    await fill(db, tenant.id, 2)
    await sealed(db, tenant.id)
    report = await walk(db, tenant.id, keys)
    assert (report.problem, report.rows, report.head[0]) == (None, 5, 5)


async def test_rows_are_erased_while_others_are_written_and_sealed(db, tenant, keys):
    writing = True

    async def write(n: int) -> None:
        for _ in range(25):
            await fill(db, tenant.id, 4, object_id=f"00Q{n}-")

    async def work() -> int:
        gone = 0
        while writing:
            async with db.transaction(tenant.id) as tx:
                rows, _ = await logs.erase(tx, tenant.id, keys, ["00Q0-1", "00Q1-3", "00Q2-2"])
            gone += rows
            await seals.seal(db)
        return gone

    erasing = asyncio.gather(work(), work())
    await asyncio.gather(*(write(n) for n in range(4)))
    writing = False
    gone = sum(await erasing)
    await sealed(db, tenant.id)
    report = await walk(db, tenant.id, keys)
    assert (report.problem, report.checked, report.rows) == (None, 400, 400 - gone)
    assert dict(report.erased) == {"subject": gone}
    assert gone > 0


def read_back(data: bytes) -> list[str | None]:
    found: list[str | None] = []
    while data:
        if data[:1] == b"-":
            found.append(None)
            data = data[1:]
            continue
        size, _, rest = data.partition(b":")
        found.append(rest[: int(size)].decode())
        data = rest[int(size) :]
    return found


@given(
    st.lists(st.none() | st.text() | st.sampled_from(["", "-", "1:", "-1:a", "0:"]), max_size=14)
)
def test_different_rows_have_different_canonical_bytes(values):
    assert read_back(digest.canonical(values)) == values


async def test_two_sealers_at_once_seal_each_row_once(db, tenant, keys):
    await fill(db, tenant.id, 5000)
    await asyncio.gather(*(seals.seal(db) for _ in range(4)))
    await sealed(db, tenant.id)
    report = await walk(db, tenant.id, keys)
    assert (report.problem, report.rows, report.head[0]) == (None, 5000, 5000)


async def test_a_row_that_commits_late_is_sealed_late(db, tenant, keys):
    async with db.transaction(tenant.id) as late:
        await late.run(
            "select log_route(%s, now(), 'assign', 'Lead', 'first', null, null, null, null, null,"
            " null, null, null)",
            (tenant.id,),
        )
        await fill(db, tenant.id, 2)
        await sealed(db, tenant.id)
        assert (await walk(db, tenant.id, keys)).rows == 2
    await sealed(db, tenant.id)
    report = await walk(db, tenant.id, keys)
    assert (report.problem, report.rows) == (None, 3)
    assert await row_at(db, tenant.id, 3) < await row_at(db, tenant.id, 1)


async def test_the_server_itself_cannot_change_what_is_written(db, tenant):
    await fill(db, tenant.id, 1)
    await sealed(db, tenant.id)
    for sql in (
        "update route_log set pool = 'x'",
        "delete from route_log",
        "update log_seals set digest = ''",
        "delete from log_seals",
        "insert into log_seals values (1, 1, 1, now(), '', '')",
        "update log_chains set chain_seq = 0",
        "delete from log_unsealed",
        "update log_erasures set count = 0",
        "delete from log_erasures",
        "update log_checkpoints set link = ''",
        "delete from log_checkpoints",
        "delete from log_retention",
        "select count(*) from lantern_log.route_log_others",
    ):
        with pytest.raises(DatabaseError, match="permission denied"):
            async with db.transaction(tenant.id) as tx:
                await tx.run(sql)


TAMPER = {
    "update route_log set pool = 'us' where id = %s": "payload",
    "update route_log set diff = '{}' where id = %s": "payload",
    "update route_log set sequence = sequence + 1 where id = %s": "payload",
    "update route_log set at = at + interval '1 microsecond' where id = %s": "payload",
    "update route_log set at = at + interval '1 year' where id = %s": "payload",
    "update route_log set salt = set_byte(salt, 3, (get_byte(salt, 3) + 1) %% 256) where id = %s": "payload",
    "update route_log set digest = set_byte(digest, 0, 255 - get_byte(digest, 0)) where id = %s": "digest",
    "delete from route_log where id = %s": "row_missing",
    "update log_seals set digest = set_byte(digest, 31, 255 - get_byte(digest, 31)) where row_id = %s": "digest",
    "update log_seals set link = set_byte(link, 31, 255 - get_byte(link, 31)) where row_id = %s": "link",
    "update log_seals set row_id = -row_id where row_id = %s": "link",
    "delete from log_seals where row_id = %s": "seal_missing",
}


@pytest.mark.parametrize("sql", TAMPER)
@pytest.mark.parametrize("place", [1, 300, 700])
async def test_what_was_changed_is_found_where_it_was_changed(db, tenant, dsn, keys, sql, place):
    await fill(db, tenant.id, 700)
    await sealed(db, tenant.id)
    row_id = await row_at(db, tenant.id, place)
    assert await as_owner(dsn, sql, row_id) == 1
    assert await problem(db, tenant.id, keys) == (TAMPER[sql], place)
    report = await walk(db, tenant.id, keys)
    assert report.head[0] == place - 1


async def test_a_forger_who_knows_the_method_is_stopped_at_the_end_of_the_chain(
    db, tenant, dsn, keys
):
    """Payload, digest and all links made new: only the end of the chain tells, or an export."""
    await fill(db, tenant.id, 5)
    await sealed(db, tenant.id)
    row_id = await row_at(db, tenant.id, 5)
    await as_owner(
        dsn,
        "with r as (update route_log set digest = sha256('x'::bytea) where id = %s returning 1)"
        " select count(*) from r",
        row_id,
    )
    await as_owner(
        dsn,
        "update log_seals s set digest = sha256('x'::bytea), link = sha256(p.link ||"
        " int8send(s.chain_seq) || int8send(s.row_id) || sha256('x'::bytea)) from log_seals p"
        " where s.row_id = %s and p.tenant_id = s.tenant_id and p.chain_seq = s.chain_seq - 1",
        row_id,
    )
    await as_owner(dsn, "delete from route_log where id = %s", row_id)
    assert (await problem(db, tenant.id, keys))[0] == "row_missing"
    await as_owner(dsn, "delete from log_seals where row_id = %s", row_id)
    assert await problem(db, tenant.id, keys) == ("seal_missing", 5)
    await as_owner(dsn, "update log_chains set link = sha256('') where tenant_id = %s", tenant.id)
    assert await problem(db, tenant.id, keys) == ("seal_missing", 5)


async def test_another_end_of_the_chain(db, tenant, dsn, keys):
    await fill(db, tenant.id, 5)
    await sealed(db, tenant.id)
    await as_owner(dsn, "update log_chains set link = sha256('') where tenant_id = %s", tenant.id)
    assert await problem(db, tenant.id, keys) == ("head", 5)
    await as_owner(dsn, "delete from log_chains where tenant_id = %s", tenant.id)
    assert await problem(db, tenant.id, keys) == ("head", 5)


async def test_a_row_slipped_in_beside_the_chain(db, tenant, dsn, keys):
    await fill(db, tenant.id, 5)
    await sealed(db, tenant.id)
    await as_owner(
        dsn,
        "insert into route_log select tenant_id, -id, at, action, object, object_id, pool,"
        " assigned_to, prev_owner, sequence, reason, request_id, idempotency_key, diff, salt,"
        " digest from route_log where tenant_id = %s and sequence = 3",
        tenant.id,
    )
    report = await walk(db, tenant.id, keys)
    assert report.problem is not None
    assert report.problem.kind == "row_unchained"
    assert report.problem.row_id is not None
    assert report.problem.row_id < 0


async def test_the_first_problem_is_the_one_reported(db, tenant, dsn, keys):
    await fill(db, tenant.id, 50)
    await sealed(db, tenant.id)
    for place in (40, 20, 30):
        row_id = await row_at(db, tenant.id, place)
        await as_owner(dsn, "update route_log set pool = null where id = %s", row_id)
    assert await problem(db, tenant.id, keys) == ("payload", 20)


async def test_the_route_goes_page_by_page(api, db, tenant, dsn):
    await fill(db, tenant.id, 250)
    await sealed(db, tenant.id)
    after, pages = 0, []
    while True:
        body = (await api.get("/v1/logs/verify", params={"after": after, "limit": 100})).json()
        assert body["success"]
        assert body["intact"]
        pages.append((body["first"], body["checked"], body["rows"], body["complete"]))
        after = body["head"]["chain_seq"]
        if body["complete"]:
            break
    assert pages == [(1, 100, 100, False), (101, 100, 100, False), (201, 50, 50, True)]
    whole = (await api.get("/v1/logs/verify")).json()
    assert whole["head"] == body["head"]
    assert (whole["unsealed"], whole["erased"], whole["problem"]) == (0, {}, None)
    assert whole["checkpoint"] is None
    row_id = await row_at(db, tenant.id, 120)
    await as_owner(dsn, "update route_log set pool = '' where id = %s", row_id)
    body = (await api.get("/v1/logs/verify", params={"after": 100, "limit": 100})).json()
    assert (body["intact"], body["checked"]) == (False, 19)
    assert body["problem"] == {
        "kind": "payload",
        "message": "The row is not what was sealed",
        "chain_seq": 120,
        "row_id": row_id,
    }
    assert (await api.get("/v1/logs/verify", params={"after": 120})).json()["intact"]
    assert (await api.get("/v1/logs/verify", params={"after": 999})).json()["intact"] is False
    for params, name in (
        ({"after": -1}, "after"),
        ({"limit": 0}, "limit"),
        ({"limit": 100_001}, "limit"),
    ):
        answer = await api.get("/v1/logs/verify", params=params)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(f"{name}: ")


async def test_chains_of_tenants_do_not_touch(db, tenant, keys):
    other = (await db.one("select create_tenant('other', 'team', 5) as id"))["id"]
    for n in range(1, 6):
        await fill(db, tenant.id, n)
        await fill(db, other, 2 * n, start=DAY)
    await sealed(db, tenant.id)
    await sealed(db, other)
    for owner, rows in ((tenant.id, 15), (other, 30)):
        report = await walk(db, owner, keys)
        assert (report.problem, report.rows, report.head[0]) == (None, rows, rows)
