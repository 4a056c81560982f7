"""postgresql_partition_seal: closed partitions are sealed once, and a row that changed since is found and located."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .partitions import NOW, TABLE, declare

MIGRATIONS = Path(__file__).parents[2] / "roles/audit_schema/files/migrations"
CLOSED = [f"log_2026_{month:02}" for month in range(6, 11)]  # November has not ended


@pytest.fixture
def log(database):
    """A table with a hundred rows a month from June to November."""
    database.query("CREATE SCHEMA audit")
    for name in ("0010_partition_history.sql", "0011_partition_seal.sql"):
        database.query((MIGRATIONS / name).read_text())
    database.query(TABLE.replace("a text", "a text, archived_at timestamptz"))
    declare(database, start="2026-06-01", default_partition=True)
    database.query(
        "INSERT INTO log (at, a) SELECT at + n * interval '1 min', 'ไทย' || n "
        "FROM generate_series('2026-06-15'::timestamptz, '2026-11-15', '1 month') AS at, generate_series(1, 100) AS n "
        "ORDER BY at, n"
    )
    return database


def options(**more):
    table = {"table": "log", "omit": ["archived_at"], **more.pop("table", {})}
    return {"tables": [table], "seals": "audit.partition_seal", "block_rows": 10, "now": NOW, **more}


def seal(log, check=False, **more):
    return log.module("postgresql_partition_seal", check, **options(**more))


def verify(log, check=False, **more):
    return seal(log, check, state="verified", **more)


def broken(log, **more):
    return log.failure("postgresql_partition_seal", **options(state="verified", **more))


def partitions(result):
    return [each["partition"] for each in result["sealed"]]


def statuses(result):
    return {each["partition"]: each["status"] for each in result["verified"]}


def kept(log):
    return log.query("SELECT partition_name, row_count, previous_id IS NOT NULL FROM audit.partition_seal ORDER BY id")


def test_check_seal_again_and_a_month_later(log):
    check = seal(log, check=True)
    assert check["changed"] and partitions(check) == CLOSED and kept(log) == []
    assert "seal public.log: log_2026_06\n" in check["diff"]["after"]
    done = seal(log)
    assert done["changed"] and partitions(done) == CLOSED and len(done["executed_queries"]) == 5
    assert kept(log) == [(name, 100, False) for name in CLOSED]
    for check in (True, False):
        again = seal(log, check=check)
        assert not again["changed"] and again["sealed"] == [] and again["executed_queries"] == []
    assert partitions(seal(log, now="2026-12-07T23:59:59Z")) == [], "a week after its end, not before"
    assert partitions(seal(log, now="2026-12-08T00:00:00Z")) == ["log_2026_11"]


def test_what_is_sealed_is_intact_also_after_stamps_and_under_another_name(log):
    seal(log)
    log.query("UPDATE log SET archived_at = now(); ALTER TABLE log_2026_07 RENAME TO july")
    log.query("VACUUM FULL log_2026_08")
    done = verify(log)
    assert not done["changed"] and set(statuses(done).values()) == {"intact"} and len(done["verified"]) == 5
    assert done["executed_queries"] == []


@pytest.mark.parametrize(
    ("forgery", "said"),
    [
        ("UPDATE log SET a = 'forged' WHERE id = 155", "rows 51 to 60"),
        ("UPDATE log SET at = at + interval '1 us' WHERE id = 155", "rows 51 to 60"),
        ("DELETE FROM log WHERE id = 155", "rows 100 became 99"),
        ("DELETE FROM log WHERE id = 155; INSERT INTO log (at, a) VALUES ('2026-07-15 00:55', 'ไทย55')", "rows 51"),
        ("TRUNCATE log_2026_07", "rows 100 became 0"),
        ("ALTER TABLE log RENAME a TO b", "no column a"),
    ],
    ids=["value", "time", "deleted", "replaced", "truncated", "column"],
)
def test_a_row_that_changed_is_found_and_its_range_named(log, forgery, said):
    seal(log)
    log.query(forgery)
    failed = broken(log)
    assert said in failed["msg"] and failed["remedy"]
    if "verified" in failed:
        assert statuses(failed) == {**dict.fromkeys(CLOSED, "intact"), "log_2026_07": "changed"}
    assert kept(log) == [(name, 100, False) for name in CLOSED], "a forgery gets no seal"


def test_late_rows_are_told_apart_and_sealed_in_turn(log):
    seal(log)
    log.query("INSERT INTO log (at, a) SELECT '2026-07-01', 'late' FROM generate_series(1, 3)")
    check = verify(log, check=True)
    assert check["changed"] and statuses(check)["log_2026_07"] == "late" and len(kept(log)) == 5
    done = verify(log)
    assert partitions(done) == ["log_2026_07"] and done["sealed"][0]["follows"]
    assert next(each for each in done["verified"] if each["status"] == "late")["late_rows"] == 3
    assert kept(log)[-1] == ("log_2026_07", 103, True)
    assert set(statuses(verify(log)).values()) == {"intact"}
    log.query("INSERT INTO log (at, a) VALUES ('2026-07-01', 'late'); UPDATE log SET a = 'forged' WHERE id = 155")
    assert "rows 51 to 60" in broken(log)["msg"], "late rows do not hide a forgery"


def test_verifications_are_written_down_for_the_range_that_differs(log):
    log.query(
        "CREATE TABLE verified (id bigint GENERATED ALWAYS AS IDENTITY, audit_log_id bigint,"
        "audit_log_timestamp timestamptz, verification_status text, verification_details jsonb, verified_by text)"
    )
    more = {"table": {"verification_log": "public.verified"}}
    seal(log, **more)
    assert verify(log, **more)["changed"] and not verify(log, check=True, **more)["changed"]
    rows = log.query("SELECT audit_log_id, verification_status, verification_details FROM verified ORDER BY id")
    assert [row[:2] for row in rows] == [(n * 100 + 1, "success") for n in range(5)]
    log.query("UPDATE log SET a = 'forged' WHERE id = 155; TRUNCATE verified")
    failed = broken(log, **more)
    assert failed["changed"]
    number, status, details = log.query(
        "SELECT audit_log_id, verification_status, verification_details FROM verified "
        "WHERE verification_status <> 'success'"
    )[0]
    assert (number, status) == (151, "tampered") and details["differences"]["first_block"]["from_row"] == 51
    assert log.value("SELECT count(*) FROM verified") == 5


def test_a_sealed_partition_that_is_gone_is_missing_unless_it_left_by_policy(log):
    seal(log)
    log.query("ALTER TABLE log DETACH PARTITION log_2026_06; DROP TABLE log_2026_06")
    assert len(verify(log)["verified"]) == 4, "nothing to compare with"
    failed = broken(log, history="audit.partition_history")
    assert "log_2026_06: it has a seal, is no partition" in failed["msg"]
    declare(log, retention="3 months", retention_action="drop", history="audit.partition_history", max_leaving=9)
    failed = broken(log, history="audit.partition_history")
    assert [each["partition"] for each in failed["verified"] if each["status"] == "missing"] == ["log_2026_06"]


def test_seals_hold_the_digest_of_the_document(log):
    seal(log)
    kept = log.value("SELECT seal FROM audit.partition_seal WHERE partition_name = 'log_2026_06'")
    assert [each["name"] for each in kept["columns"]] == ["a", "at", "id"] and kept["order_by"] == ["id", "at"]
    assert len(kept["blocks"]) == 10 and json.dumps(kept)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"table": {"omit": ["at"]}}, "omit: at"),
        ({"table": {"omit": ["nothing"]}}, "omit: nothing"),
        ({"table": {"after": "soon"}}, "after: 'soon'"),
        ({"table": {"table": "nowhere"}}, "'nowhere' does not exist"),
        ({"seals": "audit.nowhere"}, "audit.nowhere"),
        ({"block_rows": 0}, "block_rows: 0"),
        ({"now": "today"}, "now: 'today'"),
    ],
)
def test_wrong_options_are_named_before_anything_is_sealed(log, more, said):
    failed = log.failure("postgresql_partition_seal", **options(**more))
    assert said in failed["msg"] and kept(log) == []
