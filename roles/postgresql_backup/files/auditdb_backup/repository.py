# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The repository: a directory with WAL, backups, proofs and the records of jobs."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from . import clock, durable
from .canonical import canonical
from .errors import BackupError

FORMAT = 1
DIRECTORIES = ("wal", "backups", "proofs", "jobs", "work")
STREAM = "stream"
REMOVE_SECONDS = 30


def _remove(directory: Path) -> None:
    """Remove a directory of a run that was killed: a program that it had started may write there until it notices."""
    deadline = time.monotonic() + REMOVE_SECONDS
    while directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@dataclass(frozen=True)
class Repository:
    """Where everything lies under the repository's directory."""

    root: Path

    @property
    def marker(self) -> Path:
        """Return the file that says whose repository this is; without it, nothing is written or read."""
        return self.root / "repository.json"

    @property
    def wal(self) -> Path:
        """Return the directory of archived WAL."""
        return self.root / "wal"

    @property
    def stream(self) -> Path:
        """Return the directory of WAL that is received as it is written; made by what receives it."""
        return self.root / STREAM

    @property
    def backups(self) -> Path:
        """Return the directory of backups, each in a directory of its own."""
        return self.root / "backups"

    @property
    def proofs(self) -> Path:
        """Return the directory of what verifying and restoring found."""
        return self.root / "proofs"

    @property
    def jobs(self) -> Path:
        """Return the directory of the jobs' records."""
        return self.root / "jobs"

    @property
    def work(self) -> Path:
        """Return the directory of what is unfinished."""
        return self.root / "work"

    def create(self, cluster: str, system_identifier: str) -> bool:
        """Make the repository, and return whether it was made; raise BackupError where it is another cluster's."""
        if self.marker.exists():
            found = self.check()["system_identifier"]
            if found != system_identifier:
                raise BackupError(
                    f"{self.root} holds the backups of the cluster with system identifier {found}, this one has "
                    f"{system_identifier}",
                    "give this cluster a repository of its own, or move the old one away",
                )
            return False
        for name in DIRECTORIES:
            (self.root / name).mkdir(mode=0o750, parents=True, exist_ok=True)
        content = {
            "cluster": cluster,
            "created_at": clock.write(clock.now()),
            "format": FORMAT,
            "system_identifier": system_identifier,
        }
        durable.replace(self.marker, canonical(content) + b"\n")
        return True

    def check(self) -> dict[str, Any]:
        """Return what the marker says; raise BackupError where there is no repository, such as a mount that is gone."""
        try:
            content: dict[str, Any] = json.loads(self.marker.read_bytes())
        except OSError as error:
            raise BackupError(
                f"there is no repository: {error.strerror}: {self.marker}",
                "mount it, check its owner and mode, or run the role postgresql_backup, which makes it",
            ) from error
        except ValueError as error:
            raise BackupError(f"{self.marker} is damaged: {error}", "restore it from a copy") from error
        return content

    def check_user(self) -> None:
        """Raise BackupError for a user whose files the repository's owner could not change, such as root."""
        self.check()
        if os.geteuid() != self.marker.stat().st_uid:
            owner = self.marker.owner()
            raise BackupError(f"{self.root} belongs to {owner}", f"run this as {owner}: sudo --user={owner}")

    @contextmanager
    def lock(self, what: str, wait: int = 0) -> Iterator[None]:
        """Hold the only right to change backups; raise BackupError where another run has it for longer than this."""
        self.check_user()
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, durable.MODE)
        deadline = time.monotonic() + wait
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        running = os.pread(descriptor, 200, 0).decode(errors="replace")
                        raise BackupError(
                            f"{what}: another run is at work ({running})", "wait for it to end, or give --wait"
                        ) from None
                    time.sleep(1)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{what}, process {os.getpid()}".encode())
            yield
        finally:
            os.close(descriptor)

    def begin(self, kind: str) -> tuple[datetime, str]:
        """Return the moment and the id of a backup that begins. The lock is held: no two get the same."""
        while True:
            started = clock.now()
            name = f"{started:%Y%m%dT%H%M%SZ}-{kind}"
            if not (self.backups / name).exists():
                return started, name
            time.sleep(0.1)

    @contextmanager
    def workplace(self, name: str) -> Iterator[Path]:
        """Yield an empty directory that is gone after the block. The lock is held: what else is here was killed."""
        for left in self.work.iterdir():
            _remove(left)
        place = self.work / name
        place.mkdir(mode=0o700)
        try:
            yield place
        finally:
            shutil.rmtree(place)
