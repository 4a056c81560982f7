"""Recommendations that a small server cannot show: transaction ids that age, locks that do not suffice."""

from __future__ import annotations

from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_advice import Limits, advise
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_insight import Insight

LIMITS = Limits(1000, 1 << 40)
KNOWN = Insight({}, True, [], max_locks=64, freeze_max_age=200_000_000)


def report(count, **part):
    each = {"indexes": 3, "invalid_indexes": [], "size_bytes": 8192, "states": ["closed"], "xid_age": 5, **part}
    parts = [{"name": f"log_{number}", **each} for number in range(count)]
    lists = {key: [] for key in ("missing", "misnamed", "detach_pending")}
    return {"schema": "public", "table": "public.log", "key": "at", "partitions": parts, **lists}


def test_a_query_that_cannot_prune_takes_a_lock_for_each_table_and_index():
    assert advise(report(800), KNOWN, LIMITS, 6400) == []
    (found,) = advise(report(801), KNOWN, LIMITS, 6400)
    assert found.about == "lock_budget" and "3204 locks, of 6400" in found.reason
    assert "max_locks_per_transaction = 65," in found.remedy
    (found,) = advise(report(900, indexes=15), KNOWN, LIMITS, 6400)
    assert "max_locks_per_transaction = 288," in found.remedy, "half of 288 * 100 is what 14,400 locks need"


def test_partitions_that_were_not_frozen_in_time():
    assert advise(report(1, xid_age=200_000_000), KNOWN, LIMITS, 6400) == []
    (found,) = advise(report(1, xid_age=200_000_001), KNOWN, LIMITS, 6400)
    assert found.about == "xid_age" and found.remedy == "VACUUM (FREEZE) public.log_0"
    assert advise(report(1, xid_age=None), KNOWN, LIMITS, 6400) == [], "a foreign table has none"
