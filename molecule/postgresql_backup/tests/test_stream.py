"""WAL that is received as it is written: a second is lost and not a minute, and all of it can be restored."""

from __future__ import annotations

import json

import pytest
from backup_host import REPOSITORY

STREAM = f"{REPOSITORY}/stream"
UNIT = "postgresql-backup-main-stream"


@pytest.fixture(scope="module")
def _streaming(playbook) -> None:
    on = ("-e", json.dumps({"postgresql_backup_stream": True}))
    run = playbook("auditdb.postgresql.backup", *on)
    assert run.code == 0, run.output
    assert playbook("auditdb.postgresql.backup", *on).changed == 0


def status(database) -> dict:
    return json.loads(database.backup("status", "--json").output)


def insert(database, rows: int) -> int:
    for _each in range(rows):
        database.sql("INSERT INTO ledger DEFAULT VALUES")
    return int(database.sql("SELECT max(id) FROM ledger"))


def received(database) -> None:
    database.wait(lambda: status(database)["rpo_stream"] == 0, "not everything was received")


@pytest.mark.usefixtures("_streaming")
def test_what_was_not_archived_yet_is_restored(database):
    if not json.loads(database.good("list", "--json")):
        database.take("full")
    database.switch()
    last = insert(database, 3)
    received(database)
    database.shell(f"kill -9 $(head -1 /var/lib/postgresql/{database.version}/main/postmaster.pid)")
    try:
        found = status(database)
        assert found["rpo"] < 60 and found["archiver"] is None
        done = database.restore()
        assert done.code == 0, done.output
        database.recovered()
        assert int(database.copy_sql("SELECT max(id) FROM ledger")) == last, "the stream had it"
        database.discard()
        database.shell(f"mv {STREAM} {STREAM}.away")
        try:
            assert database.restore().code == 0
            database.recovered()
            assert int(database.copy_sql("SELECT coalesce(max(id), 0) FROM ledger")) < last, "the archive had not"
        finally:
            database.shell(f"test ! -e {STREAM} || rmdir {STREAM}; mv {STREAM}.away {STREAM}")
    finally:
        database.shell(f"systemctl restart postgresql@{database.version}-main", user="root")
    insert(database, 1)
    received(database)


@pytest.mark.newest
@pytest.mark.usefixtures("_streaming")
def test_what_is_archived_leaves_the_stream(database):
    insert(database, 1)
    name = database.switch()
    insert(database, 1)
    received(database)
    database.good("wake")
    assert name not in database.names("stream")
    assert [each for each in database.names("stream") if each.endswith(".partial")]


@pytest.mark.long
@pytest.mark.usefixtures("_streaming")
def test_the_stream_brings_what_the_archiver_does_not(database):
    database.sql("ALTER SYSTEM SET archive_command = 'exit 1 # auditdb-backup'")
    try:
        database.sql("SELECT pg_reload_conf()")
        insert(database, 1)
        name = database.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")
        insert(database, 1)
        database.wait(lambda: name in database.names("stream"), "the segment was not received")
        database.good("wake")
        assert name not in database.names("wal"), "it is left to the archiver for a while"
        database.shell(f"touch -d '-1 hour' {STREAM}/{name}")
        database.good("wake")
        assert name in database.names("wal") and name not in database.names("stream")
    finally:
        database.sql("ALTER SYSTEM RESET archive_command")
        database.sql("SELECT pg_reload_conf()")
    database.switch()
    assert not status(database)["wal"]["missing"], "the same segment again is no failure"


@pytest.mark.long
@pytest.mark.usefixtures("_streaming")
def test_a_receiver_that_does_not_run_is_a_problem_and_goes_on_where_it_was(database):
    database.shell(f"systemctl stop {UNIT}", user="root")
    database.wait(lambda: any("nothing receives WAL" in each for each in status(database)["problems"]), "silent")
    insert(database, 2)
    database.sql("SELECT pg_switch_wal()")
    last = insert(database, 2)
    database.shell(f"systemctl start {UNIT}", user="root")
    received(database)
    assert not any("nothing receives" in each for each in status(database)["problems"])
    assert database.restore().code == 0
    database.recovered()
    assert int(database.copy_sql("SELECT max(id) FROM ledger")) >= last


@pytest.mark.long
@pytest.mark.usefixtures("_streaming")
def test_a_stream_that_was_left_behind_is_made_anew(database):
    database.shell(f"systemctl stop {UNIT}", user="root")
    database.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    try:
        database.sql("SELECT pg_reload_conf()")
        for _each in range(8):
            insert(database, 1)
            database.sql("SELECT pg_switch_wal()")
        database.sql("CHECKPOINT")
        lost = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'auditdb_backup'"
        if database.sql(lost) != "lost":
            database.sql("CHECKPOINT")
        assert database.sql(lost) == "lost"
    finally:
        database.sql("ALTER SYSTEM RESET max_slot_wal_keep_size")
        database.sql("SELECT pg_reload_conf()")
    database.shell(f"systemctl start {UNIT}", user="root")
    insert(database, 1)
    received(database)
    assert status(database)["rpo"] == 0
    assert "it is made anew" in database.shell(f"journalctl --unit {UNIT} --output cat", user="root")


@pytest.mark.newest
def test_switched_off_it_leaves_no_slot(database, playbook):
    run = playbook("auditdb.postgresql.backup", "--limit", database.host.name)
    assert run.code == 0, run.output
    assert database.sql("SELECT count(*) FROM pg_replication_slots") == "0"
    assert database.call("systemctl", "cat", UNIT, user="root").code != 0
    assert playbook("auditdb.postgresql.backup", "--limit", database.host.name).changed == 0
