"""postgresql_partition_convert with split: the old table becomes partitions of one interval, in the background."""

from __future__ import annotations

import threading
from contextlib import closing

import psycopg2
import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils import convert_split
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session

from .conversions import TABLE, convert, portrait, refuse, revert
from .partitions import bounds
from .test_postgresql_partition_convert_faults import killed_at, usable

pytestmark = pytest.mark.newest

PARTS = """SELECT relname FROM pg_class WHERE relname LIKE 'audit_log_split%'
    UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'audit_log_split%'"""
MONTHS = [f"audit_log_2026_{month:02d}" for month in range(2, 13)]


@pytest.fixture
def log(database):
    database.query(TABLE)
    return database


def split(database, check=False, **changed):
    return convert(database, check, split=True, batch_rows=100, **changed)


def test_the_old_table_becomes_partitions_of_one_month_with_all_rows(log):
    rows = log.query("SELECT * FROM audit_log ORDER BY id")
    convert(log)
    check = split(log, check=True)
    assert [each["step"] for each in check["steps"]] == ["prepare split", "copy", "exchange", "analyze"]
    assert check["executed_queries"] == [] and log.query(PARTS) == []
    made = split(log)
    assert made["queries"] == check["queries"] and made["created"] == check["created"]
    assert list(bounds(log, "audit_log")) == [*MONTHS, "audit_log_2027_01", "audit_log_earlier"]
    assert bounds(log, "audit_log")["audit_log_earlier"] == "FOR VALUES FROM (MINVALUE) TO ('2026-02-01 00:00:00+00')"
    assert log.query("SELECT * FROM audit_log ORDER BY id") == rows
    assert log.query("SELECT * FROM audit_log_legacy ORDER BY id") == rows, "stays beside, as a copy"
    assert log.query(PARTS) == []
    assert log.query("SELECT conname FROM pg_constraint WHERE conname IN ('split_range', 'legacy_range')") == []
    assert not split(log)["changed"] and not convert(log)["changed"]
    assert not log.module("postgresql_partition", table="audit_log", premake=2, now="2026-11-23")["changed"]
    log.query("DROP TABLE audit_log_legacy")
    usable(log, 1000)
    assert "has no partition audit_log_legacy" in refuse(log, state="reverted")["msg"]


def test_converted_and_split_in_one_run(log):
    check = split(log, check=True)
    assert check["queries"][-1].startswith("-- split") and bounds(log, "audit_log") == {}
    steps = [each["step"] for each in split(log)["steps"]]
    assert (
        steps[3:] == ["create partitions", "analyze", "prepare split", "copy", "exchange", "analyze"]
        or steps[3] == "swap"
    )
    assert list(bounds(log, "audit_log"))[:-2] == MONTHS
    usable(log, 1000)


def test_all_that_hangs_on_the_table_stays(furnished):
    convert(furnished)
    before = portrait(furnished, "names")
    rows = furnished.query("SELECT * FROM audit_log ORDER BY id")
    split(furnished)
    assert portrait(furnished, "names") == before
    assert furnished.query("SELECT * FROM audit_log ORDER BY id") == rows
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        furnished.query("INSERT INTO audit_log (at, kind) VALUES ('2026-11-23', 'none')")
    furnished.query("INSERT INTO audit_log (at, action) VALUES ('2026-11-23', 'watched')")
    assert furnished.value("SELECT count(*) FROM seen") == 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_statement_no_row_is_missing_and_the_next_run_goes_on(log, after):
    kills = 0
    while True:
        log.query(f"DROP TABLE IF EXISTS audit_log_legacy CASCADE; DROP TABLE audit_log CASCADE; {TABLE}")
        convert(log)
        if not killed_at(lambda: split(log), kills + 1, after):
            break
        kills += 1
        rows = usable(log, 1000)
        log.query("UPDATE audit_log SET action = 'changed' WHERE id % 100 = 0")
        if kills % 4 == 0:  # the other way is open as well
            if log.query("SELECT FROM pg_inherits WHERE inhrelid = 'audit_log_legacy'::regclass") or log.value(
                "SELECT relispartition FROM pg_class WHERE relname = 'audit_log_legacy'"
            ):
                revert(log)
                assert log.query(PARTS) == []
                usable(log, rows)
            continue
        split(log)
        assert log.query(PARTS) == []
        assert log.value("SELECT count(*) FROM audit_log WHERE action = 'changed'") == 10
        usable(log, rows)
    assert kills >= 10


