"""The engine pgbackrest where another host keeps the backups: pushed, taken, fetched; and what either key cannot do."""

from __future__ import annotations

import json

import pytest
from backup_host import KEY, SCENARIO
from keeper import SSH_OPTIONS

MOMENT = """SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
TARGET = "/run/auditdb-test/got"
GET = ["get", "--identity", KEY]
SANDBOX = {
    "User",
    "ProtectSystem",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "PrivateTmp",
    "ProtectHome",
    "NoNewPrivileges",
    "CapabilityBoundingSet",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "SystemCallFilter",
}
PG = "pgbackrest --exec-id=1-2 --process=0 --remote-type={type} --stanza={stanza} {command}"


def tick(database) -> int:
    return int(database.sql("INSERT INTO ledger DEFAULT VALUES RETURNING id"))


def stored(pair, name: str) -> str:
    """Return where pgBackRest has a WAL file."""
    return pair.keeper.shell(f"ls pgbackrest/archive/main/*/{name[:16]}/{name}-*")


def lent(pair, asked: str, said: str = "") -> str:
    """Ask the database host as somebody would who has taken the backup host, with its key; return all it printed."""
    key = f"/etc/auditdb-backup/{pair.keeper.name}.server.key"
    address = f"auditdb-backup@{pair.database.host.container.name}"
    ssh = f"ssh {SSH_OPTIONS.format(key=key)} {address}"
    done = pair.keeper.call(
        "bash", "-c", f"printf '{said}' | timeout 20 {ssh} '{asked}' 2>&1 | head -c 4000", user="auditdb-backup"
    )
    return done.output


def test_backups_are_taken_by_the_backup_host_and_restored_to_a_moment(pair):
    database, keeper = pair.database, pair.keeper
    full = database.take("full")
    last = tick(database)
    done = keeper.backup("backup", "incremental")
    assert done.code == 0, done.output
    incremental = done.output.split(":")[0]
    assert incremental.startswith(f"{full}_") and {full, incremental} <= set(keeper.names("backups"))
    last, moment = tick(database), database.sql(MOMENT)
    tick(database)
    pair.switch()
    restored = database.restore("--target-time", moment)
    assert restored.code == 0, restored.output
    assert json.loads(restored.output)["backups"] == [full, incremental]
    database.recovered()
    assert int(database.copy_sql("SELECT max(id) FROM ledger")) == last
    assert database.shell("find /var/lib/auditdb-backup -mindepth 2") == "", "what was fetched is gone"


def test_the_database_host_is_told_how_they_are(pair):
    database, keeper = pair.database, pair.keeper
    assert database.backup("verify").output == "everything is as it was stored\n"
    assert database.backup("list").output == keeper.backup("list").output
    report = json.loads(database.backup("status", "--json").output)
    assert (report["engine"], report["rpo_stream"]) == ("pgbackrest", None)
    assert report["rpo"] <= 60 and report["backups"]["full"] >= 1
    timers = "systemctl list-timers --all --no-legend 'postgresql-backup-*'"
    assert database.shell(timers) == "" and f"postgresql-backup-{keeper.name}-full.timer" in keeper.shell(timers)
    assert keeper.call("pg_lsclusters", "-h").output == "", "and it runs no server"


def test_archiving_succeeds_once_and_fails_on_a_different_file(pair):
    database, keeper = pair.database, pair.keeper
    name = pair.switch()
    copy = f"/run/auditdb-test/wal/{name}"
    database.shell(f"install -d {copy.rsplit('/', 1)[0]}; cp /var/lib/postgresql/*/main/pg_wal/{name} {copy}")
    before = keeper.shell(f"sha256sum wal/{name} {stored(pair, name)}")
    database.good("push", copy)
    database.flip(copy, 4000)
    done = database.backup("push", copy)
    assert done.code == 1 and f"a different WAL file {name} is archived already" in done.output
    assert keeper.shell(f"sha256sum wal/{name} {stored(pair, name)}") == before
    assert keeper.shell("ls -A | grep arriving || :") == ""


def test_exit_codes_of_getting(pair):
    database, keeper = pair.database, pair.keeper
    name = pair.switch()
    tick(database)
    pair.switch()
    assert database.backup(*GET, name, TARGET).code == 0
    assert database.call("cmp", TARGET, database.shell(f"ls /var/lib/postgresql/*/main/pg_wal/{name}")).code == 0
    assert database.backup(*GET, "0000000900000000000000FF", TARGET).code == 1, "not archived, and nothing after it"
    assert database.backup(*GET, "x", TARGET).code == 126
    assert database.backup("get", "--identity", "/etc/hostname", name, TARGET).code == 126
    path = stored(pair, name)
    keeper.shell(f"mv {path} /var/tmp/away")
    assert database.backup(*GET, name, TARGET).code == 126, "archived, and gone"
    keeper.shell(f"sed 's/^./x/' /var/tmp/away > {path}")
    done = database.backup(*GET, name, TARGET)
    assert done.code == 126 and "its bytes are not those that were stored" in done.output
    keeper.shell(f"mv /var/tmp/away {path}; mv wal/{name} /var/tmp/away")
    done = database.backup(*GET, name, TARGET)
    assert done.code == 126 and "the WAL has a gap" in done.output
    keeper.shell(f"mv /var/tmp/away wal/{name}")


@pytest.mark.newest
@pytest.mark.parametrize("away", ["host", "archive"])
def test_an_archive_that_is_away_for_a_while_loses_nothing(pair, away):
    database, keeper = pair.database, pair.keeper
    leave, back = {
        "host": ("systemctl stop ssh.socket ssh.service 2>/dev/null || systemctl stop ssh", "systemctl start ssh"),
        "archive": ("mv pgbackrest pgbackrest.away", "rm -rf pgbackrest; mv pgbackrest.away pgbackrest"),
    }[away]
    keeper.shell(leave)
    try:
        tick(database)
        name = database.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")
        failed = "SELECT last_failed_wal >= '{}' FROM pg_stat_archiver"
        database.wait(lambda: database.sql(failed.format(name)) == "t", "archiving did not fail")
        assert name not in keeper.names("wal")
    finally:
        keeper.shell(back)
    database.wait(lambda: name in keeper.names("wal"), f"{name} was not archived", seconds=90)
    assert keeper.backup("verify").code == 0


@pytest.mark.newest
def test_what_the_database_host_can_ask_for(pair):
    keeper = pair.keeper
    name = pair.switch()
    kept = "find wal backups pgbackrest repository.json -type f | sort | xargs sha256sum"
    before = keeper.shell(kept)
    told = {"do": "archive", "bytes": 0, "plain_sha256": "", "closed": 0}
    requests = [
        {"do": "remove", "path": f"wal/{name}"},
        {"do": "get", "path": "../../../etc/passwd"},
        {"do": "get", "path": f"../../../etc/auditdb-backup/{keeper.name}.pgbackrest.conf"},
        {"do": "run", "argv": ["expire"]},
        {"do": "run", "argv": ["verify", "--identity", "/etc/passwd"]},
        {"do": "parts", "backups": ["../../../../etc"]},
        {**told, "name": "../x"},
        {**told, "name": name},
        {**told, "name": "0000000A0000000000000001"},
    ]
    answers = pair.ask(*requests)
    assert [each["ok"] for each in answers] == [False] * len(requests)
    (cut,) = pair.ask({**requests[-1], "bytes": 9}, body="short")
    assert not cut["ok"]
    commands = ["id", "cat /etc/passwd", "rm -rf ."]
    commands += [
        PG.format(type="repo", stanza=stanza, command=command)
        for stanza, command in [
            ("main", "archive-push:remote"),
            ("main", "restore:remote"),
            ("main", "expire"),
            ("main", "stanza-delete"),
            ("other", "archive-get:remote"),
        ]
    ]
    for command in commands:
        assert pair.database.shell(f"{pair.ssh} '{command}' < /dev/null") == "", "it is asked by lines of JSON alone"
    assert keeper.shell(kept) == before


def test_what_the_backup_host_can_ask_for(pair):
    greeting = "pgBackRest"
    assert greeting in lent(pair, PG.format(type="pg", stanza="main", command="backup:remote"))
    refused = [
        "",
        "id",
        "cat /etc/shadow",
        "pgbackrest info",
        "pgbackrest --stanza=main --remote-type=pg --force stanza-delete",
    ]
    refused += [
        PG.format(type=kind, stanza=stanza, command=command)
        for kind, stanza, command in [
            ("repo", "main", "backup:remote"),
            ("pg", "other", "backup:remote"),
            ("pg", "main", "restore:remote"),
            ("pg", "main", "archive-get:remote"),
            ("pg", "main", "expire"),
            ("pg", "main", "stanza-delete"),
            ("pg", "main", "backup:remote; id"),
            ("pg", "main", "backup:remote extra"),
        ]
    ]
    for asked in refused:
        said = lent(pair, asked)
        assert "nothing that can be asked for" in said and greeting not in said, f"{asked}: {said}"


def test_what_is_lent_is_read_and_not_written(pair):
    """Whoever takes the backup host can have it ask for anything: it writes nowhere, and is no superuser."""
    database = pair.database
    unit = database.shell("cat /etc/systemd/system/postgresql-backup-main-lend@.service")
    options = [f"--property={line}" for line in unit.splitlines() if line.split("=")[0] in SANDBOX]
    assert len(options) == len(SANDBOX)

    def inside(*argv: str):
        return database.call("systemd-run", "--pipe", "--wait", "--quiet", *options, *argv, user="root")

    data = database.sql("SHOW data_directory")
    assert inside("head", "-c1", f"{data}/PG_VERSION").code == 0
    for path in (f"{data}/x", "/var/lib/postgresql/x", "/dev/shm/x", "/etc/auditdb-backup/x", "/var/log/postgresql/x"):
        done = inside("touch", path)
        assert done.code != 0 and "Read-only file system" in done.output, f"{path}: {done.output}"
    for path in ("/etc/auditdb-backup/main.key", database.sql("SHOW ssl_key_file")):
        done = inside("head", "-c1", path)
        assert done.code != 0 and "Permission denied" in done.output, f"{path}: {done.output}"
    rows = "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = 'auditdb_backup'"
    assert database.sql(rows).replace("\t", "|") == "f|f|f"
    assert "pg1-user=auditdb_backup" in database.shell("cat /etc/auditdb-backup/main.pgbackrest.conf")


@pytest.mark.newest
def test_a_cluster_is_restored_to_a_moment_by_the_playbook(pair, playbook):
    database = pair.database
    pair.switch()
    rows, moment = database.sql("SELECT count(*) FROM ledger"), database.sql(MOMENT)
    tick(database)
    pair.switch()
    run = pair.restore(
        playbook, postgresql_restore_target={"time": moment}, postgresql_restore_over=f"{database.version}/main"
    )
    assert run.code == 0, run.output
    assert database.sql("SELECT count(*) FROM ledger") == rows
    assert "00000002.history" in pair.keeper.names("wal")
    pair.switch()
    assert pair.keeper.backup("verify").code == 0
    database.shell("rm -rf /var/lib/postgresql/*/main.before-*", user="root")


@pytest.mark.newest
def test_a_restore_is_rehearsed_with_what_is_fetched(pair, playbook):
    report = pair.rehearse(playbook)
    assert report["verdict"] == "ok" and report["cases"][0]["fetched_bytes"] > 0
    assert len([each for each in report["results"] if each["group"] == "negative controls"]) == 5
    assert pair.keeper.status()["restored"] >= 1, "and the backup host knows which backup was proven"


@pytest.mark.newest
def test_a_database_is_restored_from_a_dump_beside_the_live_one(pair):
    database = pair.database
    database.sql("DROP DATABASE IF EXISTS copied")
    database.sql("DROP DATABASE IF EXISTS small")
    database.sql("CREATE DATABASE small")
    database.host.sql("CREATE TABLE one AS SELECT 1 AS i", "small")
    chosen = database.take("logical")
    database.shell("install -d -m 0700 /run/auditdb-test/scratch")
    options = ["--scratch", "/run/auditdb-test/scratch", "--identity", KEY, "--database", "small", "--as", "copied"]
    done = database.backup("extract", *options, "--backup", chosen)
    assert done.code == 0, done.output
    assert database.host.sql("SELECT i FROM one", "copied") == "1"


@pytest.mark.newest
def test_the_passphrase_is_on_the_backup_host_alone(pair, passwords, playbook):
    database, keeper = pair.database, pair.keeper
    (path,) = (SCENARIO / "inventory/.state/backup").glob(f"{database.host.name}-main.passphrase")
    secret = path.read_text().strip()
    assert path.stat().st_mode & 0o077 == 0 and len(secret) == 64
    kept = f"/etc/auditdb-backup/{keeper.name}"
    assert keeper.shell(f"stat -c '%a %U %G' {kept}.pgbackrest.conf") == "640 root auditdb-backup"
    assert keeper.shell(f"stat -c '%a %U' {kept}.server.key") == "600 auditdb-backup"
    assert database.shell("stat -c '%a %U' /etc/auditdb-backup/main.pgpass") == "600 postgres"
    run = playbook("auditdb.postgresql.backup", "-vvv", "--diff", "--limit", database.host.name)
    assert run.code == 0 and run.changed == 0
    logs = "cat /var/log/postgresql/*.log /var/log/pgbackrest/* 2>/dev/null; journalctl --no-pager; ps axwwe"
    said = run.output + database.shell(f"({logs}) || :", user="root") + keeper.shell(f"({logs}) || :")
    for each in (secret, *passwords):
        assert each not in said
    assert database.shell(f"grep -rlF {secret} /etc /var/lib /home /root /usr/local || :", user="root") == ""


def test_what_it_does_not_do_is_refused_before_anything_changes(playbook):
    run = playbook("auditdb.postgresql.backup", "-e", json.dumps({"postgresql_backup_stream": True}))
    assert run.code != 0 and run.changed == 0
    assert "pgbackrest goes without postgresql_backup_stream" in run.text


def test_without_a_rule_for_the_role_it_is_refused(pair, playbook):
    database = pair.database
    path = database.sql("SHOW hba_file")
    database.shell(f"sed -i.kept '/^local.*auditdb_backup/d' {path}")
    try:
        run = playbook("auditdb.postgresql.backup", "--limit", database.host.name)
    finally:
        database.shell(f"cat {path}.kept > {path}; rm {path}.kept")
    assert run.code != 0 and run.changed == 0
    assert "{type: local, database: postgres, user: auditdb_backup, method: scram-sha-256}" in run.text
