"""Nobody but the owner can change what is written, by real logins; drift is put right; the other profile."""

from __future__ import annotations

import contextlib

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege

LOGINS = ["audit_migrator", "audit_writer", "audit_reader", "audit_verifier", "audit_partitioner", "audit_backup",
          "audit_monitor"]  # fmt: skip
APPEND_ONLY = ["audit_log", "audit_integrity_log", "error_log"]
DATABASE = "auditdb.postgresql.database"
EVENT = "INSERT INTO audit.audit_log (\"timestamp\", action, status) VALUES (now(), 'test', 'success') RETURNING id"


def run_as(host, role, statement):
    with contextlib.closing(host.connect(role)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def partition(host, table):
    return host.sql(
        f"SELECT 'audit.' || relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
        f"WHERE inhparent = 'audit.{table}'::regclass ORDER BY 1 LIMIT 1",
        "audit_db",
    )


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_what_is_written_stays(database_host, login, table):
    for name in (f"audit.{table}", partition(database_host, table)):
        for statement in ("UPDATE {} SET id = DEFAULT", "DELETE FROM {}", "TRUNCATE {}", "DROP TABLE {}"):
            with pytest.raises(InsufficientPrivilege):
                run_as(database_host, login, statement.format(name))


@pytest.mark.parametrize("login", LOGINS)
def test_partitions_are_closed(database_host, login):
    with pytest.raises(InsufficientPrivilege):
        run_as(database_host, login, f"SELECT FROM {partition(database_host, 'audit_log')}")


def test_each_can_do_its_work(database_host):
    assert run_as(database_host, "audit_writer", EVENT)
    assert run_as(database_host, "audit_reader", "SELECT * FROM audit.audit_log")
    assert run_as(database_host, "audit_verifier", "SELECT hash FROM audit.audit_log")
    run_as(
        database_host,
        "audit_verifier",
        "INSERT INTO audit.audit_integrity_log (audit_log_id, audit_log_timestamp, verification_status) "
        "SELECT id, \"timestamp\", 'success' FROM audit.audit_log LIMIT 1",
    )
    assert run_as(database_host, "audit_partitioner", "SELECT audit.mark_archived('2000-01-01', '2000-02-01')") == [
        (0,)
    ]
    run_as(database_host, "audit_migrator", "SET ROLE audit_owner; CREATE TABLE audit.x (); DROP TABLE audit.x")
    assert run_as(database_host, "audit_monitor", "SELECT version FROM audit.schema_migrations")
    assert run_as(database_host, "audit_monitor", "SELECT query FROM pg_stat_statements LIMIT 1")


@pytest.mark.parametrize(
    ("login", "statement"),
    [
        ("audit_writer", "SELECT action FROM audit.audit_log"),
        ("audit_writer", "INSERT INTO audit.audit_integrity_log (audit_log_id, audit_log_timestamp, "
         "verification_status) VALUES (1, now(), 'success')"),
        ("audit_writer", "SET ROLE audit_owner"),
        ("audit_writer", "SELECT audit.mark_archived('2000-01-01', '2000-02-01')"),
        ("audit_reader", EVENT),
        ("audit_verifier", EVENT),
        ("audit_monitor", "SELECT * FROM audit.audit_log"),
        ("audit_backup", "SELECT * FROM audit.audit_log"),
        ("audit_migrator", "CREATE TABLE audit.x ()"),
        ("audit_reader", "CREATE TEMPORARY TABLE x ()"),
        ("audit_reader", "CREATE TABLE public.x ()"),
    ],
)  # fmt: skip
def test_and_nothing_else(database_host, login, statement):
    with pytest.raises(InsufficientPrivilege):
        run_as(database_host, login, statement)


def test_a_stranger_cannot_connect(database_host):
    database_host.sql("CREATE ROLE stranger LOGIN PASSWORD 'only-for-this-test'")
    try:
        with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
            psycopg2.connect(
                host=database_host.address, user="stranger", password="only-for-this-test", dbname="audit_db"
            )
    finally:
        database_host.sql("DROP ROLE stranger")


def test_what_was_granted_by_hand_is_revoked(database_host, playbook):
    name = partition(database_host, "audit_log")
    database_host.sql(f"GRANT ALL ON {name} TO audit_writer; GRANT DELETE ON audit.audit_log TO PUBLIC", "audit_db")
    run = playbook(DATABASE, "--diff")
    assert (run.code, run.changed) == (0, 2), run.output  # what is on partitions goes with them
    assert 'FROM "audit_writer"' in run.text and 'DELETE ON TABLE "audit"."audit_log" FROM PUBLIC' in run.text
    with pytest.raises(InsufficientPrivilege):
        run_as(database_host, "audit_writer", f"DELETE FROM {name}")


def test_the_references_profile_and_back(database_host, playbook):
    crud = ("-e", "audit_access_profile=crud")
    assert playbook(DATABASE, *crud).code == 0
    assert playbook(DATABASE, *crud).changed == 0
    run_as(database_host, "audit_writer", "UPDATE audit.audit_log SET ttl = ttl; SELECT * FROM audit.scheduled_reports")
    for statement in ("TRUNCATE audit.error_log", f"DELETE FROM {partition(database_host, 'audit_log')}"):
        with pytest.raises(InsufficientPrivilege):
            run_as(database_host, "audit_writer", statement)
    with pytest.raises(InsufficientPrivilege):
        run_as(database_host, "audit_reader", "DELETE FROM audit.audit_log")
    assert playbook(DATABASE).code == 0
    with pytest.raises(InsufficientPrivilege):
        run_as(database_host, "audit_writer", "UPDATE audit.audit_log SET ttl = ttl")


def test_a_typo_in_the_matrix_is_named(database_host, playbook):
    extra = '{"audit_access_extra_grants": [{"role": "audit_reader", "tables": {"audit.audit_logg": ["SELECT"]}}]}'
    run = playbook(DATABASE, "-e", extra)
    assert run.code != 0 and run.changed == 0
    assert "not there: table audit.audit_logg" in run.text
