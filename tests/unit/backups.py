"""A backup and a configuration that the tests of the backups share."""

from __future__ import annotations

from pathlib import Path

from auditdb_backup.backup import Artefact, Backup
from auditdb_backup.configuration import Configuration, Retention

CONTENT = {
    "engine": "basebackup",
    "cluster": "main",
    "bin": "/usr/lib/postgresql/17/bin",
    "host": "/var/run/postgresql",
    "port": 5432,
    "user": "postgres",
    "repository": "/nowhere",
    "recipients": "/nowhere/recipients",
    "compression_level": 3,
    "push_timeout": 60,
    "get_timeout": 300,
    "archive_timeout": 60,
    "wal_late": 120,
    "retention": {"daily": 14, "weekly": 8, "monthly": 12, "proven": 2},
    "jobs": {"full": 3600},
    "databases": [],
    "textfile": None,
    "offsite": None,
    "offsite_ssh": "",
    "ssh_key": None,
    "slot": "",
    "standbys": [],
    "standby_lag": 60,
    "backup_ssh": "",
    "environment": {},
}
SETTINGS = Configuration.from_dict(CONTENT)
assert isinstance(SETTINGS.repository, Path) and isinstance(SETTINGS.retention, Retention)


def backup(name: str, **values: object) -> Backup:
    content: dict[str, object] = {
        "format": 1,
        "id": name,
        "kind": name.rsplit("-", maxsplit=1)[-1],
        "engine": "basebackup",
        "cluster": "main",
        "system_identifier": "7",
        "server_version": "17.2",
        "started_at": f"{name[:4]}-{name[4:6]}-{name[6:8]}T01:30:00.000000Z",
        "finished_at": f"{name[:4]}-{name[4:6]}-{name[6:8]}T01:40:00.000000Z",
        "chain": name,
        "parent": None,
        "timeline": 1,
        "start_lsn": "0/2000028",
        "stop_lsn": "0/2000100",
        "wal_segment_bytes": 16 << 20,
        "databases": (),
        "recipients_sha256": "00",
        "artefacts": (Artefact("data.tar.zst.age", 5, "aa", 9, "bb"),),
    }
    return Backup(**{**content, **values})  # type: ignore[arg-type]


BACKUP = backup("20260501T013000Z-full")
