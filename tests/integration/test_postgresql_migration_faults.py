"""postgresql_migration when runs are killed, sessions leak, ledgers are somebody else's and options are wrong."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest
import tenacity

from .migrations import columns, directory, ledger

pytestmark = pytest.mark.newest

__all__ = ["directory"]  # a fixture

TWO_INDEXES = """-- migrate: no-transaction
SET maintenance_work_mem = '2MB';
CREATE INDEX CONCURRENTLY t_b ON t (b);
CREATE INDEX CONCURRENTLY t_c ON t (c);
"""


@tenacity.retry(stop=tenacity.stop_after_delay(10), wait=tenacity.wait_fixed(0.05))
def builder(database):
    """Return the process of the server that builds the index t_b."""
    (row,) = database.query("SELECT pid FROM pg_stat_progress_create_index WHERE phase ~ 'waiting'")
    return row[0]


@pytest.fixture
def killed(directory, database):
    """A run that was killed while the server built its first index; the transaction that the server waits for."""
    directory.run()
    directory.write("0003_indexes.sql", TWO_INDEXES)
    holder = database.server.connect(database.name)
    holder.autocommit = False
    holder.cursor().execute("INSERT INTO t (a) VALUES (1)")
    run = multiprocessing.get_context("fork").Process(target=directory.run)
    run.start()
    pid = builder(database)
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    yield pid, holder
    holder.close()


def built(database, done):
    assert done["applied"] == ["0003"]
    rows = database.query(
        "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE NOT indisprimary ORDER BY 1"
    )
    mine = [row for row in rows if row[0] in ("t_b", "t_c")]
    assert mine == [("t_b", True), ("t_c", True)]
    assert ledger(database)[-1] == ("0003", "applied")


def test_a_killed_run_whose_index_the_server_completed_goes_on_behind_it(directory, database, killed):
    _pid, holder = killed
    holder.commit()
    done = directory.run(wait=10)
    built(database, done)
    assert not [text for text in done["executed_queries"] if "CONCURRENTLY t_b" in text]


def test_a_killed_run_that_left_an_invalid_index_builds_it_anew(directory, database, killed):
    pid, holder = killed
    database.query(f"SELECT pg_terminate_backend({pid})")
    assert database.value("SELECT NOT indisvalid FROM pg_index WHERE indexrelid = 't_b'::regclass")
    info = directory.info()
    assert info["unfinished"][0]["statement"] == 2 and "the run ended" in info["unfinished"][0]["error"]
    holder.commit()
    built(database, directory.run(wait=10))


def test_what_a_migration_sets_ends_with_it(directory, database):
    directory.write(
        "0003_leaks.sql",
        "SET search_path = pg_catalog; SET ROLE pg_monitor; CREATE TEMP TABLE u (a int); SET statement_timeout = 10",
    )
    directory.write("0004_next.sql", "SELECT pg_sleep(0.05); CREATE TABLE u (a int);")
    assert directory.run()["version"] == "0004"
    assert database.value("SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 'u'") == "public"


@pytest.mark.parametrize("says", ["SELECT false", "SELECT null::boolean", "SELECT true; SELECT false; SELECT true"])
def test_every_statement_of_a_verification_counts(directory, database, says):
    directory.write("0002_column.verify.sql", says)
    failed = directory.failure()
    assert "0002_column.verify.sql line 1" in failed["msg"] and failed["applied"] == ["0001"]
    assert columns(database) == ["a", "b"]
    events = database.query("SELECT version, event FROM schema_migrations_event ORDER BY id")
    assert events == [("0001", "applied"), ("0002", "failed")]


def test_a_half_applied_migration_that_was_undone_starts_again(directory, database):
    directory.run()
    directory.write("0003_two.sql", "-- migrate: no-transaction\nCREATE TABLE u (a int);\nSELECT 1/0;\n")
    directory.failure()
    directory.write("0003_two.sql", "-- migrate: no-transaction\nCREATE TABLE u (b int);\nSELECT 1;\n")
    assert "changed since" in directory.failure()["msg"]
    database.query("DROP TABLE u")
    assert directory.run(state="repaired", check=True)["changed"]
    assert directory.run(state="repaired")["repaired"] == ["0003"]
    assert directory.run()["applied"] == ["0003"]
    assert database.value("SELECT attname FROM pg_attribute WHERE attrelid = 'u'::regclass AND attnum = 1") == "b"


def test_another_tools_table_is_no_ledger(directory, database):
    database.query("CREATE TABLE schema_migrations (version text)")
    failed = directory.failure()
    assert "is no ledger of this module" in failed["msg"] and "table" in failed["remedy"]
    assert columns(database) == []


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"lock_timeout": "soon"}, "lock_timeout: 'soon'"),
        ({"statement_timeout": "1 fortnight"}, "statement_timeout"),
        ({"lock_attempts": 0}, "lock_attempts: 0"),
        ({"target": "newest"}, "target: 'newest'"),
    ],
)
def test_a_wrong_option_is_named_before_anything_changes(directory, database, options, word):
    failed = directory.failure(**options)
    assert word in failed["msg"] and failed["remedy"]
    assert columns(database) == [] and database.value("SELECT to_regclass('schema_migrations') IS NULL")


def test_a_deferred_constraint_belongs_to_its_migration(directory, database):
    directory.write(
        "0003_late.sql",
        "CREATE TABLE u (a int REFERENCES t DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO u VALUES (404);",
    )
    failed = directory.failure()
    assert "0003_late.sql leaves a deferred constraint violated" in failed["msg"] and failed["sqlstate"] == "23503"
    assert database.value("SELECT to_regclass('u') IS NULL")
