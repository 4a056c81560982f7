"""postgresql_partition against real servers."""

from __future__ import annotations

import threading
import time

import psycopg2
import pytest

NOW = "2026-11-23T04:00:00Z"
TABLE = """
CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, a text, PRIMARY KEY (id, at))
PARTITION BY RANGE (at)
"""


@pytest.fixture
def log(database):
    database.query(TABLE)
    database.query("CREATE INDEX ON log (a)")
    return database


def bounds(database, table="log"):
    database.query("SET TimeZone = 'UTC'")
    return dict(
        database.query(
            "SELECT relname, pg_get_expr(relpartbound, c.oid) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
            "WHERE inhparent = %s::regclass ORDER BY 1",
            (table,),
        )
    )


def declare(database, check=False, **options):
    return database.module("postgresql_partition", check, **{"table": "log", "premake": 2, "now": NOW, **options})


def refuse(database, **options):
    return database.failure("postgresql_partition", **{"table": "log", "premake": 2, "now": NOW, **options})


def test_create_again_extend_again(log):
    check = declare(log, check=True)
    assert check["changed"] and [each["name"] for each in check["created"]] == [
        "log_2026_11",
        "log_2026_12",
        "log_2027_01",
    ]
    assert "FROM ('2026-11-01 00:00:00+00') TO ('2026-12-01 00:00:00+00')" in check["diff"]["after"]
    assert bounds(log) == {} and check["executed_queries"] == []

    made = declare(log)
    assert made["queries"] == check["queries"]
    assert bounds(log) == {
        "log_2026_11": "FOR VALUES FROM ('2026-11-01 00:00:00+00') TO ('2026-12-01 00:00:00+00')",
        "log_2026_12": "FOR VALUES FROM ('2026-12-01 00:00:00+00') TO ('2027-01-01 00:00:00+00')",
        "log_2027_01": "FOR VALUES FROM ('2027-01-01 00:00:00+00') TO ('2027-02-01 00:00:00+00')",
    }
    assert made["headroom"] == 2 and made["partitions"] == 3

    for check_mode in (True, False):
        again = declare(log, check=check_mode)
        assert not again["changed"] and again["queries"] == [] and again["executed_queries"] == []

    log.query("INSERT INTO log (at, a) VALUES ('2026-11-23', 'x')")
    assert declare(log, check=True, premake=3)["changed"]
    assert len(bounds(log)) == 3
    more = declare(log, premake=3, start="2026-09-15")
    assert [each["name"] for each in more["created"]] == ["log_2026_09", "log_2026_10", "log_2027_02"]
    assert not declare(log, premake=3, start="2026-09-15")["changed"]
    assert not declare(log, premake=0)["changed"]


def test_attached_partitions_are_like_the_first_ones(log):
    declare(log, premake=0)
    declare(log, premake=1)
    log.query("INSERT INTO log (at, a) VALUES ('2026-11-23', 'x'), ('2026-12-24', 'ไทย')")
    assert log.query("SELECT id, a FROM log ORDER BY id") == [(1, "x"), (2, "ไทย")]
    indexes = "SELECT count(*), bool_and(indisvalid) FROM pg_index WHERE indrelid = %s::regclass"
    assert log.query(indexes, ("log_2026_12",)) == log.query(indexes, ("log_2026_11",)) == [(2, True)]
    parents = "SELECT count(*) FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid WHERE "
    parents += "indrelid = 'log_2026_12'::regclass"
    assert log.value(parents) == 2


def test_a_referenced_table_and_the_table_that_references_it(log):
    log.query(
        "CREATE TABLE proof (id bigint, log_id bigint, log_at timestamptz NOT NULL, PRIMARY KEY (id, log_at), "
        "FOREIGN KEY (log_id, log_at) REFERENCES log (id, at)) PARTITION BY RANGE (log_at)"
    )
    for premake in (0, 1):
        declare(log, premake=premake)
        declare(log, table="proof", premake=premake)
    log.query("INSERT INTO log (at) VALUES ('2026-12-24')")
    log.query("INSERT INTO proof SELECT 1, id, at FROM log")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        log.query("INSERT INTO proof VALUES (2, 99, '2026-12-24')")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Lisbon", "Asia/Amman", "America/St_Johns"])
