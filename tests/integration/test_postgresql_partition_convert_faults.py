"""postgresql_partition_convert where runs are killed, others write, and tables are not what they should be."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session

from .conversions import TABLE, convert, portrait, refuse, revert

pytestmark = pytest.mark.newest


@pytest.fixture
def log(database):
    database.query(TABLE)
    return database


def killed_at(work, number, after):
    """Run in a process of its own, killed with -9 before or after its so-many-th changing statement. Return if it was.

    Statements of one transaction that go to the server together count as one.
    """
    original = Session.execute
    calls = [0]

    def execute(*arguments):
        calls[0] += 1
        if calls[0] == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments)
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def run():
        Session.execute = execute
        work()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def usable(database, rows):
    """Write a row and find all rows again; return the number of rows that there are now."""
    assert database.value("SELECT count(*) FROM audit_log") == rows
    database.query("INSERT INTO audit_log (at, action) VALUES ('2026-11-24', 'meanwhile')")
    assert database.value("SELECT count(DISTINCT id) FROM audit_log") == rows + 1
    return rows + 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_statement_the_table_works_and_the_next_run_goes_on(log, after):
    kills = 0
    while True:
        log.query(f"DROP TABLE audit_log CASCADE; {TABLE}")
        if not killed_at(lambda: convert(log, progress="progress"), kills + 1, after):
            break
        kills += 1
        rows = usable(log, 1000)
        made = convert(log, progress="progress")
        assert made["boundary"] == "2026-12-01T00:00:00+00:00"
        usable(log, rows)
        assert not convert(log)["changed"]
        assert log.value("SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_log'::regclass") == 3
        assert log.query("SELECT conname FROM pg_constraint WHERE conname = 'legacy_range'") == []
    assert kills >= 7


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_way_back_that_is_killed_at_any_statement_is_gone_on_with(log, after):
    before = portrait(log, "sequences", "columns")
    kills = 0
    while True:
        log.query(f"DROP TABLE audit_log CASCADE; {TABLE}")
        convert(log)
        log.query("INSERT INTO audit_log (at) SELECT '2026-12-24' FROM generate_series(1, 10)")
        if not killed_at(lambda: revert(log), kills + 1, after):
            break
        kills += 1
        rows = usable(log, 1010)
        if kills % 2:  # either way is open
            convert(log)
            assert log.value("SELECT count(*) FROM pg_index WHERE indexrelid::regclass::text LIKE '%reverted%'") == 0
        revert(log)
        usable(log, rows)
        assert portrait(log, "sequences", "columns") == before
        assert not revert(log)["changed"]
    assert kills >= 4


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_conversion_that_was_killed_can_be_undone(log, after):
    before = portrait(log)
    kills = 0
    while killed_at(lambda: convert(log), kills + 1, after):
        kills += 1
        revert(log)
        assert portrait(log) == before
        assert not revert(log)["changed"]
    assert kills >= 6


def wait_for(database, query, seconds=20):
    """Return when the query returns something."""
    deadline = time.monotonic() + seconds
    while not database.query(query):
        assert time.monotonic() < deadline, query
        time.sleep(0.02)


BUILDING = """SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'CREATE UNIQUE INDEX CONCURRENTLY%' AND state = 'active'"""


@pytest.mark.parametrize("ended", [False, True], ids=["completed", "terminated"])
def test_killed_while_the_server_builds_the_index(log, ended):
    """The server goes on for a while behind a client that is gone, or was told to stop."""
    holder = log.server.connect(log.name)
    holder.autocommit = False
    holder.cursor().execute("INSERT INTO audit_log (at) VALUES ('2026-11-23')")
    process = multiprocessing.get_context("fork").Process(target=lambda: convert(log))
    process.start()
    wait_for(log, BUILDING)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    usable(log, 1000)
    if ended:
        log.query(f"SELECT pg_terminate_backend(pid) FROM ({BUILDING}) AS b")
        wait_for(log, f"SELECT 1 WHERE NOT EXISTS ({BUILDING})")
        assert log.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'audit_log_legacy_pkey'::regclass") == [
            (False,)
        ]
    holder.commit()
    holder.close()
    made = convert(log)
    assert ("drop index" in [each["step"] for each in made["steps"]]) is ended
    usable(log, 1002)


def test_while_somebody_reads_for_long_the_swap_gives_up_and_others_are_not_kept(log):
    convert_options = {"lock_timeout": "50ms", "lock_attempts": 3}
    holder = log.server.connect(log.name)
    holder.autocommit = False

    def read():
        # Not before the check, which needs the lock for a moment, too.
        wait_for(log, "SELECT 1 FROM pg_constraint WHERE conname = 'legacy_range' AND NOT convalidated")
        holder.cursor().execute("SELECT count(*) FROM audit_log")

    thread = threading.Thread(target=read)
    original = Session.execute

    def execute(session, statement, arguments=None):
        if "VALIDATE" in str(statement):
            thread.join()
        return original(session, statement, arguments)

    thread.start()
    Session.execute = execute
    try:
        failed = refuse(log, **convert_options)
    finally:
        Session.execute = original
    assert failed["sqlstate"] == "55P03" and failed["changed"] is True
    usable(log, 1000)
    holder.close()
    made = convert(log, **convert_options)
    assert [each["step"] for each in made["steps"]] == ["swap", "create partitions", "analyze"]
    usable(log, 1001)
