# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Full and incremental backups by pg_basebackup: verified as they lie there, and only then packed."""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from . import backup, clock, durable, server_manifest, standby
from .backup import Artefact, Backup
from .configuration import Configuration
from .errors import BackupError
from .packing import keep_plain, pack_directory
from .postgres import KEEPALIVE, Server
from .processes import run
from .repository import Repository
from .server_manifest import WalRange

DATA = "data.tar.zst.age"
INCREMENTAL_SINCE = 17


@dataclass(frozen=True)
class Copied:
    """What was copied: the WAL that it needs, and of which server it is."""

    wal: WalRange
    source: str
    notices: tuple[str, ...]


def take(settings: Configuration, parent: Backup | None) -> Backup:
    """Take a full backup, or an incremental one that rests on the parent. The repository is locked."""
    repository = Repository(settings.repository)
    server = Server(settings)
    facts = server.facts()
    facts.check(repository.check()["system_identifier"])
    kind = "incremental" if parent else "full"
    started, name = repository.begin(kind)
    with repository.workplace(name) as work:
        data = work / "data"
        copied = _copy(settings, server, parent, data, f"auditdb {name}")
        place = work / "backup"
        place.mkdir(mode=0o750)
        artefacts: tuple[Artefact, ...] = (
            keep_plain(data / server_manifest.NAME, place / server_manifest.NAME),
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
            timeline=copied.wal.timeline,
            start_lsn=copied.wal.start,
            stop_lsn=copied.wal.stop,
            wal_segment_bytes=facts.wal_segment_bytes,
            databases=(),
            recipients_sha256=hashlib.sha256(settings.recipients.read_bytes()).hexdigest(),
            artefacts=artefacts,
            source=copied.source,
            notices=copied.notices,
        )
        publish(repository, made, place)
    return made


def _copy(settings: Configuration, primary: Server, parent: Backup | None, data: Path, label: str) -> Copied:
    """Copy the data directory of the first standby that can be trusted with it, or else of the primary."""
    notices: list[str] = []
    for address in settings.standbys:
        try:
            server, agreed = standby.reach(settings, address, primary, incremental=parent is not None)
            needed = _receive(settings, server, parent, data, label)
            standby.check(data, needed, agreed, primary)
            # As the end of a backup of the primary does: the WAL that the backup needs is archived at once.
            primary.switch_wal()
            return Copied(needed, f"standby {address}", tuple(notices))
        except standby.LeadsError:
            continue
        except BackupError as error:
            shutil.rmtree(data, ignore_errors=True)
            notices.append(" ".join(f"standby {address} was passed over: {error}".split()))
            print(f"NOTICE {notices[-1]}", file=sys.stderr, flush=True)
    return Copied(_receive(settings, primary, parent, data, label), primary.name(), tuple(notices))


def _receive(settings: Configuration, server: Server, parent: Backup | None, data: Path, label: str) -> WalRange:
    """Copy the server's data directory, and verify the copy."""
    parents = settings.repository / "backups"
    run(
        [
            str(settings.bin / "pg_basebackup"),
            *server.options,
            f"--dbname={KEEPALIVE}",
            f"--pgdata={data}",
            "--format=plain",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--manifest-checksums=SHA256",
            f"--label={label}",
            *([f"--incremental={parents / parent.id / server_manifest.NAME}"] if parent else []),
        ],
        PGTARGETSESSIONATTRS=server.session,
    )
    run([str(settings.bin / "pg_verifybackup"), "--quiet", str(data)])
    return server_manifest.wal_range(data)


def publish(repository: Repository, made: Backup, place: Path) -> None:
    """Give a complete backup its place: from here on it counts."""
    made.write(place)
    durable.sync_directory(place)
    place.rename(repository.backups / made.id)
    durable.sync_directory(repository.backups)
