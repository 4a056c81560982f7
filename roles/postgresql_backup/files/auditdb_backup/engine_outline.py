# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The second place on another host as a repository in outline: enough to choose from, and what is chosen is fetched.

In a directory of its own lie the manifests, the histories and one segment; of all other files only the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import engine_basebackup, engine_pgbackrest, place, wal_name
from .backup import MANIFEST
from .configuration import Configuration
from .offsite import COPIED
from .place import Place
from .repository import DIRECTORIES, Repository


class Engine(engine_basebackup.Engine):
    """What the second place keeps. Nothing is added to it."""

    def __init__(self, settings: Configuration, directory: Path) -> None:
        own = directory / "outline.json"
        super().__init__(replace(settings, repository=directory, backup_ssh=""), "", own, 0)
        self._there = settings
        repository = Repository(directory)
        for name in DIRECTORIES:
            (directory / name).mkdir(mode=0o700, parents=True)
        with place.opened(settings) as there:
            files = [path for path in there.files() if path.split("/")[0] in COPIED]
            # The size of a segment is told by one of them.
            segments = [path for path in files if wal_name.segment(Path(path).name)]
            for path in files:
                _outline(there, directory / path, path, whole=path == max(segments))
            there.get(repository.marker.name, repository.marker)

    def fetch(self, files: Sequence[Path], directory: Path) -> int:
        """Copy files of the second place."""
        size = 0
        with place.opened(self._there) as there:
            for path in files:
                target = directory / path
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                there.get(path.as_posix(), target)
                size += target.stat().st_size
        self._settle(directory)
        return size


class PgBackRestEngine(Engine, engine_pgbackrest.Engine):
    """What the second place keeps, where pgBackRest took the backups."""


def engine(settings: Configuration, directory: Path) -> Engine:
    """Return the engine over a second place, with its outline in this directory, which must not exist."""
    kind = PgBackRestEngine if settings.engine == "pgbackrest" else Engine
    return kind(settings, directory)


def _outline(there: Place, target: Path, path: str, *, whole: bool) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if whole or path.endswith((MANIFEST, ".history")):
        there.get(path, target)
    else:
        target.touch()
