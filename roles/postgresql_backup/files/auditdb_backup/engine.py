# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract that an engine fulfils. Timers, metrics, drills and reports know only this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .backup import Backup
from .configuration import Configuration
from .errors import BackupError
from .retention import Plan
from .wal_continuity import WalState


@dataclass(frozen=True)
class Finding:
    """Something that verifying found wrong."""

    subject: str
    """A backup's id, or the name of a WAL file."""
    message: str


@dataclass(frozen=True)
class Target:
    """Where recovery ends: one of these, or the end of the archived WAL."""

    time: str | None = None
    lsn: str | None = None
    xid: str | None = None
    name: str | None = None
    immediate: bool = False
    timeline: str = "latest"
    action: str = "promote"
    """promote, pause or shutdown: what the server does once it is there."""


@dataclass(frozen=True)
class Request:
    """What is restored, where to, and up to which moment."""

    directory: Path
    identity: Path
    backup: str | None
    """The backup's id; the newest that precedes the target where None."""
    target: Target


@dataclass(frozen=True)
class Restored:
    """What a restore made."""

    directory: Path
    backups: Sequence[str]
    """Ids, the full one first."""
    milliseconds: Mapping[str, int]
    """By phase: decrypt, combine, verify."""


class Engine(Protocol):
    """One way to keep backups."""

    def prepare(self, made: bool) -> None:
        """Make what the repository needs besides its directories; ``made``: these were made now."""

    def push(self, path: Path) -> bool:
        """Archive a WAL file, durably; False where an identical one is archived already."""

    def get(self, name: str, target: Path, identity: Path) -> bool:
        """Fetch a WAL file; False where neither it nor anything after it is archived."""

    def backup(self, kind: str) -> Backup | None:
        """Take a backup: full, incremental or logical. None where only WAL was archived."""

    def backups(self) -> Mapping[str, Backup | BackupError]:
        """Return all backups by id, the oldest first; an error in place of one that cannot be used."""

    def wal(self) -> WalState:
        """Return what is archived, from the oldest usable backup on, and what is missing."""

    def verify(self, only: str | None, identity: Path | None) -> list[Finding]:
        """Read backups and WAL again, and return what is wrong; decrypt them too where there is an identity."""

    def expire(self, dry_run: bool) -> Plan:
        """Remove what retention does not keep."""

    def restore(self, request: Request) -> Restored:
        """Make an empty directory a data directory that recovers to the target when it is started."""

    def check_restore(self, request: Request) -> Sequence[str]:
        """Return the ids of the backups that a restore would use; raise BackupError where it would refuse."""

    def files(self, backups: Sequence[str]) -> Iterator[Path]:
        """Yield what a restore of these backups to any later moment reads: files, relative to the repository."""

    def fetch(self, files: Sequence[Path], directory: Path) -> int:
        """Copy files, relative to the repository, into a directory; return how many bytes they have."""

    def local(self, backups: Sequence[str]) -> AbstractContextManager[Configuration]:
        """Return a context manager that yields the configuration of a repository on this host with these backups."""

    def offsite(self) -> int:
        """Copy what the second place does not have yet, and return the number of files."""

    def adopt(self) -> bool:
        """Make the repository of the second place's copy, where there is none; return whether it was made."""
