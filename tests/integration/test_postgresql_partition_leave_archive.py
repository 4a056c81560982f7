"""postgresql_partition archives what leaves: nothing is dropped whose archive was not read back, killed or not."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils import partition_history, partition_run

from .partitions import TABLE, declare, refuse

pytestmark = pytest.mark.newest

ROOT = Path(__file__).parents[2]
MIGRATIONS = ROOT / "roles/audit_schema/files/migrations"
HOLDS = """
CREATE TABLE holds (id bigint GENERATED ALWAYS AS IDENTITY, table_name text, time_from timestamptz, time_to timestamptz,
    organization_id text, reason text NOT NULL, owner text NOT NULL, released_at timestamptz)
"""
GONE = ["log_2026_05", "log_2026_06"]


@pytest.fixture
def log(database):
    """A table with ten rows a month from May to November."""
    database.query("CREATE SCHEMA audit")
    for name in ("0010_partition_history", "0012_partition_copy"):
        database.query((MIGRATIONS / f"{name}.sql").read_text())
    database.query(HOLDS)
    database.query(TABLE)
    declare(database, start="2026-05-01", default_partition=True)
    database.query(
        "INSERT INTO log (at, a) SELECT at + n * interval '1 min', 'ไทย' || n "
        "FROM generate_series('2026-05-15'::timestamptz, '2026-11-15', '1 month') AS at, generate_series(1, 10) AS n"
    )
    return database


@pytest.fixture
def leave(tmp_path):
    return {
        "retention": "4 months",
        "retention_action": "archive",
        "archive_directory": str(tmp_path / "archive"),
        "history": "audit.partition_history",
        "holds": "public.holds",
        "max_leaving": 9,
    }


def standing(log, names=None):
    return [name for name in names or GONE if log.value("SELECT to_regclass(%s) IS NOT NULL", (name,))]


def files(leave):
    directory = Path(leave["archive_directory"])
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def history(log):
    return log.query(
        "SELECT partition_name, action, row_count, archived_at IS NOT NULL, dropped_at IS NOT NULL "
        "FROM audit.partition_history ORDER BY id"
    )


DONE = [(name, "archive", 10, True, True) for name in GONE]


def test_check_then_archive_then_again_then_restore(log, leave):
    check = declare(log, check=True, **leave)
    assert check["changed"] and [each["name"] for each in check["left"]] == GONE
    assert f"-- archive public.log_2026_05 in {leave['archive_directory']}, then drop it" in check["diff"]["after"]
    assert standing(log) == GONE and history(log) == [] and files(leave) == []

    gone = declare(log, **leave)
    assert gone["queries"] == check["queries"]
    assert [(each["partition"], each["rows"], each["dropped"]) for each in gone["archived"]] == [
        (name, 10, True) for name in GONE
    ]
    assert standing(log) == [] and history(log) == DONE and len(files(leave)) == 4
    assert log.value("SELECT count(*) FROM log") == 50
    kept = log.query("SELECT sha256, manifest_sha256 FROM audit.partition_history ORDER BY id")
    assert kept == [(each["sha256"], each["manifest_sha256"]) for each in gone["archived"]]
    for check in (True, False):
        again = declare(log, check=check, **leave)
        assert not again["changed"] and again["archived"] == [] and again["executed_queries"] == []

    back = log.module(
        "postgresql_partition_archive",
        table="public.log_2026_05",
        directory=leave["archive_directory"],
        state="restored",
        into="public.log_2026_05",
        manifest_sha256=kept[0][1],
    )
    assert back["changed"] and log.value("SELECT count(*) FROM log_2026_05 WHERE a LIKE 'ไทย%'") == 10
    log.query("ALTER TABLE log ATTACH PARTITION log_2026_05 FOR VALUES FROM ('2026-05-01Z') TO ('2026-06-01Z')")
    # The same range once more is another archive, and the first one stays.
    log.query("UPDATE log SET a = 'corrected' WHERE at < '2026-06-01'")
    assert declare(log, **leave)["archived"][0]["archive"] == "public.log_2026_05.2"
    assert len(files(leave)) == 6


def die(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "place",
    [
        (partition_run, "archive"),
        (partition_history, "export"),
        (partition_history, "read_back"),
        (partition_run, "drop"),
        (partition_history, "compare_table"),
        (partition_history, "drop_statements"),
    ],
    ids=lambda place: place[1],
)
def test_killed_anywhere_nothing_is_lost_and_the_next_run_completes(log, leave, place):
    owner, name = place

    def work():
        setattr(owner, name, die)
        if name == "drop_statements":  # the one inside the transaction, not the one that plans
            partition_run.archivings = lambda *_: ["-- unplanned"]
        declare(log, **leave)

    run = multiprocessing.get_context("fork").Process(target=work)
    run.start()
    run.join(60)
    assert run.exitcode == -signal.SIGKILL
    assert standing(log) == GONE, "not one is dropped"
    assert log.value("SELECT (SELECT count(*) FROM log_2026_05) + (SELECT count(*) FROM log_2026_06)") == 20
    assert [each[1:2] + each[4:] for each in history(log)] == [("archive", False)] * 2
    check = declare(log, check=True, **leave)
    assert check["changed"] and "DROP TABLE" in check["diff"]["after"]
    done = declare(log, **leave)
    assert [each["partition"] for each in done["archived"]] == GONE and history(log) == DONE and standing(log) == []
    assert not declare(log, **leave)["changed"]


def test_a_table_that_was_changed_after_its_archive_is_not_dropped(log, leave, monkeypatch):
    def stop(*_arguments, **_options):
        raise RuntimeError("stopped before the drop")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(partition_run, "drop", stop)
        declare(log, **leave)
    log.query("UPDATE log_2026_05 SET a = 'forged' WHERE a LIKE '%3'")
    failed = refuse(log, **leave)
    assert "log_2026_05" in failed["msg"] and failed["differences"]["first_block"] and standing(log) == GONE


def test_a_hold_that_came_after_the_leaving_keeps_the_table(log, leave, monkeypatch):
    def stop(*_arguments, **_options):
        raise RuntimeError("stopped before the archive")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(partition_run, "archive", stop)
        declare(log, **leave)
    log.query("INSERT INTO holds (table_name, reason, owner) VALUES ('log_2026_05', 'lawsuit', 'legal')")
    done = declare(log, **leave)
    assert [(each["partition"], each["dropped"]) for each in done["archived"]] == [(GONE[0], False), (GONE[1], True)]
    assert standing(log) == GONE[:1]
    again = declare(log, **leave)
    assert not again["changed"] and [each["partition"] for each in again["held"]] == GONE[:1]
    log.query("UPDATE holds SET released_at = now()")
    assert declare(log, **leave)["changed"] and standing(log) == [] and history(log) == DONE


def test_a_table_that_vanished_before_its_archive_is_said_to_be(log, leave, monkeypatch):
    def stop(*_arguments, **_options):
        raise RuntimeError("stopped")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(partition_run, "archive", stop)
        declare(log, **leave)
    log.query("DROP TABLE log_2026_05")
    failed = refuse(log, **leave)
    assert "public.log_2026_05" in failed["msg"] and "restore" in failed["remedy"] and standing(log) == GONE[1:]


def test_a_full_disk_leaves_the_table_and_the_next_run_archives_it(log, leave, tmp_path):
    (tmp_path / "archive").write_text("a file where the directory should be")
    failed = refuse(log, **leave)
    assert failed["remedy"] and standing(log) == GONE and [each[3] for each in history(log)] == [False, False]
    (tmp_path / "archive").unlink()
    assert len(declare(log, **leave)["archived"]) == 2


@pytest.mark.parametrize("action", ["detach", "drop"])
def test_other_departures_are_recorded_too(log, leave, action):
    declare(log, **{**leave, "retention_action": action})
    assert history(log) == [(name, action, None, False, action == "drop") for name in GONE]


@pytest.mark.parametrize("missing", ["archive_directory", "history"])
def test_an_archive_needs_a_place_and_a_history(log, leave, missing):
    failed = refuse(log, **{**leave, missing: None})
    assert failed["msg"].startswith(f"retention_action: archive without {missing}") and standing(log) == GONE


def test_what_is_archived_can_stay_in_a_schema_of_its_own(log, leave):
    log.query("CREATE SCHEMA cold")
    rows = log.query("SELECT * FROM log WHERE at < '2026-07-01' ORDER BY id")
    check = declare(log, check=True, retention_schema="cold", **leave)
    assert f"-- archive cold.log_2026_05 in {leave['archive_directory']}, it stays there" in check["diff"]["after"]
    gone = declare(log, retention_schema="cold", **leave)
    assert gone["queries"] == check["queries"]
    assert [(each["partition"], each["rows"], each["dropped"]) for each in gone["archived"]] == [
        (name, 10, False) for name in GONE
    ]
    assert standing(log) == [] and standing(log, [f"cold.{name}" for name in GONE]) == [f"cold.{name}" for name in GONE]
    assert log.query("SELECT * FROM cold.log_2026_05 UNION ALL SELECT * FROM cold.log_2026_06 ORDER BY id") == rows
    assert history(log) == [(name, "move", 10, True, False) for name in GONE]
    assert files(leave) == [f"cold.{name}.{end}" for name in GONE for end in ("copy.zst", "manifest.json")]
    for more in ({"retention_schema": "cold"}, {}):  # also a run that does not know of the schema leaves them alone
        again = declare(log, **leave, **more)
        assert not again["changed"] and again["archived"] == []
    assert len(standing(log, [f"cold.{name}" for name in GONE])) == 2


def test_what_is_detached_moves_too(log, leave):
    log.query("CREATE SCHEMA cold")
    declare(log, retention_schema="cold", **{**leave, "retention_action": "detach"})
    assert standing(log, [f"cold.{name}" for name in GONE]) == [f"cold.{name}" for name in GONE]
    assert [each[1] for each in history(log)] == ["detach", "detach"]


def test_killed_after_the_move_the_next_run_archives_it_there(log, leave):
    log.query("CREATE SCHEMA cold")

    def work():
        partition_history.export = die
        declare(log, retention_schema="cold", **leave)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert [each[3] for each in history(log)] == [False, False]
    done = declare(log, retention_schema="cold", **leave)
    assert [each["partition"] for each in done["archived"]] == GONE
    assert not declare(log, retention_schema="cold", **leave)["changed"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELECT 1", "there is no schema 'cold'"),
        ("CREATE SCHEMA cold; CREATE TABLE cold.log_2026_05 ()", "cold has log_2026_05 already"),
    ],
)
def test_a_schema_that_cannot_take_them_is_told_and_nothing_leaves(log, leave, text, said):
    log.query(text)
    failed = refuse(log, retention_schema="cold", **leave)
    assert said in failed["msg"] and failed["remedy"] and standing(log) == GONE
