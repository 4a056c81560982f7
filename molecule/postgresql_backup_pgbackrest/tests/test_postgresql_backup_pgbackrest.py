"""The engine pgbackrest behind the same program: archived, taken, verified, restored, expired; and its faults found."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import docker
import pytest
from backup_host import COPY, KEY, REPOSITORY, SCENARIO
from lost_site import loses_its_site

MOMENT = """SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
CONFIGURATION = "/etc/auditdb-backup/main.pgbackrest.conf"
KEPT = f"{REPOSITORY}/pgbackrest"
TARGET = "/run/auditdb-test/got"
RESTORED = "/run/auditdb-test/adopted"


def tick(database) -> int:
    return int(database.sql("INSERT INTO ledger DEFAULT VALUES RETURNING id"))


def stored(database, name: str) -> str:
    """Return where pgBackRest has a WAL file."""
    return database.shell(f"ls {KEPT}/archive/main/*/{name[:16]}/{name}-*")


def in_the_middle(database) -> str:
    """Return the name of an archived segment after which another one is archived."""
    name = database.switch()
    tick(database)
    database.switch()
    return name


def newest(database, kind: str) -> str:
    return [each["id"] for each in json.loads(database.good("list", "--json")) if each["kind"] == kind][-1]


@pytest.fixture
def pair(database) -> tuple[str, str]:
    """Return a full backup and an incremental one that rests on it."""
    if not [name for name in database.names("backups") if name.endswith("I")]:
        database.take("full")
        tick(database)
        database.take("incremental")
    return newest(database, "full"), newest(database, "incremental")


def test_a_moment_is_restored_exactly(database, pair):
    tick(database)
    database.take("incremental")
    last = tick(database)
    moment = database.sql(MOMENT)
    tick(database)
    database.switch()
    done = database.restore("--target-time", moment)
    assert done.code == 0, done.output
    used = json.loads(done.output)
    assert len(used["backups"]) >= 2 and used["milliseconds"]["decrypt"] > 0
    database.recovered()
    assert int(database.copy_sql("SELECT max(id) FROM ledger")) == last
    assert database.copy_sql("SHOW archive_mode") == "off"


def test_the_end_of_the_archive_is_restored_and_targets_outside_are_refused(database, pair):
    last = tick(database)
    database.switch()
    assert database.restore().code == 0
    database.recovered()
    assert int(database.copy_sql("SELECT max(id) FROM ledger")) == last
    for target, said in (("2001-01-01T00:00:00Z", "before the oldest backup"), ("2999-01-01T00:00:00Z", "future")):
        done = database.backup("restore", "--check", "--to", "/x", "--identity", KEY, "--target-time", target)
        assert done.code == 1 and said in done.output


def test_archiving_succeeds_once_and_fails_on_a_different_file(database):
    name = database.switch()
    database.shell(
        f"install -d /run/auditdb-test/wal; cp /var/lib/postgresql/*/main/pg_wal/{name} /run/auditdb-test/wal"
    )
    before = database.shell(f"sha256sum {stored(database, name)}")
    database.good("push", f"/run/auditdb-test/wal/{name}")
    database.flip(f"/run/auditdb-test/wal/{name}", 4000)
    done = database.backup("push", f"/run/auditdb-test/wal/{name}")
    assert done.code == 1 and f"a different WAL file {name} is archived already" in done.output
    assert database.shell(f"sha256sum {stored(database, name)}") == before


def test_exit_codes_of_getting(database):
    name = database.switch()
    get = ["get", "--identity", KEY]
    assert database.backup(*get, name, TARGET).code == 0
    own = database.shell(f"ls /var/lib/postgresql/*/main/pg_wal/{name}")
    assert database.call("cmp", TARGET, own).code == 0
    assert database.backup(*get, "0000000900000000000000FF", TARGET).code == 1, "not archived, and nothing after it"
    assert database.backup(*get, "x", TARGET).code == 126
    path = stored(database, name)
    with database.without(path):
        assert database.backup(*get, name, TARGET).code == 126, "archived, and gone"
    with database.flipped(path, 60):
        assert database.backup(*get, name, TARGET).code == 126
    database.switch()
    record = f"{REPOSITORY}/wal/{name}"
    with database.without(record):
        done = database.backup(*get, name, TARGET)
        assert done.code == 126 and "the WAL has a gap" in done.output


