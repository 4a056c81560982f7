"""Partitions exist ahead of now; what would make them lie is refused."""

from __future__ import annotations

import datetime
import json

import pytest

TABLES = ["audit_log", "audit_integrity_log", "error_log"]


def partitions(host, table):
    bounded = "pg_get_expr(relpartbound, c.oid) <> 'DEFAULT'"
    joined = "pg_inherits JOIN pg_class c ON c.oid = inhrelid"
    found = host.sql(
        f"SELECT count(*) FROM {joined} WHERE inhparent = 'audit.{table}'::regclass AND {bounded}", "audit_db"
    )
    return int(found)


def declare(playbook, *tables, check=False):
    given = json.dumps({"audit_tables": list(tables)})
    return playbook("auditdb.postgresql.database", "-e", given, *(["--check", "--diff"] if check else []))


@pytest.mark.parametrize("table", TABLES)
def test_this_month_and_six_more(database_host, table):
    assert partitions(database_host, table) == 7
    now = datetime.datetime.now(datetime.UTC)
    assert database_host.sql(f"SELECT to_regclass('audit.{table}_{now:%Y_%m}') IS NOT NULL", "audit_db") == "t"


@pytest.mark.parametrize("at", ["1970-01-01", "2999-12-31", "infinity"])
def test_no_event_is_refused_for_its_time(database_host, playbook, at):
    database_host.sql(
        f"INSERT INTO audit.audit_log (timestamp, action, status) VALUES ('{at}', 'odd', 'success')", "audit_db"
    )
    assert database_host.sql("SELECT count(*) FROM ONLY audit.audit_log_default", "audit_db") != "0"
    run = playbook("auditdb.postgresql.health")
    assert run.code == 0 and "rows of no declared time, kept in audit_log_default" in run.text


def test_more_are_shown_then_made(database_host, playbook):
    wanted = {"table": "audit.error_log", "interval": "month", "premake": 9}
    run = declare(playbook, wanted, check=True)
    assert run.code == 0 and run.changed > 0
    assert "CREATE TABLE" in run.output and "ATTACH PARTITION" in run.output
    assert partitions(database_host, "error_log") == 7
    assert declare(playbook, wanted).code == 0
    assert partitions(database_host, "error_log") == 10
    assert declare(playbook, wanted).changed == 0


def test_declared_names(database_host, playbook):
    wanted = {"table": "audit.error_log", "interval": "month", "premake": 10, "names": "{table}_p{from:%Y%m%d}"}
    assert declare(playbook, wanted).code == 0
    name = f"audit.error_log_p{_month(10).replace('_', '')}01"
    assert database_host.sql(f"SELECT to_regclass('{name}') IS NOT NULL", "audit_db") == "t"
    assert declare(playbook, wanted).changed == 0
    database_host.sql(f"DROP TABLE {name}", "audit_db")


def test_a_removed_partition_is_made_again(database_host, playbook):
    database_host.sql("DROP TABLE audit.error_log_" + _month(2), "audit_db")
    run = playbook()
    assert run.code == 0, run.output
    assert database_host.sql(f"SELECT to_regclass('audit.error_log_{_month(2)}') IS NOT NULL", "audit_db") == "t"


def test_a_plain_table_is_explained(database_host, playbook):
    database_host.sql("CREATE TABLE audit.plain (at timestamptz)", "audit_db")
    run = declare(playbook, {"table": "audit.plain", "interval": "month", "premake": 1})
    assert run.code != 0
    assert "is not partitioned" in run.text and "42P17" in run.text and "convert_to_partitioned.yml" in run.text
    database_host.sql("DROP TABLE audit.plain", "audit_db")


def test_an_unrelated_table_with_the_name_is_refused(database_host, playbook):
    name = f"audit.error_log_{_month(8)}"
    database_host.sql(f"DROP TABLE IF EXISTS {name}; CREATE TABLE {name} (a int)", "audit_db")
    before = partitions(database_host, "error_log")
    run = declare(playbook, {"table": "audit.error_log", "interval": "month", "premake": 9})
    assert run.code != 0 and name.partition(".")[2] in run.output
    assert partitions(database_host, "error_log") == before
    database_host.sql(f"DROP TABLE {name}", "audit_db")


@pytest.mark.parametrize(
    "entry",
    [
        {"table": "audit_log", "interval": "month"},
        {"table": "audit.audit_log", "interval": "fortnight"},
        {"table": "audit.audit_log", "interval": "month", "premake": 0},
    ],
)
def test_bad_input_is_named_before_anything_changes(playbook, entry):
    run = declare(playbook, entry)
    assert run.code != 0
    assert "audit_partitions_tables" in run.output
    assert run.changed == 0


def _month(ahead: int) -> str:
    now = datetime.datetime.now(datetime.UTC)
    month = now.year * 12 + now.month - 1 + ahead
    return f"{month // 12}_{month % 12 + 1:02d}"


def test_a_table_with_data_is_converted_and_back(database_host, playbook):
    database_host.sql(
        "CREATE TABLE audit.events (id bigserial PRIMARY KEY, at timestamptz NOT NULL, what text); "
        "ALTER TABLE audit.events OWNER TO audit_owner; "
        "INSERT INTO audit.events (at, what) "
        "SELECT now() - n * interval '1 day', 'x' FROM generate_series(1, 500) AS n",
        "audit_db",
    )
    kind = "SELECT relkind, (SELECT count(*) FROM audit.events) FROM pg_class WHERE oid = 'audit.events'::regclass"
    run = playbook("auditdb.postgresql.convert_to_partitioned")
    assert run.code != 0 and run.changed == 0 and "audit_convert_table=audit.events" in run.text
    given = ("-e", "audit_convert_table=audit.events", "-e", "audit_convert_key=at")
    run = playbook("auditdb.postgresql.convert_to_partitioned", *given, "--check", "--diff")
    assert run.code == 0 and run.changed == 1 and "ATTACH PARTITION" in run.output
    assert database_host.sql(kind, "audit_db") == "r\t500"
    run = playbook("auditdb.postgresql.convert_to_partitioned", *given)
    assert run.code == 0 and "seconds of exclusive lock" in run.text, run.output
    assert database_host.sql(kind, "audit_db") == "p\t500"
    assert playbook("auditdb.postgresql.convert_to_partitioned", *given).changed == 0
    run = playbook("auditdb.postgresql.convert_to_partitioned", *given, "-e", "audit_convert_state=reverted")
    assert run.code == 0, run.output
    assert database_host.sql(kind, "audit_db") == "r\t500"
    run = playbook("auditdb.postgresql.convert_to_partitioned", *given, "-e", "audit_convert_split=true")
    assert run.code == 0 and "exchange" in run.text, run.output
    assert database_host.sql(kind, "audit_db") == "p\t500"
    count = "SELECT count(*) >= 20 FROM pg_inherits WHERE inhparent = 'audit.events'::regclass"
    assert database_host.sql(count, "audit_db") == "t"
    database_host.sql("DROP TABLE audit.events, audit.events_legacy", "audit_db")
