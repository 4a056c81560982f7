"""postgresql_migration against real servers: twelve steps, and what goes wrong in practice."""

from __future__ import annotations

import threading

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_files import load_directory

from .migrations import FIRST, SECOND, Directory, columns, directory, ledger

__all__ = ["directory"]  # a fixture


def test_twelve_steps(directory, database):
    check = directory.run(check=True)
    assert check["changed"] and check["pending"] == ["0001", "0002"]
    assert FIRST in check["diff"]["after"]
    assert columns(database) == [] and database.value("SELECT to_regclass('schema_migrations') IS NULL")

    created = directory.run()
    assert created["applied"] == ["0001", "0002"] and created["version"] == "0002"
    assert columns(database) == ["a", "b", "c"]
    assert ledger(database) == [("0001", "applied"), ("0002", "applied")]

    assert not directory.run(check=True)["changed"]
    again = directory.run()
    assert not again["changed"] and again["executed_queries"] == []

    directory.write("0003_view.sql", "CREATE VIEW v AS SELECT a FROM t;")
    directory.write("0003_view.down.sql", "DROP VIEW v;")
    assert directory.run(check=True)["pending"] == ["0003"]
    assert database.value("SELECT to_regclass('v') IS NULL")
    assert directory.run()["applied"] == ["0003"]
    assert not directory.run(check=True)["changed"]
    assert not directory.run()["changed"]

    assert directory.run(check=True, state="reverted", target="0001")["changed"]
    assert columns(database) == ["a", "b", "c"]
    reverted = directory.run(state="reverted", target="0001")
    assert reverted["reverted"] == ["0003", "0002"] and reverted["version"] == "0001"
    assert columns(database) == ["a", "b"]
    assert not directory.run(check=True, state="reverted", target="0001")["changed"]
    assert not directory.run(state="reverted", target="0001")["changed"]
    assert directory.run(state="reverted", target="0")["reverted"] == ["0001"]
    assert columns(database) == []
    assert directory.run()["applied"] == ["0001", "0002", "0003"]


def test_a_failing_second_statement_leaves_nothing(directory, database):
    directory.run()
    directory.write("0003_broken.sql", "CREATE TABLE u (a int);\n\nALTER TABLE missing ADD COLUMN b int;\n")
    failed = directory.failure()
    assert failed["sqlstate"] == "42P01"
    assert "0003_broken.sql line 3" in failed["msg"]
    assert database.value("SELECT to_regclass('u') IS NULL")
    assert ledger(database) == [("0001", "applied"), ("0002", "applied")]
    directory.write("0003_broken.sql", "CREATE TABLE u (a int);")
    assert directory.run()["applied"] == ["0003"]


def test_an_edited_file_is_refused_and_named_with_both_hashes(directory, database):
    directory.run()
    directory.write("0001_table.sql", FIRST + " -- edited")
    failed = directory.failure()
    known = database.value("SELECT checksum FROM schema_migrations WHERE version = '0001'")
    found = load_directory(directory.path)[0].checksum
    assert known in failed["msg"] and found in failed["msg"] and "0001_table.sql" in failed["msg"]
    assert directory.info()["mismatched"] == [{"file": "0001_table.sql", "ledger": known, "found": found}]
    assert directory.run(check=True, state="repaired")["changed"]
    assert directory.run(state="repaired")["repaired"] == ["0001"]
    assert not directory.run(state="repaired")["changed"]
    assert not directory.run()["changed"]


def test_line_ends_and_byte_order_mark_are_no_edit(directory):
    directory.write("0003_two_lines.sql", "CREATE TABLE u (\na int);\n")
    directory.run()
    directory.write("0003_two_lines.sql", b"\xef\xbb\xbfCREATE TABLE u (\r\na int);\r\n")
    assert not directory.run()["changed"]


def test_a_missing_file_is_refused(directory):
    directory.run()
    (directory.path / "0001_table.sql").unlink()
    (directory.path / "0001_table.down.sql").unlink()
    failed = directory.failure()
    assert failed["missing"] == ["0001"]
    assert directory.info()["missing"] == ["0001_table"]


