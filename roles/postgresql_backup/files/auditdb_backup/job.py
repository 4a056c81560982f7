# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records of jobs: when each last began, succeeded and failed. The jobs write them themselves."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import clock, durable
from .canonical import canonical
from .repository import Repository


@dataclass(frozen=True)
class Job:
    """What is known of a job. Moments are ISO 8601 in UTC."""

    started_at: str | None = None
    succeeded_at: str | None = None
    failed_at: str | None = None
    error: str = ""
    milliseconds: int = 0
    """Of the last run that ended."""
    process: int = 0
    """Of the last run that began."""

    @property
    def open(self) -> bool:
        """Return whether the last run has not said how it ended."""
        return self.started_at is not None and self.started_at > max(self.succeeded_at or "", self.failed_at or "")

    @property
    def running(self) -> bool:
        """Return whether the last run is at work, as far as this host knows."""
        command = Path(f"/proc/{self.process}/cmdline")
        return self.open and command.exists() and b"auditdb-backup" in command.read_bytes()


def read(repository: Repository, name: str) -> Job:
    """Return what is known of the job."""
    path = repository.jobs / f"{name}.json"
    return Job(**json.loads(path.read_bytes())) if path.exists() else Job()


def write(repository: Repository, name: str, job: Job) -> None:
    """Keep what is known of the job."""
    durable.replace(repository.jobs / f"{name}.json", canonical(asdict(job)) + b"\n")


@contextmanager
def recorded(repository: Repository, name: str) -> Iterator[None]:
    """Record that the job begins, and how the block ends."""
    repository.check_user()
    begun = time.monotonic()
    job = replace(read(repository, name), started_at=clock.write(clock.now()), process=os.getpid())
    write(repository, name, job)

    def spent() -> int:
        return round((time.monotonic() - begun) * 1000)

    try:
        yield
    except BaseException as error:
        said = str(error) or type(error).__name__
        write(repository, name, replace(job, failed_at=clock.write(clock.now()), error=said, milliseconds=spent()))
        raise
    write(repository, name, replace(job, succeeded_at=clock.write(clock.now()), error="", milliseconds=spent()))
