"""Scheduled maintenance: old months leave into an archive, closed ones are sealed, one failure stops nobody else."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator

import pytest

ARCHIVES = "/var/lib/postgresql/archive"
MONTHS = 30
KEEP = 24
COPIES = {
    "audit_maintenance_copied_tables": [{"table": "audit.audit_log", "mark": "audit.mark_archived", "max_copies": 40}]
}


def month(back: int) -> str:
    now = datetime.datetime.now(datetime.UTC)
    number = now.year * 12 + now.month - 1 - back
    return f"{number // 12}_{number % 12 + 1:02d}"


def tables(action: str) -> list[dict[str, object]]:
    start = month(MONTHS).replace("_", "-") + "-01"
    leave = {"retention": f"{KEEP} months", "retention_action": action, "max_leaving": MONTHS}
    # Options that only the making of partitions knows are no matter to those who read the declaration.
    leave |= {"carry": ["access", "owner"], "closed_storage_parameters": {"autovacuum_freeze_min_age": 0}}
    names = ("audit.audit_log", "audit.audit_integrity_log", "audit.error_log")
    return [{"table": name, "start": start, "default_partition": True, **leave} for name in names]


def maintain(playbook, action, *arguments, **more):
    given = {"audit_tables": tables(action), "audit_partitions_archive_directory": ARCHIVES, **COPIES, **more}
    return playbook("auditdb.postgresql.maintenance", "-e", json.dumps(given), *arguments)


@pytest.fixture(scope="module")
def filled(hosts) -> Iterator[object]:
    """Two and a half years of months, each with events."""
    (host,) = hosts.values()
    host.sql(
        "INSERT INTO audit.audit_log (timestamp, action, status) SELECT at, 'past', 'success' "
        f"FROM generate_series(date_trunc('month', now()) - interval '{MONTHS} months', now(), '1 day') AS at",
        "audit_db",
    )
    return host


def test_months_are_made_for_what_is_there_and_all_closed_ones_are_sealed(filled, playbook):
    run = maintain(playbook, "keep")
    assert run.code == 0, run.output
    assert f"made audit_log_{month(MONTHS)}" in run.text and f"sealed audit_log_{month(MONTHS)}" in run.text
    assert filled.sql("SELECT count(*) FROM audit.audit_log_default", "audit_db") == "0", "drained"
    sealed = int(filled.sql("SELECT count(*) FROM audit.partition_seal", "audit_db"))
    assert sealed in (2 * MONTHS, 2 * MONTHS - 2), "the last month is sealed a week after its end"
    assert maintain(playbook, "keep").changed == 0
    # A policy wants them in the archive 30 days after their end. They stay, and are stamped.
    young = filled.sql("SELECT now() - date_trunc('month', now()) < '30 days'", "audit_db") == "t"
    assert f"copied audit_log_{month(MONTHS)}: " in run.text
    for back in (MONTHS, 2 if young else 1):
        filled.run("test", "-s", f"{ARCHIVES}/audit.audit_log_{month(back)}.stays.copy.zst")
        stamped = f"SELECT bool_and(archived_at IS NOT NULL) FROM audit.audit_log_{month(back)}"
        assert filled.sql(stamped, "audit_db") == "t"
    filled.sql(
        "INSERT INTO audit.audit_integrity_log (audit_log_id, audit_log_timestamp, verification_status) "
        "SELECT id, timestamp, 'success' FROM audit.audit_log",
        "audit_db",
    )


def test_check_mode_tells_and_does_nothing(filled, playbook):
    before = filled.sql("SELECT count(*) FROM audit.audit_log", "audit_db")
    run = maintain(playbook, "archive", "--check", "--diff")
    assert run.code == 0, run.output
    assert f"-- archive audit.audit_integrity_log_{month(MONTHS)} in {ARCHIVES}" in run.output
    assert "nothing leaves unless what refers to it leaves first" in run.text, "what the real run does first"
    assert filled.sql("SELECT count(*) FROM audit.audit_log", "audit_db") == before


def test_old_months_leave_into_the_archive_the_referring_table_first(filled, playbook, scenario):
    run = maintain(playbook, "archive")
    assert run.code == 0, run.output
    gone = [month(back) for back in range(MONTHS, KEEP, -1)]
    for table in ("audit_log", "audit_integrity_log"):
        for each in gone:
            assert filled.sql(f"SELECT to_regclass('audit.{table}_{each}') IS NULL", "audit_db") == "t"
            filled.run("test", "-s", f"{ARCHIVES}/audit.{table}_{each}.copy.zst")
    left = (
        "SELECT count(*), bool_and(archived_at IS NOT NULL AND dropped_at IS NOT NULL) FROM audit.partition_history "
        "WHERE action = 'archive'"
    )
    assert filled.sql(left, "audit_db") == f"{3 * len(gone)}\tt"
    assert filled.run("stat", "-c", "%a %U", ARCHIVES).strip() == "750 postgres"
    again = maintain(playbook, "archive")
    assert again.code == 0 and again.changed == 0, again.output
    newest = max((scenario / "inventory/.state/evidence/maintenance").glob("*.json"))
    kept = json.loads(newest.read_text())
    assert kept["verdict"] == "ok" and len(kept["seals"]) >= 2 * MONTHS - 2
    assert playbook("auditdb.postgresql.health", "-e", json.dumps({"audit_tables": tables("archive")})).code == 0


def test_an_archived_month_comes_back(filled, playbook, tmp_path):
    play = tmp_path / "restore.yml"
    play.write_text(
        f"""
