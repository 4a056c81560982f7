"""The audit database, asked and tried over TCP and TLS as its users do."""

from __future__ import annotations

import datetime
import unicodedata

import psycopg2
import pytest

VERSIONS = {"default-bookworm": 15, "default-trixie": 17}
INSERT = (
    "INSERT INTO audit.audit_log (timestamp, action, status, outcome_description) VALUES (now(), 'test', 'success', %s)"
)


def rows(connection, statement, arguments=None):
    with connection, connection.cursor() as cursor:
        cursor.execute(statement, arguments)
        return cursor.fetchall() if cursor.description else []


def test_the_distributions_version_runs(host_of):
    assert host_of.sql("SHOW server_version").startswith(f"{VERSIONS[host_of.name]}.")


def test_encoding_and_locale(host_of):
    state = "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database WHERE datname = 'audit_db'"
    assert host_of.sql(state) == "UTF8\ten_US.UTF-8\ten_US.UTF-8"


def test_extensions(host_of):
    found = host_of.sql("SELECT extname FROM pg_extension ORDER BY 1", "audit_db").split()
    assert {"pgcrypto", "pg_stat_statements"} <= set(found)
    assert host_of.sql("SELECT count(*) > 0 FROM pg_stat_statements", "audit_db") == "t"


def test_seeds(host_of):
    found = host_of.sql(
        "SELECT policy_name, data_classification, retention_days, archive_after_days "
        "FROM audit.audit_retention_policy ORDER BY 1",
        "audit_db",
    )
    assert found.splitlines() == [
        "confidential\tCONFIDENTIAL\t1825\t365",
        "minimal\tPUBLIC\t90\t30",
        "phi_extended\tPHI\t2555\t365",
        "standard\tINTERNAL\t2555\t365",
    ]


@pytest.mark.parametrize(
    "text", ["ภาษาไทย การตรวจสอบ", "📋🔒👩‍⚕️", unicodedata.normalize("NFD", "Žluťoučký kůň"), "a'b\"c\\d"]
)
def test_text_comes_back_as_it_went_in(host_of, text):
    connection = host_of.connect("audit_writer")
    rows(connection, INSERT, (text,))
    found = rows(
        host_of.connect("audit_reader"),
        "SELECT outcome_description FROM audit.audit_log WHERE outcome_description = %s",
        (text,),
    )
    assert found[0] == (text,)


def test_a_month_touches_one_partition(host_of):
    now = datetime.datetime.now(datetime.UTC)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    plan = rows(
        host_of.connect("audit_reader"),
        "EXPLAIN SELECT count(*) FROM audit.audit_log WHERE timestamp >= %s AND timestamp < %s",
        (first, now),
    )
    text = "\n".join(line for (line,) in plan)
    assert f"audit_log_{now:%Y_%m}" in text
    assert text.count(" on audit_log_2") == 1


@pytest.mark.parametrize(
    "role", ["audit_writer", "audit_reader", "audit_verifier", "audit_partitioner", "audit_migrator", "audit_monitor"]
)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {} SET action = 'x'",
        "DELETE FROM {}",
        "TRUNCATE {}",
        "DROP TABLE {}",
        "ALTER TABLE {} DISABLE TRIGGER ALL",
    ],
)
def test_nobody_changes_what_was_written(host_of, role, statement):
    now = datetime.datetime.now(datetime.UTC)
    for table in ("audit.audit_log", f"audit.audit_log_{now:%Y_%m}"):
        connection = host_of.connect(role)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            rows(connection, statement.format(table))
        connection.close()


def test_the_writer_writes_and_the_reader_reads(host_of):
    before = rows(host_of.connect("audit_reader"), "SELECT count(*) FROM audit.audit_log")[0][0]
    rows(host_of.connect("audit_writer"), INSERT, ("one more",))
    assert rows(host_of.connect("audit_reader"), "SELECT count(*) FROM audit.audit_log")[0][0] == before + 1
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        rows(host_of.connect("audit_reader"), INSERT, ("not mine to write",))


def test_public_has_nothing(host_of):
    host_of.sql("DROP ROLE IF EXISTS stranger")
    host_of.sql("CREATE ROLE stranger LOGIN PASSWORD 'only-for-this-test'")
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        host_of.connect("stranger", password="only-for-this-test")
    host_of.sql("DROP ROLE stranger")


def test_a_restart_of_the_host_survives(host_of):
    count = host_of.sql("SELECT count(*) FROM audit.audit_log", "audit_db")
    host_of.restart()
    assert host_of.sql("SELECT count(*) FROM audit.audit_log", "audit_db") == count
    assert rows(host_of.connect("audit_reader"), "SELECT 1") == [(1,)]
