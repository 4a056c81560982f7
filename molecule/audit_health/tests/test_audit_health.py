"""Health is green on a host as declared, and red, with the remedy, for each thing that is broken."""

from __future__ import annotations

import json
import os

import pytest

BREAKS = {
    "a right to delete": (
        "GRANT DELETE ON audit.audit_log TO audit_writer",
        "REVOKE DELETE ON audit.audit_log FROM audit_writer",
        ["append-only in the catalog", "audit_writer tried to change", "everybody has the declared rights"],
    ),
    # Without SELECT, an UPDATE that reads the row is refused all the same, and would prove nothing.
    "a right to update": (
        "GRANT UPDATE ON audit.audit_log TO audit_writer",
        "REVOKE UPDATE ON audit.audit_log FROM audit_writer",
        ["append-only in the catalog", "audit_writer tried to change", "everybody has the declared rights"],
    ),
    "a right that hurts no rule but is not declared": (
        "GRANT SELECT ON audit.ingest_cursor TO audit_verifier",
        "REVOKE SELECT ON audit.ingest_cursor FROM audit_verifier",
        ["everybody has the declared rights"],
    ),
    "a new administrator": ("CREATE ROLE boss SUPERUSER", "DROP ROLE boss", ["it is known who can act as audit_owner"]),
    "an index less": (
        "DROP INDEX audit.audit_log_hash_idx",
        "SET ROLE audit_owner; CREATE INDEX audit_log_hash_idx ON audit.audit_log USING hash (hash)",
        ["columns, constraints, indexes and functions are those of the migrations"],
    ),
    "a right on a partition": (
        "DO $$ BEGIN EXECUTE (SELECT format('GRANT SELECT ON %s TO audit_reader', min(inhrelid::regclass::text)) "
        "FROM pg_inherits WHERE inhparent = 'audit.audit_log'::regclass); END $$",
        "DO $$ BEGIN EXECUTE (SELECT format('REVOKE SELECT ON %s FROM audit_reader', min(inhrelid::regclass::text)) "
        "FROM pg_inherits WHERE inhparent = 'audit.audit_log'::regclass); END $$",
        ["nobody but the owner has rights on a partition"],
    ),
    "a right of PUBLIC": (
        "GRANT SELECT ON audit.audit_retention_policy TO PUBLIC",
        "REVOKE SELECT ON audit.audit_retention_policy FROM PUBLIC",
        ["PUBLIC has no rights"],
    ),
    "a superuser": (
        "ALTER ROLE audit_reader SUPERUSER",
        "ALTER ROLE audit_reader NOSUPERUSER",
        ["none has a superuser's rights", "roles, memberships and passwords"],
    ),
    "another password": (
        "ALTER ROLE audit_verifier PASSWORD 'another-one'",
        None,
        ["audit_verifier logs in with the vault's password"],
    ),
    "a missing extension": ("DROP EXTENSION pgcrypto", "CREATE EXTENSION pgcrypto SCHEMA public", ["extensions"]),
    "an edited ledger": (
        "UPDATE audit.schema_migrations SET checksum = repeat('0', 64) WHERE version = '0001'",
        None,
        ["migration conflicts"],
    ),
    "a pending migration": (
        "DELETE FROM audit.schema_migrations WHERE version = '0012'",
        None,
        ["every migration is applied"],
    ),
    "a missing partition": (
        "DO $$ BEGIN EXECUTE (SELECT format('DROP TABLE %s', max(inhrelid::regclass::text)) "
        "FROM pg_inherits WHERE inhparent = 'audit.error_log'::regclass); END $$",
        None,
        ["audit.error_log is partitioned"],
    ),
    "a missing policy": (
        "UPDATE audit.audit_retention_policy SET policy_name = 'gone' WHERE policy_name = 'minimal'",
        "UPDATE audit.audit_retention_policy SET policy_name = 'minimal' WHERE policy_name = 'gone'",
        ["the four retention policies"],
    ),
    "a foreign key that is not validated": (
        "ALTER TABLE audit.report_executions ADD CONSTRAINT probe FOREIGN KEY (report_config_id) "
        "REFERENCES audit.scheduled_reports (id) NOT VALID",
        "ALTER TABLE audit.report_executions DROP CONSTRAINT probe",
        ["dependency ordering"],
    ),
    "a client encoding": (
        "ALTER ROLE audit_reader SET client_encoding = 'LATIN1'",
        "ALTER ROLE audit_reader RESET client_encoding",
        ["makes clients speak another encoding"],
    ),
    "a setting that waits for a restart": (
        "ALTER SYSTEM SET max_connections = 101",
        "ALTER SYSTEM RESET max_connections",
        ["no setting waits for a restart"],
    ),
    "quieter logs": (
        "ALTER SYSTEM SET log_connections = off",
        "ALTER SYSTEM RESET log_connections",
        ["what is logged"],
    ),
}
# Breaks that another one keeps health from seeing, or from being mended.
HIDDEN_BY = {"an edited ledger": ["a pending migration"], "a superuser": ["another password"]}


@pytest.fixture(scope="module")
def saved(hosts):
    """Keep what some breaks cannot put back by themselves."""
    (host,) = hosts.values()
    ledger = host.sql("SELECT version, checksum FROM audit.schema_migrations", "audit_db")
    return dict(line.split("\t") for line in ledger.splitlines())


