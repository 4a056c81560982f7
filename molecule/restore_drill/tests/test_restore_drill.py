"""Restores are rehearsed, measured and proven; and a drill is red where it must be."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from backup_host import REPOSITORY, SCENARIO

EVIDENCE = SCENARIO / "inventory/.state/evidence/restore_drill"
STATE = "/var/lib/auditdb-drill/main"
CASE = {"name": "only", "source": "repository", "target": "latest"}


def verify(playbook):
    return playbook("auditdb.postgresql.verify_evidence")


def test_a_drill_measures_proves_and_signs(drill):
    database = drill.database
    drill.archived()
    before = database.sql("SELECT pg_postmaster_start_time(), timeline_id FROM pg_control_checkpoint()")
    assertions = [
        {"name": "the ledger", "database": "postgres", "query": "SELECT count(*) > 0 FROM restore_drill.heartbeat"}
    ]
    run = drill.run(restore_drill_assertions=assertions)
    assert run.code == 0, run.output
    found = drill.evidence()
    assert found["verdict"] == "ok" and found["summary"]["failed"] == 0
    cases = {each["name"]: each for each in found["cases"]}
    assert list(cases) == ["latest", "moment", "site_lost"]
    for each in cases.values():
        spent = each["phases_ms"]
        assert each["bytes"] > 20 << 20 and set(spent) == {
            "decide", "fetch", "decrypt", "combine", "verify", "start", "replay", "promote", "check",
        }  # fmt: skip
        assert 0 <= each["rto_ms"] - sum(spent.values()) < 3000, "the phases are what the RTO is made of"
        assert each["extrapolated_not_measured"][0]["rto_ms"] > each["rto_ms"]
        assert each["artefacts"][each["backups"][-1]]["data.tar.zst.age"]
    for name in ("latest", "site_lost"):
        assert 0 < cases[name]["rpo_ms"] < 60_000
        seconds, rows = cases[name]["rpo_ms"] / 1000, cases[name]["rows_lost"]
        assert seconds / 3 - 1 < rows < seconds + 3, "a row a second, where the host is not held up"
    assert cases["moment"]["rpo_ms"] is None
    backups = {each["id"]: each for each in json.loads(database.good("list", "--json"))}
    assert backups[cases["latest"]["backups"][-1]]["restored_at"], "it is proven, and retention knows"
    assert database.sql("SELECT pg_postmaster_start_time(), timeline_id FROM pg_control_checkpoint()") == before
    text = database.shell("cat /var/lib/auditdb-drill/main.prom /var/lib/auditdb-drill/main-success.prom")
    assert 'auditdb_restore_drill_failed{cluster="main"} 0' in text
    assert f'last_success_timestamp_seconds{{cluster="main"}} {found["declared_at"] // 1_000_000}' in text
    assert "PRIVATE KEY" not in run.output and "PRIVATE KEY" not in database.shell("journalctl --quiet", user="root")


@pytest.mark.newest
def test_what_must_hold_and_does_not_makes_it_red(drill):
    drill.archived()
    time.sleep(2)
    run = drill.run(
        restore_drill_cases=[{**CASE, "rpo_budget": 1, "rto_budget": 1}],
        restore_drill_assertions=[
            {"name": "wrong", "database": "postgres", "query": "SELECT 1 = 2"},
            {"name": "writing", "database": "postgres", "query": "DELETE FROM restore_drill.heartbeat RETURNING 1"},
        ],
    )
    assert run.code != 0
    wanted = {"RPO within 1 s", "assertion: wrong", "assertion: writing"}
    wanted |= {"RTO within 1 s"} if drill.evidence()["cases"][0]["rto_ms"] > 1000 else set()
    assert drill.failed() == wanted, run.output
    assert "it returned False instead of True" in run.text and "read-only transaction" in run.text
    success = drill.database.shell("cat /var/lib/auditdb-drill/main-success.prom")
    assert str(drill.evidence()["declared_at"] // 1_000_000) not in success, "that was an earlier one"


@pytest.mark.long
def test_a_lost_row_is_seen(drill):
    """What the database acknowledged and the archive does not have."""
    drill.archived()
    script = f"""
