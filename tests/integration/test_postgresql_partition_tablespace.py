"""postgresql_partition with tablespaces: new partitions in one, old ones moved to another, a few in a run."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session

from .partitions import TABLE, declare, names, refuse

pytestmark = pytest.mark.newest

OLD = {"start": "2026-05-01", "old_after": "60 days"}
# 60 days before 23 November is 24 September: these have ended by then.
MOVING = ["log_2026_05", "log_2026_06", "log_2026_07", "log_2026_08"]
PLACES = """
SELECT k.relname::text, coalesce(t.spcname, 'own')::text, array_agg(DISTINCT coalesce(it.spcname, 'own')::text)
FROM pg_inherits JOIN pg_class k ON k.oid = inhrelid LEFT JOIN pg_tablespace t ON t.oid = k.reltablespace
JOIN pg_index x ON x.indrelid = k.oid JOIN pg_class i ON i.oid = x.indexrelid
LEFT JOIN pg_tablespace it ON it.oid = i.reltablespace WHERE inhparent = 'log'::regclass GROUP BY 1, 2 ORDER BY 1
"""


@pytest.fixture
def cold(server) -> Iterator[str]:
    """A tablespace of the test's own, which outlives the test's database."""
    name = f"cold_{uuid.uuid4().hex[:8]}"
    with closing(server.connect()) as session, session.cursor() as cursor:
        cursor.execute("SET allow_in_place_tablespaces = on; SET client_min_messages = error")
        cursor.execute(f"CREATE TABLESPACE {name} LOCATION ''")
    yield name
    with closing(server.connect()) as session, session.cursor() as cursor:
        cursor.execute(f"DROP TABLESPACE {name}")


@pytest.fixture
def log(cold, database):
    database.query(TABLE)
    database.query("CREATE INDEX ON log (a)")
    declare(database, start="2026-05-01")
    database.query(
        "INSERT INTO log (at, a) SELECT '2026-05-01Z'::timestamptz + n * interval '6 hours', n::text "
        "FROM generate_series(0, 800) AS n"
    )
    return database


def places(log):
    return {name: (own, indexes) for name, own, indexes in log.query(PLACES)}


def test_old_partitions_move_oldest_first_and_stay(log, cold):
    rows = log.query("SELECT * FROM log ORDER BY id")
    before = places(log)
    would = declare(log, check=True, old_tablespace=cold, max_moves=2, **OLD)
    assert would["changed"] and would["moved"] == MOVING[:2] and would["moves_waiting"] == 2
    assert would["executed_queries"] == [] and places(log) == before
    done = declare(log, old_tablespace=cold, max_moves=2, **OLD)
    assert done["queries"] == would["queries"] == done["executed_queries"] and done["moved"] == MOVING[:2]
    assert [name for name, where in places(log).items() if where == (cold, [cold])] == MOVING[:2]
    assert declare(log, old_tablespace=cold, max_moves=9, **OLD)["moved"] == MOVING[2:]
    assert places(log) == {name: (cold, [cold]) if name in MOVING else ("own", ["own"]) for name in before}
    assert log.query("SELECT * FROM log ORDER BY id") == rows
    for check in (True, False):
        again = declare(log, check=check, old_tablespace=cold, **OLD)
        assert not again["changed"] and again["moved"] == [] and again["moves_waiting"] == 0
    assert not declare(log, old_tablespace="pg_default", old_after="99 years", start="2026-05-01")["changed"]
    assert declare(log, old_tablespace="pg_default", max_moves=9, **OLD)["moved"] == MOVING
    assert places(log) == before


def test_an_index_alone_that_is_elsewhere_is_moved_without_a_lock_on_the_rows(log, cold):
    declare(log, old_tablespace=cold, max_moves=9, **OLD)
    log.query("ALTER INDEX log_2026_06_a_idx SET TABLESPACE pg_default")
    done = declare(log, old_tablespace=cold, **OLD)
    assert done["moved"] == ["log_2026_06"] and len(done["queries"]) == 1 and "REINDEX" in done["queries"][0]
    assert not declare(log, old_tablespace=cold, **OLD)["changed"]


def test_new_partitions_and_their_indexes_go_where_they_are_declared(log, cold):
    made = declare(log, premake=4, tablespace=cold)
    assert names(made) == ["log_2027_02", "log_2027_03"]
    assert {name for name, where in places(log).items() if where == (cold, [cold])} == {"log_2027_02", "log_2027_03"}
    assert not declare(log, premake=4, tablespace=cold)["changed"]


def test_the_first_partition_of_a_table_too(cold, database):
    database.query(TABLE)
    declare(database, tablespace=cold)
    assert {str(where) for where in places(database).values()} == {str((cold, [cold]))}


def test_only_the_partition_that_moves_is_locked_and_the_lock_is_given_up(log, cold):
    with closing(log.server.connect(log.name)) as holder, holder.cursor() as cursor:
        holder.autocommit = False
        cursor.execute("SELECT count(*) FROM log_2026_05")
        failed = refuse(log, old_tablespace=cold, lock_timeout="100ms", lock_attempts=2, wait=0.5, **OLD)
        assert failed["sqlstate"] == "55P03" and failed["remedy"]
        holder.rollback()
    done = declare(log, old_tablespace=cold, **OLD)
    assert done["moved"] == ["log_2026_05"]
    assert log.query("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid") == []


def test_stopped_between_its_two_steps_the_next_run_goes_on(log, cold, monkeypatch):
    original = Session.execute

    def execute(session, statement, arguments=None):
        if "SET TABLESPACE" in session.render(statement):
            raise KeyboardInterrupt
        return original(session, statement, arguments)

    monkeypatch.setattr(Session, "execute", execute)
    with pytest.raises(KeyboardInterrupt):
        declare(log, old_tablespace=cold, **OLD)
    monkeypatch.undo()
    assert places(log)["log_2026_05"] == ("own", [cold])
    done = declare(log, old_tablespace=cold, **OLD)
    assert done["moved"] == ["log_2026_05"] and len(done["queries"]) == 1
    assert places(log)["log_2026_05"] == (cold, [cold])


def test_writers_to_other_partitions_go_on(log, cold):
    stop, wrong, count = threading.Event(), [], [0]

    def write():
        try:
            with closing(log.server.connect(log.name)) as session, session.cursor() as cursor:
                cursor.execute("SET statement_timeout = '2s'")
                while not stop.is_set():
                    cursor.execute("INSERT INTO log (at, a) VALUES ('2026-11-23Z', 'live')")
                    count[0] += 1
        except psycopg2.Error as error:
            wrong.append(str(error))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        declare(log, old_tablespace=cold, max_moves=9, **OLD)
    finally:
        stop.set()
        writer.join()
    assert wrong == [] and log.value("SELECT count(*) FROM log WHERE a = 'live'") == count[0] > 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tablespace": "nowhere"}, "tablespace: there is no tablespace 'nowhere'"),
        ({"old_tablespace": "nowhere"}, "old_tablespace: there is no tablespace 'nowhere'"),
        ({"old_tablespace": "pg_default", "old_after": "soon"}, "old_after: 'soon' is not a length of time"),
        ({"old_tablespace": "pg_default", "max_moves": 0}, "max_moves: 0 is less than 1"),
    ],
)
def test_mistakes_are_refused_before_anything_changes(database, more, said):
    database.query(TABLE)
    failed = refuse(database, **more)
    assert said in failed["msg"] and failed["remedy"] and failed["executed_queries"] == []


def test_a_login_that_may_not_use_it_is_told(cold, database, role_prefix):
    role = f"{role_prefix}owner"
    database.query(
        f"CREATE ROLE {role}; {TABLE}; ALTER TABLE log OWNER TO {role}; GRANT ALL ON SCHEMA public TO {role}"
    )
    try:
        failed = refuse(database, old_tablespace=cold, session_role=role)
        assert failed["sqlstate"] == "42501" and f"GRANT CREATE ON TABLESPACE {cold} TO {role}" in failed["remedy"]
        database.query(f"GRANT CREATE ON TABLESPACE {cold} TO {role}")
        assert declare(database, old_tablespace=cold, session_role=role)["changed"]
    finally:
        database.query(f"REVOKE ALL ON TABLESPACE {cold} FROM {role}; DROP OWNED BY {role}; DROP ROLE {role}")
