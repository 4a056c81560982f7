"""Where a plain table is cut, what an earlier run left that serves, and what things are called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_plan import (
    Origin,
    check_serves,
    check_upper,
    choose_boundary,
    index_serves,
    legacy_name,
    names,
    read_origin,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import INTERVALS, floor
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import Period
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)
WEEK = Period(7, "day")
MONTHLY = {"interval": "month", "premake": 2}


def day(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "newest", "found", "boundary"),
    [
        ("2026-11-23T04:00", None, None, "2026-12-01"),
        ("2026-11-24", None, None, "2026-12-01"),
        ("2026-11-24T00:00:01", None, None, "2027-01-01"),
        ("2026-12-31", None, None, "2027-02-01"),
        ("2026-11-23", "2026-11-30T23:59:59", None, "2026-12-01"),
        ("2026-11-23", "2026-12-01", None, "2027-01-01"),
        ("2026-11-23", "2027-01-31", None, "2027-02-01"),
        ("2026-11-23", None, "2027-01-01", "2027-01-01"),
        ("2026-11-23", None, "2026-11-20", "2026-12-01"),
        ("2026-11-23", None, "2031-01-01", "2026-12-01"),
    ],
)
def test_the_boundary(now, newest, found, boundary):
    chosen = choose_boundary(day(now), day(newest) if newest else None, MONTHLY, WEEK, day(found) if found else None)
    assert chosen == day(boundary)


def test_rows_beyond_all_partitions_are_refused():
    with pytest.raises(PostgresqlError, match="2027-02-01") as refused:
        choose_boundary(NOW, day("2027-02-01"), MONTHLY, WEEK, None)
    assert "premake" in refused.value.remedy


instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(lambda each: each.replace(tzinfo=UTC))


@given(now=instants, ahead=st.integers(-900, 900), interval=st.sampled_from(INTERVALS), room=st.integers(1, 100))
def test_wherever_it_is_cut_there_is_room_and_all_rows_are_before(now, ahead, interval, room):
    newest = now + timedelta(hours=ahead)
    try:
        boundary = choose_boundary(now, newest, {"interval": interval, "premake": 3}, Period(room, "hour"), None)
    except PostgresqlError:
        assert newest > now
        return
    assert floor(boundary, interval) == boundary
    assert boundary > newest and boundary - now >= timedelta(hours=room)


def check(definition, valid=True):
    return {"definition": definition, "valid": valid}


ZONED = "CHECK (((at IS NOT NULL) AND (at < '2026-12-01 00:00:00+00'::timestamp with time zone)))"


@pytest.mark.parametrize(
    ("definition", "key", "upper"),
    [
        (ZONED, "at", "2026-12-01"),
        (f"{ZONED} NOT VALID", "at", "2026-12-01"),
        (
            "CHECK (((at IS NOT NULL) AND (at < '2026-12-01 05:00:00'::timestamp without time zone)))",
            "at",
            "2026-12-01T05",
        ),
        ("CHECK (((at IS NOT NULL) AND (at < '2026-12-01'::date)))", "at", "2026-12-01"),
        (ZONED.replace("at ", '"a "".b" '), 'a ".b', "2026-12-01"),
        (ZONED, "t", None),
        (ZONED, "a.", None),
        ("CHECK ((at < '2026-12-01'::date))", "at", None),
        ("CHECK (((at IS NOT NULL) AND (at < 'infinity'::date)))", "at", None),
        ("CHECK ((id > 0))", "at", None),
    ],
)
def test_the_boundary_of_an_earlier_runs_check(definition, key, upper):
    assert check_upper(check(definition), key) == (day(upper) if upper else None)


def test_a_check_serves_while_it_has_time_or_room():
    wanted = day("2026-12-01")
    assert check_serves(check(ZONED), "at", wanted, NOW)
    assert check_serves(check(ZONED), "at", day("2027-01-01"), NOW), "validated: the swap is next"
    assert not check_serves(check(ZONED, valid=False), "at", day("2027-01-01"), NOW), "still to be validated"
    assert check_serves(check(ZONED, valid=False), "at", wanted, NOW)
    assert not check_serves(check(ZONED), "at", wanted, wanted), "past"
    assert not check_serves(None, "at", wanted, NOW) and check_upper(None, "at") is None


def test_an_index_serves_when_it_is_complete():
    index = {"valid": True, "unique": True, "columns": ["id", "at"]}
    assert index_serves(index, ["id", "at"])
    for wrong in ({"valid": False}, {"unique": False}, {"columns": ["at", "id"]}):
        assert not index_serves(index | wrong, ["id", "at"])
    assert not index_serves(None, ["id"])


def test_names():
    assert legacy_name("log_at_idx", "log") == "log_legacy_at_idx"
    assert legacy_name("logged", "log") == "logged_legacy"
    long = {legacy_name(f"{'é' * 30}{end}", "log") for end in "ab"}
    assert len(long) == 2 and all(len(name.encode()) <= 63 for name in long)
    with pytest.raises(PostgresqlError, match="too long"):
        names("x" * 50)


@pytest.mark.parametrize(
    "text", [None, "", "a comment", "[]", "7", "{}", '{"made_by": "x"}', '{"made_by": null, "a": 1}']
)
def test_other_comments_are_no_origin(text):
    assert read_origin(text) is None


def test_an_origin_is_read_as_it_was_written():
    for kept in (Origin("2026-12-01T00:00:00+00:00", "at"), Origin("x", "k", True, 'a "b" é', ("id", "k2"), ("c",))):
        assert read_origin(kept.comment()) == kept
    extra = kept.comment().replace("{", '{"later": 1, ', 1)
    assert read_origin(extra) is None, "of a version that this one does not know"
