"""postgresql_partition on a database that works: readers, writers, other runs, rights."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import psycopg2
import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils import partition_look
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import connect
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import refuse_taken_names
from ansible_collections.auditdb.postgresql.plugins.modules import postgresql_partition

from .partitions import NOW, TABLE, bounds, declare, names, refuse

pytestmark = pytest.mark.newest

OPTIONS = {
    "table": "log",
    "interval": "month",
    "premake": 12,
    "start": None,
    "names": None,
    "tablespace": None,
    "old_tablespace": None,
    "old_after": "90 days",
    "max_moves": 1,
    "retention_schema": None,
    "default_partition": False,
    "retention": None,
    "retention_action": "keep",
    "carry": ["access", "columns", "comments", "owner", "replica_identity", "row_security", "triggers"],
    "analyze": False,
    "repair_indexes": True,
    "storage_parameters": None,
    "closed_storage_parameters": None,
    "holds": None,
    "history": None,
    "archive_directory": None,
    "now": NOW,
    "lock_timeout": "2s",
    "lock_attempts": 10,
    "wait": 20,
}


@pytest.fixture
def log(database):
    database.query(TABLE)
    return database


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
        # The reader never ends by itself: whatever waited for it would end in a lock timeout.
        assert len(declare(log, premake=24, lock_timeout="500ms", lock_attempts=1)["created"]) == 24
    finally:
        stop.set()
        thread.join()
        reader.close()
    assert slowest[0] < 0.5


def test_each_partition_of_a_table_with_foreign_keys_has_its_own_short_transaction(log):
    """Attaching to a referencing table keeps writers of the referenced one out until the transaction ends."""
    log.query(
        "CREATE TABLE proof (id bigint, log_id bigint, log_at timestamptz NOT NULL, PRIMARY KEY (id, log_at), "
        "FOREIGN KEY (log_id, log_at) REFERENCES log (id, at)) PARTITION BY RANGE (log_at)"
    )
    for table in ("log", "proof"):
        declare(log, table=table, premake=0)
    for table in ("log", "proof"):
        made = declare(log, table=table, premake=3)
        assert len(made["executed_queries"]) == len(made["created"]) == 3
    log.query("INSERT INTO log (at) VALUES ('2026-12-24')")
    log.query("INSERT INTO proof SELECT 1, id, at FROM log")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        log.query("INSERT INTO proof VALUES (2, 99, '2026-12-24')")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        log.query("DELETE FROM log")


def test_a_lock_that_is_held_is_waited_for_in_short_tries(log):
    declare(log, premake=0)
    holder = log.server.connect(log.name)
    holder.autocommit = False
    holder.cursor().execute("LOCK TABLE log IN SHARE UPDATE EXCLUSIVE MODE")
    failed = refuse(log, lock_timeout="50ms", lock_attempts=2)
    assert failed["sqlstate"] == "55P03" and failed["changed"] is False and failed["executed_queries"] == []
    assert len(bounds(log)) == 1
    threading.Timer(0.5, holder.rollback).start()
    assert declare(log, lock_timeout="50ms", lock_attempts=30)["changed"]


def test_a_run_that_finds_another_at_work_says_so_after_a_while(log):
    holder = log.server.connect(log.name)
    key = "auditdb.postgresql partitions of public.log"
    holder.cursor().execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (key,))
    failed = refuse(log, wait=0.3)
    assert failed["busy"] and "another run" in failed["msg"] and bounds(log) == {}
    assert declare(log, check=True, wait=0)["changed"], "check mode waits for nobody"
    threading.Timer(0.4, holder.close).start()
    assert declare(log, wait=10)["changed"]


def test_of_runs_side_by_side_one_creates_and_the_others_find_it_done(log):
    results, errors = [], []
    module = SimpleNamespace(params=OPTIONS, check_mode=False, warn=errors.append)

    def one():
        session = connect(log.login)
        try:
            results.append(postgresql_partition.run(module, session))
        except Exception as error:
            errors.append(error)
        finally:
            session.connection.close()

    threads = [threading.Thread(target=one) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(result["changed"] for result in results) == [False, False, False, True]
    assert len(bounds(log)) == 13


@pytest.mark.parametrize("check", [True, False])
def test_what_another_run_made_between_two_looks_is_no_unrelated_table(log, monkeypatch, check):
    looked = []

    def late(session, table, create):
        if not looked:
            looked.append(table)
            assert declare(log)["changed"]  # looks, too, and is then not late
        refuse_taken_names(session, table, create)

    monkeypatch.setattr(partition_look, "refuse_taken_names", late)
    session = connect(log.login)
    module = SimpleNamespace(params={**OPTIONS, "premake": 2}, check_mode=check)
    result = postgresql_partition.run(module, session)
    session.connection.close()
    assert looked and result["changed"] is check, "check mode tells what it saw; the other looks again"
    assert len(bounds(log)) == 3


def test_a_run_that_changes_nothing_is_four_statements(log, monkeypatch):
    declare(log, premake=89)
    session = connect(log.login)
    asked = []
    query = session.query
    monkeypatch.setattr(session, "query", lambda *words: asked.append(words) or query(*words))
    module = SimpleNamespace(params={**OPTIONS, "premake": 89}, check_mode=False)
    begun = time.monotonic()
    assert not postgresql_partition.run(module, session)["changed"]
    assert len(asked) == 4 and session.executed == []
    assert time.monotonic() - begun < 0.1  # 10 ms by itself; the machine may be busy
    session.connection.close()


@pytest.fixture
def roles(database, role_prefix):
    made = SimpleNamespace(reader=f"{role_prefix}reader", owner=f"{role_prefix}owner")
    database.query(f"CREATE ROLE {made.reader}; CREATE ROLE {made.owner}")
    yield made
    database.query("RESET ROLE")
    database.query("DROP TABLE log")
    for role in (made.reader, made.owner):  # at once they stumble over what both have in one entry
        database.query(f"DROP OWNED BY {role}")
    database.query(f"DROP ROLE {made.owner}, {made.reader}")


def test_default_privileges_do_not_open_a_partition(log, roles):
    reader, owner = roles.reader, roles.owner
    log.query(f"GRANT CREATE, USAGE ON SCHEMA public TO {owner}; ALTER TABLE log OWNER TO {owner}")
    for role in (owner, "postgres"):
        log.query(f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} IN SCHEMA public GRANT SELECT ON TABLES TO {reader}")
        log.query(f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT DELETE ON TABLES TO PUBLIC")
    log.query(f"GRANT SELECT, INSERT ON log TO {reader}")
    made = [
        declare(log, premake=0, session_role=owner),  # by the owner, the first partition
        declare(log, premake=1, session_role=owner),  # attached
        declare(log, premake=2),  # by another role
    ]
    assert all(any(query.startswith("REVOKE ALL ON TABLE") for query in each["queries"]) for each in made)
    assert all("ALTER TABLE" in made[2]["queries"][number] for number in (2, 3)), "the owner is the table's"
    log.query(f"SET ROLE {reader}")
    log.query("INSERT INTO log (at) VALUES ('2026-11-23'), ('2026-12-23'), ('2027-01-23')")
    assert log.value("SELECT count(*) FROM log") == 3
    for name in bounds(log):
        for statement in (f"SELECT FROM {name}", f"DELETE FROM {name}", f"INSERT INTO {name} (at) VALUES (now())"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                log.query(statement)
    log.query("RESET ROLE")
    owners = "SELECT relowner::regrole::text, count(*) FROM pg_class WHERE relname LIKE 'log%' AND relkind IN ('r','p')"
    assert log.query(f"{owners} GROUP BY 1") == [(owner, 4)]
    granted = "SELECT DISTINCT grantee FROM pg_class, aclexplode(relacl) WHERE relispartition AND grantee <> relowner"
    assert log.query(granted) == []
    log.query(f"ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public REVOKE ALL ON TABLES FROM {reader}")


def test_an_owner_that_may_not_is_told(log, roles):
    assert refuse(log, session_role=roles.reader)["sqlstate"] == "42501"
    assert names(declare(log)) and bounds(log)
