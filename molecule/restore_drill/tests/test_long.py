"""What takes long: many random targets over three timelines, and a site that was lost."""

from __future__ import annotations

import json
import re
import subprocess
import time

import pytest
from backup_host import SCENARIO, Database
from throwaway import ROOT, Host

pytestmark = pytest.mark.long
TARGETS = 25
BYTES = 1 << 30
SECONDS = 600
LOST_SECONDS = 130
"""How long nobody notices that the site is lost: longer than WAL may go without being archived."""


def moment(drill) -> str:
    """Return a moment that some heartbeats lie before, and some after."""
    time.sleep(12)
    query = """SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    found = drill.database.sql(query)
    time.sleep(4)
    drill.archived()
    return found


def test_every_random_target_over_three_timelines_is_exact(drill):
    database = drill.database
    for _timeline in range(2):
        given = {
            "postgresql_restore_target": {"time": moment(drill)},
            "postgresql_restore_over": f"{database.version}/main",
        }
        run = drill.playbook("auditdb.postgresql.restore", "--limit", drill.name, "-e", json.dumps(given))
        assert run.code == 0, run.output
        database.wait(lambda: database.call("systemctl", "is-active", "auditdb-heartbeat-main").code == 0, "it goes on")
    moment(drill)
    cases = [{"name": f"target {number}", "source": "repository", "target": "random"} for number in range(TARGETS)]
    run = drill.run(restore_drill_cases=cases)
    assert run.code == 0, run.output
    found = drill.evidence()["cases"]
    # The timeline that recovery began after it: each target was reached on the one that it lies on.
    print(
        f"PostgreSQL {database.version}: {len(found)} targets from {min(each['target'] for each in found)} to ", end=""
    )
    print(max(each["target"] for each in found))
    assert len(found) == TARGETS and len({each["target"] for each in found}) > TARGETS // 2


def test_a_lost_site_comes_back_in_one_command(drill, playbook, tmp_path):
    """From a bare host, the second place and the escrow key alone."""
    name, database = drill.name, drill.database
    run = playbook("auditdb.postgresql.database", "--limit", name)
    assert run.code == 0, run.output
    rows = f"SELECT i, md5(i::text) || repeat('x', 900) FROM generate_series(1, {BYTES // 960}) AS i"
    database.host.sql(f"SET ROLE audit_owner; CREATE TABLE audit.filler AS {rows}", "audit_db")
    size = int(database.sql("SELECT pg_database_size('audit_db')"))
    assert size > BYTES * 0.95
    database.take("full")
    drill.archived()
    newest = int(database.sql("SELECT max(id) FROM restore_drill.heartbeat"))
    container = database.host.container.name
    subprocess.run(["docker", "cp", "--archive", "-q", f"{container}:/srv/offsite", str(tmp_path)], check=True)
    subprocess.run(["docker", "rm", "--force", "--volumes", container], check=True, stdout=subprocess.DEVNULL)
    assert playbook(ROOT / "molecule/shared/create.yml").code == 0
    host = Host(name, SCENARIO / "inventory")
    database.host.container = host.container
    subprocess.run(["docker", "cp", "-q", str(tmp_path / "offsite"), f"{host.container.name}:/srv/offsite"], check=True)
    # What is mounted there belongs to whom the mount says: here, to an account that the bare host does not have yet.
    host.run("chmod", "-R", "a+rX", "/srv/offsite")
    # As docs/disaster-recovery.md has it.
    (command,) = re.findall(r"```sh recovery\n(.*)\n```", (ROOT / "docs/disaster-recovery.md").read_text())
    command = command.replace("17/main", f"{database.version}/main")
    command = command.replace("/media/escrow.key", str(SCENARIO / "inventory/.state/backup/escrow.key"))
    words = command.split()[command.split().index("playbooks/site_recovery.yml") + 1 :]
    time.sleep(LOST_SECONDS)
    begun = time.monotonic()
    run = playbook(ROOT / "playbooks/site_recovery.yml", "--limit", name, *words)
    seconds = time.monotonic() - begun
    assert run.code == 0, run.output
    print(f"PostgreSQL {database.version}: {size / BYTES:.2f} GiB back and healthy after {seconds:.0f} s")
    assert seconds < SECONDS
    back = Database(host)
    assert int(back.sql(f"SELECT count(*) FROM restore_drill.heartbeat WHERE id <= {newest - 5}")) == newest - 5
    assert int(back.host.sql("SELECT count(*) FROM audit.filler", "audit_db")) == BYTES // 960
    back.host.sql("DROP TABLE audit.filler", "audit_db")
    # The mount is read only until here; from now on, copies are added again.
    host.run("chown", "-R", "postgres:", "/srv/offsite")
    assert back.backup("status").code == 0, back.backup("status").output
