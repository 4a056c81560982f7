# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logical backups: each database as pg_dump's custom and plain format of one and the same moment, and the globals."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from . import backup, clock, contents
from .backup import Artefact, Backup
from .base_backup import publish
from .canonical import canonical
from .configuration import Configuration
from .errors import BackupError
from .packing import pack_stream
from .postgres import Server
from .processes import pipeline, run
from .repository import Repository

GLOBALS = "globals.sql.zst.age"


def file_name(database: str, kind: str) -> str:
    """Return the name of the database's artefact of this kind: dump, sql or rows."""
    return f"{quote(database, safe='').replace('.', '%2E')}.{kind}.zst.age"


def take(settings: Configuration) -> Backup:
    """Dump the databases. The repository is locked. Each dump is read through before it counts."""
    repository = Repository(settings.repository)
    server = Server(settings)
    facts = server.facts()
    databases = list(settings.databases) or server.databases()
    missing = set(databases) - set(server.databases())
    if missing:
        raise BackupError(f"there are no databases {', '.join(sorted(missing))}", "correct databases")
    started, name = repository.begin("logical")
    with repository.workplace(name) as work:
        place = work / "backup"
        place.mkdir(mode=0o750)
        argv = [str(settings.bin / "pg_dumpall"), *server.options, "--globals-only"]
        artefacts = [_dump(settings, argv, place / GLOBALS)]
        for database in databases:
            artefacts += _dump_database(settings, server, database, place)
        made = Backup(
            format=backup.FORMAT,
            id=name,
            kind="logical",
            engine=settings.engine,
            cluster=settings.cluster,
            system_identifier=facts.system_identifier,
            server_version=facts.server_version,
            started_at=clock.write(started),
            finished_at=clock.write(clock.now()),
            chain=name,
            parent=None,
            timeline=0,
            start_lsn="0/0",
            stop_lsn="0/0",
            wal_segment_bytes=facts.wal_segment_bytes,
            databases=tuple(databases),
            recipients_sha256=hashlib.sha256(settings.recipients.read_bytes()).hexdigest(),
            artefacts=tuple(artefacts),
            source=server.name(),
        )
        publish(repository, made, place)
    return made


def _dump_database(settings: Configuration, server: Server, database: str, place: Path) -> list[Artefact]:
    with server.connect(database) as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute("SELECT pg_catalog.pg_export_snapshot()")
        (snapshot,) = cursor.fetchone()
        argv = [
            str(settings.bin / "pg_dump"),
            *server.options,
            f"--snapshot={snapshot}",
            f"--dbname=dbname='{database.replace(chr(92), chr(92) * 2).replace(chr(39), chr(92) + chr(39))}'",
        ]
        custom = place / "dump"
        run([*argv, "--format=custom", "--compress=0", f"--file={custom}"])
        plain = _dump(settings, [*argv, "--format=plain"], place / file_name(database, "sql"))
        # Of the same snapshot: what a test restore has to find.
        rows = io.BytesIO(canonical(contents.rows(cursor)))
        counted = pack_stream(settings, rows, place / file_name(database, "rows"))
    # Read to its end, as a restore would: what cannot be read is no backup.
    run([str(settings.bin / "pg_restore"), "--file=/dev/null", str(custom)])
    with custom.open("rb") as source:
        packed = pack_stream(settings, source, place / file_name(database, "dump"))
    custom.unlink()
    return [packed, plain, counted]


def _dump(settings: Configuration, argv: Sequence[str], target: Path) -> Artefact:
    with pipeline([argv]) as (into, stream):
        into.close()
        return pack_stream(settings, stream, target)