def test_out_of_order_is_refused_unless_allowed(directory):
    directory.write("0005_late.sql", "CREATE TABLE u (a int);")
    directory.run()
    directory.write("0004_early.sql", "CREATE TABLE w (a int);")
    assert directory.failure()["out_of_order"] == ["0004"]
    assert directory.run(out_of_order=True)["applied"] == ["0004"]


def test_a_missing_way_back_is_refused_before_anything_is_reverted(directory, database):
    (directory.path / "0001_table.down.sql").unlink()
    directory.run()
    assert "0001_table.down.sql" in directory.failure(state="reverted", target="0")["msg"]
    assert ledger(database) == [("0001", "applied"), ("0002", "applied")]


def test_target(directory, database):
    assert directory.run(target="0001")["applied"] == ["0001"]
    assert directory.info()["pending"] == ["0002_column.sql"]
    assert "0009" in directory.failure(target="0009")["msg"]
    assert "newest" in directory.failure(target="newest")["msg"]


def test_baselined(directory, database):
    database.query(FIRST)
    database.query(SECOND)
    assert directory.run(check=True, state="baselined")["changed"]
    assert directory.run(state="baselined")["baselined"] == ["0001", "0002"]
    assert ledger(database) == [("0001", "baselined"), ("0002", "baselined")]
    assert not directory.run(state="baselined")["changed"]
    assert not directory.run()["changed"]


def test_a_verification_that_is_not_met_rolls_the_migration_back(directory, database):
    directory.write("0003_u.sql", "CREATE TABLE u (a int);")
    directory.write("0003_u.verify.sql", "SELECT to_regclass('no_such_table') IS NOT NULL;")
    assert "0003_u.verify.sql" in directory.failure()["msg"]
    assert database.value("SELECT to_regclass('u') IS NULL")
    directory.write("0003_u.verify.sql", "INSERT INTO u VALUES (1);")
    assert directory.failure()["sqlstate"] == "25006"
    directory.write("0003_u.verify.sql", "SELECT to_regclass('u') IS NOT NULL;")
    assert directory.run()["applied"] == ["0003"]


def test_outside_a_transaction_a_failure_says_where_and_the_next_run_goes_on(directory, database):
    directory.run()
    database.query("INSERT INTO t (a, c) VALUES (1, 7), (2, 7)")
    directory.write(
        "0003_index.sql",
        "-- migrate: no-transaction\n"
        "CREATE INDEX CONCURRENTLY t_b ON t (b);\n"
        "CREATE UNIQUE INDEX CONCURRENTLY t_c ON t (c);\n"
        "COMMENT ON INDEX t_c IS 'ไทย';\n",
    )
    failed = directory.failure()
    assert failed["failed_at"] == 2 and failed["sqlstate"] == "23505"
    assert directory.info()["unfinished"][0]["statement"] == 2
    assert database.value("SELECT to_regclass('t_b') IS NOT NULL AND to_regclass('t_c') IS NULL")  # no invalid index
    database.query("UPDATE t SET c = 8 WHERE a = 2")
    done = directory.run()
    assert done["applied"] == ["0003"]
    assert not any("t_b" in statement for statement in done["executed_queries"] if statement.startswith("CREATE"))
    assert database.value("SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid = 't'::regclass")
    assert not directory.run()["changed"]


def test_outside_a_transaction_changed_history_is_refused(directory, database):
    directory.write("0003_two.sql", "-- migrate: no-transaction\nCREATE TABLE u (a int);\nSELECT 1/0;\n")
    directory.failure()
    directory.write("0003_two.sql", "-- migrate: no-transaction\nCREATE TABLE u (b int);\nSELECT 1;\n")
    assert "changed since" in directory.failure()["msg"]
    directory.write("0003_two.sql", "-- migrate: no-transaction\nCREATE TABLE u (a int);\nSELECT 1;\n")
    assert directory.run()["applied"] == ["0003"]


