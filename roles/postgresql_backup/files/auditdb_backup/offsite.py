# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy in a second place: added to, read again there, never removed from."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from . import durable
from .configuration import Configuration
from .encryption import CHUNK_BYTES
from .errors import BackupError
from .repository import Repository

COPIED = ("wal", "backups")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy(settings: Configuration) -> int:
    """Copy what is not there yet; raise BackupError where something there is not what it should be."""
    repository = Repository(settings.repository)
    repository.check()
    if settings.offsite is None:
        raise BackupError("no second place is configured", "set postgresql_backup_offsite to a mounted directory")
    if not (settings.offsite / ".auditdb-offsite").exists():
        raise BackupError(
            f"{settings.offsite} is not marked as a second place", "mount it, and make .auditdb-offsite in it"
        )
    copied = 0
    files = [path for part in COPIED for path in sorted((repository.root / part).rglob("*")) if _counts(path)]
    # The manifest makes a backup count: it comes after what it lists.
    files.sort(key=lambda path: path.name == "manifest.json")
    for source in [repository.marker, *files]:
        target = settings.offsite / source.relative_to(repository.root)
        target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        if not target.exists():
            with durable.create(target) as file, source.open("rb") as reading:
                shutil.copyfileobj(reading, file, CHUNK_BYTES)
            copied += 1
        if _digest(target) != _digest(source):
            raise BackupError(f"{target} is not what was copied", "find out who changed it, and move it away")
    return copied


def _counts(path: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.parts)
