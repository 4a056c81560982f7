"""postgresql_partition_info against real servers."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session

from .partitions import NOW, TABLE, declare, info

MIGRATIONS = Path(__file__).parents[2] / "roles/audit_schema/files/migrations"
EVIDENCE = {"holds": "audit.legal_hold", "history": "audit.partition_history", "seals": "audit.partition_seal"}


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


@pytest.fixture
def year(database):
    """Months from January on; rows of two classes in each that has begun, but for March."""
    database.query("CREATE SCHEMA audit")
    for name in ("0009_legal_hold", "0010_partition_history", "0011_partition_seal", "0012_partition_copy"):
        database.query((MIGRATIONS / f"{name}.sql").read_text())
    database.query(TABLE.replace("a text", "a text, organization_id text"))
    database.query("CREATE INDEX log_a ON log (a)")
    declare(database, start="2026-01-01", default_partition=True)
    database.query(
        "INSERT INTO log (at, a) SELECT at + interval '1 day', CASE WHEN n % 4 > 0 THEN 'PHI' END "
        "FROM generate_series('2026-01-01Z'::timestamptz, '2026-11-01Z', '1 month') AS at, "
        "generate_series(1, extract(month FROM at)::int * 4) AS n WHERE extract(month FROM at) <> 3"
    )
    return database


def look(database, **options):
    return info(database, {"table": "log", "premake": 2, **options.pop("table", {})}, details=True, **options)[
        "tables"
    ][0]


def advice(table):
    return {each["about"]: each for each in table["recommendations"]}


def test_details_of_each_partition(year):
    log = year
    log.query("ANALYZE log; UPDATE log_2026_05 SET a = 'y'; SELECT pg_stat_force_next_flush()")
    log.query(
        "INSERT INTO audit.legal_hold (table_name, time_from, time_to, reason, owner) "
        "VALUES ('public.log', '2026-02-10Z', '2026-02-11Z', 'case 7', 'legal')"
    )
    log.query(
        "INSERT INTO audit.legal_hold (organization_id, time_to, reason, owner) VALUES ('x', '2026-01-02Z', 'r', 'o')"
    )
    log.module(
        "postgresql_partition_seal", tables=[{"table": "log"}], seals="audit.partition_seal", now="2026-07-08T00:00:00Z"
    )
    table = look(log, class_column="a", **EVIDENCE)
    parts = {each["name"]: each for each in table["partitions"]}
    may = parts["log_2026_05"]
    assert (
        may["rows"] == 20 and may["classes"] == {"y": 20} and parts["log_2026_02"]["classes"] == {"PHI": 6, "none": 2}
    )
    assert may["indexes"] == 2 and may["index_bytes"] == log.value(
        "SELECT sum(pg_relation_size(indexrelid)) FROM pg_index WHERE indrelid = 'log_2026_05'::regclass"
    )
    assert may["analyzed_at"].startswith("20") and may["xid_age"] >= 0 and may["invalid_indexes"] == []
    assert may["age_days"] == 175 + 4 / 24 and parts["log_default"]["age_days"] is None
    assert may["seal"]["rows"] == 20 and len(may["seal"]["sha256"]) == 64 and parts["log_2026_08"]["seal"] is None
    assert [(name, each["held"]) for name, each in parts.items() if each["held"] and not each["default"]] == [
        ("log_2026_01", [{"number": 2, "reason": "r", "owner": "o", "organization": "x"}]),
        ("log_2026_02", [{"number": 1, "reason": "case 7", "owner": "legal", "organization": None}]),
    ]
    assert parts["log_2026_02"]["states"] == ["closed", "held", "sealed"]
    assert parts["log_2026_03"]["states"] == ["closed", "empty", "sealed"]
    assert parts["log_2026_10"]["states"] == ["closed", "unsealed"]
    assert parts["log_2026_11"]["states"] == ["current"] and parts["log_2026_12"]["states"] == ["empty", "future"]
    assert table["headroom_days"] == pytest.approx(69.83, abs=0.01)


def test_partitions_are_chosen_and_ordered(year):
    assert [each["name"] for each in look(year, only=["future", "default"], sort="name")["partitions"]] == [
        "log_2026_12",
        "log_2027_01",
        "log_default",
    ]
    rows = [
        each["rows"]
        for each in look(year, exact_rows=True, only=["closed"], sort="rows", descending=True)["partitions"]
    ]
    assert rows == sorted(rows, reverse=True) and rows[0] == 40
    oldest = look(year, only=["closed"], sort="age")["partitions"]
    assert [each["name"] for each in oldest][:2] == ["log_2026_01", "log_2026_02"]
    sizes = [each["size_bytes"] for each in look(year, sort="size")["partitions"]]
    assert sizes == sorted(sizes)


def test_what_left_is_told(year):
    declare(year, retention="9 months", retention_action="detach", history="audit.partition_history")
    left = look(year, **EVIDENCE)["departures"]
    assert [(each["name"], each["action"], each["dropped_at"]) for each in left] == [
        ("public.log_2026_01", "detach", None)
    ]
    assert left[0]["from"] == "2026-01-01T00:00:00+00:00"


BREAKS = {
    "missing": ("DROP TABLE log_2027_01", {}, "maintenance.yml"),
    "default_rows": ("INSERT INTO log (at) VALUES ('1970-01-01')", {}, "default_ranges"),
    "misnamed": ("ALTER TABLE log_2026_06 RENAME TO june", {}, "ALTER TABLE june RENAME TO log_2026_06"),
    "invalid_index": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'log_2026_06_a_idx'::regclass", {},
        "REINDEX INDEX CONCURRENTLY log_2026_06_a_idx",
    ),
    "missing_index": ("CREATE INDEX log_at ON ONLY log (at)", {}, "ATTACH PARTITION"),
    "many_partitions": ("SELECT", {"many_partitions": 13}, "longer interval"),
    "large_partitions": ("SELECT", {"large_bytes": 8192}, "shorter interval"),
    "empty_partitions": (
        "DELETE FROM log WHERE at < '2026-07-01Z'; VACUUM log", {}, "DETACH PARTITION public.log_2026_01"
    ),
    "never_analyzed": (
        "DELETE FROM pg_statistic WHERE starelid = 'log'::regclass; SELECT pg_stat_reset()", {}, "ANALYZE public.log"
    ),
    "expired": ("SELECT", {"table": {"retention": "9 months", "retention_action": "detach"}}, "maintenance.yml"),
    "unsealed": ("SELECT", EVIDENCE, "postgresql_partition_seal"),
}  # fmt: skip


@pytest.mark.parametrize("about", BREAKS)
def test_each_recommendation_comes_when_it_should_and_not_before(year, about):
    statement, options, remedy = BREAKS[about]
    year.query("ANALYZE log")
    assert advice(look(year)) == {}
    for each in statement.split("; "):
        year.query(each)
    found = advice(look(year, **options))
    assert list(found) == [about] and remedy in found[about]["remedy"] and found[about]["reason"]


def test_statements_that_cannot_prune(year):
    year.query("ANALYZE log")
    assert (
        look(year, statements=True)["statements_problem"] == "the extension pg_stat_statements is not in this database"
    )
    year.query("CREATE EXTENSION pg_stat_statements")
    if "pg_stat_statements" not in year.value("SELECT current_setting('shared_preload_libraries')"):
        assert (
            look(year, statements=True)["statements_problem"] == "pg_stat_statements is not in shared_preload_libraries"
        )
        return
    for _attempt in range(20):  # what others run beside this may push statements out of the view
        for _call in range(20):
            year.query("SELECT count(*) FROM log WHERE a = 'y'")
            year.query("SELECT count(*) FROM log WHERE at > '2026-11-01'")
        found = look(year, statements=True)
        if found["recommendations"]:
            break
    assert len(found["recommendations"]) == 1 and "WHERE a = " in advice(found)["cannot_prune"]["reason"]


def test_the_number_of_queries_does_not_grow_with_the_partitions(year, monkeypatch):
    asked = []
    query = Session.query
    monkeypatch.setattr(Session, "query", lambda self, *arguments: asked.append(arguments) or query(self, *arguments))
    look(year, exact_rows=True, statements=True, **EVIDENCE)
    once = len(asked)
    declare(year, start="2022-01-01", default_partition=True)
    asked.clear()
    assert len(look(year, exact_rows=True, statements=True, **EVIDENCE)["partitions"]) > 50 and len(asked) == once


def test_only_needs_details(year):
    failed = year.failure("postgresql_partition_info", tables=[{"table": "log"}], only=["held"], now=NOW)
    assert "details" in failed["msg"]
    failed = info(year, {"table": "log"}, class_column="nothing")["problems"]
    assert "has no column nothing" in failed[0]["problem"]
