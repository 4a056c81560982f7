"""postgresql_partition with a default partition: no row is refused for its time, none is lost on its way."""

from __future__ import annotations

import contextlib
import threading
import time

import psycopg2
import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils import partition_look

from .partitions import TABLE, bounds, declare, info, names, refuse


@pytest.fixture
def log(database):
    database.query(TABLE)
    return database


def rest(log):
    return [str(at) for (at,) in log.query("SELECT at::text FROM ONLY log_default ORDER BY at")]


def test_create_again_fill_again(log):
    check = declare(log, check=True, default_partition=True)
    assert names(check)[-1] == "log_default" and check["default_partition"] == "log_default"
    assert bounds(log) == {}

    made = declare(log, default_partition=True)
    assert made["created"][-1] == {"name": "log_default", "from": None, "to": None, "default_rows": 0}
    assert bounds(log)["log_default"] == "DEFAULT"
    assert not declare(log, check=True, default_partition=True)["changed"]
    assert declare(log, default_partition=True)["executed_queries"] == []

    log.query(
        "INSERT INTO log (at, a) SELECT at, 'ไทย' FROM unnest(ARRAY['1970-01-01', '2026-11-30', '2027-02-28 23:59:59', "
        "'2027-03-01', '2999-12-31', 'infinity', '-infinity']::timestamptz[]) AS at"
    )
    assert len(rest(log)) == 6
    check = declare(log, check=True, premake=3, default_partition=True)
    assert check["created"] == [
        {
            "name": "log_2027_02",
            "from": "2027-02-01T00:00:00+00:00",
            "to": "2027-03-01T00:00:00+00:00",
            "default_rows": 1,
        }
    ]
    assert len(rest(log)) == 6
    moved = declare(log, premake=3, default_partition=True)
    assert moved["queries"] == check["queries"] and moved["created"] == check["created"]
    assert log.value("SELECT count(*) FROM log_2027_02") == 1 and log.value("SELECT count(*) FROM log") == 7
    assert "log_2027_02_check" not in str(log.query("SELECT conname FROM pg_constraint"))
    assert moved["default_rows"] == 5
    assert [each["rows"] for each in moved["default_ranges"]] == [2, 3]
    again = declare(log, premake=3, default_partition=True)
    assert not again["changed"] and again["default_rows"] == 5
    told = info(log, {"table": "log", "premake": 3, "default_partition": True})["tables"][0]
    assert told["default_rows"] == 5 and told["missing"] == []


def test_one_is_added_to_a_table_that_works(log):
    declare(log)
    with pytest.raises(psycopg2.errors.CheckViolation):
        log.query("INSERT INTO log (at) VALUES ('1970-01-01')")
    assert names(declare(log, default_partition=True)) == ["log_default"]
    log.query("INSERT INTO log (at) VALUES ('1970-01-01')")
    assert rest(log) == ["1970-01-01 00:00:00+00"]


def test_one_of_another_name_counts_and_is_never_removed(log):
    declare(log)
    log.query("CREATE TABLE rest PARTITION OF log DEFAULT")
    assert not declare(log, default_partition=True)["changed"]
    assert not declare(log, default_partition=False)["changed"]
    log.query("INSERT INTO log (at) VALUES ('2027-02-14')")
    made = declare(log, premake=3)
    assert made["created"][0]["default_rows"] == 1 and made["default_partition"] == "rest"


def test_absurd_times_never_make_partitions(log):
    declare(log, default_partition=True)
    log.query(
        "INSERT INTO log (at) SELECT '1900-01-01'::timestamptz + n * interval '1 month' FROM generate_series(0, 999) n"
    )
    made = declare(log, default_partition=True)
    assert not made["changed"] and made["default_rows"] == 1000