@pytest.mark.newest
def test_an_archive_that_is_away_for_a_while_loses_nothing(database):
    database.shell(f"mv {KEPT} {KEPT}.away")
    try:
        name = database.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")
        failed = "SELECT last_failed_wal >= '{}' FROM pg_stat_archiver"
        database.wait(lambda: database.sql(failed.format(name)) == "t", "archiving did not fail")
        assert name not in database.names("wal")
    finally:
        database.shell(f"rm -rf {KEPT}; mv {KEPT}.away {KEPT}")
    database.wait(lambda: name in database.names("wal"), f"{name} was not archived", seconds=90)
    assert database.backup("verify").code == 0


@pytest.mark.parametrize("damage", ["data", "manifest", "wal", "index", "record"])
def test_a_flipped_byte_is_found_and_named(database, pair, damage):
    full = pair[0]
    name = database.switch()
    path, named = {
        "data": (f"{KEPT}/backup/main/{full}/bundle/1", full),
        "manifest": (f"{KEPT}/backup/main/{full}/backup.manifest", full),
        "wal": (stored(database, name), name),
        "index": (f"{KEPT}/backup/main/backup.info", "backup.info"),
        "record": (f"{REPOSITORY}/wal/{name}", name),
    }[damage]
    assert database.backup("verify").code == 0, "no false alarm"
    with database.flipped(path, 100):
        done = database.backup("verify")
        assert done.code == 1 and named in done.output
    assert database.backup("verify").code == 0


def test_wal_that_is_missing_in_the_middle_is_found(database, pair):
    lost = in_the_middle(database)
    with database.without(stored(database, lost)):
        done = database.backup("verify")
        assert done.code == 1 and lost in done.output
    with database.without(f"{REPOSITORY}/wal/{lost}"):
        assert any(lost in each for each in json.loads(database.backup("status", "--json").output)["problems"])


@pytest.mark.newest
def test_a_backup_that_is_killed_does_not_count(database, pair):
    before = database.names("backups")
    database.shell(
        "auditdb-backup backup full & process=$!; "
        "while kill -0 $process && ! pgrep -f 'pgbackrest.* backup' >/dev/null; do sleep 0.01; done; "
        "kill -9 $process; pkill -9 pgbackrest || :; wait $process || :"
    )
    assert database.names("backups") == before
    full = database.take("full")
    assert database.names("backups") == sorted([*before, full])
    assert database.backup("verify").code == 0


@pytest.mark.newest
def test_two_at_once_are_one_after_the_other(database):
    both = database.shell("for n in 1 2; do auditdb-backup --wait 60 backup full & done; wait")
    assert both.count(" bytes") == 2, both
    done = database.shell(
        "auditdb-backup --wait 60 backup full & sleep 0.3; auditdb-backup backup full 2>&1 || :; wait"
    )
    assert "another run is at work" in done


@pytest.mark.newest
def test_a_wrong_passphrase_is_an_error(database, pair):
    database.shell(f"sed -i.kept 's/^repo1-cipher-pass=./&x/' {CONFIGURATION}", user="root")
    try:
        assert database.backup("backup", "full").code == 1
        assert database.restore().code == 1
        assert database.backup("get", "--identity", KEY, database.names("wal")[-1], TARGET).code == 126
    finally:
        database.shell(f"cat {CONFIGURATION}.kept > {CONFIGURATION}; rm {CONFIGURATION}.kept", user="root")
    assert database.backup("verify").code == 0


def test_expiry_says_what_would_go_and_pgbackrest_knows_it(database, pair):
    for _number in range(2):
        database.take("full")
    database.good("verify")
    before = set(database.names("backups"))
    own = "/run/auditdb-test/expire.json"
    none = '"daily": 0, "monthly": 0, "proven": 0, "weekly": 0'
    script = (
        "import json, sys; c = json.load(open(sys.argv[1])); c['retention'] = json.loads('{"
        + none
        + "}'); print(json.dumps(c))"
    )
    database.shell('python3 -c "$SCRIPT" /etc/auditdb-backup/main.json > ' + own, SCRIPT=script)
    # pgBackRest's configuration lies beside the program's.
    database.shell(f"cp {CONFIGURATION} /run/auditdb-test/expire.pgbackrest.conf")
    dry = json.loads(database.good("--config", own, "expire", "--dry-run", "--json"))
    assert dry["drop"] and set(database.names("backups")) == before
    database.good("--config", own, "expire")
    left = set(database.names("backups"))
    assert before - left == set(dry["drop"])
    told = json.loads(database.shell(f"pgbackrest --config={CONFIGURATION} --stanza=main info --output=json"))
    assert {each["label"] for each in told[0]["backup"]} == {name for name in left if not name.endswith("logical")}
    assert database.backup("verify").code == 0
    last = tick(database)
    database.switch()
    assert database.restore().code == 0
    database.recovered()
    assert int(database.copy_sql("SELECT max(id) FROM ledger")) == last