def test_the_event_log_is_append_only(directory, database):
    directory.run()
    directory.run(state="reverted", target="0001")
    events = database.query("SELECT version, event FROM schema_migrations_event ORDER BY id")
    assert events == [("0001", "applied"), ("0002", "applied"), ("0002", "reverted")]
    for statement in (
        "DELETE FROM schema_migrations_event",
        "UPDATE schema_migrations_event SET event = 'x'",
        "TRUNCATE schema_migrations_event",
    ):
        with pytest.raises(Exception, match="append-only"):
            database.query(statement)


def test_of_two_runs_one_works_and_the_other_waits(directory, database):
    directory.write("0003_slow.sql", "SELECT pg_sleep(1); CREATE TABLE u (a int);")
    results = []

    def work():
        results.append(database.module("postgresql_migration", **directory.options()))

    # In-process module calls share standard output: the second run is a session that holds the lock.
    holder = database.server.connect(database.name)
    key = "auditdb.postgresql migrations of public.schema_migrations"
    holder.cursor().execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (key,))
    failed = directory.failure(wait=0.5)
    assert failed["busy"] and "another run" in failed["msg"]
    release = threading.Timer(0.5, holder.close)
    release.start()
    work()
    assert results[0]["applied"] == ["0001", "0002", "0003"]


def test_a_lost_lock_is_tried_again_and_nothing_is_left_of_the_first_try(directory, database):
    directory.run(target="0001")
    holder = database.server.connect(database.name)
    holder.autocommit = False
    holder.cursor().execute("SELECT * FROM t")
    threading.Timer(0.6, holder.rollback).start()
    assert directory.run(lock_timeout="100ms", lock_attempts=20)["applied"] == ["0002"]


def test_a_lock_that_never_comes_is_an_error_with_a_remedy(directory, database):
    directory.run(target="0001")
    holder = database.server.connect(database.name)
    holder.autocommit = False
    holder.cursor().execute("SELECT * FROM t")
    failed = directory.failure(lock_timeout="50ms", lock_attempts=2)
    assert failed["sqlstate"] == "55P03" and "lock_attempts" in failed["msg"]
    assert columns(database) == ["a", "b"]
    holder.close()


def test_session_role_owns_what_is_made(directory, database, role_prefix):
    owner = f"{role_prefix}owner"
    database.query(f"CREATE ROLE {owner}; CREATE SCHEMA app AUTHORIZATION {owner}")
    directory.write("0001_table.sql", "CREATE TABLE app.t (a int);")
    directory.write("0002_column.sql", "ALTER TABLE t ADD COLUMN b int;")
    directory.run(schema="app", session_role=owner, search_path=["app"])
    owners = database.query(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'app'::regnamespace"
    )
    assert owners == [(owner,)]
    database.query(f"DROP OWNED BY {owner}; DROP ROLE {owner}")


def test_a_missing_schema_names_the_remedy(directory):
    assert directory.failure(schema="nowhere")["sqlstate"] == "3F000"


def test_a_drizzle_folder_is_applied_as_it_is(tmp_path, database):
    directory = Directory(tmp_path, database)
    directory.write(
        "meta/_journal.json",
        '{"version": "7", "dialect": "postgresql", "entries": ['
        '{"idx": 0, "version": "7", "when": 1, "tag": "0000_dashing_big_bertha", "breakpoints": true},'
        '{"idx": 1, "version": "7", "when": 2, "tag": "0001_magenta", "breakpoints": true}]}',
    )
    directory.write(
        "0000_dashing_big_bertha.sql",
        'CREATE TABLE "t" ("a" integer)\n--> statement-breakpoint\nCREATE TABLE "u" ("a" integer);',
    )
    directory.write("0001_magenta.sql", 'ALTER TABLE "t" ADD COLUMN "b" text;--> statement-breakpoint\nSELECT 1;')
    assert directory.run(table="drizzle_migrations")["applied"] == ["0000", "0001"]
    assert columns(database) == ["a", "b"]
    assert not directory.run(table="drizzle_migrations")["changed"]
