# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine that needs nothing but PostgreSQL's own programs, zstd and age."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from . import base_backup, logical_backup, offsite, proof, restore, streamed, verify, wal_archive
from .backup import Backup, load_all
from .chains import broken, build, needs, trusted
from .configuration import Configuration
from .engine import Finding, Request, Restored
from .errors import BackupError
from .expire import remove
from .postgres import Server
from .repository import Repository
from .restore import Unpack
from .retention import Plan, daily, dropped, dropped_wal, keep
from .verify import Reader as AnyReader
from .wal_continuity import WalState, leads
from .wal_name import holding, segment

SWITCH_SECONDS = 120


class Reader:
    """Reads again what this engine stores."""

    def __init__(self, settings: Configuration) -> None:
        self._settings = settings

    def backup(self, each: Backup, identity: Path | None) -> None:
        """Read a backup."""
        verify.read_backup(self._settings, each, identity)

    def wal(self, name: str, identity: Path | None) -> None:
        """Read a WAL file."""
        verify.read_wal(Repository(self._settings.repository), name, identity)


class Engine:
    """The engine ``basebackup``."""

    _incremental_since = base_backup.INCREMENTAL_SINCE

    def __init__(self, settings: Configuration, program: str, configuration: Path, wait: int) -> None:
        self._settings = settings
        self._repository = Repository(settings.repository)
        self._own = [program, "--config", str(configuration)]
        self._wait = wait

    def prepare(self, made: bool) -> None:
        """Make what the repository needs besides its directories: nothing."""

    def push(self, path: Path) -> bool:
        """Archive a WAL file."""
        return wal_archive.push(self._settings, path)

    def get(self, name: str, target: Path, identity: Path) -> bool:
        """Fetch a WAL file."""
        return wal_archive.get(self._settings, name, target, identity)

    def backups(self) -> Mapping[str, Backup | BackupError]:
        """Return all backups."""
        self._repository.check()
        return load_all(self._repository.backups)

    def wal(self) -> WalState:
        """Return what is archived."""
        return verify.wal_state(self._repository, self.backups(), self._settings.retention)

    def backup(self, kind: str) -> Backup | None:
        """Take a backup. Before PostgreSQL 17, an incremental one is the WAL up to now, whole."""
        with self._repository.lock(f"backup {kind}", self._wait):
            if kind == "logical":
                return logical_backup.take(self._settings)
            if kind == "full":
                return self._take(None)
            if Server(self._settings).facts().major < self._incremental_since:
                self._switch()
                return None
            return self._take(self._parent())

    def _take(self, parent: Backup | None) -> Backup:
        return base_backup.take(self._settings, parent)

    def _trusted(self) -> Mapping[str, Backup | BackupError]:
        backups = self.backups()
        return trusted(backups, proof.read_all(self._repository, backups))

    def _parent(self) -> Backup:
        """Return the backup on which an incremental one is to rest: the newest that leads to the server's timeline."""
        known = self._trusted()
        timeline = int(Server(self._settings).archiver().current[:8], 16)
        parents = wal_archive.parents(self._repository.wal)
        usable = [
            each
            for each in known.values()
            if isinstance(each, Backup)
            and each.kind != "logical"
            and not broken(known, each)
            and leads(each.timeline, each.stop_lsn, timeline, parents)
        ]
        if not usable:
            raise BackupError(
                f"there is no backup on timeline {timeline} for an incremental one to rest on",
                "auditdb-backup backup full",
            )
        return usable[-1]

    def _switch(self) -> None:
        """End the current segment, wait until it is archived, and see that none is missing."""
        name = Server(self._settings).switch_wal()
        deadline = time.monotonic() + SWITCH_SECONDS
        while not (self._repository.wal / name).exists():
            if time.monotonic() > deadline:
                raise BackupError(
                    f"WAL file {name} was not archived within {SWITCH_SECONDS} s",
                    "see why archive_command fails: the server's log",
                )
            time.sleep(0.2)
        state = self.wal()
        if state.missing:
            raise BackupError(
                f"WAL is missing: {', '.join(state.missing[:5])}", "take a full backup: auditdb-backup backup full"
            )

    def verify(self, only: str | None, identity: Path | None) -> list[Finding]:
        """Read backups and WAL again."""
        with self._repository.lock("verify", self._wait):
            return verify.verify(self._settings, self.backups(), only, identity, self._reader())

    def _reader(self) -> AnyReader:
        return Reader(self._settings)

    def expire(self, dry_run: bool) -> Plan:
        """Remove what retention does not keep."""
        with self._repository.lock("expire", self._wait):
            plan = self._plan()
            if not dry_run:
                self._remove(plan)
            return plan

    def _remove(self, plan: Plan) -> None:
        remove(self._repository, plan)

    def _plan(self) -> Plan:
        policy = self._settings.retention
        backups = self.backups()
        proofs = proof.read_all(self._repository, backups)
        physical, logical = build(backups, proofs), build(backups, proofs, logical=True)
        kept = keep(physical, policy)
        # From the oldest chain of the last days on, every moment can be restored; older ones keep what they need.
        onwards = [each.id for each in daily(physical, kept)]
        stay = [each for each in physical if each.id in kept]
        archive = self._repository.wal
        wanted = needs(stay, backups, set(onwards))
        wal = dropped_wal(wal_archive.names(archive), wanted, wal_archive.segment_bytes(archive))
        kept |= keep(logical, policy)
        return Plan(kept, dropped([*physical, *logical], kept), wal, onwards[0] if onwards else None)

    def restore(self, request: Request) -> Restored:
        """Restore into an empty directory."""
        return restore.restore(self._settings, self._trusted(), request, self._own, self._unpacking())

    def _unpacking(self) -> Unpack:
        return restore.unpacking(self._settings)

    def check_restore(self, request: Request) -> list[str]:
        """Return what a restore would use."""
        return restore.check(self._settings, self._trusted(), request, self._own)

    def files(self, backups: Sequence[str]) -> Iterator[Path]:
        """Yield the files of these backups, and the WAL from the oldest of them on, of all timelines."""
        root = self._repository.root
        yield self._repository.marker.relative_to(root)
        chosen = [each for name, each in self.backups().items() if name in backups and isinstance(each, Backup)]
        for each in chosen:
            place = self._repository.backups / each.id
            yield from (path.relative_to(root) for path in sorted(place.iterdir()))
        size = wal_archive.segment_bytes(self._repository.wal)
        begin = min(holding(each.start_lsn, each.timeline, size).number for each in chosen)
        for name in wal_archive.names(self._repository.wal):
            found = segment(name, size)
            if found is None or found.number >= begin:
                yield Path(self._repository.wal.name, name)
        for name in streamed.names(self._repository.stream):
            yield Path(self._repository.stream.name, name)

    def fetch(self, files: Sequence[Path], directory: Path) -> int:
        """Copy files of the repository."""
        size = 0
        for path in files:
            there = path if (self._repository.root / path).exists() else streamed.completed(path)
            target = directory / there
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._repository.root / there, target)
            size += target.stat().st_size
        self._settle(directory)
        return size

    def _settle(self, directory: Path) -> None:
        """Make files that were fetched a repository: there is nothing to do."""

    def local(self, backups: Sequence[str]) -> AbstractContextManager[Configuration]:
        """Return a context manager that yields the configuration: the repository is on this host."""
        return nullcontext(self._settings)

    def offsite(self) -> int:
        """Copy what the second place does not have yet."""
        with self._repository.lock("offsite", self._wait):
            return offsite.copy(self._settings, self._copied())

    def _copied(self) -> dict[str, Path]:
        return offsite.copied(self._repository)

    def adopt(self) -> bool:
        """Make the repository of the second place's copy."""
        return offsite.adopt(self._settings, self._settle)
