"""postgresql_partition_convert, stopped at any step: the table is usable, and the next run goes on or goes back."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session

from .conversions import IDENTITIES, TABLES, convert, kind, looks, refused, revert

STATEMENTS = 7
"""Transactions of a conversion: put aside, move twice (the second finds none), check, validate, build, swap."""


@pytest.fixture
def log(database):
    database.query(TABLES.format(id=IDENTITIES["always"]))
    database.query("INSERT INTO log (at, a) VALUES ('2999-01-01', 'before')")
    return database


def killed(log, count, work):
    """Run ``work`` in a process that is killed with -9 after so many statements."""

    def run():
        execute, left = Session.execute, [count]

        def execute_or_die(*arguments):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return execute(*arguments)

        Session.execute = execute_or_die
        work(log)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def usable(log):
    """Rows of any time are taken, and those of before are there; what is put aside comes back."""
    log.query("INSERT INTO log (at, a) VALUES ('2026-11-23Z', 'now'), ('2998-01-01', 'absurd')")
    assert log.value("SELECT count(*) FROM log WHERE a = 'X'") == 1800
    assert log.value("SELECT count(*) FROM log WHERE a = 'NOW'") == 1


def everything(log):
    return log.query("SELECT a, count(*)::int FROM log GROUP BY a ORDER BY a")


ALL = [("ABSURD", 1), ("BEFORE", 1), ("NOW", 1), ("X", 1800)]


@pytest.mark.parametrize("count", range(STATEMENTS))
def test_killed_at_any_step_the_next_run_goes_on(log, count):
    before = looks(log)
    killed(log, count, convert)
    usable(log)
    assert convert(log, check=True)["changed"]
    convert(log)
    assert kind(log) == "p" and everything(log) == ALL and looks(log) == before
    assert log.query("SELECT relname FROM pg_class WHERE relname LIKE '%convert%'") == []
    assert not convert(log)["changed"]


@pytest.mark.parametrize("count", range(STATEMENTS))
def test_killed_at_any_step_it_goes_back(log, count):
    before = looks(log)
    killed(log, count, convert)
    usable(log)
    revert(log)
    assert kind(log) == "r" and everything(log) == ALL and looks(log) == before
    assert log.query("SELECT proname FROM pg_proc WHERE proname LIKE 'zzz%'") == []
    assert not revert(log)["changed"]


@pytest.mark.parametrize("count", range(3))
def test_killed_on_the_way_back(log, count):
    """Statements: drop what was left of a key, build the key, swap."""
    before = looks(log)
    convert(log)
    killed(log, count, revert)
    usable(log)
    revert(log)
    assert kind(log) == "r" and everything(log) == ALL and looks(log) == before


def test_killed_after_the_swap_the_partitions_ahead_are_made_by_the_next_run(log):
    killed(log, STATEMENTS, convert)
    assert kind(log) == "p"
    usable(log)
    convert(log)
    assert log.value("SELECT to_regclass('log_2027_01') IS NOT NULL")


def cancel_building(log, function):
    """Stop the session that builds an index, and return once it has begun."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = log.query(
            f"SELECT {function}(pid) FROM pg_stat_progress_create_index WHERE datname = current_database() "
            "AND phase = 'waiting for old snapshots'"
        )
        if found:
            return
        time.sleep(0.01)
    raise AssertionError("nothing was built")


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
def test_an_index_that_was_left_invalid_is_built_again(log, function):
    # A transaction with a snapshot keeps the building from its end.
    with log.server.connect(log.name) as holder, holder.cursor() as cursor:
        holder.autocommit = False
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM place")
        stopper = threading.Thread(target=cancel_building, args=(log, function))
        stopper.start()
        failed = refused(log)
        stopper.join()
        holder.rollback()
    holder.close()
    assert failed["msg"] and kind(log) == "r"
    assert log.value("SELECT NOT indisvalid FROM pg_index WHERE indexrelid = 'log_convert_key'::regclass")
    convert(log)
    assert kind(log) == "p"


def test_time_that_passed_since_moves_the_range(log):
    killed(log, 5, convert)
    done = convert(log, now="2026-12-31T20:00:00Z")
    assert done["legacy_until"].startswith("2027-02-01") and "drop the old check" in [s["step"] for s in done["steps"]]
    assert log.value("SELECT count(*) FROM log") == 1801


def test_a_session_that_holds_the_table_is_not_waited_for_longer_than_said(log):
    convert(log, check=True)
    with log.server.connect(log.name) as holder, holder.cursor() as cursor:
        holder.autocommit = False
        cursor.execute("LOCK TABLE log IN ROW EXCLUSIVE MODE")
        failed = refused(log, lock_timeout="100ms", lock_attempts=2)
        assert failed["sqlstate"] == "55P03"
        holder.rollback()
    holder.close()
    usable(log)
    convert(log)
    assert everything(log) == ALL


def test_two_runs_at_once(log):
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=convert, args=(log,)) for _number in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0, 0] and kind(log) == "p"
    assert log.value("SELECT count(*) FROM log") == 1801
