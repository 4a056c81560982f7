"""The health report: whatever could not be looked at is a finding, never silence."""

from __future__ import annotations

import json

from ansible_collections.auditdb.postgresql.plugins.filter.health import (
    canonical_json,
    health_rows,
    health_summary,
    health_table,
    health_verdict,
)

LEDGER = {"current_version": "1", "pending": [], "mismatched": [], "missing": [], "unfinished": []}
GOOD = {
    "checks": {"results": [{"name": "c", "group": "server", "status": "ok", "findings": [], "remedy": "r"}]},
    "migrations": [LEDGER],
    "partitions": {"tables": [{"table": "a.b", "problem": None, "missing": [], "detach_pending": []}]},
    "roles": {"changed": False, "queries": []},
    "grants": {"changed": False, "queries": []},
}


def failed(found, managed=True):
    return [row["name"] for row in health_rows({**GOOD, **found}, managed) if row["status"] == "failed"]


def test_all_is_well():
    assert failed({}) == []


def test_a_module_that_failed_is_a_finding_even_when_its_failure_was_waived():
    for name in GOOD:
        broken = {"failed": False, "changed": False, "msg": "connection refused"}
        assert failed({name: [broken] if name == "migrations" else broken}), name
    assert failed({"migrations": []})


def test_findings():
    pending = {**LEDGER, "pending": ["2_x.sql"]}
    assert failed({"migrations": [pending]}) == ["every migration is applied"]
    own = {**pending, "item": {"table": "own"}}
    assert failed({"migrations": [LEDGER, own]}) == ["every migration is applied (own)"]
    edited = {**LEDGER, "mismatched": [{"file": "f", "ledger": "a", "found": "b"}]}
    assert len(failed({"migrations": [edited]})) == 1
    table = {"table": "a.b", "problem": None, "missing": [{"from": "x", "to": "y"}]}
    assert len(failed({"partitions": {"tables": [table]}})) == 1
    without = {"table": "a.b", "problem": None, "missing": [{"from": None, "to": None}]}
    rows = health_rows({**GOOD, "partitions": {"tables": [without]}})
    assert "no default partition" in [finding for row in rows for finding in row["findings"]]
    held = {"default_partition": "b_default", "default_ranges": [{"rows": 2, "first": "1970", "last": "1971"}]}
    rows = health_rows({**GOOD, "partitions": {"tables": [{**GOOD["partitions"]["tables"][0], **held}]}})
    assert health_verdict(rows) == "ok" and ["2 from 1970 to 1971"] in [row["findings"] for row in rows]
    assert len(failed({"grants": {"changed": True, "queries": ["GRANT"]}})) == 1
    assert len(failed({"roles": {"changed": True, "queries": []}})) == 1
    # The role says changed_when: false.
    assert len(failed({"grants": {"changed": False, "queries": ["REVOKE"]}})) == 1


def test_somebody_elses_server_is_noted_and_not_failed():
    bad = {"results": [{"name": "c", "group": "server", "status": "failed", "findings": ["x"], "remedy": ""}]}
    assert failed({"checks": bad}) == ["c"]
    assert failed({"checks": bad}, managed=False) == []
    rows = health_rows({**GOOD, "checks": bad}, False)
    assert rows[0]["status"] == "skipped" and rows[0]["findings"] == ["x"]


def test_what_was_skipped_is_said():
    skipped = {"changed": False, "queries": [], "skipped_rights": [{"what": "w", "reason": "why", "remedy": "r"}]}
    rows = health_rows({**GOOD, "roles": skipped})
    assert health_summary(rows)["skipped"] == 1
    assert "not done: w" in health_table(rows) and "why" in health_table(rows)


def test_the_table_shows_remedies_and_counts():
    many = [f"finding {number}" for number in range(12)]
    table = health_table(
        [
            {"group": "g", "name": "n", "status": "failed", "findings": many, "remedy": "do it"},
            {"group": "g", "name": "m", "status": "ok", "findings": [], "remedy": "not shown"},
        ]
    )
    assert "remedy: do it" in table and "not shown" not in table
    assert "and 2 more" in table
    assert table.splitlines()[-1] == "1 ok, 1 FAILED"


def test_canonical_json_has_one_way_to_write_a_thing():
    assert canonical_json({"b": 1, "a": ["ไทย"]}) == '{"a":["ไทย"],"b":1}'
    assert json.loads(canonical_json({"a": 1})) == {"a": 1}


def test_the_verdict_is_ok_only_when_all_is_proven():
    def row(status):
        return {"group": "g", "name": status, "status": status, "findings": [], "remedy": ""}

    assert health_verdict([row("ok"), row("skipped")]) == "ok"
    assert health_verdict([row("ok"), row("unknown")]) == "unproven"
    assert health_verdict([row("unknown"), row("failed")]) == "failed"


def test_what_holds_may_have_something_to_say():
    table = health_table([{"group": "g", "name": "n", "status": "ok", "findings": ["by the way"], "remedy": "r"}])
    assert "- by the way" in table and "remedy" not in table


def test_lines_of_others_are_lines_of_the_report():
    line = {"group": "cluster", "name": "l", "status": "failed", "findings": ["x"], "remedy": "r"}
    assert failed({"more": [line]}) == ["l"]


def test_a_note_is_told_once():
    note = {"what": "w", "reason": "why", "remedy": "r"}
    roles = {"changed": False, "queries": [], "skipped_rights": [note]}
    rows = health_rows({**GOOD, "roles": roles, "notes": [note]}, False)
    assert [row["name"] for row in rows if row["status"] == "skipped"] == ["not done: w"]
