"""postgresql_partition_info against real servers."""

from __future__ import annotations

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session

from .partitions import TABLE, declare, info


@pytest.fixture
def log(database):
    database.query(TABLE)
    declare(database, premake=1)
    return database


def test_what_there_is_and_what_is_lacking(log):
    log.query("INSERT INTO log (at, a) SELECT '2026-11-23', 'x' FROM generate_series(1, 1000); ANALYZE log")
    log.query("CREATE TABLE odd PARTITION OF log FOR VALUES FROM ('2027-03-01 00:00+00') TO ('2027-04-01 00:00+00')")
    log.query("CREATE TABLE rest PARTITION OF log DEFAULT")
    [table] = info(log, {"table": "log", "premake": 2}, sizes=True)["tables"]
    assert table["table"] == "public.log" and table["problem"] is None
    assert [each["name"] for each in table["partitions"]] == ["rest", "log_2026_11", "log_2026_12", "odd"]
    november = table["partitions"][1]
    size = november.pop("size_bytes")
    assert size == log.value("SELECT pg_total_relation_size('log_2026_11')") > 0
    assert november == {
        "schema": "public",
        "name": "log_2026_11",
        "from": "2026-11-01T00:00:00+00:00",
        "to": "2026-12-01T00:00:00+00:00",
        "default": False,
        "rows_estimate": 1000,
    }
    assert [each["name"] for each in table["missing"]] == ["log_2027_01"]
    assert table["gaps"] == [{"from": "2027-01-01T00:00:00+00:00", "to": "2027-03-01T00:00:00+00:00"}]
    assert table["misnamed"] == [{"name": "odd", "expected": "log_2027_03"}]
    assert table["default_partition"] == "rest"
    assert table["covered_until"] == "2027-01-01T00:00:00+00:00" and table["headroom"] == 1
    assert info(log, {"table": "log"})["tables"][0]["partitions"][0]["size_bytes"] is None


def test_missing_is_what_the_other_module_creates(log):
    wanted = {"table": "log", "interval": "month", "premake": 4, "start": "2026-08-15"}
    missing = info(log, wanted)["tables"][0]["missing"]
    assert missing == declare(log, **wanted)["created"]
    assert info(log, wanted)["tables"][0]["missing"] == []


def test_a_table_of_which_nothing_can_be_said_is_a_problem_and_no_failure(log):
    log.query("CREATE TABLE plain (at timestamptz); CREATE TABLE numbers (a int) PARTITION BY RANGE (a)")
    found = info(log, {"table": "log"}, {"table": "nowhere"}, {"table": "plain"}, {"table": "numbers"})
    assert [each["table"] for each in found["problems"]] == ["nowhere", "plain", "numbers"]
    assert [each["sqlstate"] for each in found["problems"]] == ["42P01", "42P17", None]
    assert all(each["remedy"] for each in found["problems"])
    assert "convert_to_partitioned.yml" in found["tables"][2]["problem"]
    assert [each["problem"] is None for each in found["tables"]] == [True, False, False, False]


def test_any_number_of_tables_is_one_question(log, monkeypatch):
    asked = []
    query = Session.query

    def counted(session, statement, arguments=None):
        asked.append(statement)
        return query(session, statement, arguments)

    monkeypatch.setattr(Session, "query", counted)
    info(log, {"table": "log"})
    once = len(asked)
    info(log, *[{"table": "log"}] * 5)
    assert len(asked) == 2 * once


def test_somebody_without_rights_sees_it_too(log, role_prefix):
    role = f"{role_prefix}monitor"
    log.query(f"CREATE ROLE {role}")
    try:
        assert len(info(log, {"table": "log"}, session_role=role)["tables"][0]["partitions"]) == 2
    finally:
        log.query(f"DROP ROLE {role}")