@pytest.mark.parametrize("now", ["2026-07-31T23:30:00Z", "2026-10-31T23:30:00Z"])
def test_bounds_do_not_depend_on_any_time_zone(log, zone, now):
    log.query(f"ALTER DATABASE {log.name} SET TimeZone = '{zone}'")
    made = declare(log, premake=1, now=now)
    month = int(now[5:7])
    assert [each["from"] for each in made["created"]] == [
        f"2026-{month:02d}-01T00:00:00+00:00",
        f"2026-{month + 1:02d}-01T00:00:00+00:00",
    ]
    assert next(iter(bounds(log).values())).startswith(f"FOR VALUES FROM ('2026-{month:02d}-01 00:00:00+00')")
    assert not declare(log, premake=1, now=now)["changed"]


@pytest.mark.parametrize("key", ["timestamp", "date"])
@pytest.mark.parametrize("interval", ["day", "week", "month", "quarter", "year"])
def test_key_types_and_intervals(database, key, interval):
    database.query(f"CREATE TABLE log (at {key} NOT NULL) PARTITION BY RANGE (at)")
    assert len(declare(database, interval=interval)["created"]) == 3
    assert not declare(database, interval=interval)["changed"]
    database.query("INSERT INTO log VALUES ('2026-11-23')")


def test_an_unrelated_table_with_the_name_is_an_error_and_nothing_changes(log):
    log.query("CREATE TABLE log_2026_12 (a int)")
    failed = refuse(log)
    assert "log_2026_12" in failed["msg"] and failed["sqlstate"] == "42P07"
    assert bounds(log) == {}


def test_a_partition_under_another_name_counts(log):
    log.query(
        "CREATE TABLE november PARTITION OF log FOR VALUES FROM ('2026-11-01 00:00+00') TO ('2026-12-01 00:00+00')"
    )
    made = declare(log, premake=1)
    assert [each["name"] for each in made["created"]] == ["log_2026_12"]
    assert made["misnamed"] == [{"name": "november", "expected": "log_2026_11"}]


def test_a_gap_is_filled(log):
    declare(log, premake=4)
    log.query("DROP TABLE log_2027_01")
    made = declare(log, premake=4)
    assert [each["name"] for each in made["created"]] == ["log_2027_01"]
    assert len(made["gaps"]) == 0 and made["headroom"] == 4


def test_not_partitioned_is_explained(database):
    database.query("CREATE TABLE log (at timestamptz)")
    failed = refuse(database)
    assert failed["sqlstate"] == "42P17"
    assert "not partitioned" in failed["msg"] and "convert_to_partitioned.yml" in failed["msg"]
    assert refuse(database, table="nowhere.log")["sqlstate"] == "42P01"


@pytest.mark.parametrize("key", ["LIST (a)", "HASH (a)", "RANGE (a, b)", "RANGE ((a + 1))", "RANGE (a)"])
def test_other_keys_are_refused(database, key):
    database.query(f"CREATE TABLE log (a int, b int) PARTITION BY {key}")
    assert "'public.log'" in refuse(database)["msg"]


def test_bad_options_are_named(log):
    assert "start: 'soon'" in refuse(log, start="soon")["msg"]
    assert "premake: -1" in refuse(log, premake=-1)["msg"]


def test_default_privileges_do_not_open_a_partition(log, role_prefix):
    reader, owner = f"{role_prefix}reader", f"{role_prefix}owner"
    log.query(f"CREATE ROLE {reader}; CREATE ROLE {owner}; GRANT CREATE, USAGE ON SCHEMA public TO {owner}")
    log.query(f"ALTER TABLE log OWNER TO {owner}")
    for role in (owner, "postgres"):
        log.query(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} IN SCHEMA public GRANT SELECT, DELETE ON TABLES TO {reader}"
        )
    log.query(f"GRANT SELECT ON log TO {reader}")
    declare(log, premake=0, session_role=owner)  # by the owner, the first partition
    declare(log, premake=1)  # by another role, attached
    log.query(f"SET ROLE {reader}")
    assert log.value("SELECT count(*) FROM log") == 0
    for name in bounds(log):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            log.query(f"SELECT * FROM {name}")
    log.query("RESET ROLE")
    owners = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relname LIKE 'log%' AND relkind IN ('r','p')"
    assert log.query(owners) == [(owner,)]
    log.query(
        f"DROP TABLE log; ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public REVOKE ALL ON TABLES "
        f"FROM {reader}"
    )
    log.query(f"DROP OWNED BY {reader}")
    log.query(f"DROP OWNED BY {owner}")
    log.query(f"DROP ROLE {owner}, {reader}")


