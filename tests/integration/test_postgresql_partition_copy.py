"""postgresql_partition_copy: closed partitions are in the archive when a policy wants them there, and stay."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session

from .partitions import declare, info

pytestmark = pytest.mark.newest

MIGRATIONS = Path(__file__).parents[2] / "roles/audit_schema/files/migrations"
NEEDED = (
    "0003_audit_retention_policy", "0006_seed_retention_policies", "0010_partition_history", "0011_partition_seal",
    "0012_partition_copy",
)  # fmt: skip
NOW = "2026-11-23T04:00:00Z"
TABLES = """
CREATE SCHEMA audit;
CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, a text, archived_at timestamptz,
    PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE FUNCTION stamp(timestamptz, timestamptz) RETURNS void LANGUAGE sql AS
    'UPDATE public.log SET archived_at = now() WHERE at >= $1 AND at < $2 AND archived_at IS NULL';
"""
# The earliest of the seeded policies asks for a copy 30 days after the end: 24 October is 30 days before.
DUE = ["log_2026_05", "log_2026_06", "log_2026_07", "log_2026_08", "log_2026_09"]


@pytest.fixture
def log(database):
    database.query(TABLES)
    for name in NEEDED:
        database.query((MIGRATIONS / f"{name}.sql").read_text())
    declare(database, start="2026-05-01", now=NOW)
    database.query(
        "INSERT INTO log (at, a) SELECT at + n * interval '1 day', 'x' "
        "FROM generate_series('2026-05-01Z'::timestamptz, '2026-11-01Z', '1 month') AS at, generate_series(1, 10) AS n"
    )
    return database


def options(tmp_path, **more):
    return {
        "table": "log",
        "policies": "audit.audit_retention_policy",
        "history": "audit.partition_history",
        "archive_directory": str(tmp_path / "archive"),
        "mark": "public.stamp",
        "now": NOW,
        **more,
    }


def copy(log, tmp_path, check=False, **more):
    return log.module("postgresql_partition_copy", check, **options(tmp_path, **more))


def refused(log, tmp_path, **more):
    return log.failure("postgresql_partition_copy", **options(tmp_path, **more))


def stamped(log):
    return log.query(
        "SELECT tableoid::regclass::text, count(archived_at)::int, count(*)::int FROM log GROUP BY 1 ORDER BY 1"
    )


def history(log):
    return log.query(
        "SELECT partition_name, action, archive_name, row_count::int, archived_at IS NOT NULL, dropped_at "
        "FROM audit.partition_history ORDER BY id"
    )


def manifests(tmp_path):
    return {path.name: json.loads(path.read_text()) for path in sorted((tmp_path / "archive").glob("*.manifest.json"))}


def test_check_then_copy_then_again_then_a_month_later(log, tmp_path):
    would = copy(log, tmp_path, check=True)
    assert would["changed"] and [each["partition"] for each in would["copied"]] == DUE and would["after_days"] == 30
    assert would["executed_queries"] == [] and history(log) == [] and not (tmp_path / "archive").exists()
    done = copy(log, tmp_path)
    assert done["queries"] == would["queries"] and done["copies"] == 5 and done["waiting"] == 0
    assert history(log) == [(each, "copy", f"public.{each}.stays", 10, True, None) for each in DUE]
    assert stamped(log) == [
        *((each, 10, 10) for each in DUE), ("log_2026_10", 0, 10), ("log_2026_11", 0, 10),
    ]  # fmt: skip
    kept = manifests(tmp_path)
    assert [each["seal"]["rows"] for each in kept.values()] == [10] * 5
    assert [each["sha256"] for each in done["copied"]] == [each["seal"]["sha256"] for each in kept.values()]
    again = copy(log, tmp_path)
    assert not again["changed"] and again["copied"] == [] and again["executed_queries"] == []
    later = copy(log, tmp_path, now="2026-12-01T00:00:00Z")
    assert [each["partition"] for each in later["copied"]] == ["log_2026_10"] and later["copies"] == 6


def test_not_a_moment_too_early(log, tmp_path):
    copy(log, tmp_path)
    assert copy(log, tmp_path, check=True, now="2026-11-30T23:59:59Z")["copied"] == []


def test_the_copy_is_what_stays(log, tmp_path):
    copy(log, tmp_path)
    for state in ("verified", "present"):
        same = log.module(
            "postgresql_partition_archive", table="public.log_2026_05", archive="public.log_2026_05.stays",
            directory=str(tmp_path / "archive"), key="at", state=state,
        )  # fmt: skip
        assert not same["changed"] and same["seal"]["rows"] == 10


def test_no_more_than_declared_in_one_run(log, tmp_path):
    first = copy(log, tmp_path, max_copies=2)
    assert [each["partition"] for each in first["copied"]] == DUE[:2] and first["waiting"] == 3
    assert [each["partition"] for each in copy(log, tmp_path, max_copies=2)["copied"]] == DUE[2:4]


def test_without_a_policy_that_asks_nothing_is_copied(log, tmp_path):
    log.query("UPDATE audit.audit_retention_policy SET archive_after_days = NULL WHERE policy_name <> 'minimal'")
    log.query("UPDATE audit.audit_retention_policy SET is_active = false WHERE policy_name = 'minimal'")
    none = copy(log, tmp_path)
    assert not none["changed"] and none["after_days"] is None and none["waiting"] == 0


def test_nothing_is_stamped_where_no_function_is_named(log, tmp_path):
    copy(log, tmp_path, mark=None)
    assert {marked for _name, marked, _all in stamped(log)} == {0} and len(history(log)) == 5


def test_what_leaves_later_gets_an_archive_of_its_own(log, tmp_path):
    copy(log, tmp_path)
    declare(
        log, now=NOW, history="audit.partition_history", archive_directory=str(tmp_path / "archive"),
        retention="6 months", retention_action="archive",
    )  # fmt: skip
    assert history(log)[-1][:4] != ("log_2026_05", "archive", "public.log_2026_05", 10), "May is not six months old"
    declare(
        log, now="2026-12-01", history="audit.partition_history", archive_directory=str(tmp_path / "archive"),
        retention="6 months", retention_action="archive",
    )  # fmt: skip
    assert history(log)[-1][:5] == ("log_2026_05", "archive", "public.log_2026_05", 10, True)
    assert {"public.log_2026_05.manifest.json", "public.log_2026_05.stays.manifest.json"} <= set(manifests(tmp_path))


def test_info_tells_of_copies_and_not_as_departures(log, tmp_path):
    copy(log, tmp_path)
    (table,) = info(
        log, {"table": "log", "premake": 2}, details=True, history="audit.partition_history", seals=None
    )["tables"]  # fmt: skip
    by_name = {each["name"]: each["copy"] for each in table["partitions"]}
    assert by_name["log_2026_05"]["archive"] == "public.log_2026_05.stays" and by_name["log_2026_05"]["rows"] == 10
    assert by_name["log_2026_05"]["archived_at"] and by_name["log_2026_10"] is None
    assert table["departures"] == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_statement_the_next_run_goes_on(log, tmp_path, after):
    def run(number, place):
        execute, calls = Session.execute, [0]

        def execute_or_die(*arguments):
            calls[0] += 1
            if calls[0] == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = execute(*arguments)
            if calls[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        Session.execute = execute_or_die
        copy(log, place, max_copies=1)

    # The record, some of the 31 days that are stamped, and the end of the record.
    for number, place in ((1, "a"), (2, "b"), (20, "c"), (33, "d")):
        process = multiprocessing.get_context("fork").Process(target=run, args=(number, tmp_path / place))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        log.query("INSERT INTO log (at, a) VALUES ('2026-05-31 12:00Z', 'late')")
        before = len(history(log))
        expected = DUE[sum(each[4] for each in history(log))]
        if number == 33 and not after:  # the archive is there, and not counted: another row came since
            log.query("DELETE FROM log WHERE a = 'late'")
        done = copy(log, tmp_path / place, max_copies=1)
        assert [each["partition"] for each in done["copied"]] == [expected]
        assert all(each[4] for each in history(log)) and len(history(log)) in (before, before + 1)
        log.query("DELETE FROM log WHERE a = 'late'")


def test_an_archive_that_does_not_count_yet_and_holds_other_rows_is_said(log, tmp_path):
    copy(log, tmp_path, max_copies=1)
    log.query("ALTER TABLE audit.partition_history DISABLE TRIGGER USER")
    log.query(
        "UPDATE audit.partition_history SET row_count = NULL, sha256 = NULL, archive_name = NULL, "
        "archive_directory = NULL, manifest_sha256 = NULL, archived_at = NULL"
    )
    log.query("INSERT INTO log (at) VALUES ('2026-05-02Z')")
    failed = refused(log, tmp_path)
    assert "other rows than archive" in failed["msg"] and "remove its files" in failed["remedy"]
    for path in (tmp_path / "archive").glob("*"):
        path.unlink()
    assert copy(log, tmp_path)["copied"][0]["rows"] == 11


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"table": "nowhere"}, "nowhere"),
        ({"policies": "audit.nowhere"}, "audit.nowhere"),
        ({"history": "audit.nowhere"}, "audit.nowhere"),
        ({"max_copies": 0}, "less than 1"),
        ({"mark": "nowhere"}, "nowhere"),
    ],
)
def test_mistakes_are_refused(log, tmp_path, more, said):
    assert said in refused(log, tmp_path, **more)["msg"]
