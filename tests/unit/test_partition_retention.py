"""Which partitions leave: never early, never late, never what is held or recent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import INTERVALS, floor, following
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Declaration, Partition, plan
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import (
    Hold,
    Period,
    Retention,
    expired,
    leaving,
    period,
    retention,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)
OPTIONS = {
    "retention": "2 months",
    "retention_action": "detach",
    "keep_at_least": 1,
    "max_leaving": 3,
    "clock_lead": "60 days",
}


def months(first, count):
    at = floor(first, "month")
    parts = []
    for _number in range(count):
        after = following(at, "month")
        parts.append(Partition(f"p_{at:%Y_%m}", at, after))
        at = after
    return parts


def wanted(**options):
    return retention({**OPTIONS, **options})


@pytest.mark.parametrize(
    ("text", "count", "unit"),
    [("7 years", 7, "year"), ("90 days", 90, "day"), ("1 month", 1, "month"), ("8weeks", 8, "week")],
)
def test_periods(text, count, unit):
    assert period(text, "retention") == Period(count, unit)


@pytest.mark.parametrize("text", ["", "0 days", "-1 year", "seven years", "1.5 years", "1 fortnight", "1 year 2 days"])
def test_what_is_no_period_is_named(text):
    with pytest.raises(PostgresqlError, match="retention: "):
        period(text, "retention")


def test_periods_are_those_of_the_calendar():
    assert Period(1, "month").before(datetime(2024, 3, 31, tzinfo=UTC)) == datetime(2024, 2, 29, tzinfo=UTC)
    assert Period(1, "year").before(datetime(2024, 2, 29, tzinfo=UTC)) == datetime(2023, 2, 28, tzinfo=UTC)
    assert Period(999999, "year").before(NOW).year == 1


def test_a_partition_leaves_when_its_last_instant_is_older_and_not_before():
    parts = months(datetime(2026, 7, 1, tzinfo=UTC), 8)
    edge = datetime(2026, 10, 1, tzinfo=UTC)
    assert [each.name for each in expired(parts, wanted(), edge - timedelta(microseconds=1))] == []
    assert [each.name for each in expired(parts, wanted(), edge)] == ["p_2026_07"]


def test_the_newest_stay_whatever_their_age():
    parts = months(datetime(2020, 1, 1, tzinfo=UTC), 4)
    assert [each.name for each in expired(parts, wanted(keep_at_least=3), NOW)] == ["p_2020_01"]
    assert expired(parts, wanted(keep_at_least=4), NOW) == []


def test_default_and_future_partitions_never_leave():
    rest = Partition("rest", datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), default=True)
    future = months(datetime(2027, 1, 1, tzinfo=UTC), 3)
    assert expired([rest, *future], wanted(retention="1 hour"), NOW) == []


def test_what_is_held_stays_and_does_not_count():
    old = months(datetime(2020, 1, 1, tzinfo=UTC), 4)
    holds = [Hold("p_2020_02", 1, "lawsuit", "legal")]
    assert [each.name for each in leaving(old, holds, wanted(), NOW, NOW)] == ["p_2020_01", "p_2020_03", "p_2020_04"]


def test_many_at_once_need_a_number():
    old = months(datetime(2020, 1, 1, tzinfo=UTC), 4)
    with pytest.raises(PostgresqlError, match=r"4 partitions would leave at once .* more than 3") as failed:
        leaving(old, [], wanted(), NOW, NOW)
    assert "max_leaving: 4" in failed.value.remedy
    assert leaving(old, [], wanted(max_leaving=4), NOW, NOW) == old


def test_a_clock_far_ahead_of_the_rows_lets_nothing_leave():
    old = months(datetime(2020, 1, 1, tzinfo=UTC), 1)
    with pytest.raises(PostgresqlError, match="newest row"):
        leaving(old, [], wanted(), NOW, NOW - timedelta(days=61))
    assert leaving(old, [], wanted(), NOW, NOW - timedelta(days=59)) == old
    assert leaving(old, [], wanted(), NOW, None) == old, "without rows there is nothing to lose"


@pytest.mark.parametrize("bad", [{"retention": None}, {"keep_at_least": 0}, {"max_leaving": 0}, {"clock_lead": "soon"}])
def test_bad_options_are_named(bad):
    with pytest.raises(PostgresqlError, match=next(iter(bad))):
        wanted(**bad)


def test_keep_is_no_retention():
    assert retention({**OPTIONS, "retention_action": "keep"}) is None


@given(
    interval=st.sampled_from(INTERVALS),
    length=st.builds(Period, st.integers(1, 50), st.sampled_from(INTERVALS)),
    number=st.integers(1, 60),
    keep=st.integers(1, 10),
    at=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
)
def test_nothing_recent_ever_leaves_and_nothing_old_stays(interval, length, number, keep, at):
    now = at.replace(tzinfo=UTC)
    stay = Retention(length, "drop", keep, 10**6, Period(1, "day"))
    first = floor(now, interval)
    for _back in range(number):
        first = floor(first - timedelta(hours=1), interval)
    parts = []
    while first < following(now, interval, 3):
        parts.append(Partition(f"p{len(parts)}", first, following(first, interval)))
        first = following(first, interval)
    gone = expired(parts, stay, now)
    cutoff = stay.period.before(now)
    assert all(each.upper <= cutoff for each in gone)
    past = [each for each in parts if each.lower <= now]
    assert len(past) - len(gone) >= min(keep, len(past))
    assert set(past[:-keep]) - set(gone) == {each for each in past[:-keep] if each.upper > cutoff}
    # What has left is not planned again, whatever is left between.
    rest = [each for each in parts if each not in gone]
    held = [*gone[:1], *rest]
    again = plan("t", held, Declaration(interval, 2, earliest=cutoff), now)
    assert all(new.upper > cutoff for new in again.create)
