"""The bucket itself, against a model of it: never more than the limit at once, then one a gap."""

import math
import time
from datetime import timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# Hypothesis watches the global random numbers, and a server's thread may draw some too.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
MINUTE = 60.0
# Seconds between two calls: bursts, trickles, and waits longer than a bucket takes to fill.
GAPS = st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.3, 1.0, 2.5, 7.0, 59.9, 60.0, 61.0, 600.0])
TAKE = "select * from take(%s, %s)"
SHIFT = "update rate set tat = tat - %s where k = %s"  # time passes: the bucket is moved instead


@pytest.fixture
def bucket(dsn):
    """A connection whose buckets are gone afterwards."""
    with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
        connection.execute("set search_path = lantern")
        yield connection
        connection.rollback()


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(limit=st.sampled_from([1, 2, 3, 7, 50, 60, 300, 999]), gaps=st.lists(GAPS, max_size=40))
def test_the_bucket_does_what_its_model_does(bucket, limit, gaps):
    gap = math.floor(60e6 / limit) / 1e6
    now, full_at, passed = 0.0, 0.0, []  # `full_at`: when the bucket is full again
    bucket.execute("delete from rate where k = 'model'")
    began = time.monotonic()
    for wait in gaps:
        now += wait
        bucket.execute(SHIFT, (timedelta(seconds=wait), "model"))
        row = bucket.execute(TAKE, ("model", limit)).fetchone()
        real = time.monotonic() - began + 0.01  # passes in the database alone
        over = max(full_at, now) + gap - now - MINUTE
        assert row["allowed"] if over <= 0 else (not row["allowed"] or over <= real)
        if row["allowed"]:
            full_at = max(full_at, now) + gap
            passed.append(now)
        else:
            assert 1 <= row["retry"] <= max(1, math.ceil(over + 0.01))
        assert 0 <= row["remaining"] < limit
        expected = math.floor((now + MINUTE - full_at) / gap + 1e-6)
        assert expected <= row["remaining"] <= expected + 1 + real / gap
        assert row["reset"] - time.time() <= max(0.0, full_at - now) + 1.1
    for start in passed:
        assert passed.count(start) <= limit + 1
        # A burst of the limit, and what trickles in during the minute after it.
        assert sum(start <= at < start + MINUTE for at in passed) <= 2 * limit


@pytest.mark.parametrize("limit", [1, 3, 7, 13, 60, 300])
def test_the_whole_limit_at_once_then_one_a_gap(bucket, limit):
    rows = [bucket.execute(TAKE, ("burst", limit)).fetchone() for _ in range(limit)]
    assert all(row["allowed"] for row in rows)
    assert rows[0]["remaining"] == limit - 1
    bucket.execute("update rate set tat = clock_timestamp() + '60 s' where k = 'burst'")
    refused = bucket.execute(TAKE, ("burst", limit)).fetchone()
    assert not refused["allowed"]
    assert refused["remaining"] == 0
    assert refused["retry"] == max(1, math.ceil(60 / limit - 0.01))
    bucket.execute(SHIFT, (timedelta(seconds=60 / limit), "burst"))
    assert bucket.execute(TAKE, ("burst", limit)).fetchone()["allowed"]


def test_a_limit_no_clock_can_count_is_still_one(bucket):
    row = bucket.execute(TAKE, ("huge", 2_000_000_000)).fetchone()
    assert row["allowed"]
    assert row["remaining"] > 0


def test_no_limit_leaves_no_row(bucket):
    row = bucket.execute(TAKE, ("off", 0)).fetchone()
    assert (row["allowed"], row["remaining"], row["retry"]) == (True, 1_000_000, None)
    assert bucket.execute("select 1 from rate where k = 'off'").fetchone() is None
