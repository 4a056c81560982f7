"""Indexes of partitions: what is invalid is rebuilt, what is lacking is built concurrently or adopted."""

from __future__ import annotations

import threading
import time

import psycopg2
import pytest

from .partitions import TABLE, declare, refuse

MONTHS = ("2026_11", "2026_12", "2027_01")
INDEXES = """
SELECT t.relname::text, i.relname::text, indisvalid, h.inhparent::regclass::text
FROM pg_index JOIN pg_class i ON i.oid = indexrelid JOIN pg_class t ON t.oid = indrelid
LEFT JOIN pg_inherits h ON h.inhrelid = indexrelid WHERE t.relname LIKE 'log%' AND NOT indisprimary ORDER BY 1, 2
"""

INVALID = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{}'::regclass"


@pytest.fixture
def log(database):
    database.query(TABLE)
    database.query("CREATE INDEX log_a ON log (a)")
    declare(database)
    database.query("INSERT INTO log (at, a) SELECT '2026-11-23Z', n::text FROM generate_series(1, 1000) AS n")
    return database


@pytest.fixture
def bare(database):
    database.query(TABLE)
    declare(database)
    database.query("INSERT INTO log (at, a) SELECT '2026-12-05', n FROM generate_series(1, 1000) AS n")
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
    # The one that was being built is rebuilt, and adopted in the end.
    assert sorted(each["what"] for each in repair(log)) == ["adopted", "built", "built"]


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


def interrupt(database, statement):
    """Run a concurrent build that is cut off while it waits for a transaction that began before."""
    holder = database.server.connect(database.name)
    holder.autocommit = False
    holder.set_session(isolation_level="REPEATABLE READ")
    with holder.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM log")
    database.query("SET statement_timeout = '300ms'")
    with pytest.raises(psycopg2.errors.QueryCanceled):
        database.query(statement)
    database.query("RESET statement_timeout")
    holder.close()


def test_what_was_attached_while_it_was_not_valid_is_looked_at_again(bare):
    bare.query("CREATE INDEX log_a_idx ON ONLY log (a)")
    interrupt(bare, "CREATE INDEX CONCURRENTLY log_2026_12_a_idx ON log_2026_12 (a)")
    for month in MONTHS:
        if month != "2026_12":
            bare.query(f"CREATE INDEX log_{month}_a_idx ON log_{month} (a)")
        bare.query(f"ALTER INDEX log_a_idx ATTACH PARTITION log_{month}_a_idx")
    assert bare.query(INDEXES)[0] == ("log", "log_a_idx", False, None)
    assert repair(bare) == [
        {"partition": "log_2026_12", "index": "log_2026_12_a_idx", "what": "rebuilt"},
        {"partition": "log_2026_11", "index": "log_2026_11_a_idx", "what": "validated"},
    ]


@pytest.mark.parametrize(("kind", "columns"), [("PRIMARY KEY", "at, b"), ("UNIQUE", "b, at")])
def test_the_index_of_a_constraint_is_completed_with_its_constraint(database, kind, columns):
    database.query("CREATE TABLE log (at timestamptz NOT NULL, b int NOT NULL) PARTITION BY RANGE (at)")
    declare(database)
    database.query(f"ALTER TABLE ONLY log ADD CONSTRAINT log_key {kind} ({columns})")
    database.query(f"CREATE UNIQUE INDEX plain ON log_2026_12 ({columns})")  # of no constraint, so it will not do
    assert not database.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'log_key'::regclass")
    made = declare(database)
    assert [each["what"] for each in made["repaired"]] == ["built"] * 3
    assert database.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'log_key'::regclass")
    assert not declare(database)["changed"]
    constraints = (
        "SELECT count(*) FROM pg_constraint WHERE conparentid = (SELECT oid FROM pg_constraint WHERE conname = %s)"
    )
    assert database.value(constraints, ("log_key",)) == 3
    declare(database, premake=3)
    assert not declare(database, premake=3)["changed"]


def test_readers_and_writers_go_on_and_a_transaction_that_does_not_end_is_told(bare):
    bare.query("CREATE INDEX log_a_idx ON ONLY log (a)")
    holder = bare.server.connect(bare.name)
    holder.autocommit = False
    holder.cursor().execute("INSERT INTO log (at) VALUES ('2026-11-05')")
    failed = refuse(bare, wait=0.5)
    assert failed["sqlstate"] == "55P03" and "a transaction that began before" in failed["msg"]
    bare.query("SET lock_timeout = '1s'")
    bare.query("INSERT INTO log (at) VALUES ('2026-11-06'), ('2026-12-06')")
    holder.rollback()
    made = declare(bare)
    assert made["repaired"][0] == {"partition": "log_2026_11", "index": "log_2026_11_a_idx", "what": "adopted"}
    assert all(row[2] for row in bare.query(INDEXES)) and not declare(bare)["changed"]


def test_a_partition_that_leaves_gets_no_index(bare):
    bare.query("CREATE INDEX log_a_idx ON ONLY log (a)")
    options = {"retention": "1 hour", "retention_action": "detach", "now": "2026-12-20T00:00:00Z", "keep_at_least": 1}
    made = declare(bare, premake=1, **options)
    assert [each["name"] for each in made["left"]] == ["log_2026_11"]
    assert {each["partition"] for each in made["repaired"]} == {"log_2026_12", "log_2027_01"}
    assert bare.query(INDEXES)[0] == ("log", "log_a_idx", True, None)
    assert not declare(bare, premake=1, **options)["changed"]


def test_duplicates_are_told_and_their_leftovers_cleared_away(bare):
    bare.query("INSERT INTO log (at, a) VALUES ('2026-12-05', 'twice'), ('2026-12-05', 'twice')")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        bare.query("CREATE UNIQUE INDEX CONCURRENTLY own ON log_2026_12 (at, a)")
    for _run in range(2):
        assert refuse(bare)["sqlstate"] == "23505"
    bare.query("DELETE FROM log WHERE a = 'twice'")
    made = declare(bare)
    assert [each["what"] for each in made["repaired"]] == ["dropped", "rebuilt"]
    assert not declare(bare)["changed"]
