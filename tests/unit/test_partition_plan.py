"""Planning: whatever partitions there are, afterwards every wanted time has exactly one."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import (
    INTERVALS,
    floor,
    following,
    intervals,
    number,
    place,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import (
    EARLIEST,
    LATEST,
    Declaration,
    Partition,
    plan,
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


def test_a_long_name_that_is_not_needed_does_not_matter():
    existing = [part("other", "2026-11-01", "2026-12-01")]
    assert plan("l" * 60, existing, Declaration("month", 0), NOW).misnamed == []


def test_a_start_is_the_earliest_that_is_covered():
    existing = [part("log_2020_01", "2020-01-01", "2020-02-01")]
    planned = plan("log", existing, Declaration("month", 0, day("2026-10-20")), NOW)
    assert names(planned) == ["log_2026_10", "log_2026_11"]
    assert plan("log", existing, Declaration("month", 0, day("2027-03-01")), NOW).create[0].lower == day("2026-11-01")


def test_a_gap_before_the_start_is_told_and_not_filled():
    existing = [part("log_2020_01", "2020-01-01", "2020-02-01"), part("log_2026_11", "2026-11-01", "2026-12-01")]
    planned = plan("log", existing, Declaration("month", 0, day("2026-11-01")), NOW)
    assert planned.create == [] and [gap.lower for gap in planned.gaps] == [day("2020-02-01")]
    assert len(plan("log", existing, Declaration("month", 0), NOW).create) == 6 * 12 + 9


def test_a_partition_of_infinity_covers_nothing_else():
    existing = [Partition("endless", LATEST, LATEST), Partition("ancient", EARLIEST, EARLIEST)]
    planned = plan("log", existing, Declaration("month", 0), NOW)
    assert names(planned) == ["log_2026_11"] and planned.gaps == [] and planned.misnamed == []


def test_pieces_that_begin_in_the_same_second_have_names_of_their_own():
    second = datetime(2026, 11, 5, tzinfo=UTC)
    existing = [
        Partition(f"p{tenth}", second + timedelta(milliseconds=tenth), second + timedelta(milliseconds=tenth + 100))
        for tenth in (0, 200, 400)
    ]
    planned = plan("log", existing, Declaration("month", 0), NOW)
    assert len(set(names(planned))) == 4


def test_what_is_being_detached_takes_its_place_but_no_rows():
    existing = [
        part("log_2026_11", "2026-11-01", "2026-12-01"),
        Partition("log_2026_12", day("2026-12-01"), day("2027-01-01"), detach_pending=True),
    ]
    planned = plan("log", existing, Declaration("month", 2), NOW)
    assert names(planned) == ["log_2027_01"]
    assert planned.covered_until == day("2026-12-01") and planned.headroom == 0


def test_numbers_are_planned_as_times_are():
    existing = [Partition("log_0", place(0), place(1000)), Partition("odd", place(1500), place(1700))]
    planned = plan("log", existing, Declaration("1000", 1), place(3456))
    assert [(each.name, number(each.lower), number(each.upper)) for each in planned.create] == [
        ("log_1000_from_1000", 1000, 1500),
        ("log_1000_from_1700", 1700, 2000),
        ("log_2000", 2000, 3000),
        ("log_3000", 3000, 4000),
        ("log_4000", 4000, 5000),
    ]
    assert names(plan("log", [], Declaration("10", 1), place(-15))) == ["log_minus_20", "log_minus_10"]


@given(st.integers(-(10**16), 10**17), st.integers(1, 10**12))
def test_numbers_are_places_and_back(at, length):
    assert number(place(at)) == at
    begin = floor(place(at), str(length))
    assert number(begin) % length == 0 and begin <= place(at) < following(begin, str(length))


@pytest.mark.parametrize("interval", [*INTERVALS, "1000"])
def test_however_far_ahead_is_refused_and_not_a_crash(interval):
    with pytest.raises(PostgresqlError, match="more than 5000"):
        plan("log", [], Declaration(interval, 10**7), NOW)


def test_five_thousand_partitions_are_planned_at_once():
    begin = day("2026-11-23")
    existing = [
        Partition(f"log_{lower:%Y_%m_%d}", lower, upper)
        for lower, upper in intervals(begin, following(begin, "day", 4990), "day")
    ]
    begun = time.process_time()
    planned = plan("log", existing, Declaration("day", 4999), NOW)
    assert len(planned.create) == 10 and planned.headroom == 4989
    assert time.process_time() - begun < 1  # 0.1 s by itself; what grows with the square takes longer


@given(
    # The last two are numbers, an instant each: not quite a day of them, and a bit more than a month.
    st.sampled_from([*INTERVALS, "77777777777", "3000000000000"]),
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