@pytest.mark.newest
def test_a_cluster_is_restored_by_the_playbook(database, playbook):
    database.switch()
    rows, moment = database.sql("SELECT count(*) FROM ledger"), database.sql(MOMENT)
    tick(database)
    database.switch()
    given = {"postgresql_restore_target": {"time": moment}, "postgresql_restore_over": f"{database.version}/main"}
    run = playbook("auditdb.postgresql.restore", "--limit", database.host.name, "-e", json.dumps(given))
    assert run.code == 0, run.output
    assert database.sql("SELECT count(*) FROM ledger") == rows
    assert "00000002.history" in database.names("wal")
    database.switch()
    assert database.backup("verify").code == 0
    database.shell("rm -rf /var/lib/postgresql/*/main.before-*", user="root")


@pytest.mark.newest
def test_the_passphrase_is_nowhere_else(database, playbook):
    (path,) = (SCENARIO / "inventory/.state/backup").glob(f"{database.host.name}-main.passphrase")
    secret = path.read_text().strip()
    assert path.stat().st_mode & 0o077 == 0 and len(secret) == 64
    assert database.shell(f"stat -c '%a %U %G' {CONFIGURATION}", user="root") == "640 root postgres"
    run = playbook("auditdb.postgresql.backup", "-vvv", "--diff", "--limit", database.host.name)
    assert run.code == 0 and run.changed == 0 and secret not in run.output
    logs = "cat /var/log/postgresql/*.log /var/log/pgbackrest/* 2>/dev/null; journalctl --no-pager"
    assert secret not in database.shell(f"({logs}) || :", user="root")


@pytest.mark.parametrize(
    "given",
    [
        {"postgresql_backup_stream": True},
        {"postgresql_backup_engine": "tapes"},
    ],
)
def test_what_it_does_not_do_is_refused_before_anything_changes(playbook, given):
    run = playbook("auditdb.postgresql.backup", "-e", json.dumps(given))
    assert run.code != 0 and run.changed == 0
    assert "postgresql_backup_engine" in run.text


def offsite(database) -> Place:
    """Bring the second place up to date, and return it."""
    database.good("offsite")
    return Place(database)


class Place:
    """The second place of a database host, as root there sees it: a mounted directory, or one on another host."""

    def __init__(self, database) -> None:
        name = database.host.name
        mounted = name.endswith("bookworm")
        self._host = database.host.container if mounted else docker.from_env().containers.get("auditdb-rest-offsite")
        self.root = "/srv/offsite" if mounted else f"/var/lib/auditdb-offsite/{name}-main"

    def shell(self, script: str) -> str:
        code, output = self._host.exec_run(["bash", "-euo", "pipefail", "-c", f"cd {self.root}; {script}"])
        assert code == 0, f"{script}\n{output.decode()}"
        return output.decode().strip()

    @contextmanager
    def flipped(self, path: str) -> Iterator[None]:
        """Change a file's first byte; it is as before after the block."""
        flip = f"""python3 -c 'with open("{path}", "r+b") as file:
    byte = file.read(1)[0]; file.seek(0); file.write(bytes([byte ^ 1]))'"""
        self.shell(flip)
        try:
            yield
        finally:
            self.shell(flip)


def test_a_second_place_is_added_to_and_what_is_changed_there_is_found(database, pair):
    database.switch()
    there = offsite(database)
    before = there.shell("find . -type f | sort | xargs sha256sum").splitlines()
    assert database.good("offsite") == "0 files copied\n"
    database.take("incremental")
    database.good("offsite")
    after = there.shell("find . -type f | sort | xargs sha256sum").splitlines()
    assert set(before) < set(after), "nothing that is there is changed, the indexes included"
    for path in (
        f"pgbackrest/backup/main/{pair[0]}/bundle/1",
        there.shell("ls -d pgbackrest/states/*/backup.info | head -1"),
    ):
        with there.flipped(path):
            done = database.backup("offsite")
        assert done.code == 1 and f"{path} is not what was copied" in done.output
    assert database.backup("offsite").code == 0


