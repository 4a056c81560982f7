# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Receives WAL as it is written, by pg_receivewal and a replication slot; what is archived leaves again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from . import clock, processes, wal_archive, wal_name
from .configuration import Configuration
from .errors import BackupError
from .postgres import Server
from .repository import Repository
from .streamed import PARTIAL, names
from .wal_continuity import leads, successor
from .wal_name import Segment

LEFT = "left"
APPLICATION = "auditdb-backup-stream"


def receive(settings: Configuration) -> NoReturn:
    """Become pg_receivewal. It ends when the connection does: the unit starts this again."""
    repository = Repository(settings.repository)
    repository.check_user()
    repository.stream.mkdir(mode=0o700, exist_ok=True)
    server = Server(settings)
    if server.slot_lost(settings.slot):
        print(
            f"replication slot {settings.slot} was invalidated, since it kept too much WAL: it is made anew", flush=True
        )
        server.drop_slot(settings.slot)
    program = [str(settings.bin / "pg_receivewal"), *server.options, f"--slot={settings.slot}"]
    _wait_for_history(repository, server)
    kept_from = server.make_slot(settings.slot)
    for each, why in list(_in_the_way(repository, server, kept_from)):
        _set_aside(repository, each, why)
    tend(settings, patience=0)
    argv = [*program, f"--directory={repository.stream}", "--synchronous", "--no-loop"]
    os.execve(argv[0], argv, {**processes.ENVIRONMENT, "PGAPPNAME": APPLICATION})


def _wait_for_history(repository: Repository, server: Server) -> None:
    """Raise BackupError where it is not known yet which streamed files lead to the server's timeline.

    After a failover they may be the only copy of what the former leader has not archived: none is moved aside unseen.
    """
    current, _written = server.flushed()
    others = {each[:8] for each in names(repository.stream)} - {f"{current:08X}"}
    if others and current not in wal_archive.parents(repository.wal):
        raise BackupError(
            f"the server is on timeline {current}, whose history is not archived yet",
            "it is tried again; see why archive_command fails where it stays so: the server's log",
        )


def _in_the_way(repository: Repository, server: Server, kept_from: int) -> Iterator[tuple[Path, str]]:
    """Yield streamed files after which pg_receivewal would ask for WAL that the server does not have, and why."""
    current, written = server.flushed()
    size = server.facts().wal_segment_bytes
    parents = wal_archive.parents(repository.wal)
    for name in names(repository.stream):
        found = wal_name.segment(name.removesuffix(PARTIAL), size)
        if found is None:
            continue
        begin = found.number * size
        if begin > written or not leads(found.timeline, f"{begin >> 32:X}/{begin & 0xFFFFFFFF:X}", current, parents):
            yield repository.stream / name, "is of a future that a restore has undone"
        elif name.endswith(PARTIAL) and found.number < kept_from // size:
            yield repository.stream / name, "is older than all that the replication slot keeps"
        elif name.endswith(PARTIAL) and _superseded(found, size, current, parents):
            yield repository.stream / name, "is a segment of which later timelines have the rest"


def _superseded(found: Segment, size: int, current: int, parents: Mapping[int, tuple[int, int]]) -> bool:
    """Return whether the segment was gone on with on a timeline that was left, too.

    For it a server sends that timeline's file, which one that was restored or cloned since does not have.
    """
    after = successor(found.timeline, current, parents)
    return after is not None and after[0] != current and after[1] // size == found.number


def _set_aside(repository: Repository, path: Path, why: str) -> None:
    """Move a streamed file out of the way: it may hold the only copy of its commits."""
    place = repository.stream / LEFT
    place.mkdir(mode=0o700, exist_ok=True)
    path.rename(place / f"{path.name}.{clock.now():%Y%m%dT%H%M%SZ}")
    print(f"{path.name} {why}: it was moved to {place}", flush=True)


def tend(settings: Configuration, patience: int) -> int:
    """Remove what is archived, archive what the archiver has not brought for so many seconds; return the number."""
    repository = Repository(settings.repository)
    done = 0
    for name in names(repository.stream):
        path = repository.stream / name
        if name.endswith(PARTIAL):
            continue
        # While the archiver is at work, it is left to it: of two at once, one would fail.
        if not (repository.wal / name).exists() and time.time() - path.stat().st_mtime < patience:
            continue
        wal_archive.push(settings, path)
        path.unlink()
        done += 1
    return done
