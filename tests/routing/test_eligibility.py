"""Who may be picked, by the member's own clock; the model and Postgres agree in every zone."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lantern.core.sfids import record_key
from lantern.routing.eligibility import (
    WEEK,
    Caps,
    Counts,
    Person,
    Rules,
    reason,
    schedule_reason,
    starts,
    zones,
)

# What the SQL of the decision asks of a member at a moment, and when its hour, day and week began.
IN_POSTGRES = """
    select case
        when %(out)s::tstzmultirange @> %(at)s then 'out_of_office'
        when l.at::date = any (%(holidays)s::date[]) then 'holiday'
        when %(hours)s::int4multirange is not null and not %(hours)s::int4multirange @> (
            (extract(isodow from l.at)::int - 1) * 1440 + extract(hour from l.at)::int * 60
            + extract(minute from l.at)::int) then 'outside_hours'
    end as away, date_trunc('hour', %(at)s, %(tz)s) as hour, local_start('day', %(at)s, %(tz)s) as day,
        local_start('week', %(at)s, %(tz)s) as week
    from (select %(at)s at time zone %(tz)s as at) l
"""
NINE_TO_FIVE = tuple((day * 1440 + 540, day * 1440 + 1020) for day in range(5))
ODD = [
    "Asia/Kolkata",  # 5:30
    "Asia/Kathmandu",  # 5:45
    "Australia/Lord_Howe",  # clocks move by half an hour
    "Africa/Cairo",  # forward over midnight
    "America/Santiago",  # forward over midnight
    "America/Havana",  # back over midnight
    "Atlantic/Azores",  # back over midnight
    "Europe/Berlin",
    "America/New_York",
    "Europe/Dublin",
    "Pacific/Apia",
    "UTC",
]
somewhere = st.one_of(st.sampled_from(ODD), st.sampled_from(sorted(zones())))
# What is to come differs where one of the two knows a newer law.
SECONDS = [int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2000, 2025)]
moments = st.integers(*SECONDS).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def person(zone: str, **more) -> Person:
    return Person(timezone=zone, **more)


@st.composite
def people(draw, zone: str, moment: datetime) -> Person:
    cuts = sorted(draw(st.sets(st.integers(0, WEEK), max_size=6)))
    near = st.integers(-3000, 3000).map(lambda n: moment + timedelta(minutes=n))
    away = [sorted(pair) for pair in draw(st.lists(st.tuples(near, near), max_size=2))]
    return Person(
        timezone=zone,
        hours=draw(st.sampled_from([None, tuple(zip(cuts[::2], cuts[1::2], strict=False))])),
        holidays=frozenset(draw(st.sets(near.map(lambda m: m.date()), max_size=2))),
        out_of_office=tuple((a, b) for a, b in away if a < b),
    )


def literal(ranges) -> str | None:
    return None if ranges is None else "{" + ",".join(f"[{a},{b})" for a, b in ranges) + "}"


def quoted(ranges) -> str:
    return "{" + ",".join(f'["{a.isoformat()}","{b.isoformat()}")' for a, b in ranges) + "}"


async def asked(db, person: Person, moment: datetime) -> dict:
    return await db.one(
        IN_POSTGRES,
        {
            "at": moment,
            "tz": person.timezone,
            "hours": literal(person.hours),
            "holidays": list(person.holidays),
            "out": quoted(person.out_of_office),
        },
    )


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
async def test_the_model_and_postgres_agree(db, data):
    zone, moment = data.draw(somewhere), data.draw(moments)
    someone = data.draw(people(zone, moment))
    row = await asked(db, someone, moment)
    assert row["away"] == schedule_reason(someone, moment)
    assert (row["hour"], row["day"], row["week"]) == starts(moment, zone)


@pytest.mark.parametrize("zone", ODD)
async def test_they_agree_around_every_change_of_the_clocks(db, zone):
    there, moment, seen = ZoneInfo(zone), datetime(2024, 1, 1, tzinfo=UTC), 0
    someone = person(zone, hours=NINE_TO_FIVE)
    while moment < datetime(2026, 1, 1, tzinfo=UTC):
        later = moment + timedelta(minutes=30)
        if moment.astimezone(there).utcoffset() != later.astimezone(there).utcoffset():
            seen += 1
            for minutes in range(-150, 180, 10):
                near = later + timedelta(minutes=minutes, seconds=17)
                row = await asked(db, someone, near)
                assert (row["hour"], row["day"], row["week"]) == starts(near, zone), near
                assert row["away"] == schedule_reason(someone, near)
        moment = later
    assert seen in (0, 4)


async def test_postgres_knows_every_zone_that_a_member_may_have(db):
    await db.one("select count(now() at time zone z) from unnest(%s::text[]) z", ([*zones()],))


def test_names_that_postgres_reads_as_abbreviations_are_no_zones():
    assert not zones() & {"MET", "CET", "EST", "HST", "Cuba"}
    assert {"UTC", "Europe/Berlin", "America/Argentina/Salta"} < zones()


def test_half_hour_zones_open_and_close_on_their_own_minute():
    hours = ((540, 1020),)  # Monday 09:00 to 17:00
    for zone, opens in (("Asia/Kolkata", "03:30"), ("Asia/Kathmandu", "03:15")):
        first = at(f"2026-11-23T{opens}:00")
        assert schedule_reason(person(zone, hours=hours), first) is None
        before = first - timedelta(seconds=1)
        assert schedule_reason(person(zone, hours=hours), before) == "outside_hours"
        assert starts(first, zone).hour == first
        assert starts(first + timedelta(hours=2), zone).day == first - timedelta(hours=9)


@pytest.mark.parametrize(
    ("zone", "night", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Africa/Cairo", "2026-04-24", 23),
        ("America/Santiago", "2026-09-06", 23),
    ],
)
def test_a_day_is_as_long_as_it_is_there(zone, night, hours):
    noon = at(f"{night}T12:00", zone)
    today = starts(noon, zone).day
    assert starts(noon + timedelta(days=1), zone).day - today == timedelta(hours=hours)
    assert starts(today - timedelta(seconds=1), zone).day < today
    assert starts(today, zone).day == today


def test_working_hours_follow_the_wall_clock_over_a_change():
    someone = person("Europe/Berlin", hours=NINE_TO_FIVE)
    assert schedule_reason(someone, at("2026-03-27T08:00")) is None  # Friday 9:00, one hour east
    assert schedule_reason(someone, at("2026-03-30T07:00")) is None  # Monday 9:00, two hours east
    assert schedule_reason(someone, at("2026-03-27T07:00")) == "outside_hours"


def test_a_night_shift_crosses_midnight_and_the_week():
    someone = person("Europe/Berlin", hours=((0, 360), (6 * 1440 + 1320, WEEK)))  # Sunday 22 to 6
    assert schedule_reason(someone, at("2026-11-22T22:30", "Europe/Berlin")) is None
    assert schedule_reason(someone, at("2026-11-23T05:59", "Europe/Berlin")) is None
    assert schedule_reason(someone, at("2026-11-23T06:00", "Europe/Berlin")) == "outside_hours"


def test_a_holiday_is_a_day_of_the_members_calendar():
    someone = person("Pacific/Auckland", holidays=frozenset({date(2026, 12, 25)}))
    assert schedule_reason(someone, at("2026-12-24T11:00")) == "holiday"  # midnight, 13 hours east
    assert schedule_reason(someone, at("2026-12-24T10:59:59")) is None
    assert schedule_reason(someone, at("2026-12-25T11:00")) is None


def test_out_of_office_ends_with_its_last_moment():
    someone = person("UTC", out_of_office=((at("2026-01-01"), at("2026-01-02")),))
    assert schedule_reason(someone, at("2026-01-01")) == "out_of_office"
    assert schedule_reason(someone, at("2026-01-02")) is None


def test_reasons_come_in_their_order():
    noon = at("2026-12-25T12:00")
    everything = Person(
        active=False,
        hours=(),
        holidays=frozenset({noon.date()}),
        out_of_office=((noon, noon + timedelta(days=1)),),
        caps=Caps(1, 1, 1, 1),
    )
    one = Counts(1, 1, 1, 1)
    assert reason(everything, noon, one, aside="bad_fit") == "inactive"
    lax = Rules(exclude_inactive=False)
    assert reason(everything, noon, one, lax, "bad_fit") == "out_of_office"
    off = Rules(exclude_inactive=False, respect_schedule=False)
    assert reason(everything, noon, one, off, "bad_fit") == "cap_hour"
    assert reason(everything, noon, Counts(0, 1, 1, 1), off) == "cap_day"
    assert reason(everything, noon, Counts(0, 0, 1, 1), off) == "cap_week"
    assert reason(everything, noon, Counts(0, 0, 0, 1), off) == "cap_open"
    assert reason(everything, noon, Counts(), off, "held_before") == "held_before"
    assert reason(everything, noon, Counts(), off) is None


def test_what_the_crm_says_counts_unless_it_does_not_matter():
    gone = Person(crm_active=False)
    noon = at("2026-01-01T12:00")
    assert reason(gone, noon) == "inactive"
    assert reason(gone, noon, rules=Rules(exclude_inactive=False)) is None
    assert reason(Person(crm_active=True), noon) is None


def test_a_held_turn_looks_ahead_in_steps_of_five_minutes():
    someone = person("UTC", hours=((540, 1020),))  # Monday
    early = at("2026-11-23T08:01")
    assert reason(someone, early, rules=Rules(hold_minutes=60)) == "back_soon"  # at 9:01
    assert reason(someone, early, rules=Rules(hold_minutes=59)) == "outside_hours"
    assert reason(someone, early, rules=Rules(hold_minutes=4)) == "outside_hours"
    busy = Person(hours=someone.hours, caps=Caps(day=2))
    assert reason(busy, early, Counts(day=2), Rules(hold_minutes=60)) == "cap_day"


def test_a_cap_of_nothing_means_never():
    assert reason(Person(caps=Caps(day=0)), at("2026-01-01")) == "cap_day"


def test_midnight_caps_turn_over_at_the_members_midnight():
    before = at("2026-11-22T18:29:59")  # 23:59:59 in Kolkata
    after = before + timedelta(seconds=1)
    assert starts(before, "Asia/Kolkata").day == at("2026-11-21T18:30")
    assert starts(after, "Asia/Kolkata").day == after
    assert starts(after, "Asia/Kolkata").week == after  # and this was a Sunday


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("001Kz00000AAbb1", "001Kz00000AAbb1IAD"),
        ("0015000000Gv7qJ", "0015000000Gv7qJAAR"),
        ("001000000000000", "001000000000000AAA"),
        ("001000000000000AAA", "001000000000000AAA"),
        ("lead-1", "lead-1"),
        ("lead-0123456789", "lead-0123456789"),
        ("ärgerlichkeiten", "ärgerlichkeiten"),
    ],
)
def test_fifteen_characters_are_brought_to_eighteen(given, key):
    assert record_key(given) == key
