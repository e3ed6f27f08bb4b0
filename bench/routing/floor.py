"""The floor: what a plain Python transaction of five statements gives on the same Postgres.

No HTTP, no key, no limit, no charge, no log: lock the pool's row, look whether the record was
assigned before, read the members, move the counters on, keep the assignment.
"""

import asyncio
import itertools
import json
import random
import sys
import time

import psycopg
import uvloop

TABLES = """
drop schema if exists bench_floor cascade;
create schema bench_floor;
create table bench_floor.pools (id int primary key, sequence bigint, current int[]);
create table bench_floor.members (pool int, place int, name text, weight int, primary key (pool, place));
create table bench_floor.assignments (pool int, sequence bigint, record text, owner text,
    at timestamptz default now(), primary key (pool, sequence));
create index on bench_floor.assignments (pool, record);
insert into bench_floor.pools values (1, 0, array_fill(0, array[17]));
insert into bench_floor.members select 1, i, 'user ' || i, 1 from generate_series(1, 17) i;
"""


async def assign(db, record):
    await db.execute("begin")
    cursor = await db.execute(
        "select sequence, current from bench_floor.pools where id = 1 for update"
    )
    sequence, current = await cursor.fetchone()
    cursor = await db.execute(
        "select owner from bench_floor.assignments where pool = 1 and record = %s", (record,)
    )
    assert await cursor.fetchone() is None
    cursor = await db.execute(
        "select name, weight from bench_floor.members where pool = 1 order by place"
    )
    members = await cursor.fetchall()
    current = [c + w for c, (_, w) in zip(current, members, strict=True)]
    best = current.index(max(current))
    current[best] -= sum(w for _, w in members)
    await db.execute(
        "update bench_floor.pools set sequence = %s, current = %s where id = 1",
        (sequence + 1, current),
    )
    await db.execute(
        "insert into bench_floor.assignments values (1, %s, %s, %s)",
        (sequence + 1, record, members[best][0]),
    )
    await db.execute("commit")


async def main(job):
    async with await psycopg.AsyncConnection.connect(job["dsn"], autocommit=True) as db:
        await db.execute(TABLES)
    counter, done = itertools.count(random.randrange(10**9) * 1000), 0
    begin = time.perf_counter() + 1
    end = begin + job["seconds"]

    async def one():
        nonlocal done
        async with await psycopg.AsyncConnection.connect(job["dsn"], autocommit=True) as db:
            while (now := time.perf_counter()) < end:
                await assign(db, f"r{next(counter)}")
                done += now >= begin

    await asyncio.gather(*(one() for _ in range(job["clients"])))
    return {"rate": done / job["seconds"]}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main(json.load(sys.stdin)))), flush=True)
