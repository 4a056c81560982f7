"""Which rows have expired by policy and class: never early, and mislabelled ones the later the better."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import EARLIEST, LATEST
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition
from ansible_collections.auditdb.postgresql.plugins.module_utils.purge_plan import (
    Policy,
    Rule,
    expiries,
    refuse_many,
    rules,
)
from hypothesis import given
from hypothesis import strategies as st

MAY = Partition("may", datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC))
CLASSES = ["PUBLIC", "INTERNAL", "PHI"]
POLICIES = st.lists(
    st.builds(
        Policy,
        name=st.sampled_from("abcdef"),
        classification=st.sampled_from(CLASSES),
        keep_days=st.integers(1, 4000),
        delete_days=st.none() | st.integers(1, 4000),
    ),
    unique_by=lambda each: each.name,
    max_size=6,
)


@given(POLICIES)
def test_no_row_goes_earlier_than_its_policy_and_a_mislabelled_one_not_before_its_class(policies):
    for rule in rules(policies):
        named = next(each for each in policies if each.name == rule.policy)
        assert rule.keep_days >= named.keep_days
        if rule.classification == named.classification:
            assert rule.keep_days == named.keep_days
        else:
            same = [each.keep_days for each in policies if each.classification == rule.classification]
            assert rule.keep_days == max([named.keep_days, *same])
        assert rule.delete_days is None or rule.delete_days >= rule.keep_days
        if named.delete_days is None:
            assert rule.delete_days is None


@given(POLICIES, st.integers(-100, 5000))
def test_a_rule_is_due_exactly_when_its_days_are_over_since_the_end_of_the_partition(policies, days):
    known = rules(policies)
    now = MAY.upper + timedelta(days=days)
    found = expiries([MAY], known, now)
    due = [rule for each in found for rule in each.rules]
    assert sorted(map(str, due)) == sorted(str(rule) for rule in known if rule.keep_days <= days)
    for each in found:
        for rule in each.rules:
            assert each.delete == (rule.delete_days is not None and rule.delete_days <= days)


def test_a_policy_of_another_class_takes_the_longer_time():
    found = rules([Policy("minimal", "PUBLIC", 90), Policy("phi", "PHI", 2555)])
    assert Rule("minimal", "PHI", 2555, None) in found and Rule("phi", "PUBLIC", 2555, None) in found
    assert Rule("minimal", "PUBLIC", 90, None) in found


@pytest.mark.parametrize(
    "part",
    [
        Partition("default", EARLIEST, LATEST, default=True),
        Partition("before", EARLIEST, MAY.upper),
        Partition("leaving", MAY.lower, MAY.upper, detach_pending=True),
        Partition("now", MAY.upper, LATEST),
    ],
    ids=lambda part: part.name,
)
def test_what_has_no_end_is_not_touched(part):
    assert expiries([part], [Rule("a", "PUBLIC", 1, None)], datetime(2026, 11, 23, tzinfo=UTC)) == []


def test_more_than_was_said_is_refused():
    refuse_many([MAY, MAY], 1)  # one partition, though rows of it go two ways
    with pytest.raises(PostgresqlError, match="2 partitions would be purged at once") as error:
        refuse_many([MAY, Partition("june", MAY.upper, LATEST)], 1)
    assert "max_leaving: 2" in error.value.remedy
