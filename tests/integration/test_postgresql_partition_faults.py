"""postgresql_partition where something is wrong: it says what, and changes nothing."""

from __future__ import annotations

import psycopg2
import pytest

from .partitions import TABLE, bounds, declare, info, names, refuse


@pytest.fixture
def log(database):
    database.query(TABLE)
    return database


@pytest.mark.parametrize(
    ("thing", "word"),
    [
        ("TABLE log_2026_12 (a int)", "a plain table"),
        ("TABLE log_2026_12 (a int) PARTITION BY LIST (a)", "a partitioned table"),
        ("VIEW log_2026_12 AS SELECT 1 AS a", "a view"),
        ("SEQUENCE log_2026_12", "a sequence"),
        ("INDEX log_2026_12 ON log (a)", "an index"),
        ("TYPE log_2026_12 AS ENUM ('a')", "a type"),
    ],
)
def test_an_unrelated_thing_with_the_name_is_an_error_and_nothing_changes(log, thing, word):
    log.query(f"CREATE {thing}")
    for check in (True, False):
        failed = refuse(log, check)
        assert f"log_2026_12 is {word}" in failed["msg"]
        assert failed["sqlstate"] == "42P07" and failed["clashes"] == ["log_2026_12"] and failed["changed"] is False
        assert bounds(log) == {}
    assert names(declare(log, premake=0)) == ["log_2026_11"], "a name that is not needed is in nobody's way"


def test_a_partition_with_the_name_of_another_range_is_an_error(log):
    log.query("CREATE TABLE log_2026_12 PARTITION OF log FOR VALUES FROM ('2026-11-01 00:00+00') TO ('2026-12-01Z')")
    assert "log_2026_12 is a partition of public.log from 2026-11-01T00:00:00+00:00" in refuse(log)["msg"]
    assert list(bounds(log)) == ["log_2026_12"]


def test_the_name_in_another_schema_is_in_nobodys_way(log):
    log.query("CREATE SCHEMA other; CREATE TABLE other.log_2026_12 (a int)")
    assert names(declare(log)) == ["log_2026_11", "log_2026_12", "log_2027_01"]


def test_not_partitioned_is_explained(database):
    database.query("CREATE TABLE log (at timestamptz)")
    failed = refuse(database)
    assert failed["sqlstate"] == "42P17"
    assert "not partitioned" in failed["msg"] and "convert_to_partitioned.yml" in failed["msg"]
    missing = refuse(database, table="nowhere.log")
    assert missing["sqlstate"] == "42P01" and "audit_schema" in missing["remedy"]


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("LIST (a)", "partitioned by LIST"),
        ("HASH (a)", "partitioned by HASH"),
        ("RANGE (a, b)", "not a single column"),
        ("RANGE ((a + 1))", "not a single column"),
        ("RANGE (a)", "of type integer"),
    ],
)
def test_other_keys_are_refused(database, key, why):
    database.query(f"CREATE TABLE log (a int, b int) PARTITION BY {key}")
    failed = refuse(database)
    assert "'public.log'" in failed["msg"] and why in failed["msg"] and failed["remedy"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": "soon"}, "start: 'soon'"),
        ({"now": "later"}, "now: 'later'"),
        ({"premake": -1}, "premake: -1"),
        ({"premake": 10**6}, "more than 5000 partitions"),
        ({"start": "0001-01-01", "interval": "hour"}, "more than 5000 partitions"),
        ({"lock_timeout": "soon"}, "lock_timeout: 'soon'"),
        ({"lock_attempts": 0}, "lock_attempts: 0"),
        ({"interval": "decade"}, "decade"),
    ],
)
def test_bad_options_are_named(log, options, said):
    assert said in refuse(log, **options)["msg"]
    assert bounds(log) == {}


def test_an_hour_does_not_fit_a_date(database):
    database.query("CREATE TABLE log (at date NOT NULL) PARTITION BY RANGE (at)")
    assert "interval: hour" in refuse(database, interval="hour")["msg"]
    assert len(info(database, {"table": "log", "interval": "hour"})["problems"]) == 1


def test_rows_in_the_default_partition_are_an_error_with_its_name(log):
    log.query("CREATE TABLE rest PARTITION OF log DEFAULT")
    log.query("INSERT INTO log (at) VALUES ('2026-12-24')")
    failed = refuse(log)
    assert failed["sqlstate"] == "23514" and "default partition rest" in failed["remedy"]
    assert failed["changed"] and len(failed["executed_queries"]) == 1, "one transaction for each partition"
    log.query("TRUNCATE rest")
    made = declare(log)
    assert names(made) == ["log_2026_12", "log_2027_01"]
    assert made["default_partition"] == "rest" and made["partitions"] == 4


def test_an_interrupted_detach_is_reported_and_left_alone(log):
    declare(log, premake=1)
    holder = log.server.connect(log.name)
    holder.autocommit = False
    holder.cursor().execute("SELECT count(*) FROM log")
    with log.server.connect(log.name).cursor() as cursor, pytest.raises(psycopg2.errors.LockNotAvailable):
        cursor.execute("SET lock_timeout = '200ms'")
        cursor.execute("ALTER TABLE log DETACH PARTITION log_2026_12 CONCURRENTLY")
    holder.close()
    with pytest.raises(psycopg2.errors.CheckViolation):
        log.query("INSERT INTO log (at) VALUES ('2026-12-24')")
    made = declare(log)
    assert names(made) == ["log_2027_01"] and made["detach_pending"] == ["log_2026_12"]
    assert made["covered_until"] == "2026-12-01T00:00:00+00:00" and made["headroom"] == 0
    [warning] = map(str, made["warnings"])
    assert "public.log_2026_12 was interrupted" in warning and "FINALIZE" in warning
    assert info(log, {"table": "log"})["tables"][0]["detach_pending"] == ["log_2026_12"]
