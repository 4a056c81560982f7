"""postgresql_partition lets partitions leave by age: as declared, never early, never what is held or referred to."""

from __future__ import annotations

import contextlib
import threading
import time

import psycopg2
import pytest

from .partitions import TABLE, bounds, declare, refuse

pytestmark = pytest.mark.newest

NOW = "2026-11-23T04:00:00Z"
HOLDS = """
CREATE TABLE holds (id bigint GENERATED ALWAYS AS IDENTITY, table_name text, time_from timestamptz, time_to timestamptz,
    organization_id text, reason text NOT NULL, owner text NOT NULL, released_at timestamptz)
"""
LEAVE = {"retention": "4 months", "retention_action": "detach", "max_leaving": 9}


@pytest.fixture
def log(database):
    """A table with a row in the middle of each month from January to November."""
    database.query(TABLE.replace("a text", "a text, organization_id text"))
    declare(database, start="2026-01-01", default_partition=True)
    database.query(
        "INSERT INTO log (at, a, organization_id) SELECT at, 'ไทย', to_char(at, 'MM') "
        "FROM generate_series('2026-01-15'::timestamptz, '2026-11-15', '1 month') AS at"
    )
    return database


def left(result):
    return [each["name"] for each in result["left"]]


def standing(log, name):
    return log.value("SELECT to_regclass(%s) IS NOT NULL", (name,))


@pytest.mark.parametrize("action", ["detach", "drop"])
def test_leave_again_later_again(log, action):
    leave = {**LEAVE, "retention_action": action, "start": "2026-01-01", "default_partition": True}
    expected = [f"log_2026_0{month}" for month in range(1, 7)]
    check = declare(log, check=True, **leave)
    assert left(check) == expected and "DETACH PARTITION" in check["diff"]["after"]
    assert log.value("SELECT count(*) FROM log") == 11

    gone = declare(log, **leave)
    assert left(gone) == expected and gone["queries"] == check["queries"]
    assert log.value("SELECT count(*) FROM log") == 5 and min(bounds(log)) == "log_2026_07"
    assert all(standing(log, name) is (action == "detach") for name in expected)
    assert not declare(log, check=True, **leave)["changed"]
    again = declare(log, **leave)
    assert not again["changed"] and again["executed_queries"] == []

    # July leaves when the last of it is four months old, not a moment before.
    assert left(declare(log, **{**leave, "now": "2026-11-30T23:59:59Z"})) == []
    later = declare(log, **{**leave, "now": "2026-12-01T00:00:00Z"})
    assert left(later) == ["log_2026_07"]
    assert not declare(log, **{**leave, "now": "2026-12-01T00:00:00Z"})["changed"]


def test_keep_is_the_default(log):
    assert not declare(log, retention="1 month", start="2026-01-01")["changed"]


def test_a_late_row_is_taken_after_its_partition_has_left(log):
    declare(log, **LEAVE)
    log.query("INSERT INTO log (at) VALUES ('2026-02-02')")
    again = declare(log, **LEAVE)
    assert not again["changed"] and again["default_rows"] == 1


def test_a_held_partition_stays_and_what_is_around_it_goes(log):
    log.query(HOLDS)
    log.query(
        "INSERT INTO holds (table_name, time_from, time_to, organization_id, reason, owner, released_at) VALUES "
        "('log', '2026-02-10', '2026-03-01', NULL, 'lawsuit', 'legal', NULL), "
        "('log_2026_04', NULL, NULL, NULL, 'inquiry', 'legal', NULL), "
        "(NULL, NULL, NULL, '05', 'their request', 'dpo', NULL), "
        "('log', NULL, NULL, NULL, 'all of it', 'legal', now()), "
        "('another', NULL, NULL, NULL, 'not this one', 'legal', NULL)"
    )
    gone = declare(log, **LEAVE, holds="public.holds")
    assert left(gone) == ["log_2026_01", "log_2026_03", "log_2026_06"]
    held = {(each["partition"], each["reason"]) for each in gone["held"]}
    assert held == {("log_2026_02", "lawsuit"), ("log_2026_04", "inquiry"), ("log_2026_05", "their request")}
    assert not declare(log, **LEAVE, holds="public.holds")["changed"], "what has left is not made again between"
    log.query("UPDATE holds SET released_at = now() WHERE reason = 'inquiry'")
    assert left(declare(log, **LEAVE, holds="public.holds")) == ["log_2026_04"]


def test_holds_that_cannot_be_read_let_nothing_leave(log):
    failed = refuse(log, **LEAVE, holds="public.nowhere")
    assert failed["sqlstate"] == "42P01" and log.value("SELECT count(*) FROM log") == 11