def test_a_repository_is_made_of_it_and_restored_from(database, pair):
    last = tick(database)
    database.switch()
    database.good("offsite")
    own = "/run/auditdb-test/adopt.json"
    database.shell(f"rm -rf {RESTORED}; sed 's#{REPOSITORY}#{RESTORED}#' /etc/auditdb-backup/main.json > {own}")
    database.shell(f"sed 's#{REPOSITORY}#{RESTORED}#' {CONFIGURATION} > /run/auditdb-test/adopt.pgbackrest.conf")
    assert database.good("--config", own, "adopt") == "made\n"
    assert database.good("--config", own, "verify") == "everything is as it was stored\n"
    done = database.backup("--config", own, "restore", "--to", COPY, "--identity", KEY)
    assert done.code == 0, done.output
    database.recovered()
    assert int(database.copy_sql("SELECT max(id) FROM ledger")) == last
    database.shell(f"rm -rf {RESTORED}")


@pytest.mark.newest
def test_restores_are_rehearsed_from_both_places(database, pair, playbook):
    written = "SELECT count(*) > 8 FROM restore_drill.heartbeat"
    database.wait(lambda: database.sql(written) == "t", "heartbeats are not written")
    for _each in range(3):
        time.sleep(1.5)
        database.switch()
    there = offsite(database)
    run = playbook("auditdb.postgresql.restore_drill", "--limit", database.host.name)
    assert run.code == 0, run.output
    evidence = SCENARIO / "inventory/.state/evidence/restore_drill"
    report = json.loads(max(evidence.glob(f"{database.host.name}-main-*.json")).read_bytes())
    cases = {each["name"]: each for each in report["cases"]}
    assert list(cases) == ["latest", "moment", "site_lost"] and report["versions"]["pgbackrest"].startswith(
        "pgBackRest"
    )
    controls = [each["name"] for each in report["results"] if each["group"] == "negative controls"]
    assert len(controls) == 5 and all(each["fetched_bytes"] > 1 << 20 for each in cases.values())
    backups = {each["id"]: each for each in json.loads(database.good("list", "--json"))}
    assert backups[cases["latest"]["backups"][-1]]["restored_at"], "it is proven, and retention knows"
    # What was changed there makes it red.
    path = f"pgbackrest/backup/main/{cases['site_lost']['backups'][-1]}/backup.manifest"
    given = json.dumps({"restore_drill_cases": [{"name": "site lost", "source": "offsite", "target": "latest"}]})
    with there.flipped(path):
        run = playbook("auditdb.postgresql.restore_drill", "--limit", database.host.name, "-e", given)
    assert run.code != 0 and "it is restored and recovers" in run.text


@pytest.mark.long
def test_clean_backups_are_no_alarm_and_each_kind_of_damage_is_found(database, pair):
    for number in range(20):
        database.good("backup", "incremental" if number % 4 else "full")
        assert database.backup("verify").code == 0, "false alarm"
    full, name = newest(database, "full"), in_the_middle(database)
    files = database.shell(f"cd {KEPT}; find backup/main/{full} -type f -size +1k | sort").splitlines()
    chosen = [f"{KEPT}/{path}" for path in files[:: max(1, len(files) // 8)]][:8]
    chosen += [f"{KEPT}/backup/main/{full}/backup.manifest{end}" for end in ("", ".copy")]
    chosen += [f"{KEPT}/backup/main/backup.info{end}" for end in ("", ".copy")]
    chosen += [f"{KEPT}/archive/main/archive.info{end}" for end in ("", ".copy")]
    chosen += [stored(database, name), f"{REPOSITORY}/wal/{name}"]
    chosen += [f"{REPOSITORY}/backups/{full}/{each}" for each in ("manifest.json", "files.sha256")]
    found = []
    for path in chosen:
        with database.flipped(path, 60):
            found.append((path, "flipped", database.backup("verify").code))
        with database.without(path):
            found.append((path, "removed", database.backup("verify").code))
    extra = f"{KEPT}/backup/main/{full}/more"
    database.shell(f"echo x > {extra}")
    found.append((extra, "added", database.backup("verify").code))
    database.shell(f"rm {extra}")
    print(f"PostgreSQL {database.version}: {len(found)} kinds of damage")
    assert [each for each in found if each[2] != 1] == [] and len(found) >= 20
    assert database.backup("verify").code == 0


@pytest.mark.long
def test_a_lost_site_comes_back_in_one_command(request, database, playbook, tmp_path):
    """Without its passphrase, too, which the copy has, sealed; the second place is a mount, or a host."""
    loses_its_site(request.node.callspec.params["database"], database, playbook, tmp_path)
