"""A second place on another host: added to and read, never removed from or changed by who has the key."""

from __future__ import annotations

import json
import time

import docker
import pytest
from backup_host import COPY, KEY, REPOSITORY, SCENARIO, Done

SSH = "/etc/auditdb-backup/main.key"
OPTIONS = f"-F none -T -oBatchMode=yes -oIdentityFile={SSH} -oUserKnownHostsFile={SSH}.known_hosts"
ADDRESS = "auditdb-offsite@auditdb-backup-offsite"
RESTORED = "/run/auditdb-test/adopted"


class Place:
    """The second place of a database host, as root there sees it."""

    def __init__(self, name: str) -> None:
        self._host = docker.from_env().containers.get("auditdb-backup-offsite")
        self.root = f"/var/lib/auditdb-offsite/{name}-main"

    def shell(self, script: str) -> str:
        code, output = self._host.exec_run(["bash", "-euo", "pipefail", "-c", f"cd {self.root}; {script}"])
        assert code == 0, f"{script}\n{output.decode()}"
        return output.decode().strip()

    def flip(self, path: str) -> None:
        self.shell(
            f"""python3 -c 'with open("{path}", "r+b") as file:
    byte = file.read(1)[0]; file.seek(0); file.write(bytes([byte ^ 1]))'"""
        )


@pytest.fixture
def place(database) -> Place:
    """Return the second place, with a copy of all there is."""
    if not database.names("backups"):
        database.take("full")
    database.switch()
    database.good("offsite")
    return Place(database.host.name)


def ask(database, *requests: dict, body: str = "") -> list[dict]:
    """Ask the second place as somebody would who has taken the database host, with its key."""
    lines = "".join(json.dumps(each) + "\n" for each in requests) + body
    said = database.shell(f'printf %s "$LINES" | ssh {OPTIONS} {ADDRESS}', LINES=lines)
    return [json.loads(line) for line in said.splitlines()]


def offsite(database) -> Done:
    return database.backup("offsite")


def test_all_of_it_is_there_and_listed_in_a_signed_inventory(database, place):
    here = set(database.shell(f"cd {REPOSITORY}; find wal backups -type f ! -name '.*'").split())
    assert offsite(database).code == 0
    listed = json.loads(place.shell("cat $(ls -d inventories/*.json | tail -1)"))
    there = place.shell("find wal backups repository.json -type f | sort").splitlines()
    assert sorted(listed["files"]) == there
    assert here <= set(there)
    sums = dict(reversed(line.split(maxsplit=1)) for line in place.shell("sha256sum $(find wal -type f)").splitlines())
    assert sums == {path: each for path, each in listed["files"].items() if path.startswith("wal/")}
    assert listed["previous"] == place.shell("sha256sum $(ls -d inventories/*.json | tail -2 | head -1)").split()[0]


