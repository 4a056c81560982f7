"""Backups that are proven: WAL arrives, backups are restored to a moment, and what is damaged is found."""

from __future__ import annotations

import json
import re
import time

import pytest
from backup_host import COPY, KEY, REPOSITORY

LONG = pytest.mark.long
ESCROW = KEY.replace("daily", "escrow")
MOMENT = """to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def tick(database, rows: int = 1) -> int:
    """Commit rows to the ledger, one by one, and return the newest id."""
    for _each in range(rows):
        database.sql("INSERT INTO ledger DEFAULT VALUES")
    return int(database.sql("SELECT max(id) FROM ledger"))


def moment(database) -> str:
    time.sleep(0.05)
    found = database.sql(f"SELECT {MOMENT}")
    time.sleep(0.05)
    return found


def newest(database, kind: str) -> dict:
    return [each for each in json.loads(database.good("list", "--json")) if each.get("kind") == kind][-1]


def test_wal_arrives_encrypted(database):
    database.sql("CREATE TABLE IF NOT EXISTS secret AS SELECT repeat('canary', 9)")
    database.sql("INSERT INTO secret SELECT repeat('canary', 9)")
    name = database.switch()
    stored = f"{REPOSITORY}/wal/{name}"
    assert database.shell(f"stat -c '%U %a' {stored}") == "postgres 600"
    assert database.call("grep", "-c", "canarycanary", stored).output.strip() == "0"
    assert database.good("get", "--identity", KEY, name, "/run/auditdb-test/segment") == ""
    assert database.call("grep", "-c", "canarycanary", "/run/auditdb-test/segment").code == 0, "the test can see it"
    # Without the program, as its documentation says.
    database.shell(
        f"tail --bytes=+513 {stored} | age --decrypt --identity {ESCROW} | zstd --decompress --quiet --stdout "
        "| cmp - /run/auditdb-test/segment"
    )


def test_the_host_cannot_decrypt(database):
    found = database.shell(
        "grep -rIl 'PRIVATE ''KEY' /etc /usr/local /var/lib/auditdb-backup /var/lib/postgresql /root /home "
        "--exclude-dir=ssl --exclude-dir=tls --exclude='ssh_host_*' || test $? -eq 1",
        user="root",
    )
    assert found == "/etc/auditdb-backup/main.key", "the key to the second place"
    name = database.names("wal")[0]
    for path in ("main.key", "main.recipients"):
        done = database.backup("get", "--identity", f"/etc/auditdb-backup/{path}", name, "/tmp/x")
        assert done.code == 126 and "age ended with exit code" in done.output


@pytest.mark.parametrize(
    "kind", ["time", "lsn", *(pytest.param(kind, marks=LONG) for kind in ("name", "xid", "immediate"))]
)
def test_a_restore_ends_exactly_at_its_target(database, kind):
    tick(database)
    backup = database.take("full")
    if database.version >= 17 and kind != "immediate":
        tick(database)
        backup = database.take("incremental")
        assert backup.endswith("-incremental")
    tick(database, 3)
    database.sql("CREATE TABLE IF NOT EXISTS before_target ()")
    last = tick(database)
    if kind == "xid":
        xid = database.sql("INSERT INTO ledger DEFAULT VALUES RETURNING pg_current_xact_id()")
        last += 1
    target = {
        "time": lambda: ["--target-time", moment(database)],
        "lsn": lambda: ["--target-lsn", database.sql("SELECT pg_current_wal_insert_lsn()")],
        "name": lambda: ["--target-name", database.sql("SELECT 'here' FROM pg_create_restore_point('here')")],
        "xid": lambda: ["--target-xid", xid],
        "immediate": lambda: ["--target-immediate", "--backup", backup],
    }[kind]()
    tick(database, 3)
    database.switch()
    done = database.restore(*target)
    assert done.code == 0, done.output
    assert backup in done.output
    database.recovered()
    found = int(database.copy_sql("SELECT max(id) FROM ledger"))
    assert found == last if kind != "immediate" else found == last - 4
    assert int(database.copy_sql("SELECT count(*) FROM ledger")) == int(
        database.sql(f"SELECT count(*) FROM ledger WHERE id <= {found}")
    )
    assert database.copy_sql("SHOW archive_mode") == "off", "a copy never writes into the archive"


@pytest.mark.long
def test_either_key_restores_and_no_other(database):
    last = tick(database)
    database.switch()
    assert database.restore(key=ESCROW).code == 0
    database.recovered()
    assert int(database.copy_sql("SELECT max(id) FROM ledger")) == last, "without a target, to the end of the archive"
    database.discard()
    database.shell("rm -f /run/auditdb-test/other*; age-keygen -o /run/auditdb-test/other.key 2>/dev/null")
    done = database.restore(key="/run/auditdb-test/other.key")
    assert done.code == 1 and "age" in done.output
    assert database.call("test", "-e", COPY).code == 1, "nothing is left of it"


def test_the_same_segment_again_succeeds_and_a_different_one_does_not(database):
    name = database.switch()
    before = database.shell(f"sha256sum {REPOSITORY}/wal/{name}")
    database.good("get", "--identity", KEY, name, f"/run/auditdb-test/{name}")
    assert database.backup("push", f"/run/auditdb-test/{name}").code == 0
    database.flip(f"/run/auditdb-test/{name}", 9000)
    done = database.backup("push", f"/run/auditdb-test/{name}")
    assert done.code == 1 and "a different WAL file" in done.output and "Remedy" in done.output
    assert database.shell(f"sha256sum {REPOSITORY}/wal/{name}") == before
    database.flip(f"/run/auditdb-test/{name}", 9000)
    with database.flipped(f"{REPOSITORY}/wal/{name}", 9):
        assert database.backup("push", f"/run/auditdb-test/{name}").code == 1, "what is archived is damaged"


@pytest.mark.parametrize(
    "what",
    [
        *(pytest.param(what, marks=LONG) for what in ("backup_manifest", "manifest.json", "wal header")),
        "data.tar.zst.age",
        "wal",
    ],
)
def test_one_flipped_byte_is_found_and_named(database, what):
    backup = newest(database, "full")["id"]
    name = database.switch()
    path = f"{REPOSITORY}/wal/{name}" if what.startswith("wal") else f"{REPOSITORY}/backups/{backup}/{what}"
    size = int(database.shell(f"stat -c %s {path}"))
    at = 20 if what == "wal header" else size * 2 // 3
    assert database.backup("verify").code == 0
    with database.flipped(path, at):
        done = database.backup("verify")
        assert done.code == 1 and (name if what.startswith("wal") else backup) in done.output
        status = database.backup("status")
        assert status.code == 3 and "PROBLEM job verify failed" in status.output
        if not what.startswith("wal"):
            assert database.restore("--backup", backup).code == 1, "nor is it restored"
            done = database.restore("--target-immediate")
            assert done.code == 0 and backup not in done.output, "an older one is taken"
    assert database.backup("verify").code == 0
    assert database.backup("status").code == 0, database.backup("status").output


@pytest.mark.long
def test_damage_is_found_that_only_decrypting_shows(database):
    """Whoever can write the manifest can write its digests: what was encrypted cannot be forged without being seen."""
    backup = newest(database, "full")["id"]
    place = f"{REPOSITORY}/backups/{backup}"
    database.shell(f"cp -a {place} /run/auditdb-test/kept")
    forge = f"""
