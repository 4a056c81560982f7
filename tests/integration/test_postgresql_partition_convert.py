"""postgresql_partition_convert: a plain table with rows becomes a partitioned one, and nothing of it is lost."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import psycopg2
import pytest

from .conversions import TABLE, convert, portrait, revert
from .partitions import bounds

pytestmark = pytest.mark.newest

MONTHS = {
    "audit_log_legacy": "FOR VALUES FROM (MINVALUE) TO ('2026-12-01 00:00:00+00')",
    "audit_log_2026_12": "FOR VALUES FROM ('2026-12-01 00:00:00+00') TO ('2027-01-01 00:00:00+00')",
    "audit_log_2027_01": "FOR VALUES FROM ('2027-01-01 00:00:00+00') TO ('2027-02-01 00:00:00+00')",
}
PRIMARY_KEY = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'audit_log'::regclass AND contype = 'p'
"""


@pytest.fixture
def log(database):
    database.query(TABLE)
    return database


def test_rows_of_past_months_ids_and_primary_key_are_kept_and_no_id_is_used_again(log):
    rows = log.query("SELECT * FROM audit_log ORDER BY id")
    made = convert(log)
    assert made["changed"] and made["legacy"] == "audit_log_legacy" and made["boundary"] == "2026-12-01T00:00:00+00:00"
    assert bounds(log, "audit_log") == MONTHS
    assert log.query("SELECT * FROM audit_log ORDER BY id") == rows
    assert log.value("INSERT INTO audit_log (at) VALUES ('2026-11-23') RETURNING id") == 1001
    assert log.value("INSERT INTO audit_log (at) VALUES ('2026-12-23') RETURNING id") == 1002
    assert log.query(PRIMARY_KEY) == [("audit_log_pkey", "PRIMARY KEY (id, at)")]


def test_no_row_is_copied(log):
    file = log.value("SELECT pg_relation_filepath('audit_log')")
    convert(log)
    assert log.value("SELECT pg_relation_filepath('audit_log_legacy')") == file


def test_check_mode_changes_nothing_and_says_exactly_what_is_done(furnished):
    before = portrait(furnished)
    check = convert(furnished, check=True)
    assert portrait(furnished) == before and check["executed_queries"] == []
    assert check["changed"] and [each["step"] for each in check["steps"]] == [
        "build index",
        "add check",
        "validate check",
        "swap",
        "create partitions",
        "analyze",
    ]
    made = convert(furnished)
    assert made["queries"] == check["queries"] and made["diff"] == check["diff"] and made["created"] == check["created"]
    executed = "\n".join(made["executed_queries"])
    assert [text for text in check["queries"] if text not in executed] == []
    assert [each["step"] for each in made["steps"]] == [each["step"] for each in check["steps"]]
    assert 0 < made["locked_seconds"] < 2


def test_a_second_run_changes_nothing(furnished):
    convert(furnished)
    before = portrait(furnished)
    for check in (True, False):
        again = convert(furnished, check)
        assert not again["changed"] and again["queries"] == [] and again["executed_queries"] == []
        assert again["steps"] == [] and again["boundary"] == "2026-12-01T00:00:00+00:00"
    assert portrait(furnished) == before


def test_all_that_hangs_on_the_table_is_carried_over(furnished):
    before = portrait(furnished)
    convert(furnished)
    now = portrait(furnished)
    # What must differ: the primary key, and that the partition key is never null.
    both = {name: [set(map(str, side[name])) for side in (before, now)] for name in before}
    apart = {name: (sorted(old - new), sorted(new - old)) for name, (old, new) in both.items() if old != new}
    assert sorted(apart) == ["columns", "constraints", "indexes"]
    for name, old, new in (
        ("indexes", "(id) INCLUDE", "(id, at) INCLUDE"),
        ("constraints", "(id) INCLUDE", "(id, at) INCLUDE"),
        ("columns", "'YES'", "'NO'"),
    ):
        ((was,), (is_now,)) = apart[name]
        assert old in was and was.replace(old, new) == is_now, name


def test_back_again_it_is_what_it_was(furnished):
    before = portrait(furnished)
    rows = furnished.query("SELECT * FROM audit_log ORDER BY id")
    convert(furnished)
    back = revert(furnished)
    assert back["changed"]
    assert portrait(furnished) == before
    assert furnished.query("SELECT * FROM audit_log ORDER BY id") == rows


