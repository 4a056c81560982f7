# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The second place: somewhere that files are added to and read again from, and never removed from or changed in."""

from __future__ import annotations

import hashlib
import re
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path, PurePosixPath
from typing import Protocol

from . import durable
from .configuration import Configuration
from .encryption import CHUNK_BYTES
from .errors import BackupError

MARKER = ".auditdb-offsite"
PART = re.compile(r"[A-Za-z0-9_%][A-Za-z0-9_%.-]*")
DEPTH = 8
"""Of pgBackRest's files, the deepest: those of a database."""


def checked(path: str) -> PurePosixPath:
    """Return the path of a file in the place; raise BackupError for one that could lead out of it or is hidden."""
    parts = path.split("/")
    if len(parts) > DEPTH or not all(PART.fullmatch(part) for part in parts):
        raise BackupError(f"'{path}' is no file of a repository", "give a path as the repository has it")
    return PurePosixPath(path)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def visible(root: Path) -> list[str]:
    """Return the files under the directory, relative to it, without hidden ones."""
    files = [path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file()]
    return [path.as_posix() for path in files if not any(part.startswith(".") for part in path.parts)]


class Place(Protocol):
    """What a second place can do."""

    def __str__(self) -> str:
        """Return its name for messages."""

    def files(self) -> list[str]:
        """Return the paths of all files."""

    def digest(self, path: str) -> str:
        """Return the SHA-256 of a file, read anew there."""

    def put(self, path: str, source: Path) -> None:
        """Add a file, durably; raise BackupError where there is a different one."""

    def get(self, path: str, target: Path) -> None:
        """Copy a file from there, durably; the target must not exist."""


class Directory:
    """A mounted directory."""

    def __init__(self, root: Path) -> None:
        if not (root / MARKER).exists():
            raise BackupError(f"{root} is not marked as a second place", f"mount it, and make {MARKER} in it")
        self._root = root

    def __str__(self) -> str:
        """Return the directory."""
        return str(self._root)

    def files(self) -> list[str]:
        """Return the paths of all files."""
        return visible(self._root)

    def digest(self, path: str) -> str:
        """Return the SHA-256 of a file."""
        return digest(self._root / checked(path))

    def put(self, path: str, source: Path) -> None:
        """Add a file."""
        place = self._root / checked(path)
        place.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        _copy(source, place)

    def get(self, path: str, target: Path) -> None:
        """Copy a file from there."""
        _copy(self._root / checked(path), target)


def _copy(source: Path, target: Path) -> None:
    with durable.create(target) as file, source.open("rb") as reading:
        shutil.copyfileobj(reading, file, CHUNK_BYTES)


def opened(settings: Configuration) -> AbstractContextManager[Place]:
    """Return a context manager that yields the second place; raise BackupError where there is none."""
    if settings.offsite:
        return nullcontext(Directory(settings.offsite))
    if settings.offsite_ssh:
        # Not before it is needed: it needs this module.
        from .place_ssh import connection  # noqa: PLC0415

        return connection(settings)
    raise BackupError(
        "no second place is configured", "set postgresql_backup_offsite_host, or postgresql_backup_offsite"
    )
