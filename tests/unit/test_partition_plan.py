"""Planning: whatever partitions there are, afterwards every wanted time has exactly one."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import INTERVALS, floor, following
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import (
    EARLIEST,
    LATEST,
    Declaration,
    Partition,
    plan,
    refuse_taken_names,
    uncovered,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)


def day(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def part(name, lower, upper):
    return Partition(name, day(lower), day(upper))


def names(planned):
    return [each.name for each in planned.create]


def test_a_fresh_table():
    planned = plan("log", [], Declaration("month", 2), NOW)
    assert names(planned) == ["log_2026_11", "log_2026_12", "log_2027_01"]
    assert planned.headroom == 0


def test_a_converged_table():
    existing = [part("log_2026_11", "2026-11-01", "2026-12-01"), part("log_2026_12", "2026-12-01", "2027-01-01")]
    planned = plan("log", existing, Declaration("month", 1), NOW)
    assert planned.create == [] and planned.headroom == 1
    assert planned.covered_until == day("2027-01-01")


def test_start_reaches_back():
    assert names(plan("log", [], Declaration("quarter", 0, day("2026-05-05")), NOW)) == [
        "log_2026_q2",
        "log_2026_q3",
        "log_2026_q4",
    ]


def test_a_partition_counts_by_its_bounds_whatever_its_name():
    planned = plan("log", [part("other", "2026-11-01", "2026-12-01")], Declaration("month", 0), NOW)
    assert planned.create == []
    assert planned.misnamed == [("other", "log_2026_11")]


def test_a_gap_is_filled_even_before_now():
    existing = [part("log_2026_08", "2026-08-01", "2026-09-01"), part("log_2026_10", "2026-10-01", "2026-11-01")]
    planned = plan("log", existing, Declaration("month", 0), NOW)
    assert names(planned) == ["log_2026_09", "log_2026_11"]
    assert [(gap.lower, gap.upper) for gap in planned.gaps] == [(day("2026-09-01"), day("2026-10-01"))]


def test_an_odd_partition_gets_exactly_the_rest_beside_it():
    planned = plan("log", [part("odd", "2026-11-05", "2026-11-20")], Declaration("month", 0), NOW)
    assert [(each.name, each.lower, each.upper) for each in planned.create] == [
        ("log_2026_11_from_20261101000000", day("2026-11-01"), day("2026-11-05")),
        ("log_2026_11_from_20261120000000", day("2026-11-20"), day("2026-12-01")),
    ]


def test_a_partition_of_the_far_future_does_not_make_a_thousand():
    planned = plan("log", [part("far", "2999-01-01", "2999-02-01")], Declaration("month", 1), NOW)
    assert names(planned) == ["log_2026_11", "log_2026_12"]


def test_minvalue_and_maxvalue_cover():
    existing = [Partition("old", EARLIEST, day("2026-11-10")), Partition("new", day("2027-01-01"), LATEST)]
    planned = plan("log", existing, Declaration("month", 12), NOW)
    assert [(each.lower, each.upper) for each in planned.create] == [
        (day("2026-11-10"), day("2026-12-01")),
        (day("2026-12-01"), day("2027-01-01")),
    ]


def test_a_default_partition_covers_nothing():
    assert names(plan("log", [Partition("d", EARLIEST, LATEST, default=True)], Declaration("month", 0), NOW))


def test_too_many_at_once_are_refused():
    with pytest.raises(PostgresqlError, match="at once"):
        plan("log", [], Declaration("day", 0, day("1990-01-01")), NOW)


def test_a_name_that_is_too_long_is_refused_and_not_cut():
    with pytest.raises(PostgresqlError, match="63 bytes"):
        plan("l" * 60, [], Declaration("month", 0), NOW)


def test_a_taken_name_is_refused():
    planned = plan("log", [], Declaration("month", 0), NOW)
    with pytest.raises(PostgresqlError, match="log_2026_11"):
        refuse_taken_names(planned.create, ["log_2026_11"], "s")


@given(
    st.sampled_from(INTERVALS),
    st.integers(0, 8),
    st.lists(st.tuples(st.integers(-90, 90), st.integers(1, 30)), max_size=6),
    st.integers(0, 90),
)
def test_afterwards_every_time_has_exactly_one_partition(interval, premake, blocks, back):
    existing = []
    for offset, length in blocks:
        lower, upper = NOW + timedelta(days=offset), NOW + timedelta(days=offset + length)
        if all(upper <= each.lower or lower >= each.upper for each in existing):
            existing.append(Partition(f"p{len(existing)}", lower, upper))
    declaration = Declaration(interval, premake, NOW - timedelta(days=back))
    planned = plan("log", existing, declaration, NOW)
    after = sorted([*existing, *planned.create], key=lambda each: each.lower)
    for one, other in itertools.pairwise(after):
        assert one.upper <= other.lower, "overlap"
    begin = floor(NOW - timedelta(days=back), interval)
    end = following(floor(NOW, interval), interval, premake + 1)
    made = [Partition(each.name, each.lower, each.upper) for each in planned.create]
    assert uncovered(begin, end, [*existing, *made]) == []
    assert len({each.name for each in planned.create}) == len(planned.create)
    assert plan("log", [*existing, *made], declaration, NOW).create == []