def test_whatever_others_write_meanwhile_is_there_afterwards(log):
    convert(log)
    log.query("INSERT INTO audit_log (at) SELECT '2026-11-23'::timestamptz - make_interval(mins => n) "
              "FROM generate_series(1, 20000) AS n")  # fmt: skip
    log.query("CREATE TABLE twin AS SELECT * FROM audit_log; ALTER TABLE twin ADD PRIMARY KEY (id)")
    stop, wrong, done = threading.Event(), [], [0]
    changes = (
        "WITH i AS (INSERT INTO audit_log (at) SELECT '2026-11-23'::timestamptz - random() * interval '90 days' "
        "RETURNING *) INSERT INTO twin SELECT * FROM i",
        "WITH v AS (SELECT id FROM audit_log ORDER BY random() LIMIT 1 FOR UPDATE), "
        "d AS (DELETE FROM audit_log WHERE id IN (SELECT id FROM v) RETURNING id) "
        "DELETE FROM twin WHERE id IN (SELECT id FROM d)",
        "WITH v AS (SELECT id FROM audit_log ORDER BY random() LIMIT 1 FOR UPDATE), "
        "u AS (UPDATE audit_log SET action = 'u' || id, at = at - interval '1 day' WHERE id IN (SELECT id FROM v) "
        "RETURNING *) UPDATE twin SET action = u.action, at = u.at FROM u WHERE twin.id = u.id",
    )

    def write(number):
        try:
            with closing(log.server.connect(log.name)) as session, session.cursor() as cursor:
                if number == 2:
                    cursor.execute("SET default_transaction_isolation = 'repeatable read'")
                while not stop.is_set():
                    try:
                        cursor.execute(changes[number])
                        done[0] += 1
                    except psycopg2.errors.SerializationFailure:  # of its own isolation: two changed one row
                        continue
        except Exception as error:
            wrong.append(str(error))

    def read():
        with closing(log.server.connect(log.name)) as session, session.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("SELECT (SELECT count(*) FROM audit_log) - (SELECT count(*) FROM twin)")
                if (difference := cursor.fetchone()[0]) != 0:
                    wrong.append(f"a reader saw {difference} rows more")

    threads = [threading.Thread(target=write, args=(n,)) for n in (0, 0, 1, 2)] + [threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    try:
        convert(log, split=True, batch_rows=500)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == [] and done[0] > 50
    assert "audit_log_2026_10" in bounds(log, "audit_log")
    different = "(SELECT id, at, action FROM {} EXCEPT SELECT id, at, action FROM {})"
    assert log.query(different.format("audit_log", "twin")) == [] == log.query(different.format("twin", "audit_log"))


def test_a_table_that_is_written_anew_meanwhile_is_copied_from_the_beginning(log, monkeypatch):
    convert(log)
    original, calls = Session.execute, []

    def execute(session, statement, arguments=None):
        if "ctid" in str(statement):
            calls.append(statement)
            if len(calls) == 2:
                log.query("DELETE FROM audit_log WHERE id <= 500")
                log.query("VACUUM FULL audit_log_legacy")
        return original(session, statement, arguments)

    monkeypatch.setattr(Session, "execute", execute)
    split(log)
    usable(log, 500)


def test_a_copy_that_lacks_rows_is_not_exchanged(log, monkeypatch):
    convert(log)
    original = convert_split.compare

    def compare(session, writes):
        log.query("DELETE FROM audit_log_split WHERE id = 7")
        original(session, writes)

    monkeypatch.setattr(convert_split, "compare", compare)
    failed = refuse(log, split=True)
    assert "999 of 1000 rows" in failed["msg"] and "reverted" in failed["remedy"]
    assert "audit_log_legacy" in bounds(log, "audit_log")
    monkeypatch.undo()
    revert(log)
    assert log.query(PARTS) == []
    usable(log, 1000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ALTER TABLE audit_log DROP CONSTRAINT audit_log_pkey", "without a primary key"),
        ("CREATE TABLE audit_log_2026_05 (a int)", "audit_log_2026_05 is needed"),
        ("CREATE TABLE audit_log_split (a int)", "audit_log_split is needed"),
        ("CREATE PUBLICATION p_DATABASE FOR ALL TABLES WITH (publish_via_partition_root = true)", "publish the copies"),
    ],
)
def test_what_is_in_the_way_is_said_before_anything_changes(log, text, said):
    convert(log)
    log.query(text.replace("DATABASE", log.name))
    for check in (True, False):
        failed = refuse(log, check, split=True)
        assert said in failed["msg"] and failed["remedy"] and failed["executed_queries"] == []


