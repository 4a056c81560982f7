"""Intervals: for any instant, bounds meet without gap or overlap, and names are one to one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import (
    EARLIEST,
    INTERVALS,
    LATEST,
    bound_literal,
    floor,
    following,
    parse_bound,
    parse_instant,
    suffix,
)
from hypothesis import given
from hypothesis import strategies as st

INSTANTS = st.datetimes(datetime(1971, 1, 1), datetime(2400, 1, 1), timezones=st.just(UTC))
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(INSTANTS, st.sampled_from(INTERVALS))
def test_an_instant_lies_in_its_interval(instant, interval):
    begin = floor(instant, interval)
    assert begin <= instant < following(begin, interval)
    assert floor(begin, interval) == begin
    assert floor(following(begin, interval), interval) == following(begin, interval)


@given(INSTANTS, ZONES, st.sampled_from(INTERVALS))
def test_the_zone_of_the_clock_does_not_matter(instant, zone, interval):
    assert floor(instant.astimezone(zone), interval) == floor(instant, interval)


@given(INSTANTS, st.sampled_from(INTERVALS), st.integers(1, 40))
def test_names_differ_when_intervals_do(instant, interval, count):
    begin = floor(instant, interval)
    assert suffix(begin, interval) != suffix(following(begin, interval, count), interval)


@pytest.mark.parametrize(
    ("interval", "name"),
    [("hour", "2026_11_03_05"), ("day", "2026_11_03"), ("month", "2026_11"), ("quarter", "2026_q4"), ("year", "2026")],
)
def test_names(interval, name):
    assert suffix(datetime(2026, 11, 3, 5, tzinfo=UTC), interval) == name


def test_weeks_are_iso_weeks():
    begin = floor(datetime(2027, 1, 2, 12, tzinfo=UTC), "week")
    assert (begin.isoformat(), suffix(begin, "week")) == ("2026-12-28T00:00:00+00:00", "2026_w53")


def test_instants_of_options():
    assert parse_instant("2026-11-01", "start") == datetime(2026, 11, 1, tzinfo=UTC)
    assert parse_instant("2026-11-01T01:00+01:00", "start") == datetime(2026, 11, 1, tzinfo=UTC)
    for text in ("soon", "", "2026-13-01", "0001-01-01T00:00+14:00"):
        with pytest.raises(PostgresqlError, match="start: '"):
            parse_instant(text, "start")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("'2026-11-01 00:00:00+00'", datetime(2026, 11, 1, tzinfo=UTC)),
        ("'2026-11-01 00:00:00.25+00'", datetime(2026, 11, 1, 0, 0, 0, 250000, tzinfo=UTC)),
        ("'2026-11-01 00:00:00'", datetime(2026, 11, 1, tzinfo=UTC)),
        ("'2026-11-01'", datetime(2026, 11, 1, tzinfo=UTC)),
        ("MINVALUE", EARLIEST),
        ("'-infinity'", EARLIEST),
        ("'0044-03-15 00:00:00+00 BC'", EARLIEST),
        ("MAXVALUE", LATEST),
        ("'infinity'", LATEST),
        ("'12026-11-01 00:00:00+00'", LATEST),
    ],
)
def test_bounds_as_postgresql_writes_them(text, instant):
    assert parse_bound(text) == instant


@pytest.mark.parametrize("interval", INTERVALS)
def test_the_calendar_ends(interval):
    assert following(datetime(9999, 12, 31, 23, tzinfo=UTC), interval) == LATEST


def test_bounds_say_their_zone_where_the_type_has_one():
    instant = datetime(2026, 11, 1, tzinfo=UTC)
    assert bound_literal(instant, "timestamp with time zone") == "2026-11-01 00:00:00+00"
    assert bound_literal(instant, "timestamp without time zone") == "2026-11-01 00:00:00"
    assert bound_literal(instant, "date") == "2026-11-01"
    with pytest.raises(PostgresqlError):
        bound_literal(instant + timedelta(hours=1), "date")