@pytest.mark.newest
def test_the_key_can_only_add(database, place):
    name = database.names("wal")[-1]
    before = place.shell("find . -type f | sort | xargs sha256sum")
    for command in ("id", "rm -rf .", "cat /etc/passwd", "scp -t .", "internal-sftp"):
        found = database.shell(f"ssh {OPTIONS} {ADDRESS} '{command}' < /dev/null")
        assert found == "", "whatever is asked to be run, it is the program that answers"
    (removed,) = ask(database, {"do": "remove", "path": f"wal/{name}"})
    assert not removed["ok"] and "nothing that can be asked for" in removed["message"]
    empty = {"do": "put", "bytes": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
    for path in (f"wal/{name}", "repository.json"):
        (different,) = ask(database, {**empty, "path": path})
        assert not different["ok"] and f"a different {path} is there" in different["message"]
    for path in ("../x", "/etc/x", ".ssh/authorized_keys", "wal/../../x", "wal/.x", "a/" * 12 + "b", ""):
        for request in ({**empty, "path": path}, {"do": "get", "path": path}, {"do": "digest", "path": path}):
            (outside,) = ask(database, request)
            assert not outside["ok"] and "no file of a repository" in outside["message"]
    (cut,) = ask(database, {**empty, "path": "wal/cut", "bytes": 9}, body="short")
    assert not cut["ok"] and "did not arrive" in cut["message"]
    (wrong,) = ask(database, {"do": "put"})
    assert not wrong["ok"]
    forwarded = database.call("bash", "-c", f"timeout 5 ssh {OPTIONS} -W 127.0.0.1:22 {ADDRESS} < /dev/null")
    assert forwarded.code != 0 and "SSH-2" not in forwarded.output
    assert place.shell("find . -type f | sort | xargs sha256sum") == before


@pytest.mark.newest
def test_what_is_changed_or_removed_there_is_found(database, place):
    name = database.names("wal")[-1]
    place.flip(f"wal/{name}")
    done = offsite(database)
    assert done.code == 1 and f"/wal/{name} is not what was copied" in done.output
    place.flip(f"wal/{name}")
    # What is here no more, only the inventory knows.
    with database.without(f"{REPOSITORY}/wal/{name}"):
        assert offsite(database).code == 0
        place.flip(f"wal/{name}")
        done = offsite(database)
        assert done.code == 1 and f"/wal/{name} is not what was copied" in done.output
        place.flip(f"wal/{name}")
        place.shell(f"mv wal/{name} /root")
        done = offsite(database)
        assert done.code == 1 and f"wal/{name} was there at" in done.output and "is gone" in done.output
        place.shell(f"mv /root/{name} wal")
    newest = place.shell("ls -d inventories/*.json | tail -1")
    place.flip(newest)
    done = offsite(database)
    assert done.code == 1 and f"{newest} has no valid signature" in done.output
    place.flip(newest)
    place.shell(f"mv {newest}.sig /root/sig")
    done = offsite(database)
    assert done.code == 1 and f"{newest} is not signed" in done.output
    place.shell(f"mv /root/sig {newest}.sig")
    assert offsite(database).code == 0


@pytest.mark.long
def test_a_host_that_is_away_or_another_one_is_an_error(database, place):
    place.shell("systemctl stop ssh.socket ssh.service 2>/dev/null || systemctl stop ssh.service")
    try:
        done = offsite(database)
        assert done.code == 1 and "Connection refused" in done.output
        assert any(
            "job offsite failed" in each for each in json.loads(database.backup("status", "--json").output)["problems"]
        )
    finally:
        place.shell("systemctl start ssh.service")
    database.shell(
        f"cp {SSH}.known_hosts /run/auditdb-test/known; ssh-keygen -q -t ed25519 -N '' -f /tmp/other", user="root"
    )
    database.shell(f'echo "auditdb-backup-offsite $(cut -d" " -f1,2 /tmp/other.pub)" > {SSH}.known_hosts', user="root")
    try:
        done = offsite(database)
        assert done.code == 1 and "Host key verification failed" in done.output
    finally:
        database.shell(f"cat /run/auditdb-test/known > {SSH}.known_hosts; rm /tmp/other*", user="root")
    assert offsite(database).code == 0


@pytest.mark.long
@pytest.mark.newest
def test_a_repository_is_made_of_it_and_restored_from(database, place):
    last = database.sql("INSERT INTO ledger DEFAULT VALUES RETURNING id")
    database.switch()
    database.good("offsite")
    own = "/run/auditdb-test/adopt.json"
    database.shell(f"rm -rf {RESTORED}; sed 's#{REPOSITORY}#{RESTORED}#' /etc/auditdb-backup/main.json > {own}")
    name = database.names("wal")[-1]
    place.flip(f"wal/{name}")
    done = database.backup("--config", own, "adopt")
    assert done.code == 1 and f"/wal/{name} is not what was copied" in done.output
    place.flip(f"wal/{name}")
    database.shell(f"rm -rf {RESTORED}")
    assert database.good("--config", own, "adopt") == "made\n"
    assert database.good("--config", own, "adopt") == "is there\n"
    done = database.backup("--config", own, "restore", "--to", COPY, "--identity", KEY)
    assert done.code == 0, done.output
    database.recovered()
    assert database.copy_sql("SELECT max(id) FROM ledger") == last
    database.shell(f"rm -rf {RESTORED}")


@pytest.mark.long
@pytest.mark.newest
def test_a_lost_site_is_rehearsed_from_it(database, place, playbook):
    """The repository is as good as gone: what it has and the second place has not is not restored."""
    written = "SELECT count(*) > 8 FROM restore_drill.heartbeat"
    database.wait(lambda: database.sql(written) == "t", "heartbeats are not written")
    database.switch()
    database.good("offsite")
    there = int(database.sql("SELECT max(id) FROM restore_drill.heartbeat"))
    time.sleep(3)
    database.switch()
    given = {"restore_drill_cases": [{"name": "site lost", "source": "offsite", "target": "latest"}]}
    run = playbook("auditdb.postgresql.restore_drill", "--limit", database.host.name, "-e", json.dumps(given))
    assert run.code == 0, run.output
    evidence = SCENARIO / "inventory/.state/evidence/restore_drill"
    (case,) = json.loads(max(evidence.glob(f"{database.host.name}-main-*.json")).read_bytes())["cases"]
    assert case["rows_lost"] >= 2 and case["fetched_bytes"] > 0 and there > 0
    assert place.shell("find . -newer repository.json -name '.*' -type f") == "", "nothing is left there"
    # A byte that is flipped there makes it red.
    name = max(name for name in place.shell("ls backups").split() if name.endswith("-full"))
    place.flip(f"backups/{name}/data.tar.zst.age")
    run = playbook("auditdb.postgresql.restore_drill", "--limit", database.host.name, "-e", json.dumps(given))
    assert run.code != 0 and "it is restored and recovers" in run.text
    place.flip(f"backups/{name}/data.tar.zst.age")
