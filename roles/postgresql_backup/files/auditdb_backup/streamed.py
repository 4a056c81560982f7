# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Streamed WAL as files: what the archive does not have yet.

It lies in the repository's directory ``stream`` as it is on the server: whole segments under their names, the one that
is being received under its name and ``.partial``, filled up with zeros.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from . import durable, wal_name
from .errors import BackupError
from .repository import Repository

PARTIAL = ".partial"


def names(directory: Path) -> list[str]:
    """Return the names of streamed files, the oldest first; none where nothing is streamed."""
    if not directory.is_dir():
        return []
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if entry.is_file() and wal_name.NAME.fullmatch(entry.name))


def completed(path: Path) -> Path:
    """Return what a streamed file is called once its segment is complete: what it held is in it."""
    return path.with_name(path.name.removesuffix(PARTIAL))


def find(repository: Repository, name: str, *, last: bool) -> Path | None:
    """Return the streamed file that can stand for the archived one of this name.

    One that is not whole can do so only for the last segment of its timeline: recovery would end too early otherwise.
    """
    for path in [repository.stream / name, *([repository.stream / f"{name}{PARTIAL}"] if last else [])]:
        if path.is_file():
            return path
    return None


def fetch(found: Path, target: Path, size: int) -> None:
    """Copy a streamed file to the target, durably; raise BackupError where a segment is shorter than ``size``."""
    temporary = durable.partial(target)
    try:
        shutil.copyfile(found, temporary)
        there = temporary.stat().st_size
        if wal_name.segment(found.name.removesuffix(PARTIAL)) and there != size:
            raise BackupError(
                f"streamed WAL file {found} has {there} bytes, a segment has {size}",
                "move it away: recovery ends before it then",
            )
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)


def received_at(directory: Path) -> datetime | None:
    """Return when the newest streamed byte was written; None where nothing is streamed."""
    times = [(directory / name).stat().st_mtime for name in names(directory)]
    return datetime.fromtimestamp(max(times), UTC) if times else None
