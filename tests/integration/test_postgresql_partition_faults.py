"""postgresql_partition where something is wrong: it says what, and changes nothing."""

from __future__ import annotations

import psycopg2
import pytest

from .partitions import TABLE, bounds, declare, info, names, refuse

pytestmark = pytest.mark.newest


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
        ("RANGE (c)", "of type text"),
    ],
)
def test_other_keys_are_refused(database, key, why):
    database.query(f"CREATE TABLE log (a int, b int, c text) PARTITION BY {key}")
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


@pytest.fixture
def interrupted(log):
    """A table one of whose partitions was being detached concurrently when the wait was cut."""
    declare(log, premake=1)
    log.query("INSERT INTO log (at, a) VALUES ('2026-12-24', 'before')")
    holder = log.server.connect(log.name)
    holder.autocommit = False
    holder.cursor().execute("SELECT count(*) FROM log")
    with log.server.connect(log.name).cursor() as cursor, pytest.raises(psycopg2.errors.LockNotAvailable):
        cursor.execute("SET lock_timeout = '200ms'")
        cursor.execute("ALTER TABLE log DETACH PARTITION log_2026_12 CONCURRENTLY")
    holder.close()
    with pytest.raises(psycopg2.errors.CheckViolation):
        log.query("INSERT INTO log (at) VALUES ('2026-12-25')")
    assert info(log, {"table": "log"})["tables"][0]["detach_pending"] == ["log_2026_12"]
    return log


def test_an_interrupted_detach_is_ended_and_what_is_declared_comes_back(interrupted):
    check = declare(interrupted, check=True)
    assert check["finalized"] == ["log_2026_12"] and "FINALIZE" in check["queries"][0]
    made = declare(interrupted)
    assert made["queries"] == check["queries"] and made["executed_queries"][0] == made["queries"][0]
    assert names(made) == ["log_2026_12", "log_2027_01"] and made["detach_pending"] == []
    assert interrupted.value("SELECT a FROM log WHERE at = '2026-12-24'") == "before"
    interrupted.query("INSERT INTO log (at) VALUES ('2026-12-25')")
    assert not declare(interrupted)["changed"]


def test_an_interrupted_detach_of_what_is_not_declared_is_ended_and_stays_detached(interrupted):
    made = declare(interrupted, now="2027-03-01T00:00:00Z", start="2027-01-01")
    assert made["finalized"] == ["log_2026_12"] and "log_2026_12" not in names(made)
    assert interrupted.value("SELECT NOT relispartition FROM pg_class WHERE relname = 'log_2026_12'")
    assert interrupted.value("SELECT count(*) FROM log_2026_12") == 1


def test_while_a_reader_is_in_the_way_ending_a_detach_is_an_error_that_can_be_repeated(interrupted):
    holder = interrupted.server.connect(interrupted.name)
    holder.autocommit = False
    holder.cursor().execute("SELECT count(*) FROM log_2026_12")
    failed = refuse(interrupted, lock_timeout="50ms", lock_attempts=2)
    assert failed["sqlstate"] == "55P03" and failed["executed_queries"] == []
    holder.close()
    assert declare(interrupted)["finalized"] == ["log_2026_12"]