def test_no_row_is_read_while_the_table_is_locked(log, monkeypatch):
    log.query("CREATE TABLE kind (a text PRIMARY KEY); ALTER TABLE audit_log ADD kind text REFERENCES kind")
    log.query("INSERT INTO kind VALUES ('x'); UPDATE audit_log SET kind = 'x'")
    convert(log)
    reads = []
    count = """SELECT sum(seq_scan + coalesce(idx_scan, 0)) AS n FROM pg_stat_xact_user_tables
        WHERE relname ~ '^audit_log_(20|earlier|legacy)'"""
    original = Session.execute

    def execute(session, statement, arguments=None):
        exchange = "DETACH PARTITION" in str(statement)
        if exchange:
            reads.append(session.query(count)[0]["n"])
        result = original(session, statement, arguments)
        if exchange:
            reads.append(session.query(count)[0]["n"])
        return result

    monkeypatch.setattr(Session, "execute", execute)
    split(log)
    assert len(reads) == 2 and reads[0] == reads[1]


def test_a_split_that_was_left_is_said(log):
    convert(log)
    assert killed_at(lambda: split(log), 3, False)
    assert "split: true" in str(convert(log)["warnings"])
    assert "drop it once" in str(split(log)["warnings"])


def test_the_copy_is_nobody_elses_to_read(log):
    convert(log)
    log.query("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC")
    assert killed_at(lambda: split(log), 3, False)
    open_to_all = """SELECT relname FROM pg_class, aclexplode(relacl) AS x
        WHERE x.grantee = 0 AND relnamespace = 'public'::regnamespace"""
    assert log.query(open_to_all) == []
    split(log)
    assert log.query(open_to_all) == []


def test_truncating_while_rows_are_copied_is_refused(log):
    convert(log)
    assert killed_at(lambda: split(log), 3, False)
    with pytest.raises(psycopg2.errors.RaiseException, match="being copied"):
        log.query("TRUNCATE audit_log")
    split(log)
    log.query("TRUNCATE audit_log")
    assert log.value("SELECT count(*) FROM audit_log") == 0


def test_others_see_how_far_it_is(log):
    convert(log)
    log.query("ANALYZE audit_log_legacy")
    assert killed_at(lambda: split(log, progress="seen"), 5, True)
    begun = log.query("SELECT rows_done, rows_expected, message, ended_at FROM seen WHERE step = 'copy'")[0]
    assert 0 < begun[0] < begun[1] == 1000 and begun[2].startswith(f"{begun[0]} of about 1000 rows")
    assert begun[3] is None
    split(log, progress="seen")
    rows = log.query(
        "SELECT rows_done, rows_per_second, seconds_left, message FROM seen WHERE step = 'copy' ORDER BY id"
    )
    assert rows[-1][0] == 1000 and rows[-1][1] > 0 and rows[-1][2] == 0 and "a second, about 0 s left" in rows[-1][3]
    assert log.value("SELECT count(*) FROM seen WHERE ended_at IS NULL") == 1, "the one that was killed"