def test_readers_and_writers_go_on_while_partitions_are_attached(log):
    declare(log, premake=0)
    reader = log.server.connect(log.name)
    reader.autocommit = False
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM log")  # its lock stays until the transaction ends
    writer = log.server.connect(log.name)
    slowest, stop = [0.0], threading.Event()

    def write():
        with writer.cursor() as cursor:
            while not stop.is_set():
                begun = time.monotonic()
                cursor.execute("INSERT INTO log (at) VALUES ('2026-11-23')")
                slowest[0] = max(slowest[0], time.monotonic() - begun)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert len(declare(log, premake=24)["created"]) == 24
    finally:
        stop.set()
        thread.join()
        reader.close()
    assert slowest[0] < 2.0  # the reader never ends by itself: an exclusive lock would have waited for ever


def test_a_lock_that_is_held_is_waited_for_in_short_tries(log):
    declare(log, premake=0)
    holder = log.server.connect(log.name)
    holder.autocommit = False
    holder.cursor().execute("LOCK TABLE log IN SHARE UPDATE EXCLUSIVE MODE")
    failed = refuse(log, lock_timeout="50ms", lock_attempts=2)
    assert failed["sqlstate"] == "55P03" and failed["changed"] is False
    assert len(bounds(log)) == 1
    threading.Timer(0.5, holder.rollback).start()
    assert declare(log, lock_timeout="50ms", lock_attempts=30)["changed"]


def test_a_second_run_waits_for_the_first(log):
    holder = log.server.connect(log.name)
    key = "auditdb.postgresql partitions of public.log"
    holder.cursor().execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (key,))
    assert refuse(log, wait=0.3)["busy"]
    threading.Timer(0.4, holder.close).start()
    assert declare(log, wait=10)["changed"]


def test_many_partitions_with_many_indexes_fit_the_lock_table(database):
    columns = ", ".join(f"c{number} int" for number in range(15))
    database.query(f"CREATE TABLE log (at timestamptz NOT NULL, {columns}) PARTITION BY RANGE (at)")
    for number in range(15):
        database.query(f"CREATE INDEX ON log (c{number})")
    limit = database.value(
        "SELECT current_setting('max_locks_per_transaction')::int * current_setting('max_connections')::int"
    )
    made = declare(database, interval="day", premake=limit // 18 + 20)
    assert len(made["executed_queries"]) > 1
    assert made["partitions"] == limit // 18 + 21


def test_info(log):
    declare(log, premake=1)
    info = log.module(
        "postgresql_partition_info",
        tables=[{"table": "log", "premake": 2}, {"table": "nowhere"}, {"table": "pg_catalog.pg_class"}],
        now=NOW,
    )["tables"]
    assert [each["name"] for each in info[0]["partitions"]] == ["log_2026_11", "log_2026_12"]
    assert [each["name"] for each in info[0]["missing"]] == ["log_2027_01"]
    assert info[0]["headroom"] == 1 and info[0]["problem"] is None
    assert "42P01" in info[1]["problem"] and "42P17" in info[2]["problem"]


def test_an_interrupted_detach_is_reported(log):
    declare(log, premake=1)
    holder = log.server.connect(log.name)
    holder.autocommit = False
    holder.cursor().execute("SELECT count(*) FROM log")
    with log.server.connect(log.name).cursor() as cursor, pytest.raises(psycopg2.errors.LockNotAvailable):
        cursor.execute("SET lock_timeout = '200ms'")
        cursor.execute("ALTER TABLE log DETACH PARTITION log_2026_12 CONCURRENTLY")
    holder.close()
    info = log.module("postgresql_partition_info", tables=[{"table": "log"}], now=NOW)["tables"][0]
    assert info["detach_pending"] == ["log_2026_12"]