import hashlib, json, sys
sys.path.insert(0, "/usr/local/lib/auditdb-backup")
from dataclasses import replace
from pathlib import Path
from auditdb_backup import backup
place = Path("{place}")
found = backup.load(place)
data = bytearray((place / "data.tar.zst.age").read_bytes()); data[-100] ^= 1
(place / "data.tar.zst.age").write_bytes(data)
digest = hashlib.sha256(data).hexdigest()
replace(found, artefacts=tuple(
    replace(each, sha256=digest) if each.name.endswith(".age") else each for each in found.artefacts)).write(place)
"""
    database.shell('python3 -c "$FORGE"', FORGE=forge)
    assert database.backup("verify", backup).code == 0, "without a key this is what was stored"
    done = database.backup("verify", backup, "--identity", KEY)
    assert done.code == 1 and backup in done.output
    database.shell(f"rm -r {place}; mv /run/auditdb-test/kept {place}")
    assert database.backup("verify", backup, "--identity", KEY).code == 0


def test_a_missing_segment_is_found_and_recovery_does_not_end_early(database):
    database.take("full")
    tick(database, 2)
    lost = database.switch()
    tick(database, 2)
    database.switch()
    with database.without(f"{REPOSITORY}/wal/{lost}"):
        done = database.backup("verify")
        assert done.code == 1 and lost in done.output
        assert f"WAL is missing: {lost}" in database.backup("status").output
        done = database.backup("get", "--identity", KEY, lost, "/tmp/x")
        assert done.code == 126 and "the WAL has a gap" in done.output
        assert database.backup("get", "--standby", "--identity", KEY, lost, "/tmp/x").code == 1
        assert database.restore().code == 0
        database.start()
        log = f"{COPY}.log"
        database.wait(lambda: "shut down" in database.shell(f"cat {log}"), f"it goes on: {log}", 30)
        text = database.shell(f"cat {log}")
        assert f'could not restore file "{lost}"' in text and "new timeline" not in text
    assert database.backup("verify").code == 0


def test_what_is_not_archived_and_what_cannot_be_told(database):
    last = database.names("wal")[-1][:24]
    later = f"{last[:16]}{int(last[16:], 16) + 9:08X}"
    assert database.backup("get", "--identity", KEY, later, "/tmp/x").code == 1
    assert database.backup("get", "--identity", KEY, "00000009.history", "/tmp/x").code == 1
    assert database.backup("get", "--identity", KEY, "../../etc/passwd", "/tmp/x").code == 126
    database.shell(f"mv {REPOSITORY}/repository.json {REPOSITORY}/gone.json")
    try:
        assert database.backup("get", "--identity", KEY, later, "/tmp/x").code == 126, "an unmounted repository"
        assert database.backup("push", "/tmp/000000010000000000000001").code == 1
    finally:
        database.shell(f"mv {REPOSITORY}/gone.json {REPOSITORY}/repository.json")
    module = "/usr/local/lib/auditdb-backup/auditdb_backup/wal_name.py"
    database.shell(f"echo 'broken(' >> {module}", user="root")
    try:
        assert database.backup("get", "--identity", KEY, later, "/tmp/x").code == 126, "a broken program"
    finally:
        database.shell(f"sed -i '$d' {module}", user="root")
    assert database.backup("get", "--identity", KEY, later, "/tmp/x").code == 1


FAULTS = {
    "unwritable": ("chmod 0500 {repository}/wal", "chmod 0750 {repository}/wal"),
    "full": (
        "mount -t tmpfs -o size=8k,uid=$(id -u postgres),mode=0750 full {repository}/wal",
        "umount {repository}/wal",
    ),
    "unmounted": (
        "mount -t tmpfs -o size=9m,uid=$(id -u postgres),mode=0750 empty {repository}",
        "umount {repository}",
    ),
    "program missing": ("mv /usr/local/bin/auditdb-backup /root/", "mv /root/auditdb-backup /usr/local/bin/"),
    "age missing": ("mv /usr/bin/age /root/", "mv /root/age /usr/bin/"),
}


@pytest.mark.newest
@pytest.mark.parametrize(
    "fault", [pytest.param(each, marks=[] if each in ("unwritable", "program missing") else LONG) for each in FAULTS]
)
def test_archiving_fails_visibly_and_goes_on_without_a_gap(database, fault):
    begin, end = (each.format(repository=REPOSITORY) for each in FAULTS[fault])
    command = database.sql("SHOW archive_command")
    database.switch()
    failed = int(database.sql("SELECT failed_count FROM pg_stat_archiver"))
    database.shell(begin, user="root")
    try:
        # What zstd cannot make small enough for a disk that is nearly full.
        database.sql("CREATE TABLE noise AS SELECT md5(random()::text) FROM generate_series(1, 2000)")
        database.sql("DROP TABLE noise")
        name = database.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")
        database.wait(
            lambda: int(database.sql("SELECT failed_count FROM pg_stat_archiver")) > failed, "PostgreSQL counts it"
        )
        path = f"/var/lib/postgresql/{database.version}/main/pg_wal/{name}"
        assert database.call("sh", "-c", command.replace("%p", path)).code == 1
        assert name not in (database.names("wal") if fault != "unmounted" else [])
    finally:
        database.shell(end, user="root")
    tick(database)
    database.switch()  # a new segment wakes the archiver, which would have tried again within a minute
    database.wait(lambda: name in database.names("wal"), f"{name} was not archived after it was back")
    assert database.backup("verify").code == 0, "no gap, no half file"
    assert [each for each in database.names("wal") if each.startswith(".")] == []


@pytest.mark.newest
def test_a_hang_is_cut(database):
    database.shell(
        'sed \'s/"push_timeout": 60/"push_timeout": 2/\' /etc/auditdb-backup/main.json > /run/auditdb-test/short.json'
        "; rm -f /run/auditdb-test/0000000900000000000000AA; mkfifo /run/auditdb-test/0000000900000000000000AA"
    )
    begun = time.monotonic()
    done = database.backup(
        "--config", "/run/auditdb-test/short.json", "push", "/run/auditdb-test/0000000900000000000000AA"
    )
    assert done.code == 1 and "took longer than 2 s" in done.output and time.monotonic() - begun < 8
    assert "0000000900000000000000AA" not in database.names("wal")


def test_archive_timeout_counts_after_a_start(database):
    """PostgreSQL lets it wait for checkpoint_timeout: the checkpointer went to sleep while the server recovered."""
    timer = "postgresql-backup-main-status.timer"
    database.shell(f"systemctl stop {timer}", user="root")
    database.sql("ALTER SYSTEM SET archive_timeout = '2s'")
    try:
        database.shell(f"systemctl restart postgresql@{database.version}-main", user="root")
        tick(database)
        current = database.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
        time.sleep(7)
        tick(database)
        # Now and then the server has recovered before its checkpointer looks.
        if database.sql("SELECT pg_walfile_name(pg_current_wal_lsn())") == current:
            rpo = json.loads(database.backup("status", "--json").output)["rpo"]
            assert rpo >= 6, "what may be lost is told, and not what archive_timeout promises"
        assert "checkpointer was woken" in database.good("wake")
        database.wait(lambda: current in database.names("wal"), "it was archived", 15)
        assert database.good("wake") == "", "once is enough"
    finally:
        database.sql("ALTER SYSTEM RESET archive_timeout")
        database.shell(f"systemctl reload postgresql@{database.version}-main; systemctl start {timer}", user="root")


@pytest.mark.newest
def test_two_at_once_are_refused(database):
    with_lock = f"flock {REPOSITORY}/lock auditdb-backup backup full"
    done = database.call("sh", "-c", with_lock)
    assert done.code == 1 and "another run is at work" in done.output
    assert "job full failed" in database.backup("status").output
    database.take("full")
    assert database.backup("status").code == 0, database.backup("status").output
    done = database.call("auditdb-backup", "backup", "full", user="root")
    assert done.code == 1 and "belongs to postgres" in done.output, "it would leave files that postgres cannot change"
    assert database.shell(f"find {REPOSITORY} -not -user postgres") == ""


@pytest.mark.newest
def test_a_backup_that_is_killed_does_not_count(database):
    before = database.names("backups")
    database.shell(
        "sleep 1.1; auditdb-backup backup full & process=$!; "
        f"while kill -0 $process && ! ls {REPOSITORY}/work/*/data >/dev/null 2>&1; do sleep 0.01; done; "
        "kill -9 $process; wait $process || :"
    )
    assert database.names("backups") == before
    status = database.backup("status")
    assert status.code == 3 and "job full began" in status.output and "ended from outside" in status.output
    database.take("full")
    assert len(database.names("backups")) == len(before) + 1 and database.names("work") == []
    assert database.backup("status").code == 0


@pytest.mark.long
def test_a_restore_that_is_killed_is_completed_by_the_next(database):
    last = tick(database)
    database.switch()
    restore = f"auditdb-backup restore --to {COPY} --identity {KEY}"
    for seconds in (0.1, 0.2, 0.3, 0.5):
        database.shell(f"{restore} >/dev/null 2>&1 & process=$!; sleep {seconds}; kill -9 $process || :; wait || :")
        assert database.call("test", "-e", f"{COPY}/PG_VERSION").code == 1, "all or nothing"
    assert database.restore().code == 0
    database.recovered()
    assert int(database.copy_sql("SELECT max(id) FROM ledger")) == last


@pytest.mark.long
def test_a_full_disk_ends_a_backup_and_a_restore(database):
    small = f"mount -t tmpfs -o size=20m,uid=$(id -u postgres),mode=0750 small {REPOSITORY}/work"
    before = database.names("backups")
    database.shell(small, user="root")
    try:
        done = database.backup("backup", "full")
        assert done.code == 1 and "No space left on device" in done.output
        assert database.names("backups") == before and database.names("work") == []
        assert "job full failed" in database.backup("status").output
        done = database.backup("restore", "--to", f"{REPOSITORY}/work/copy", "--identity", KEY)
        assert done.code == 1 and "No space left on device" in done.output
        assert database.names("work") == []
    finally:
        database.shell(f"umount {REPOSITORY}/work", user="root")
    database.take("full")
    assert database.backup("status").code == 0, database.backup("status").output


@pytest.mark.newest
def test_targets_and_directories_that_do_not_fit_are_refused(database):
    for arguments, said in (
        (["--target-time", "2020-01-01T00:00:00Z"], "before the oldest backup. Remedy: targets from 20"),
        (["--target-time", "2999-01-01T00:00:00Z"], "in the future"),
        (["--backup", "nonsense"], "backup nonsense cannot be restored"),
    ):
        done = database.restore(*arguments)
        assert done.code == 1 and said in done.output, done.output
    done = database.backup(
        "restore", "--identity", KEY, "--to", f"/var/lib/postgresql/{database.version}/main", "--target-immediate"
    )
    assert done.code == 1 and "is not an empty directory" in done.output, "the live data directory"


def test_a_logical_backup_is_restored_by_postgresqls_own_programs(database):
    tick(database)
    backup = database.take("logical")
    place = f"{REPOSITORY}/backups/{backup}"
    rows = database.sql("SELECT count(*) FROM ledger")
    for artefact, program in (
        ("postgres.dump", "pg_restore --no-owner --exit-on-error --dbname=from_backup"),
        ("postgres.sql", "psql -XAtq -v ON_ERROR_STOP=1 --dbname=from_backup"),
    ):
        database.sql("DROP DATABASE IF EXISTS from_backup")
        database.sql("CREATE DATABASE from_backup TEMPLATE template0")
        database.shell(
            f"age --decrypt --identity {KEY} {place}/{artefact}.zst.age | zstd --decompress --stdout | {program}"
        )
        assert database.host.sql("SELECT count(*) FROM ledger", "from_backup") == rows
    database.sql("DROP DATABASE from_backup")
    text = database.shell(f"age --decrypt --identity {KEY} {place}/globals.sql.zst.age | zstd -dqc")
    assert "CREATE ROLE postgres" in text


@pytest.mark.long
def test_expiry_says_what_would_go_and_then_removes_only_that(database):
    old = database.take("full")
    begin = newest(database, "full")["start_lsn"]
    database.switch()
    kept = database.take("full")
    dry = database.good("expire", "--dry-run")
    assert f"would drop  {old}" not in dry, "nothing goes before a newer one is verified"
    assert database.backup("verify").code == 0
    dry = json.loads(database.good("expire", "--dry-run", "--json"))
    assert old in dry["drop"] and kept in dry["keep"] and dry["drop_wal"]
    assert old in database.names("backups"), "a dry run removes nothing"
    database.good("verify", old, "--restored")
    assert old not in json.loads(database.good("expire", "--dry-run", "--json"))["drop"], "it is proven by a restore"
    database.shell(f"rm {REPOSITORY}/proofs/{old}.json")
    before = set(database.names("wal"))
    last = tick(database)
    database.switch()
    database.good("expire")
    assert old not in database.names("backups") and kept in database.names("backups")
    assert before - set(database.names("wal")) == set(dry["drop_wal"])
    assert begin < newest(database, "full")["start_lsn"]
    assert database.backup("verify").code == 0 and database.backup("status").code == 0
    assert database.restore().code == 0
    database.recovered()
    assert int(database.copy_sql("SELECT max(id) FROM ledger")) == last


def test_the_hourly_job_fits_the_version(database):
    output = database.good("backup", "incremental")
    if database.version >= 17:
        assert re.match(r"\d{8}T\d{6}Z-incremental: ", output)
        assert newest(database, "incremental")["parent"], "it rests on another"
    else:
        assert "none is missing" in output


@pytest.mark.newest
def test_timers_are_in_utc_and_failures_are_seen(database):
    timers = database.shell("systemctl list-timers --all --no-legend 'postgresql-backup-*'", user="root")
    jobs = ("full", "logical", "incremental", "verify", "expire", "status")
    for name in jobs:
        unit = f"postgresql-backup-main-{name}"
        assert f"{unit}.timer" in timers
        database.shell(f"systemd-analyze verify /etc/systemd/system/{unit}.timer", user="root")
        shown = database.shell(f"systemctl show {unit}.timer --property Persistent,TimersCalendar", user="root")
        assert "Persistent=yes" in shown and "UTC" in shown
    for name in ("full", "verify", "incremental", "logical", "status"):
        database.shell(f"systemctl start postgresql-backup-main-{name}", user="root")
    database.shell("mv /usr/bin/age /root/", user="root")
    try:
        assert database.call("systemctl", "start", "postgresql-backup-main-full", user="root").code != 0
    finally:
        database.shell("mv /root/age /usr/bin/", user="root")
    said = database.shell("journalctl --no-pager --identifier auditdb-backup --priority err", user="root")
    assert "postgresql-backup-main-full failed" in said
    status = json.loads(database.backup("status", "--json").output)
    assert any("job full failed" in each and "age" in each for each in status["problems"])
    shown = database.shell("systemctl show postgresql-backup-main-status.timer --property TimersCalendar", user="root")
    assert "OnCalendar=*-*-* *:*:00 UTC" in shown, "within two minutes"
    database.shell("systemctl start postgresql-backup-main-status", user="root")
    metrics = database.shell("cat /var/lib/auditdb-backup/main.prom")
    assert 'auditdb_backup_problems{cluster="main"} 1' in metrics
    database.shell("systemctl start postgresql-backup-main-full", user="root")
    assert database.backup("status").code == 0, database.backup("status").output


@pytest.mark.newest
def test_an_archiver_that_keeps_nothing_is_refused(database, playbook):
    database.sql("ALTER SYSTEM SET archive_command = '/bin/true'")
    try:
        run = playbook("auditdb.postgresql.backup", "--limit", database.host.name)
        assert run.code != 0 and run.changed == 0
        assert "the server archives by /bin/true" in run.text and "keeps nothing" in run.text
        database.sql("SELECT pg_reload_conf()")
        database.wait(lambda: "archive_command is '/bin/true'" in database.backup("status").output, "status is silent")
    finally:
        database.sql("ALTER SYSTEM RESET archive_command")
        database.sql("SELECT pg_reload_conf()")
    database.switch()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"postgresql_backup_recipients": {"daily": "age1xyz"}}, "has two public keys or more"),
        ({"postgresql_backup_keep_daily": 0}, "postgresql_backup_keep_daily (0)"),
        ({"postgresql_backup_repository": "relative"}, "('relative') is an absolute path"),
        (
            {"postgresql_backup_jobs": [{"name": "x", "command": ["list"], "on_calendar": "someday", "late": 1}]},
            "'someday' of x is no time",
        ),
    ],
)
def test_bad_input_is_named_before_anything_changes(playbook, variables, said):
    run = playbook("auditdb.postgresql.backup", "-e", json.dumps(variables))
    assert run.code != 0 and run.changed == 0
    assert said in run.text and "Remedy" in run.text


@pytest.mark.newest
def test_the_second_place_gets_a_copy_and_says_when_it_was_changed(database):
    own = "/run/auditdb-test/offsite.json"
    place = "/run/auditdb-test/offsite"
    database.shell(
        f"rm -rf {place}; mkdir {place}"
        f'; sed \'s#"offsite": null#"offsite": "{place}"#\' /etc/auditdb-backup/main.json > {own}'
    )
    done = database.backup("--config", own, "offsite")
    assert done.code == 1 and "is not marked as a second place" in done.output
    database.shell(f"touch {place}/.auditdb-offsite")
    assert re.fullmatch(r"[1-9]\d* files copied\n", database.good("--config", own, "offsite"))
    assert database.good("--config", own, "offsite") == "0 files copied\n"
    database.shell(f"cd {REPOSITORY} && diff -r wal {place}/wal && diff -r backups {place}/backups")
    name = database.names("wal")[-1]
    database.flip(f"{place}/wal/{name}", 600)
    done = database.backup("--config", own, "offsite")
    assert done.code == 1 and f"{place}/wal/{name} is not what was copied" in done.output
    # What is lost here can be restored from there.
    database.flip(f"{place}/wal/{name}", 600)
    last = tick(database)
    database.switch()
    database.good("--config", own, "offsite")
    database.shell(
        f"sed 's#{REPOSITORY}#{place}#' /etc/auditdb-backup/main.json > {own}; cp -r {place} {place}.kept"
        f"; mkdir -p {place}/proofs {place}/jobs {place}/work"
    )
    done = database.backup("--config", own, "restore", "--to", COPY, "--identity", ESCROW)
    assert done.code == 0, done.output
    database.recovered()
    assert int(database.copy_sql("SELECT max(id) FROM ledger")) == last
    database.good("--config", own, "verify", "--identity", ESCROW)
    database.shell(f"rm -rf {place} {place}.kept")


@pytest.mark.long
def test_two_timelines_in_one_archive(database):
    """A copy that is promoted and archives: both timelines are whole, and each can be restored."""
    database.take("full")
    forked = tick(database, 2)
    at = moment(database)
    tick(database, 3)
    database.switch()
    assert database.restore("--target-time", at).code == 0
    database.shell(f"sed -i '/^archive_mode/d' {COPY}/postgresql.auto.conf")
    database.recovered()
    database.copy_sql("INSERT INTO ledger (id) VALUES (1000001)")
    database.copy_sql("SELECT pg_switch_wal()")
    database.copy_sql("INSERT INTO ledger (id) VALUES (1000002)")
    name = database.copy_sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")
    assert name.startswith("00000002")
    database.wait(lambda: {name, "00000002.history"} <= set(database.names("wal")), f"{name} was not archived")
    try:
        last = tick(database)
        database.switch()
        assert database.backup("verify").code == 0, database.backup("verify").output
        for timeline, wanted, not_wanted in (("latest", "1000001", last), ("1", last, "1000001")):
            database.discard()
            assert database.restore("--timeline", timeline).code == 0
            database.recovered()
            found = database.copy_sql("SELECT id FROM ledger ORDER BY id").split()
            assert str(wanted) in found and str(forked) in found and str(not_wanted) not in found
        # A backup that the first timeline took after the fork leads nowhere on the second.
        later = database.take("full")
        database.discard()
        assert later not in database.restore().output
        database.discard()
        done = database.restore("--backup", later)
        assert done.code == 1 and "timeline 2" in done.output
        database.good("restore", "--to", COPY, "--identity", KEY, "--backup", later, "--timeline", "1")
        first = sorted(each for each in database.names("wal") if re.fullmatch("00000002[0-9A-F]{16}", each))[0]
        with database.without(f"{REPOSITORY}/wal/{first}"):
            done = database.backup("verify")
            assert done.code == 1 and first in done.output, "the segment in which a timeline begins"
    finally:
        database.shell(f"rm {REPOSITORY}/wal/00000002*")


@pytest.mark.newest
def test_a_job_that_is_declared_no_more_goes(database, playbook):
    wanted = [
        {"name": "full", "command": ["backup", "full"], "on_calendar": "Sun *-*-* 01:30:00 UTC", "late": 700000},
    ]
    declared = json.dumps({"postgresql_backup_jobs": wanted})
    run = playbook("auditdb.postgresql.backup", "--limit", database.host.name, "-e", declared)
    assert run.code == 0, run.output
    timers = database.shell("systemctl list-timers --all --no-legend 'postgresql-backup-*'", user="root")
    assert sorted(re.findall(r"postgresql-backup-main-(\w+)\.timer", timers)) == ["full", "offsite", "status"]
    again = playbook("auditdb.postgresql.backup", "--limit", database.host.name)
    assert again.code == 0, again.output
    assert playbook("auditdb.postgresql.backup", "--limit", database.host.name).changed == 0, "and comes back"


def told(database, playbook, tmp_path, **options) -> tuple[int, dict]:
    """Run postgresql_backup_info on the host, and return its exit code and what it told."""
    kept = tmp_path / "told.json"
    task = {
        "auditdb.postgresql.postgresql_backup_info": options,
        "become": True,
        "become_user": "postgres",
        "register": "told",
    }
    keep = {"ansible.builtin.copy": {"content": "{{ told | to_json }}", "dest": str(kept), "mode": "0600"}}
    play = [{"hosts": database.host.name, "gather_facts": False, "tasks": [task, {**keep, "delegate_to": "localhost"}]}]
    path = tmp_path / "tell.yml"
    path.write_text(json.dumps(play))
    run = playbook(path)
    return run.code, json.loads(kept.read_text()) if kept.exists() else {"output": run.output}


def test_info_tells_of_chains_ages_wal_and_what_is_wrong(database, playbook, tmp_path):
    full = database.take("full")
    database.take("logical")
    members = [full]
    if database.version >= 17:
        tick(database)
        members.append(database.take("incremental"))
    assert database.backup("verify").code == 0
    code, found = told(database, playbook, tmp_path)
    assert code == 0 and not found["changed"] and found["problems"] == [], found
    assert found["newest_backup"] == members[-1] and found["newest_backup_age"] < 600 and found["rpo"] is not None
    chain = found["chains"][-1]
    assert chain["backups"] == members and chain["verified"] and not chain["damaged"]
    assert chain["bytes"] == sum(each["bytes"] for each in found["backups"] if each["id"] in members) > 0
    assert found["wal"]["missing"] == [] and found["wal"]["newest"] in database.names("wal")
    assert found["backups"][-1]["verified_at"] and found["jobs"]["verify"]["succeeded_at"]
    database.sql("ALTER SYSTEM SET archive_command = '/bin/true'")
    database.sql("SELECT pg_reload_conf()")
    try:
        code, found = told(database, playbook, tmp_path)
        assert code == 0 and any("archive_command is '/bin/true'" in each for each in found["problems"]), found
    finally:
        database.sql("ALTER SYSTEM RESET archive_command")
        database.sql("SELECT pg_reload_conf()")
    (tmp_path / "told.json").unlink()
    code, found = told(database, playbook, tmp_path, cluster="other")
    assert code != 0 and "run the role postgresql_backup" in re.sub(r"\s+", " ", found["output"])