def test_each_row_is_seen_at_all_times_while_it_moves(log):
    """Rows arrive while others move: none is refused, none is missed, whoever looks sees as many as there are."""
    declare(log, premake=0, default_partition=True)
    log.query("INSERT INTO log (at) SELECT '2027-01-15' FROM generate_series(1, 20000)")
    wrong, stop, added = [], threading.Event(), [0]

    def write():
        with contextlib.closing(log.server.connect(log.name)) as connection:
            while not stop.is_set():
                connection.cursor().execute(
                    "INSERT INTO log (at) VALUES ('2027-01-16'), ('2026-12-24'), ('2026-11-24')"
                )
                added[0] += 3

    def read():
        with contextlib.closing(log.server.connect(log.name)) as connection:
            while not stop.is_set():
                cursor = connection.cursor()
                cursor.execute("SELECT count(*) FROM log WHERE at = '2027-01-15'")
                found = cursor.fetchone()[0]
                if found != 20000:
                    wrong.append(found)

    threads = [threading.Thread(target=each) for each in (write, read)]
    for each in threads:
        each.start()
    time.sleep(0.2)
    made = declare(log, premake=3, default_partition=True)
    time.sleep(0.2)
    stop.set()
    for each in threads:
        each.join()
    assert names(made) == ["log_2026_12", "log_2027_01", "log_2027_02"]
    assert wrong == [] and rest(log) == []
    assert log.value("SELECT count(*) FROM log") == 20000 + added[0]


def test_rows_that_arrive_between_the_look_and_the_attaching_move_too(log, monkeypatch):
    declare(log, premake=0, default_partition=True)
    true_look = partition_look.look_into_default

    def late(session, table, create):
        found = true_look(session, table, create)
        log.query("INSERT INTO log (at) VALUES ('2026-12-24')")
        return found

    monkeypatch.setattr(partition_look, "look_into_default", late)
    declare(log, premake=1, default_partition=True)
    assert log.value("SELECT count(*) FROM log_2026_12") == 2 and rest(log) == []


def test_rows_that_others_refer_to_stay_until_the_key_is_dropped(log):
    declare(log, premake=0, default_partition=True)
    log.query(
        "CREATE TABLE sub (id bigint, at timestamptz, CONSTRAINT ref FOREIGN KEY (id, at) REFERENCES log (id, at))"
    )
    log.query("INSERT INTO log (at) VALUES ('2026-12-24')")
    log.query("INSERT INTO sub SELECT id, at FROM log")
    failed = refuse(log, premake=1, default_partition=True)
    assert (
        failed["sqlstate"] == "23503" and 'table "sub"' in failed["msg"] and "drop the foreign key" in failed["remedy"]
    )
    assert len(rest(log)) == 1 and bounds(log).keys() == {"log_2026_11", "log_default"}
    log.query("ALTER TABLE sub DROP CONSTRAINT ref")
    assert declare(log, premake=1, default_partition=True)["created"][0]["default_rows"] == 1
    log.query("ALTER TABLE sub ADD CONSTRAINT ref FOREIGN KEY (id, at) REFERENCES log (id, at) NOT VALID")
    log.query("ALTER TABLE sub VALIDATE CONSTRAINT ref")


def test_generated_columns_and_dropped_ones_do_not_matter(database):
    database.query(
        "CREATE TABLE log (gone int, at date NOT NULL, n int, twice int GENERATED ALWAYS AS (n * 2) STORED) "
        "PARTITION BY RANGE (at)"
    )
    database.query("ALTER TABLE log DROP COLUMN gone")
    declare(database, premake=0, default_partition=True)
    database.query("INSERT INTO log (at, n) VALUES ('2026-12-24', 21)")
    declare(database, premake=1, default_partition=True)
    assert database.query("SELECT at::text, n, twice FROM log_2026_12") == [("2026-12-24", 21, 42)]


def test_one_who_may_not_look_into_it_is_told_nothing_wrong(log, role_prefix):
    declare(log, default_partition=True)
    looker = f"{role_prefix}looker"
    log.query(f"CREATE ROLE {looker} LOGIN PASSWORD 'of the test'")
    found = info(log, {"table": "log"}, login_user=looker, login_password="of the test")
    assert found["tables"][0]["default_rows"] is None
    log.query(f"DROP ROLE {looker}")
