"""Which partitions are due for a copy: never one that is open, never early, never twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_copy import due
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import (
    EARLIEST,
    LATEST,
    intervals,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition
from hypothesis import given
from hypothesis import strategies as st

BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
MONTHS = [Partition(f"log_{low:%Y_%m}", low, high) for low, high in intervals(BEGIN, END, "month")]
ODD = [
    Partition("log_default", EARLIEST, LATEST, default=True),
    Partition("log_legacy", EARLIEST, BEGIN),
    Partition("log_leaving", datetime(2025, 12, 1, tzinfo=UTC), BEGIN, detach_pending=True),
]


@given(
    st.sets(st.sampled_from(MONTHS)),
    st.integers(1, 900),
    st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1)).map(lambda at: at.replace(tzinfo=UTC)),
)
def test_exactly_those_that_ended_so_many_days_ago_and_have_none(copied, days, now):
    found = due([*reversed(MONTHS), *ODD], [(each.lower, each.upper) for each in copied], days, now)
    expected = [each for each in MONTHS if each not in copied and each.upper + timedelta(days=days) <= now]
    assert found == expected
    done = [(each.lower, each.upper) for each in [*copied, *found]]
    assert due([*MONTHS, *ODD], done, days, now) == []


def test_no_policy_asks():
    assert due(MONTHS, [], None, END) == []