class Traffic:
    """Threads that write and read without a pause, until the block ends; ``lost`` says what went wrong."""

    def __init__(self, database, write, threads=4):
        self.database, self.write = database, write
        self.stop = threading.Event()
        self.ids, self.lost, self.slowest = [], [], 0.0
        self.threads = [threading.Thread(target=self._writer, args=(n,)) for n in range(threads)]
        view, table = "SELECT count(*) FROM seen_through", "SELECT count(*) FROM audit_log"
        other = "INSERT INTO kind VALUES (DEFAULT)"
        # The last two lock in an order in which they and a swap would wait for each other.
        for query in (view, table, f"BEGIN; {table}; {view}; COMMIT", f"BEGIN; {other}; {table}; COMMIT"):
            self.threads.append(threading.Thread(target=self._reader, args=(query,)))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        while len(self.ids) < 50 and not self.lost:
            time.sleep(0.01)
        return self

    def __exit__(self, *_error):
        enough = len(self.ids) + 50
        while len(self.ids) < enough and not self.lost:
            time.sleep(0.01)
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _writer(self, number):
        try:
            with closing(self.database.server.connect(self.database.name)) as session, session.cursor() as cursor:
                if number % 2:  # a plan that was made for the old table
                    cursor.execute(f"PREPARE write AS {self.write}")
                while not self.stop.is_set():
                    begun = time.monotonic()
                    cursor.execute("EXECUTE write" if number % 2 else self.write)
                    self.ids.append(cursor.fetchone()[0])
                    self.slowest = max(self.slowest, time.monotonic() - begun)
        except Exception as error:
            self.lost.append(str(error))

    def _reader(self, query):
        try:
            least = 0
            with closing(self.database.server.connect(self.database.name)) as session, session.cursor() as cursor:
                while not self.stop.is_set():
                    known = len(self.ids)
                    cursor.execute(query)
                    if not query.startswith("SELECT"):
                        time.sleep(0.02)
                        continue
                    now = cursor.fetchone()[0]
                    if now < max(least, known):
                        self.lost.append(f"{now} rows after {least}")
                    least = now
        except Exception as error:
            self.lost.append(str(error))


def test_what_was_carried_over_works(furnished):
    convert(furnished)
    furnished.query("INSERT INTO audit_log (at, action) VALUES ('2026-11-23', 'watched'), ('2026-12-23', 'watched')")
    assert furnished.value("SELECT count(*) FROM seen") == 2, "triggers"
    numbers = [n for (n,) in furnished.query("SELECT id FROM audit_log WHERE action = 'watched' ORDER BY id")]
    last = furnished.value("SELECT max(id) FROM audit_log WHERE action <> 'watched'")
    assert last < numbers[0] == numbers[1] - 5 and numbers[0] % 5 == 0, "the identity goes on"
    assert furnished.value("SELECT count(*) FROM readings WHERE at >= '2026-12-01'") == 0
    furnished.query("UPDATE audit_log SET kind = 'read' WHERE at = '2026-12-23'")
    assert furnished.value("SELECT count(*) FROM readings WHERE at >= '2026-12-01'") == 1, "views see new partitions"
    assert furnished.value("SELECT count(*) FROM seen") == 3, "constraint triggers"
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        furnished.query("INSERT INTO audit_log (at, kind) VALUES ('2026-12-23', 'none')")
    with pytest.raises(psycopg2.errors.CheckViolation):
        furnished.query("INSERT INTO audit_log (at, action) VALUES ('2026-12-23', '')")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        furnished.query("INSERT INTO audit_log (at, batch) SELECT at, batch FROM audit_log LIMIT 1")


def test_no_write_and_no_row_is_lost_there_and_back_while_others_write_and_read(log):
    log.query("CREATE TABLE kind (n bigserial PRIMARY KEY); ALTER TABLE audit_log ADD kind bigint REFERENCES kind")
    log.query("CREATE VIEW seen_through AS SELECT * FROM audit_log")
    write = "INSERT INTO audit_log (at) VALUES ('2026-11-23') RETURNING id"
    with Traffic(log, write) as there:
        convert(log)
    assert there.lost == [] and there.slowest < 2
    log.query("INSERT INTO audit_log (at) SELECT '2026-12-24' FROM generate_series(1, 100)")
    with Traffic(log, write) as back:
        revert(log)
    assert back.lost == [] and back.slowest < 2
    ids = there.ids + back.ids
    assert len(set(ids)) == len(ids)
    assert log.value("SELECT count(*) FROM audit_log") == 1000 + 100 + len(ids)
    assert log.value("SELECT count(*) FROM audit_log WHERE id = ANY (%s)", (ids,)) == len(ids)
