"""A site that is lost, and comes back from the second place and the escrow key alone."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from backup_host import HOSTS, SCENARIO, Database
from throwaway import ROOT, Host, Run

BYTES = 1 << 30
SECONDS = 600
LOST_SECONDS = 130
"""How long nobody notices that the site is lost: longer than WAL may go without being archived."""
MOUNT = "/srv/offsite"
KEYS = SCENARIO / "inventory/.state/backup"


def loses_its_site(name: str, database: Database, playbook: Callable[..., Run], directory: Path) -> None:
    """Fill the audit database, lose its host, and see that the written command brings all of it back in time."""
    mounted = "postgresql_backup_offsite_host" not in HOSTS[name]
    newest, size = _filled(name, database, playbook)
    container = database.host.container.name
    if mounted:
        subprocess.run(["docker", "cp", "--archive", "-q", f"{container}:{MOUNT}", str(directory)], check=True)
    subprocess.run(["docker", "rm", "--force", "--volumes", container], check=True, stdout=subprocess.DEVNULL)
    passphrases = {path: path.read_text() for path in KEYS.glob(f"{name}-*.passphrase")}
    for path in passphrases:
        path.unlink()
    made = playbook(ROOT / "molecule/shared/create.yml")
    assert made.code == 0, made.output
    host = Host(name, SCENARIO / "inventory")
    database.host.container = host.container
    if mounted:
        subprocess.run(["docker", "cp", "-q", str(directory / "offsite"), f"{host.container.name}:{MOUNT}"], check=True)
        # What is mounted there is whose the mount says: here, of an account that the bare host has not yet.
        host.run("chmod", "-R", "a+rX", MOUNT)
    time.sleep(LOST_SECONDS)
    begun = time.monotonic()
    run = playbook(ROOT / "playbooks/site_recovery.yml", "--limit", name, *_written(database.version))
    seconds = time.monotonic() - begun
    assert run.code == 0, run.output
    print(f"PostgreSQL {database.version}: {size / BYTES:.2f} GiB back and healthy after {seconds:.0f} s")
    assert seconds < SECONDS
    assert {path: path.read_text() for path in passphrases} == passphrases
    back = Database(host)
    assert int(back.sql(f"SELECT count(*) FROM restore_drill.heartbeat WHERE id <= {newest}")) == newest
    assert int(back.host.sql("SELECT count(*) FROM audit.filler", "audit_db")) == BYTES // 960
    back.host.sql("DROP TABLE audit.filler", "audit_db")
    if mounted:  # it is read only until here; from now on, copies are added again
        host.run("chown", "-R", "postgres:", MOUNT)
    assert back.backup("status").code == 0, back.backup("status").output


def _filled(name: str, database: Database, playbook: Callable[..., Run]) -> tuple[int, int]:
    """Fill the database, copy all to the second place, and return the newest heartbeat there, and the size in bytes."""
    run = playbook("auditdb.postgresql.database", "--limit", name)
    assert run.code == 0, run.output
    rows = f"SELECT i, md5(i::text) || repeat('x', 900) FROM generate_series(1, {BYTES // 960}) AS i"
    database.host.sql(f"SET ROLE audit_owner; CREATE TABLE audit.filler AS {rows}", "audit_db")
    size = int(database.sql("SELECT pg_database_size('audit_db')"))
    assert size > BYTES * 0.95
    database.take("full")
    time.sleep(3)
    newest = int(database.sql("SELECT max(id) FROM restore_drill.heartbeat"))
    time.sleep(1.5)  # the next one is written, too: the segment holds this one whole
    segment = database.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")
    archived = f"SELECT last_archived_wal >= '{segment}' FROM pg_stat_archiver"
    database.wait(lambda: database.sql(archived) == "t", f"{segment} was not archived")
    database.good("offsite")
    return newest, size


def _written(version: int) -> list[str]:
    """Return the options of the command that docs/disaster-recovery.md has."""
    (command,) = re.findall(r"```sh recovery\n(.*)\n```", (ROOT / "docs/disaster-recovery.md").read_text())
    words = command.replace("17/main", f"{version}/main").replace("/media/escrow.key", f"{KEYS}/escrow.key").split()
    return words[words.index("playbooks/site_recovery.yml") + 1 :]