- hosts: database
  become: true
  become_user: postgres
  gather_facts: false
  tasks:
    - auditdb.postgresql.postgresql_partition_archive:
        login_db: audit_db
        table: audit.audit_log_{month(MONTHS)}
        directory: {ARCHIVES}
        state: restored
        into: audit.looked_into
        session_role: audit_owner
"""
    )
    run = playbook(play)
    assert run.code == 0, run.output
    assert int(filled.sql("SELECT count(*) FROM audit.looked_into WHERE action = 'past'", "audit_db")) >= 28
    filled.sql("DROP TABLE audit.looked_into", "audit_db")


def test_a_forged_row_is_found_located_and_written_down(filled, playbook):
    verify = ("-e", "audit_maintenance_verify=true")
    assert maintain(playbook, "archive", *verify).code == 0
    name = f"audit_log_{month(5)}"
    forged = f"UPDATE audit.{name} SET action = '{{}}' WHERE id = (SELECT min(id) FROM audit.{name})"
    filled.sql(forged.format("forged"), "audit_db")
    run = maintain(playbook, "archive", *verify)
    assert run.code != 0
    assert f"{name}: the first difference is in rows 1 to" in run.text and "compare the named rows" in run.text
    tampered = (
        "SELECT count(*) FROM audit.audit_integrity_log WHERE verification_status = 'tampered' "
        f"AND verification_details ->> 'partition' = '{name}'"
    )
    assert filled.sql(tampered, "audit_db") == "1"
    filled.sql(forged.format("past"), "audit_db")
    assert maintain(playbook, "archive", *verify).code == 0


def test_rows_go_by_policy_and_the_partition_stays_and_is_sealed_again(filled, playbook):
    filled.sql(
        "INSERT INTO audit.audit_log (timestamp, action, status, data_classification, retention_policy) "
        "SELECT date_trunc('month', now()) - interval '5 months' + n * interval '1 hour', 'seen', 'success', 'PUBLIC', "
        "'minimal' FROM generate_series(1, 100) AS n",
        "audit_db",
    )
    run = maintain(playbook, "archive", "-e", "audit_maintenance_verify=true")
    assert run.code == 0, run.output
    name = f"audit_log_{month(5)}"
    assert f"100 rows of {name} went to audit.{name}_expired_1" in run.text
    assert filled.sql("SELECT count(*) FROM audit.audit_log WHERE action = 'seen'", "audit_db") == "0"
    filled.run("test", "-s", f"{ARCHIVES}/audit.{name}_expired_1.copy.zst")
    assert filled.sql("SELECT to_regclass('audit.{name}_expired_1') IS NULL", "audit_db") == "t"
    again = maintain(playbook, "archive", "-e", "audit_maintenance_verify=true")
    assert again.code == 0, again.output
    assert f"{name}: " not in again.text, "its new seal holds"


def test_one_table_that_fails_stops_nobody_else_and_fails_the_run(filled, playbook):
    filled.sql("CREATE TABLE audit.plain (at timestamptz)", "audit_db")
    filled.sql(f"DROP TABLE audit.error_log_{month(-3)}", "audit_db")
    given = {"audit_tables": [*tables("archive"), {"table": "audit.plain"}]}
    more = {"audit_partitions_archive_directory": ARCHIVES}
    run = playbook("auditdb.postgresql.maintenance", "-e", json.dumps({**given, **more}))
    assert run.code != 0
    assert "audit.plain is kept" in run.text and "42P17" in run.text, run.output
    assert f"made error_log_{month(-3)}" in run.text, "the others are kept"
    filled.sql("DROP TABLE audit.plain", "audit_db")


def test_an_archive_without_a_place_is_refused_before_anything_changes(playbook):
    run = playbook("auditdb.postgresql.maintenance", "-e", json.dumps({"audit_tables": tables("archive")}))
    assert run.code != 0 and run.changed == 0
    assert "audit_partitions_archive_directory" in run.text and "Remedy" in run.text
