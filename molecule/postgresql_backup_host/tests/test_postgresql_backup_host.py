"""Backups that another host keeps and takes: pushed, streamed and pulled there, fetched from there."""

from __future__ import annotations

import json

import pytest
from backup_host import KEY, SCENARIO
from keeper import SSH

MOMENT = """SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_nothing_but_the_backup_host_keeps_them(pair):
    database, keeper = pair.database, pair.keeper
    assert pair.switch() in keeper.names("wal")
    assert [name for name in keeper.names("backups") if name.endswith("-full")]
    assert database.shell("find /var/lib/auditdb-backup -type f") == "", "nothing is left on its way"
    timers = "systemctl list-timers --all --no-legend 'postgresql-backup-*'"
    assert database.shell(timers) == "" and f"postgresql-backup-{keeper.name}-full.timer" in keeper.shell(timers)
    assert keeper.call("pg_lsclusters", "-h").output == "", "and it runs no server"


def test_all_kinds_are_taken_and_asked_for_from_either_host(pair):
    database, keeper = pair.database, pair.keeper
    for kind in ("full", "incremental", "logical"):
        for done in (database.backup("backup", kind), keeper.backup("backup", kind)):
            assert done.code == 0, done.output
    verified = database.backup("verify")
    assert (verified.code, verified.output) == (0, "everything is as it was stored\n")
    assert database.backup("list").output == keeper.backup("list").output
    report = json.loads(database.backup("status", "--json").output)
    assert report["rpo_stream"] is not None and report["rpo"] <= 60
    assert report["backups"]["full"] >= 2 and report["backups"]["logical"] >= 2
    for command in (["expire"], ["offsite"], ["verify", "--identity", KEY]):
        done = database.backup(*command)
        assert done.code == 1 and f"the backups are kept on auditdb-backup@{keeper.container.name}:22" in done.output


def test_archiving_succeeds_once_and_fails_on_a_different_file(pair):
    database, keeper = pair.database, pair.keeper
    name = pair.switch()
    database.shell(
        f"install -d /run/auditdb-test/wal; cp $(ls -d /var/lib/postgresql/*/main)/pg_wal/{name} /run/auditdb-test/wal"
    )
    before = keeper.shell(f"sha256sum wal/{name}")
    database.good("push", f"/run/auditdb-test/wal/{name}")
    database.flip(f"/run/auditdb-test/wal/{name}", 4000)
    done = database.backup("push", f"/run/auditdb-test/wal/{name}")
    assert done.code == 1 and f"a different WAL file {name} is archived already" in done.output
    assert keeper.shell(f"sha256sum wal/{name}") == before


@pytest.mark.newest
def test_what_the_database_host_can_ask_for(pair):
    keeper = pair.keeper
    name = pair.switch()
    before = keeper.shell("find wal backups repository.json -type f | sort | xargs sha256sum")
    requests = [
        {"do": "remove", "path": f"wal/{name}"},
        {"do": "put", "path": "wal/x", "bytes": 0, "sha256": EMPTY},
        {"do": "get", "path": "../../../etc/passwd"},
        {"do": "run", "argv": ["expire"]},
        {"do": "run", "argv": ["--config", "/etc/passwd", "list"]},
        {"do": "run", "argv": ["verify", "--identity", "/etc/passwd"]},
        {"do": "run", "argv": ["restore", "--to", "/tmp/x", "--identity", "/tmp/y"]},
        {"do": "archive", "name": "../x", "bytes": 0, "sha256": EMPTY, "plain_sha256": EMPTY},
        {"do": "archive", "name": name, "bytes": 0, "sha256": EMPTY, "plain_sha256": EMPTY},
        {"do": "archive", "name": "0000000A0000000000000001", "bytes": 0, "sha256": EMPTY, "plain_sha256": EMPTY},
        {"do": "run"},
        {"do": "run", "argv": []},
        {"do": "run", "argv": ["nothing"]},
        {"do": "run", "argv": ["--help"]},
    ]
    answers = [each for request in requests for each in pair.ask(request)]
    assert [each["ok"] for each in answers] == [False] * len(requests)
    (cut,) = pair.ask({**requests[9], "bytes": 9}, body="short")
    assert not cut["ok"]
    for command in ("id", "rm -rf .", "cat /etc/passwd"):
        assert pair.database.shell(f"{pair.ssh} '{command}' < /dev/null") == ""
    assert keeper.shell("find wal backups repository.json -type f | sort | xargs sha256sum") == before


@pytest.mark.newest
def test_while_it_is_away_nothing_is_lost(pair):
    database, keeper = pair.database, pair.keeper
    keeper.shell("systemctl stop ssh.socket ssh.service 2>/dev/null || systemctl stop ssh.service")
    try:
        name = database.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")
        failed = "SELECT last_failed_wal >= '{}' FROM pg_stat_archiver"
        database.wait(lambda: database.sql(failed.format(name)) == "t", "archiving did not fail")
        done = database.backup("status")
        assert done.code == 1 and "Connection refused" in done.output
    finally:
        keeper.shell("systemctl start ssh.service")
    database.wait(lambda: name in keeper.names("wal"), f"{name} was not archived", seconds=90)


def test_a_copy_is_restored_up_to_what_was_streamed(pair):
    database = pair.database
    pair.switch()
    last = database.sql("INSERT INTO ledger DEFAULT VALUES RETURNING id")
    database.wait(lambda: pair.keeper.status()["rpo_stream"] == 0, "it is not received")
    done = database.restore()
    assert done.code == 0, done.output
    assert set(json.loads(done.output)) == {"backups", "milliseconds"}
    database.recovered()
    assert int(database.copy_sql("SELECT max(id) FROM ledger")) >= int(last)
    assert database.shell("find /var/lib/auditdb-backup -mindepth 2") == "", "what was fetched is gone"


@pytest.mark.newest
def test_a_cluster_is_restored_to_a_moment_by_the_playbook(pair, playbook):
    database = pair.database
    pair.switch()
    rows, moment = database.sql("SELECT count(*) FROM ledger"), database.sql(MOMENT)
    database.sql("INSERT INTO ledger DEFAULT VALUES")
    pair.switch()
    fulls = len([name for name in pair.keeper.names("backups") if name.endswith("-full")])
    over = f"{database.version}/main"
    run = pair.restore(playbook, postgresql_restore_target={"time": moment}, postgresql_restore_over=over)
    assert run.code == 0, run.output
    assert database.sql("SELECT count(*) FROM ledger") == rows
    taken = [name for name in pair.keeper.names("backups") if name.endswith("-full")]
    assert len(taken) == fulls + 1, "and a full backup was taken on the new timeline"
    assert "00000002.history" in pair.keeper.names("wal")
    database.wait(lambda: pair.keeper.status()["rpo_stream"] is not None, "WAL is received again")
    database.shell("rm -rf /var/lib/postgresql/*/main.before-*", user="root")


@pytest.mark.newest
def test_a_restore_is_rehearsed_with_what_is_fetched(pair, playbook):
    report = pair.rehearse(playbook)
    assert report["verdict"] == "ok" and report["cases"][0]["fetched_bytes"] > 0
    assert pair.keeper.status()["restored"] >= 1, "and the backup host knows which backup was proven"


@pytest.mark.newest
@pytest.mark.parametrize("kind", ["moment", "dump"])
def test_a_database_is_restored_beside_the_live_one(pair, kind):
    database = pair.database
    database.sql("DROP DATABASE IF EXISTS copied")
    database.sql("DROP DATABASE IF EXISTS small")
    database.sql("CREATE DATABASE small")
    database.host.sql("CREATE TABLE one AS SELECT 1 AS i", "small")
    chosen = []
    if kind == "dump":
        chosen = ["--backup", database.good("backup", "logical").split(":")[0]]
    pair.switch()
    database.shell("install -d -m 0700 /run/auditdb-test/scratch")
    options = ["--scratch", "/run/auditdb-test/scratch", "--identity", KEY, "--database", "small", "--as", "copied"]
    done = database.backup("extract", *options, *chosen)
    assert done.code == 0, done.output
    assert database.host.sql("SELECT i FROM one", "copied") == "1"
    for name in ("copied", "small"):
        database.sql(f"DROP DATABASE {name}")


@pytest.mark.newest
def test_nobody_else_gets_in(pair):
    database, keeper = pair.database, pair.keeper
    rows = "SELECT rolsuper, rolreplication, rolcreaterole FROM pg_roles WHERE rolname = 'auditdb_backup'"
    assert database.sql(rows).replace("\t", "|") == "f|t|f"
    reach = f"host={database.host.container.name} user=auditdb_backup dbname=postgres sslmode=disable"
    done = keeper.call("psql", "-XAtc", "SELECT 1", reach, user="auditdb-backup")
    assert done.code == 2 and "no encryption" in done.output
    kept = f"/etc/auditdb-backup/{keeper.name}"
    assert keeper.shell(f"stat -c '%a %U' {kept}.pgpass") == "600 auditdb-backup"
    assert database.shell(f"stat -c '%a %U' {SSH}") == "600 postgres"


@pytest.mark.newest
def test_the_password_is_nowhere_else(pair, passwords, playbook):
    assert len(passwords) == 2
    for path in (SCENARIO / "inventory/.state/backup").glob("*.password"):
        assert path.stat().st_mode & 0o077 == 0
    run = playbook("auditdb.postgresql.backup", "-vvv", "--diff", "--limit", pair.database.host.name)
    assert run.code == 0 and run.changed == 0
    logs = pair.database.shell("cat /var/log/postgresql/*.log; journalctl --no-pager", user="root")
    logs += pair.keeper.shell("journalctl --no-pager; ps axww")
    pair.database.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    logs += pair.database.sql("SELECT query FROM pg_stat_statements")
    for password in passwords:
        assert password not in run.output and password not in logs


def test_bad_input_is_refused_before_anything_changes(playbook):
    run = playbook("auditdb.postgresql.backup", "-e", "postgresql_backup_host=nowhere")
    assert run.code != 0 and run.changed == 0
    assert "postgresql_backup_host ('nowhere') is another host of the inventory" in run.text
