"""Indexes of partitions: what is invalid is rebuilt, what is lacking is built concurrently or adopted."""

from __future__ import annotations

import threading
import time

import pytest

from .partitions import TABLE, declare

INVALID = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{}'::regclass"


@pytest.fixture
def log(database):
    database.query(TABLE)
    database.query("CREATE INDEX log_a ON log (a)")
    declare(database)
    database.query("INSERT INTO log (at, a) SELECT '2026-11-23Z', n::text FROM generate_series(1, 1000) AS n")
    return database


def invalid(log):
    return [
        name for (name,) in log.query("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1")
    ]


def repair(log):
    """Check, do it, and again; return what was done."""
    before = log.query("SELECT oid, relname FROM pg_class WHERE relkind IN ('i', 'I') ORDER BY 1")
    would = declare(log, check=True)
    assert (
        would["changed"]
        and log.query("SELECT oid, relname FROM pg_class WHERE relkind IN ('i', 'I') ORDER BY 1") == before
    )
    done = declare(log)
    assert done["queries"] == would["queries"] and done["repaired"] == would["repaired"]
    assert invalid(log) == []
    again = declare(log)
    assert not again["changed"] and again["repaired"] == []
    return done["repaired"]


def test_an_invalid_index_is_rebuilt(log):
    log.query(INVALID.format("log_2026_11_a_idx"))
    assert repair(log) == [{"partition": "log_2026_11", "index": "log_2026_11_a_idx", "what": "rebuilt"}]
    assert log.value("SELECT count(*) FROM log WHERE a = '7'") == 1


def test_what_a_stopped_rebuilding_left_is_dropped(log):
    log.query("CREATE INDEX log_2026_11_a_idx_ccnew ON log_2026_11 (a)")
    log.query(INVALID.format("log_2026_11_a_idx_ccnew"))
    assert repair(log) == [{"partition": "log_2026_11", "index": "log_2026_11_a_idx_ccnew", "what": "dropped"}]


def test_an_index_of_the_table_is_built_on_each_partition(log):
    log.query(
        "CREATE UNIQUE INDEX log_once ON ONLY log (at, id, lower(a)) INCLUDE (a) WITH (fillfactor = 80) "
        "WHERE a <> '%s {}'"
    )
    done = repair(log)
    assert [(each["partition"], each["what"]) for each in done] == [
        ("log_2026_11", "built"), ("log_2026_12", "built"), ("log_2027_01", "built"),
    ]  # fmt: skip
    assert done[0]["index"] == "log_2026_11_once"
    definition = log.value("SELECT pg_get_indexdef('log_2026_11_once'::regclass)")
    assert "UNIQUE" in definition and "INCLUDE" in definition and "fillfactor" in definition and "%s {}" in definition


def test_one_that_is_the_same_is_adopted_and_one_that_is_not_is_left_alone(log):
    log.query(
        "CREATE INDEX mine ON log_2026_11 (at DESC) WHERE a IS NOT NULL; "
        "CREATE INDEX other ON log_2026_12 (at) WHERE a IS NOT NULL"
    )
    log.query("CREATE INDEX log_recent ON ONLY log (at DESC) WHERE a IS NOT NULL")
    assert [(each["index"], each["what"]) for each in repair(log)] == [
        ("mine", "adopted"), ("log_2026_12_recent", "built"), ("log_2027_01_recent", "built"),
    ]  # fmt: skip
    assert log.value("SELECT count(*) FROM pg_inherits WHERE inhparent = 'log_recent'::regclass") == 3


def test_a_stopped_building_is_gone_on_with(log):
    log.query("CREATE INDEX log_at ON ONLY log (at)")
    with log.server.connect(log.name) as holder, holder.cursor() as cursor:
        holder.autocommit = False
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        ended = threading.Thread(target=end_building, args=(log, "pg_terminate_backend"))
        ended.start()
        log.failure("postgresql_partition", table="log", premake=2, now="2026-11-23T04:00:00Z")
        ended.join()
        holder.rollback()
    holder.close()
    assert len(invalid(log)) == 2, "the one of the table, and the one that was being built"
    assert sorted(each["what"] for each in repair(log)) == ["adopted", "built", "built", "rebuilt"]


def end_building(log, function):
    """Wait until an index is being built; end it, or just return."""
    deadline = time.monotonic() + 30
    where = "FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase ~ 'old snapshots'"
    while not log.query(f"SELECT {function}(pid) {where}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_index_that_another_session_builds_is_left_alone(log):
    def build():
        with log.server.connect(log.name).cursor() as cursor:
            cursor.execute("CREATE INDEX CONCURRENTLY slow ON log_2026_11 (at)")

    with log.server.connect(log.name) as holder, holder.cursor() as cursor:
        holder.autocommit = False
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        builder = threading.Thread(target=build)
        builder.start()
        end_building(log, "abs")
        assert invalid(log) == ["slow"]
        assert not declare(log, check=True)["changed"]
        holder.rollback()
    holder.close()
    builder.join()
    assert invalid(log) == [] and not declare(log)["changed"]


def test_it_can_be_left_out(log):
    log.query(INVALID.format("log_2026_11_a_idx"))
    assert not declare(log, repair_indexes=False)["changed"] and invalid(log) == ["log_2026_11_a_idx"]


def test_long_names_stay_apart(database):
    name = "l" * 50
    database.query(TABLE.replace("TABLE log", f"TABLE {name}"))
    declare(database, table=name)
    for suffix in ("a", "b"):
        database.query(f"CREATE INDEX {name}_x{suffix} ON ONLY {name} (a)")
    done = declare(database, table=name)
    assert len({each["index"] for each in done["repaired"]}) == 6 and not declare(database, table=name)["changed"]


def test_writers_go_on_while_an_index_is_built(log):
    log.query("INSERT INTO log (at, a) SELECT '2026-11-23Z', n::text FROM generate_series(1, 100000) AS n")
    log.query("CREATE INDEX log_at ON ONLY log (at)")
    stop, count = threading.Event(), [0]

    def write():
        with log.server.connect(log.name).cursor() as cursor:
            cursor.execute("SET statement_timeout = '2s'")
            while not stop.is_set():
                cursor.execute("INSERT INTO log (at) VALUES ('2026-11-24Z')")
                count[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        declare(log)
    finally:
        stop.set()
        writer.join()
    assert invalid(log) == [] and log.value("SELECT count(*) FROM log WHERE at = '2026-11-24Z'") == count[0] > 0


def test_the_table_is_analyzed_once_an_interval(log):
    would = declare(log, check=True, analyze=True)
    assert would["queries"] == ['ANALYZE "public"."log"']
    assert log.value("SELECT count(*) FROM pg_statistic WHERE starelid = 'log'::regclass") == 0
    assert declare(log, analyze=True)["executed_queries"] == would["queries"]
    assert log.value("SELECT count(*) FROM pg_statistic WHERE starelid = 'log'::regclass AND stainherit") > 0
    log.query("SELECT pg_stat_force_next_flush()")
    assert not declare(log, analyze=True)["changed"] and not declare(log)["changed"]


def test_a_table_without_rows_is_not_analyzed(database):
    database.query(TABLE)
    declare(database)
    assert not declare(database, analyze=True)["changed"]
