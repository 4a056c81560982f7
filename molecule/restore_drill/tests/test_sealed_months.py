"""Seals of closed months are verified in each rehearsed restore. Comes after other drills: they meet no damage."""

from __future__ import annotations

import json

import pytest

CASE = {"name": "only", "source": "repository", "target": "latest"}
MONTHS = 3
TABLES = ("audit.audit_log", "audit.audit_integrity_log", "audit.error_log")
ROW = "closed partitions are as they were sealed (audit_db)"


@pytest.fixture
def sealed(drill):
    """Return a host whose audit database has sealed months."""
    host = drill.database.host
    for name in ("database", "maintenance"):
        start = host.sql(f"SELECT date_trunc('month', now() - interval '{MONTHS} months')::date")
        tables = [
            {"table": f"audit.{each}", "start": start} for each in ("audit_log", "audit_integrity_log", "error_log")
        ]
        given = {"audit_tables": [{**each, "default_partition": True} for each in tables]}
        run = drill.playbook(f"auditdb.postgresql.{name}", "--limit", drill.name, "-e", json.dumps(given))
        assert run.code == 0, run.output
        if name == "database" and host.sql("SELECT count(*) FROM audit.partition_seal", "audit_db") == "0":
            rows = f"SELECT at, 'past', 'success' FROM generate_series('{start}'::timestamptz, now(), '1 hour') AS at"
            host.sql(f"INSERT INTO audit.audit_log (timestamp, action, status) {rows}", "audit_db")
    drill.database.switch()
    return drill


def seals(drill) -> list[dict]:
    """Return what became of the sealed partitions in the last drill; all of them were looked at."""
    (case,) = drill.evidence()["cases"]
    assert len(case["seals"]) == int(drill.database.host.sql("SELECT count(*) FROM audit.partition_seal", "audit_db"))
    assert sum(each["rows"] for each in case["seals"]) > 24 * 28 * (MONTHS - 1)
    return case["seals"]


@pytest.mark.long
def test_seals_that_hold_are_counted(sealed):
    run = sealed.run(restore_drill_cases=[CASE])
    assert run.code == 0, run.output
    assert {each["status"] for each in seals(sealed)} == {"intact"}
    assert f"{len(seals(sealed))} sealed partitions verified" in run.text


@pytest.mark.newest
def test_a_changed_row_of_a_sealed_month_makes_it_red(sealed):
    host = sealed.database.host
    oldest = host.sql("SELECT partition_name FROM audit.partition_seal ORDER BY time_from, id LIMIT 1", "audit_db")

    def change(status: str) -> None:
        update = f"UPDATE audit.{oldest} SET status = '{status}' WHERE id = (SELECT min(id) FROM audit.{oldest})"
        host.sql(f"SET session_replication_role = replica; {update}", "audit_db")
        sealed.database.switch()

    change("failure")
    try:
        run = sealed.run(restore_drill_cases=[CASE])
    finally:
        change("success")
    assert run.code != 0 and sealed.failed() == {ROW}, run.output
    assert f"- {oldest}: " in run.text
    found = {each["partition"]: each["status"] for each in seals(sealed)}
    assert found.pop(oldest) == "changed" and set(found.values()) == {"intact"}
