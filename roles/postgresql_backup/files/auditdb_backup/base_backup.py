# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Full and incremental backups by pg_basebackup: verified as they lie there, and only then packed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import backup, clock, durable
from .backup import Artefact, Backup
from .configuration import Configuration
from .errors import BackupError
from .packing import keep_plain, pack_directory
from .postgres import Server
from .processes import run
from .repository import Repository

DATA = "data.tar.zst.age"
# Names, sizes and digests of the files, and nothing of what is in them: the next incremental backup needs it in clear.
SERVER_MANIFEST = "backup_manifest"
INCREMENTAL_SINCE = 17


def take(settings: Configuration, parent: Backup | None) -> Backup:
    """Take a full backup, or an incremental one that rests on the parent. The repository is locked."""
    repository = Repository(settings.repository)
    server = Server(settings)
    facts = server.facts()
    if facts.system_identifier != repository.check()["system_identifier"]:
        raise BackupError(
            f"the server's system identifier is {facts.system_identifier}, and not the repository's",
            "give this cluster a repository of its own",
        )
    if facts.tablespaces:
        raise BackupError(
            f"the server has the tablespaces {', '.join(facts.tablespaces)}, which this engine does not back up",
            "move their tables to pg_default, or use the engine pgbackrest",
        )
    kind = "incremental" if parent else "full"
    started, name = repository.begin(kind)
    with repository.workplace(name) as work:
        data = work / "data"
        run(
            [
                str(settings.bin / "pg_basebackup"),
                *server.options,
                f"--pgdata={data}",
                "--format=plain",
                "--wal-method=stream",
                "--checkpoint=fast",
                "--manifest-checksums=SHA256",
                f"--label=auditdb {name}",
                *([f"--incremental={repository.backups / parent.id / SERVER_MANIFEST}"] if parent else []),
            ]
        )
        run([str(settings.bin / "pg_verifybackup"), "--quiet", str(data)])
        place = work / "backup"
        place.mkdir(mode=0o750)
        timeline, start, stop = wal_range(json.loads((data / SERVER_MANIFEST).read_bytes()))
        artefacts: tuple[Artefact, ...] = (
            keep_plain(data / SERVER_MANIFEST, place / SERVER_MANIFEST),
            pack_directory(settings, data, place / DATA),
        )
        made = Backup(
            format=backup.FORMAT,
            id=name,
            kind=kind,
            engine="basebackup",
            cluster=settings.cluster,
            system_identifier=facts.system_identifier,
            server_version=facts.server_version,
            started_at=clock.write(started),
            finished_at=clock.write(clock.now()),
            chain=parent.chain if parent else name,
            parent=parent.id if parent else None,
            timeline=timeline,
            start_lsn=start,
            stop_lsn=stop,
            wal_segment_bytes=facts.wal_segment_bytes,
            databases=(),
            recipients_sha256=hashlib.sha256(settings.recipients.read_bytes()).hexdigest(),
            artefacts=artefacts,
        )
        publish(repository, made, place)
    return made


def publish(repository: Repository, made: Backup, place: Path) -> None:
    """Give a complete backup its place: from here on it counts."""
    made.write(place)
    durable.sync_directory(place)
    place.rename(repository.backups / made.id)
    durable.sync_directory(repository.backups)


def wal_range(manifest: Mapping[str, Any]) -> tuple[int, str, str]:
    """Return timeline, first and last position of the WAL that PostgreSQL's own manifest asks for."""
    ranges = manifest["WAL-Ranges"]
    if len(ranges) != 1:
        raise BackupError("the server changed its timeline during the backup", "take the backup again")
    return int(ranges[0]["Timeline"]), str(ranges[0]["Start-LSN"]), str(ranges[0]["End-LSN"])