import glob, sys
path = max(glob.glob("{STATE}/acknowledged/*"))
lines = open(path).read().splitlines(keepends=True)
changed = [line[:-9] + "00000000" + chr(10) if index > 3 else line for index, line in enumerate(lines)]
open(path, "w").writelines(changed)
"""
    unit = "auditdb-heartbeat-main.service"
    drill.database.shell(f"systemctl stop {unit}; cp -a {STATE}/acknowledged /root/kept", user="root")
    drill.database.shell('python3 -c "$SCRIPT"', SCRIPT=script)
    try:
        assert drill.run(restore_drill_cases=[CASE]).code != 0
        assert "the ledger is whole, each row as it was acknowledged" in drill.failed()
        drill.database.shell(f"systemctl stop {unit}; rm {STATE}/acknowledged/*", user="root")
        time.sleep(1)
        assert drill.run(restore_drill_cases=[{**CASE, "target": "random"}], restore_drill_interval=60).code != 0
        assert "it is restored and recovers" in drill.failed(), "no moment can be chosen"
    finally:
        back = f"systemctl stop {unit}; rm -r {STATE}/acknowledged; mv /root/kept {STATE}/acknowledged"
        drill.database.shell(f"{back}; systemctl start {unit}", user="root")


@pytest.mark.long
@pytest.mark.parametrize("fault", ["data", "wal", "key"])
def test_damaged_backups_make_it_red(drill, fault):
    database = drill.database
    backup = [each["id"] for each in json.loads(database.good("list", "--json")) if each["kind"] == "full"][-1]
    drill.archived()
    names = [name for name in database.names("wal") if len(name) == 24]
    if fault == "data":
        with database.flipped(f"{REPOSITORY}/backups/{backup}/data.tar.zst.age", 100_000):
            run = drill.run(restore_drill_cases=[CASE])
    elif fault == "wal":
        with database.without(f"{REPOSITORY}/wal/{names[-2]}"):
            run = drill.run(restore_drill_cases=[CASE])
    else:
        other = SCENARIO / "inventory/.state/evidence/signing.key"
        run = drill.run(restore_drill_cases=[CASE], restore_drill_identity=str(other))
    assert run.code != 0 and "it is restored and recovers" in drill.failed(), run.output
    assert drill.evidence()["verdict"] == "failed", "it is kept as evidence all the same"


@pytest.mark.newest
def test_a_drill_that_could_reach_production_is_red(drill):
    isolation = "[Service]\nPrivateNetwork=false\nProtectSystem=false\nInaccessiblePaths=\nSupplementaryGroups=postgres"
    data = f"/var/lib/postgresql/{drill.database.version}/main"
    with drill.dropped_in(isolation):
        drill.database.shell(f"chmod g+rx {data}; chmod g+w {REPOSITORY}", user="root")
        try:
            run = drill.run(restore_drill_cases=[CASE])
        finally:
            drill.database.shell(f"chmod g-rx {data}; chmod g-w {REPOSITORY}", user="root")
    assert run.code != 0 and drill.failed() == {
        "the production server is out of reach",
        "the production data are out of reach",
        "the backups cannot be changed",
    }, run.output
    for each in ("127.0.0.1:5432 answers", "/.s.PGSQL.5432 answers", "main can be read", "main can be written to"):
        assert each in run.text


@pytest.mark.newest
def test_refused_before_anything_changes(drill):
    run = drill.run(restore_drill_directory="/var/lib/postgresql")
    assert run.code != 0 and "no file DRILL" in run.text and run.changed == 0
    run = drill.run(restore_drill_identity="/nowhere/key")
    assert run.code != 0 and "there is no /nowhere/key" in run.text and run.changed == 0
    run = drill.run(restore_drill_cases=[{**CASE, "target": "yesterday"}])
    assert run.code != 0 and "yesterday" in run.text and run.changed == 0
    run = drill.run("--check")
    assert run.code == 0 and run.changed == 0, run.output


@pytest.mark.newest
def test_too_little_room_is_said_before_anything_is_fetched(drill):
    """A file system that has room for what is fetched, and not for what becomes of it."""
    place = "/var/lib/auditdb-drill/small"
    drill.database.shell(f"mkdir -p {place}; mount -t tmpfs -o size=12m none {place}", user="root")
    try:
        run = drill.run(restore_drill_directory=place, restore_drill_cases=[CASE])
        left = drill.database.shell(f"ls {place}", user="root")
    finally:
        drill.database.shell(f"umount {place}; rmdir {place}", user="root")
    said = re.search(rf"restore_drill_directory {place}: ([0-9]+) bytes are needed, ([0-9]+) are free", run.text)
    assert run.code != 0 and said and int(said[1]) > 30 << 20 > 12 << 20 >= int(said[2]), run.output
    assert left == "DRILL"


@pytest.mark.long
def test_the_ledger_goes_on_by_itself(drill):
    database = drill.database
    database.shell("pkill -9 -f 'auditdb-drill/[s]tart.py heartbeat'", user="root")
    database.shell(f"systemctl restart postgresql@{database.version}-main", user="root")
    before = drill.written()
    database.wait(lambda: drill.written() > before + 2, "it goes on")
    rows = database.sql(
        "SELECT count(*), count(DISTINCT id), max(id) - min(id) + 1 FROM restore_drill.heartbeat"
    ).split()
    assert len(set(rows)) == 1, "without a gap"


def test_evidence_that_was_changed_is_named(playbook):
    run = verify(playbook)
    assert run.code == 0 and " 0 problems" in run.text, run.output
    path = min(EVIDENCE.glob("drill-trixie-*.json"))  # of this host there are more, which follow it
    text = path.read_text()
    path.write_text(text.replace('"ok"', '"OK"', 1))
    try:
        run = verify(playbook)
        assert run.code != 0 and f"{path.name}: its signature" in run.text
    finally:
        path.write_text(text)
    away = path.with_suffix(".away")
    path.rename(away)
    try:
        run = verify(playbook)
        assert run.code != 0 and f"it follows {path.name}" in run.text, "one was removed"
    finally:
        away.rename(path)
    assert verify(playbook).code == 0


def test_the_key_signs_with_ssh_keygen_alone():
    """As the documentation says, without this project."""
    path = max(EVIDENCE.glob("*.json"))
    assert Path(f"{path}.sig").read_text().startswith("-----BEGIN SSH SIGNATURE-----")
