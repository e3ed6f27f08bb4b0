"""100,000 rows: sealed, verified, spoilt by one byte, exported; the figures are printed."""

import asyncio
import random
import time

from entries import FULL, as_owner, fill, sealed, walk

from lantern.gate import seals

ROWS = 100_000


async def test_a_chain_over_100_000_rows(api, db, tenant, dsn, keys, capsys):
    figures = {}
    began = time.perf_counter()
    await fill(db, tenant.id, ROWS, diff='{"Title": {"old": "SDR", "new": "AE"}}')
    figures["us for one log_route"] = (time.perf_counter() - began) / ROWS * 1e6
    began = time.perf_counter()
    while await seals.seal(db):
        pass
    await sealed(db, tenant.id)
    figures["rows sealed per second"] = ROWS / (time.perf_counter() - began)
    began = time.perf_counter()
    report = await walk(db, tenant.id, keys)
    figures["seconds to verify 100,000 rows"] = time.perf_counter() - began
    assert (report.problem, report.rows, report.complete) == (None, ROWS, True)

    for _ in range(3):  # one byte somewhere, put back afterwards
        place = random.randint(1, ROWS)
        row = (
            "where tenant_id = %s and id = (select row_id from log_seals where tenant_id = %s"
            " and chain_seq = %s)"
        )
        for sql in (
            "update route_log set pool = overlay(pool placing %s from 2 for 1) ",
            "update route_log set salt = set_byte(salt, 9, get_byte(salt, 9) # %s::int) ",
        ):
            there, back = ("x", "m") if "pool" in sql else ("1", "1")
            assert await as_owner(dsn, sql + row, there, tenant.id, tenant.id, place) == 1
            found = (await walk(db, tenant.id, keys)).problem
            assert found is not None
            assert (found.kind, found.chain_seq) == ("payload", place)
            await as_owner(dsn, sql + row, back, tenant.id, tenant.id, place)
    assert (await walk(db, tenant.id, keys)).problem is None

    began, first = time.perf_counter(), 0.0
    params = {**FULL, "limit": 10_000}
    async with api.stream("GET", "/v1/logs/routing", params=params) as answer:
        async for _ in answer.aiter_raw():
            first = first or time.perf_counter() - began
    figures["ms to the first byte of 10,000 rows as JSON"] = first * 1e3
    figures["ms to the last one"] = (time.perf_counter() - began) * 1e3
    began = time.perf_counter()
    answer = await api.get("/v1/logs/routing", params={**params, "format": "csv"})
    assert answer.text.count("\r\n") == 10_001
    figures["ms for them as CSV"] = (time.perf_counter() - began) * 1e3
    await asyncio.sleep(0)
    with capsys.disabled():
        print("\n" + "\n".join(f"{name}: {value:,.1f}" for name, value in figures.items()))