def health(playbook, *arguments):
    return playbook("auditdb.postgresql.health", *arguments)


def test_green_and_evidence(playbook, scenario):
    run = health(playbook)
    assert run.code == 0, run.output
    assert run.changed == 0
    assert " ok" in run.output and "FAILED" not in run.output
    newest = max((scenario / "inventory/.state/evidence/health").glob("*.json"), key=lambda file: file.stat().st_mtime)
    evidence = json.loads(newest.read_text())
    assert evidence["verdict"] == "ok" and evidence["summary"]["failed"] == evidence["summary"]["unknown"] == 0
    assert set(evidence["acted_as"].values()) == {"login", "SET ROLE"}
    assert {"at", "database", "host", "results", "summary", "verdict"} <= set(evidence)


def batches() -> list[list[str]]:
    """Return the breaks that are looked for in one run: no two that the same line tells; in test-long, each alone."""
    found: list[tuple[list[str], set[str]]] = []
    for name, (_broken, _mended, lines) in BREAKS.items():
        free = [] if os.environ.get("AUDITDB_LONG") else [each for each in found if not each[1] & {name, *lines}]
        names, taken = free[0] if free else ([], set())
        if not free:
            found.append((names, taken))
        names.append(name)
        taken.update(lines, HIDDEN_BY.get(name, []))
    return [names for names, _taken in found]


@pytest.mark.parametrize("names", batches(), ids=" + ".join)
def test_each_break_is_found_with_its_remedy(database_host, playbook, saved, names):
    breaks = [BREAKS[name] for name in names]
    for broken, _mended, _lines in breaks:
        database_host.sql(broken, "audit_db")
    database_host.sql("SELECT pg_reload_conf()")
    try:
        run = health(playbook)
    finally:
        for _broken, mended, _lines in reversed(breaks):
            if mended:
                database_host.sql(mended, "audit_db")
        database_host.sql("SELECT pg_reload_conf()")
        if "an edited ledger" in names:
            statement = f"UPDATE audit.schema_migrations SET checksum = '{saved['0001']}' WHERE version = '0001'"
            database_host.sql(statement, "audit_db")
        if any(mended is None for _broken, mended, _lines in breaks):
            assert playbook().code == 0
    assert run.code != 0, run.output
    failed = [line for line in run.output.splitlines() if "FAILED" in line]
    for _broken, _mended, lines in breaks:
        for expected in lines:
            assert any(expected in line for line in failed), f"{expected} is not among the failed:\n{run.output}"
    assert "remedy:" in run.output


def test_a_trusting_rule_is_found(database_host, playbook):
    hba = "/etc/postgresql/17/main/pg_hba.conf"
    database_host.run("sh", "-c", f"cp -p {hba} /root/hba && echo 'host all all 0.0.0.0/0 trust' >> {hba}")
    try:
        run = health(playbook)
    finally:
        database_host.run("cp", "-p", "/root/hba", hba)
    assert run.code != 0
    assert any("nobody is trusted" in line for line in run.output.splitlines() if "FAILED" in line)


def test_what_only_a_restart_changes_is_found(database_host, playbook):
    """Preloaded libraries and page checksums; and a certificate of which clients see that it ends."""
    unit, bin_directory, data = "postgresql@17-main", "/usr/lib/postgresql/17/bin", "/var/lib/postgresql/17/main"

    def while_stopped(action):
        database_host.run("systemctl", "stop", unit)
        database_host.run("runuser", "-u", "postgres", "--", f"{bin_directory}/pg_checksums", action, "-D", data)
        database_host.run("systemctl", "start", unit)

    database_host.sql("ALTER SYSTEM SET shared_preload_libraries = 'auto_explain'")
    while_stopped("--disable")
    try:
        run = health(playbook, "-e", "audit_health_certificate_days=4000")
    finally:
        database_host.sql("ALTER SYSTEM RESET shared_preload_libraries")
        while_stopped("--enable")
    assert run.code != 0
    failed = "".join(line for line in run.output.splitlines() if "FAILED" in line)
    for expected in (
        "pg_stat_statements is preloaded",
        "data checksums are on",
        "the certificate that the server shows",
    ):
        assert expected in failed, run.output


def test_a_ledger_of_ones_own_is_looked_at(database_host, playbook, tmp_path):
    (tmp_path / "0001_own.sql").write_text("CREATE TABLE audit.own (a integer)")
    own = json.dumps({"audit_schema_extra_migrations": [{"path": str(tmp_path), "table": "own_migrations"}]})
    run = health(playbook, "-e", own)
    assert run.code != 0
    assert any(
        "every migration is applied (own_migrations)" in line for line in run.output.splitlines() if "FAILED" in line
    )


def test_an_unreachable_server_is_a_finding_and_not_silence(database_host, playbook):
    database_host.run("systemctl", "stop", "postgresql@17-main")
    try:
        run = health(playbook)
    finally:
        database_host.run("systemctl", "start", "postgresql@17-main")
    assert run.code != 0
    assert "could not look" in run.output
    assert not [line for line in run.output.splitlines() if line.strip().startswith("ok  ") and "migrations" in line]


def test_green_again(playbook):
    run = health(playbook)
    assert run.code == 0, run.output
