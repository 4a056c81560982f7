# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Receives WAL as it is written, by pg_receivewal and a replication slot; what is archived leaves again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from . import clock, processes, wal_archive, wal_name
from .configuration import Configuration
from .postgres import Server
from .repository import Repository
from .streamed import PARTIAL, names
from .wal_continuity import leads

LEFT = "left"
APPLICATION = "auditdb-backup-stream"


def receive(settings: Configuration) -> NoReturn:
    """Become pg_receivewal. It ends when the connection does: the unit starts this again."""
    repository = Repository(settings.repository)
    repository.check_user()
    repository.stream.mkdir(mode=0o700, exist_ok=True)
    server = Server(settings)
    if server.slot_lost(settings.slot):
        print(f"replication slot {settings.slot} was invalidated, since it kept too much WAL: it is made anew")
        server.drop_slot(settings.slot)
    program = [str(settings.bin / "pg_receivewal"), *server.options, f"--slot={settings.slot}"]
    processes.run([*program, "--create-slot", "--if-not-exists"])
    for each in list(_undone(repository, server)):
        _set_aside(repository, each)
    argv = [*program, f"--directory={repository.stream}", "--synchronous", "--no-loop"]
    os.execve(argv[0], argv, {**processes.ENVIRONMENT, "PGAPPNAME": APPLICATION})


def _undone(repository: Repository, server: Server) -> Iterator[Path]:
    """Yield streamed files that the server's WAL does not go on from: it was restored to an earlier moment."""
    current, written = server.flushed()
    size = server.facts().wal_segment_bytes
    parents = wal_archive.parents(repository.wal)
    for name in names(repository.stream):
        found = wal_name.segment(name.removesuffix(PARTIAL), size)
        if found is None:
            continue
        begin = found.number * size
        if begin > written or not leads(found.timeline, f"{begin >> 32:X}/{begin & 0xFFFFFFFF:X}", current, parents):
            yield repository.stream / name


def _set_aside(repository: Repository, path: Path) -> None:
    """Move a streamed file out of the way: it may hold the only copy of commits that a restore has undone."""
    place = repository.stream / LEFT
    place.mkdir(mode=0o700, exist_ok=True)
    path.rename(place / f"{path.name}.{clock.now():%Y%m%dT%H%M%SZ}")
    print(f"{path.name} is of a future that a restore has undone: it was moved to {place}")


def tend(settings: Configuration) -> int:
    """Remove what is archived, archive what the archiver has not brought for long; return the number of files."""
    repository = Repository(settings.repository)
    done = 0
    for name in names(repository.stream):
        path = repository.stream / name
        if name.endswith(PARTIAL):
            continue
        # While the archiver is at work, it is left to it: of two at once, one would fail.
        if not (repository.wal / name).exists() and time.time() - path.stat().st_mtime < settings.wal_late:
            continue
        wal_archive.push(settings, path)
        path.unlink()
        done += 1
    return done
