# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy in a second place: added to, read again there, never removed from; and a repository that is made of it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from . import durable
from .configuration import Configuration
from .encryption import CHUNK_BYTES
from .errors import BackupError
from .repository import DIRECTORIES, Repository

COPIED = ("wal", "backups")
MARKER = ".auditdb-offsite"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place(settings: Configuration) -> Path:
    """Return the second place; raise BackupError where it is not there."""
    if settings.offsite is None:
        raise BackupError("no second place is configured", "set postgresql_backup_offsite to a mounted directory")
    if not (settings.offsite / MARKER).exists():
        raise BackupError(f"{settings.offsite} is not marked as a second place", f"mount it, and make {MARKER} in it")
    return settings.offsite


def _files(root: Path) -> list[Path]:
    """Return what is copied, relative to the directory."""
    files = [path for part in COPIED for path in sorted((root / part).rglob("*")) if path.is_file()]
    found = [path.relative_to(root) for path in files if not any(part.startswith(".") for part in path.parts)]
    # The manifest makes a backup count: it comes after what it lists.
    return sorted(found, key=lambda path: path.name == "manifest.json")


def _copy(source: Path, target: Path, files: Iterable[Path]) -> int:
    """Copy what is not there yet, and return the number; raise BackupError where something is not what it should be."""
    copied = 0
    for path in files:
        place = target / path
        place.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        if not place.exists():
            with durable.create(place) as file, (source / path).open("rb") as reading:
                shutil.copyfileobj(reading, file, CHUNK_BYTES)
            copied += 1
        if _digest(place) != _digest(source / path):
            raise BackupError(f"{place} is not what was copied", "find out who changed it, and move it away")
    return copied


def copy(settings: Configuration) -> int:
    """Copy what the second place does not have yet, and return the number of files."""
    repository = Repository(settings.repository)
    repository.check()
    marker = repository.marker.relative_to(repository.root)
    return _copy(repository.root, _place(settings), [marker, *_files(repository.root)])


def adopt(settings: Configuration) -> bool:
    """Make the repository of the second place's copy, and return whether it was made: False where there is one."""
    repository = Repository(settings.repository)
    if repository.marker.exists():
        return False
    place = _place(settings)
    for name in DIRECTORIES:
        (repository.root / name).mkdir(mode=0o750, parents=True, exist_ok=True)
    # Its marker comes last: a copy that was cut short is no repository, and is gone on with.
    _copy(place, repository.root, [*_files(place), repository.marker.relative_to(repository.root)])
    return True
