"""The maintenance report: what was done is told, what failed or was never run is a failure."""

from __future__ import annotations

from ansible_collections.auditdb.postgresql.plugins.filter.health import health_table
from ansible_collections.auditdb.postgresql.plugins.filter.maintenance import maintenance_rows

ITEM = {"table": "a.b"}
KEPT = {
    "item": ITEM,
    "created": [{"name": "b_2027_05"}],
    "carried": [{"partition": "b_2026_05", "what": ["owner", "access"]}],
    "repaired": [{"partition": "b_2026_06", "index": "b_i", "what": "rebuilt"}],
    "moved": ["b_2026_02"],
    "left": [{"name": "b_2019_01"}],
    "covered_until": "2027-06-01",
}
GOOD = {
    "partitions": {"results": [KEPT]},
    "purged": [
        {
            "item": ITEM,
            "purged": [
                {"partition": "b_2026_01", "rows": 3, "table": "a.x"},
                {"partition": "c", "rows": 4, "table": None},
            ],
            "archived": [{"partition": "x", "rows": 3}],
        }
    ],
    "copied": [
        {
            "item": ITEM,
            "copied": [{"partition": "b_2025_11", "archive": "a.b_2025_11.stays", "rows": 9}],
            "copies": 1,
            "waiting": 2,
        }
    ],
    "sealed": [{"item": ITEM, "sealed": [{"partition": "b_2026_10"}]}],
    "verified": [{"item": ITEM, "verified": [{"partition": "b_2026_09", "status": "intact"}]}],
    "found": {"tables": [{"table": "a.b", "problem": None, "partitions": [{"size_bytes": 1 << 20}], "headroom": 6}]},
}


def failed(**found):
    return [row["name"] for row in maintenance_rows({**GOOD, **found}) if row["status"] == "failed"]


def test_what_was_done_is_told():
    assert failed() == []
    text = health_table(maintenance_rows(GOOD))
    for said in (
        "3 rows of b_2026_01 went to a.x",
        "4 rows of c were deleted for good",
        "archived x: 3 rows",
        "made b_2027_05",
        "b_2026_05 was given owner, access",
        "rebuilt index b_i of b_2026_06",
        "moved b_2026_02 to its tablespace",
        "b_2019_01 left",
        "copied b_2025_11: 9 rows to a.b_2025_11.stays",
        "2 partitions are left to the next runs",
        "sealed b_2026_10",
        "(1 partitions)",
        "1 partitions, 6 of them",
    ):
        assert said in text


def test_archives_and_holds_are_told():
    done = {
        **KEPT,
        "archived": [{"partition": "b_1", "rows": 7, "sha256": "ab", "dropped": False}],
        "held": [{"partition": "b_1", "reason": "lawsuit", "owner": "legal"}],
    }
    text = health_table(maintenance_rows({**GOOD, "partitions": {"results": [done]}}))
    assert "archived b_1: 7 rows, SHA-256 ab; held, so the table stays" in text
    assert "b_1 is held: lawsuit (legal)" in text


def test_what_failed_is_a_failure_and_does_not_hide_the_others():
    broken = {"item": {"table": "a.c"}, "failed": True, "msg": "no such table"}
    assert failed(partitions={"results": [broken, KEPT]}) == ["a.c is kept"]
    waived = {"item": ITEM, "failed": False, "msg": "refused"}
    assert failed(purged=[waived]) == ["a.b is purged by policy"]
    assert failed(sealed=[waived]) == ["closed partitions of a.b are sealed"]
    assert failed(verified=[waived]) == ["a.b: sealed rows are what they were"]
    assert failed(found={"msg": "refused"}) == ["the partitions can be looked at"]
    assert failed(found={"tables": [{"table": "a.b", "problem": "gone"}]}) == ["a.b can be looked at"]


def test_what_was_never_run_is_a_failure():
    assert failed(partitions={}) == ["the partitions are kept"]


def test_changed_rows_are_a_failure_and_late_ones_are_told():
    verified = [
        {"partition": "b_1", "status": "changed", "explanation": "rows 1 to 9"},
        {"partition": "b_2", "status": "late", "late_rows": 3},
    ]
    rows = maintenance_rows({**GOOD, "verified": [{"item": ITEM, "verified": verified}]})
    broken = next(row for row in rows if row["status"] == "failed")
    assert broken["findings"] == ["b_1: rows 1 to 9", "b_2: 3 late rows"] and "backup" in broken["remedy"]