def test_too_many_at_once_are_refused_but_what_is_lacking_is_made(log):
    failed = refuse(log, **{**LEAVE, "max_leaving": 5, "premake": 4})
    assert "6 partitions would leave at once" in failed["msg"] and "max_leaving: 6" in failed["remedy"]
    assert failed["changed"] and {"log_2026_01", "log_2027_03"} <= bounds(log).keys()


def test_a_clock_far_ahead_lets_nothing_leave(log):
    failed = refuse(log, **{**LEAVE, "now": "2036-11-23"}, start="2036-11-01")
    assert "newest row is from 2026-11-15" in failed["msg"] and "clock" in failed["remedy"]
    assert log.value("SELECT count(*) FROM log") == 11


def test_rows_that_others_refer_to_are_counted_and_the_referring_month_goes_first(log):
    log.query(
        "CREATE TABLE sub (n int, log_id bigint, log_at timestamptz NOT NULL, FOREIGN KEY (log_id, log_at) "
        "REFERENCES log (id, at)) PARTITION BY RANGE (log_at)"
    )
    declare(log, table="sub", start="2026-01-01")
    log.query("INSERT INTO sub SELECT 1, id, at FROM log WHERE at < '2026-03-01'")
    failed = refuse(log, **LEAVE)
    assert failed["sqlstate"] == "23503"
    assert "1 rows of sub refer to log_2026_01, 1 rows of sub refer to log_2026_02" in failed["msg"]
    assert log.value("SELECT count(*) FROM log") == 11
    check = declare(log, check=True, **LEAVE)
    assert check["left"] == [] and "1 rows of sub refer to log_2026_01" in str(check["warnings"])
    # Nothing refers to the rows of a partition that has left: it takes its foreign keys along, and loses them.
    sub = declare(log, table="sub", **LEAVE, clock_lead="1 year")
    assert left(sub)[:2] == ["sub_2026_01", "sub_2026_02"] and "DROP CONSTRAINT" in sub["diff"]["after"]
    assert log.value("SELECT count(*) FROM sub_2026_01") == 1
    assert len(left(declare(log, **LEAVE))) == 6


def test_a_reader_in_the_way_delays_and_loses_nothing(log):
    holder = log.server.connect(log.name)
    holder.autocommit = False
    holder.cursor().execute("SELECT count(*) FROM log")
    failed = refuse(log, **LEAVE, lock_timeout="50ms", lock_attempts=2)
    assert failed["sqlstate"] == "55P03" and log.value("SELECT count(*) FROM log") == 11
    threading.Timer(0.5, holder.rollback).start()
    assert len(left(declare(log, **LEAVE, lock_timeout="50ms", lock_attempts=50))) == 6


def test_writers_wait_no_longer_than_the_lock_timeout(log):
    """While a reader keeps partitions from leaving, each try holds writers up for lock_timeout at most."""
    holder = log.server.connect(log.name)
    holder.autocommit = False
    holder.cursor().execute("SELECT count(*) FROM log")
    worst, stop = [0.0], threading.Event()

    def write():
        with contextlib.closing(log.server.connect(log.name)) as connection:
            while not stop.is_set():
                begun = time.monotonic()
                connection.cursor().execute("INSERT INTO log (at) VALUES ('2026-11-20')")
                worst[0] = max(worst[0], time.monotonic() - begun)

    writer = threading.Thread(target=write)
    writer.start()
    threading.Timer(1.5, holder.rollback).start()
    gone = declare(log, **LEAVE, lock_timeout="100ms", lock_attempts=50)
    stop.set()
    writer.join()
    assert len(left(gone)) == 6
    assert worst[0] < 1.0, "a generous ceiling: the machine may be busy"


def test_a_killed_leaving_is_whole_or_has_not_been(log):
    log.query(
        "CREATE FUNCTION die() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); END$$"
    )
    log.query("CREATE EVENT TRIGGER die ON sql_drop EXECUTE FUNCTION die()")
    with contextlib.suppress(psycopg2.Error):
        refuse(log, **{**LEAVE, "retention_action": "drop"})
    log.query("DROP EVENT TRIGGER die")
    assert log.value("SELECT count(*) FROM log") == 11
    assert len(left(declare(log, **{**LEAVE, "retention_action": "drop"}))) == 6


def test_a_key_of_dates_leaves_too(database):
    database.query("CREATE TABLE log (at date NOT NULL) PARTITION BY RANGE (at)")
    declare(database, start="2026-01-01")
    database.query("INSERT INTO log SELECT generate_series('2026-01-15'::date, '2026-11-15', '1 month')")
    assert len(left(declare(database, **LEAVE))) == 6
