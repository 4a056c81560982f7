"""postgresql_partition_purge: rows go by policy and class, never early, with what refers to them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils import purge_run
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.modules import postgresql_partition_purge as purge_module

from .partitions import declare

pytestmark = pytest.mark.newest

MIGRATIONS = Path(__file__).parents[2] / "roles/audit_schema/files/migrations"
TABLES = """
CREATE SCHEMA audit;
CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, retention_policy text,
    data_classification text, organization_id text, a text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE checks (id bigint GENERATED ALWAYS AS IDENTITY, log_id bigint NOT NULL, log_at timestamptz NOT NULL,
    PRIMARY KEY (id, log_at), FOREIGN KEY (log_id, log_at) REFERENCES log (id, at)) PARTITION BY RANGE (log_at);
"""
NOW = "2026-11-23T04:00:00Z"
KINDS = [
    ("standard", "INTERNAL"),
    ("phi_extended", "PHI"),
    ("minimal", "PUBLIC"),
    ("confidential", "CONFIDENTIAL"),
    ("minimal", "PHI"),  # mislabelled: health information
    ("unheard_of", "PUBLIC"),
    (None, None),
]


@pytest.fixture
def log(database):
    """Seven kinds of rows, ten of each a month from May to November; every other one was checked."""
    database.query(TABLES)
    for name in ("0003_audit_retention_policy", "0006_seed_retention_policies", "0009_legal_hold"):
        database.query((MIGRATIONS / f"{name}.sql").read_text())
    for name in ("0010_partition_history", "0011_partition_seal", "0012_partition_copy"):
        database.query((MIGRATIONS / f"{name}.sql").read_text())
    for table in ("log", "checks"):
        declare(database, table=table, start="2026-05-01", now=NOW)
    for policy, kind in KINDS:
        database.query(
            "INSERT INTO log (at, retention_policy, data_classification, organization_id, a) "
            "SELECT at + n * interval '1 day', %s, %s, 'org' || n %% 2, 'x' "
            "FROM generate_series('2026-05-01Z'::timestamptz, '2026-11-01Z', '1 month') AS at, "
            "generate_series(1, 10) AS n ORDER BY 1",
            (policy, kind),
        )
    database.query("INSERT INTO checks (log_id, log_at) SELECT id, at FROM log WHERE id % 2 = 0")
    return database


def options(tmp_path, **more):
    return {
        "table": "log",
        "policies": "audit.audit_retention_policy",
        "holds": "audit.legal_hold",
        "history": "audit.partition_history",
        "seals": "audit.partition_seal",
        "archive_directory": str(tmp_path / "archive"),
        "batch_rows": 3,
        "max_leaving": 9,
        "now": NOW,
        **more,
    }


def purge(log, tmp_path, check=False, **more):
    return log.module("postgresql_partition_purge", check, **options(tmp_path, **more))


def refused(log, tmp_path, **more):
    return log.failure("postgresql_partition_purge", **options(tmp_path, **more))


def seals(log, state="present"):
    return log.module(
        "postgresql_partition_seal",
        tables=[{"table": "log"}],
        seals="audit.partition_seal",
        history="audit.partition_history",
        state=state,
        now=NOW,
    )


def minimal(log):
    """How many rows of the earliest policy are in each month."""
    return dict(
        log.query(
            "SELECT to_char(at AT TIME ZONE 'UTC', 'MM'), count(*)::int FROM log "
            "WHERE retention_policy = 'minimal' AND data_classification = 'PUBLIC' GROUP BY 1 ORDER BY 1"
        )
    )


ALL = {f"{month:02}": 10 for month in range(5, 12)}
# 90 days before 23 November is 25 August: May, June and July have ended by then.
KEPT = {month: rows for month, rows in ALL.items() if month >= "08"}


def test_check_then_purge_then_again(log, tmp_path):
    others = log.value(
        "SELECT count(*) FROM log WHERE NOT (retention_policy = 'minimal' AND data_classification = 'PUBLIC') "
        "OR retention_policy IS NULL"
    )
    would = purge(log, tmp_path, check=True)
    assert would["changed"] and [(each["partition"], each["rows"]) for each in would["purged"]] == [
        ("log_2026_05", 10),
        ("log_2026_06", 10),
        ("log_2026_07", 10),
    ]
    assert minimal(log) == ALL and not (tmp_path / "archive").exists()
    checks = log.value("SELECT count(*) FROM checks")
    gone = log.value(
        "SELECT count(*) FROM checks JOIN log ON log.id = log_id WHERE retention_policy = 'minimal' "
        "AND data_classification = 'PUBLIC' AND at < '2026-08-01Z'"
    )
    done = purge(log, tmp_path)
    assert done["changed"] and done["purged"] == would["purged"] and done["queries"] == would["queries"]
    assert minimal(log) == KEPT, "not a row of August, whose last is from the 31st"
    assert log.value("SELECT count(*) FROM log WHERE at < '2026-08-01Z'") == 3 * 60
    assert others == log.value("SELECT count(*) FROM log") - sum(KEPT.values())
    assert gone == 15 and log.value("SELECT count(*) FROM checks") == checks - gone
    kept = [json.loads(path.read_text()) for path in sorted((tmp_path / "archive").glob("*.manifest.json"))]
    assert sorted(each["seal"]["rows"] for each in kept) == [5, 5, 5, 10, 10, 10]
    history = log.query("SELECT part_of, action, row_count, dropped_at IS NOT NULL FROM audit.partition_history")
    assert sorted(history) == sorted(
        (f"log_2026_{month}", "archive", rows, True) for month in ("05", "06", "07") for rows in (5, 10)
    )
    assert log.query("SELECT relname FROM pg_class WHERE relname LIKE '%expired%'") == []
    again = purge(log, tmp_path)
    assert not again["changed"] and again["purged"] == [] and again["executed_queries"] == []
    assert not purge(log, tmp_path, check=True)["changed"]


def test_what_was_taken_out_comes_back(log, tmp_path):
    purge(log, tmp_path)
    log.module(
        "postgresql_partition_archive",
        table="public.log_2026_05_expired_1",
        directory=str(tmp_path / "archive"),
        state="restored",
        into="public.looked_into",
    )
    assert log.query(
        "SELECT DISTINCT retention_policy, data_classification, count(*) FROM looked_into GROUP BY 1, 2"
    ) == [("minimal", "PUBLIC", 10)]


def test_each_seeded_policy_lets_rows_go_on_its_day_and_not_before(log, tmp_path):
    log.query("INSERT INTO log (at, a) VALUES ('2026-11-20Z', 'newest')")
    gone = {}
    for kind, days in {"PUBLIC": 90, "CONFIDENTIAL": 1825, "INTERNAL": 2555, "PHI": 2555}.items():
        for extra in (-1, 0):
            now = log.value(
                "SELECT to_char('2026-06-01Z'::timestamptz + %s * interval '1 day', 'YYYY-MM-DD')", (days + extra,)
            )
            found = purge(log, tmp_path, check=True, now=f"{now}T00:00:00Z", clock_lead="10 years", max_leaving=99)
            gone[kind, extra] = {
                each["classification"] + "/" + each["policy"]
                for one in found["purged"]
                if one["partition"] == "log_2026_05"
                for each in one["classes"]
            }
    assert gone["PUBLIC", -1] == set() and gone["PUBLIC", 0] == {"PUBLIC/minimal"}
    assert gone["CONFIDENTIAL", -1] == {"PUBLIC/minimal"}
    assert gone["CONFIDENTIAL", 0] == {"PUBLIC/minimal", "CONFIDENTIAL/confidential"}
    assert gone["INTERNAL", -1] == gone["CONFIDENTIAL", 0]
    everything = {*gone["CONFIDENTIAL", 0], "INTERNAL/standard", "PHI/phi_extended", "PHI/minimal"}
    assert gone["INTERNAL", 0] == gone["PHI", 0] == everything, "what names no policy stays until its partition leaves"


def test_deleted_for_good_where_the_policy_says_so(log, tmp_path):
    log.query("UPDATE audit.audit_retention_policy SET delete_after_days = 120 WHERE policy_name = 'minimal'")
    done = purge(log, tmp_path)
    assert [(each["partition"], each["action"], each["table"]) for each in done["purged"]] == [
        ("log_2026_05", "drop", None),
        ("log_2026_06", "drop", None),
        ("log_2026_07", "archive", "public.log_2026_07_expired_1"),
    ]
    assert minimal(log) == KEPT
    assert len(list((tmp_path / "archive").glob("*.manifest.json"))) == 2
    assert (
        log.value("SELECT count(*) FROM audit.partition_history WHERE action = 'drop' AND dropped_at IS NOT NULL") == 4
    )
    assert not purge(log, tmp_path)["changed"]


def test_holds_keep_their_rows_and_no_others(log, tmp_path):
    log.query(
        "INSERT INTO audit.legal_hold (table_name, organization_id, reason, owner) "
        "VALUES ('public.log', 'org1', 'r', 'o')"
    )
    log.query(
        "INSERT INTO audit.legal_hold (time_from, time_to, reason, owner) "
        "VALUES ('2026-06-03Z', '2026-06-05Z', 'r', 'o')"
    )
    done = purge(log, tmp_path)
    assert [(each["partition"], each["rows"]) for each in done["purged"]] == [
        ("log_2026_05", 5),
        ("log_2026_06", 4),
        ("log_2026_07", 5),
    ]
    assert minimal(log) == {**KEPT, "05": 5, "06": 6, "07": 5}
    assert not purge(log, tmp_path)["changed"], "also not by force: there is none"
    log.query("UPDATE audit.legal_hold SET released_at = now(), released_by = 'me', release_reason = 'settled'")
    assert purge(log, tmp_path)["changed"] and minimal(log) == KEPT


def test_a_sealed_partition_is_sealed_again_and_a_changed_one_is_refused(log, tmp_path):
    seals(log)
    log.query(
        "UPDATE log SET a = 'forged' WHERE id = (SELECT min(id) FROM log_2026_06 WHERE retention_policy = 'standard')"
    )
    failed = refused(log, tmp_path)
    assert "log_2026_06 are not what was sealed" in failed["msg"] and failed["partitions"] == ["log_2026_06"]
    assert minimal(log) == {**KEPT, "06": 10}, "the others are purged all the same"
    log.query("UPDATE log SET a = 'x' WHERE a = 'forged'")
    assert purge(log, tmp_path)["changed"] and minimal(log) == KEPT
    assert {each["status"] for each in seals(log, "verified")["verified"]} == {"intact"}
    assert log.value("SELECT count(*) FROM audit.partition_seal WHERE previous_id IS NOT NULL") == 3
    log.query(
        "DELETE FROM checks WHERE log_at < '2026-06-01Z'; DELETE FROM log WHERE id = (SELECT min(id) FROM log_2026_05)"
    )
    changed = log.failure(
        "postgresql_partition_seal", tables=[{"table": "log"}], seals="audit.partition_seal", state="verified", now=NOW
    )
    assert "log_2026_05" in changed["msg"]


def test_without_a_directory_rows_wait_in_their_table(log, tmp_path):
    done = purge(log, tmp_path, archive_directory=None)
    assert done["archived"] == [] and minimal(log) == KEPT
    assert log.value("SELECT count(*) FROM log_2026_05_expired_1") == 10
    assert log.value("SELECT count(*) FROM log_2026_05_expired_1_checks") == 5
    assert not purge(log, tmp_path, archive_directory=None)["changed"]
    later = declare(log, history="audit.partition_history", archive_directory=str(tmp_path / "archive"), now=NOW)
    assert len(later["archived"]) == 3 and log.value("SELECT to_regclass('log_2026_05_expired_1') IS NULL")


def test_a_late_row_of_an_expired_class_goes_in_the_next_run(log, tmp_path):
    purge(log, tmp_path)
    log.query("INSERT INTO log (at, retention_policy, data_classification) VALUES ('2026-05-09Z', 'minimal', 'PUBLIC')")
    assert purge(log, tmp_path)["purged"][0]["table"] == "public.log_2026_05_expired_2"
    assert minimal(log) == KEPT


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"max_leaving": 2}, "3 partitions would be purged at once"),
        ({"now": "2027-11-23T00:00:00Z"}, "with a wrong clock, rows go too early"),
        ({"policy_column": "policy"}, "has no column policy"),
        ({"policies": "audit.nowhere"}, "audit.nowhere"),
        ({"batch_rows": 0}, "batch_rows: 0 is less than 1"),
        ({"table": "nowhere"}, "does not exist"),
        ({"clock_lead": "soon"}, "is not a length of time"),
    ],
)
def test_mistakes_are_refused_before_anything_leaves(log, tmp_path, more, said):
    failed = refused(log, tmp_path, **more)
    assert said in failed["msg"] and not failed["changed"]
    assert minimal(log) == ALL


def test_inactive_policies_let_nothing_go(log, tmp_path):
    log.query("UPDATE audit.audit_retention_policy SET is_active = 'false' WHERE policy_name = 'minimal'")
    assert not purge(log, tmp_path)["changed"]


@pytest.mark.parametrize("place", [0, 1, 3, 6, 7, 9, 20, "_seal_again", "archive_taken"])
def test_killed_anywhere_nothing_is_lost_and_the_next_run_completes(log, tmp_path, place):
    """A number is how many statements ran before: six make tables and the trace, then come batches of three rows."""
    seals(log)
    every = log.value("SELECT count(*) FROM log")

    def work():
        if isinstance(place, str):
            owner = purge_module if place == "archive_taken" else purge_run
            setattr(owner, place, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        else:
            Session.execute = dying(Session.execute, place)
        purge(log, tmp_path)

    run = multiprocessing.get_context("fork").Process(target=work)
    run.start()
    run.join(60)
    assert run.exitcode == -signal.SIGKILL
    asides = [
        name for (name,) in log.query("SELECT oid::regclass::text FROM pg_class WHERE relname ~ 'expired_[0-9]+$'")
    ]
    aside = sum(log.value(f"SELECT count(*) FROM {name}") for name in asides)
    assert log.value("SELECT count(*) FROM log") + aside == every
    assert log.value("SELECT count(*) FROM audit.partition_history WHERE part_of IS NOT NULL") >= len(asides)
    statuses = {each["status"] for each in seals(log, "verified")["verified"]}
    assert statuses <= {"intact", "purged"} and ("purged" in statuses) == (asides != [] and place != "archive_taken")
    assert purge(log, tmp_path, check=True)["changed"]
    purge(log, tmp_path)
    assert minimal(log) == KEPT and not purge(log, tmp_path)["changed"]
    kept = [json.loads(path.read_text()) for path in (tmp_path / "archive").glob("*.manifest.json")]
    assert sum(each["seal"]["rows"] for each in kept if "checks" not in each["name"]) == 30
    assert sum(each["seal"]["rows"] for each in kept if "checks" in each["name"]) == 15
    assert {each["status"] for each in seals(log, "verified")["verified"]} == {"intact"}


def dying(execute, count):
    """Return ``execute`` that runs so often, and then is killed."""
    left = [count]

    def execute_or_die(*arguments):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return execute(*arguments)

    return execute_or_die
