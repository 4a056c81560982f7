# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy in a second place: added to, read again there, never removed from; and a repository that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from . import inventory, place
from .configuration import Configuration
from .errors import BackupError
from .place import Place
from .repository import DIRECTORIES, Repository

COPIED = ("wal", "backups", "pgbackrest")
MANIFEST = "manifest.json"


def _ordered(files: list[str]) -> list[str]:
    """Return what is copied. The manifest makes a backup count: it comes after what it lists."""
    return sorted((path for path in files if path.split("/")[0] in COPIED), key=lambda path: path.endswith(MANIFEST))


def copied(repository: Repository) -> dict[str, Path]:
    """Return what is copied of any engine's repository: path in the second place -> file here."""
    paths = [repository.marker.relative_to(repository.root)]
    for directory in (repository.wal, repository.backups):
        paths += [directory.relative_to(repository.root) / path for path in place.visible(directory)]
    return {path.as_posix(): repository.root / path for path in paths}


def copy(settings: Configuration, sources: Mapping[str, Path]) -> int:
    """Copy what the second place does not have yet, and return the number of files.

    ``sources``: path there -> file here. What is there is never changed, so a path stands for one content for ever.
    Everything there is read again, what has expired here too; raise BackupError where something is gone or is not what
    was copied.
    """
    Repository(settings.repository).check()
    files = [path for path in sources if path.split("/")[0] not in COPIED] + _ordered(list(sources))
    with place.opened(settings) as there:
        before = there.files()
        last = inventory.newest(settings, there, before)
        gone = sorted(set(last.files) - set(before))
        if gone:
            raise BackupError(f"{there}: {', '.join(gone[:5])} was there at {last.at} and is gone", inventory.TAMPERED)
        new = [path for path in files if path not in set(before)]
        for path in new:
            there.put(path, sources[path])
        now = _read_again(sources, there, {*files, *_ordered(before)}, last)
        inventory.add(settings, there, last, now)
    return len(new)


def _read_again(
    sources: Mapping[str, Path], there: Place, files: set[str], last: inventory.Inventory
) -> dict[str, str]:
    """Return the digest of each file as it is there; raise BackupError where it is not what it should be."""
    found = {}
    for path in sorted(files):
        found[path] = there.digest(path)
        wanted = place.digest(sources[path]) if path in sources else last.files.get(path, found[path])
        if found[path] != wanted:
            raise BackupError(f"{there}/{path} is not what was copied", "find out who changed it, and move it away")
    return found


def adopt(settings: Configuration, settle: Callable[[Path], None]) -> bool:
    """Make the repository of the second place's copy, and return whether it was made: False where there is one.

    ``settle``: what an engine does to the files before they count as a repository.
    """
    repository = Repository(settings.repository)
    if repository.marker.exists():
        return False
    with place.opened(settings) as there:
        files = there.files()
        listed = inventory.newest(settings, there, files).files
        for name in DIRECTORIES:
            (repository.root / name).mkdir(mode=0o750, parents=True, exist_ok=True)
        # Its marker comes last: a copy that was cut short is no repository, and is gone on with.
        for path in [*_ordered(files), repository.marker.name]:
            if path == repository.marker.name:
                settle(repository.root)
            target = repository.root / path
            target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            if not target.exists():
                there.get(path, target)
            if listed.get(path, found := place.digest(target)) != found:
                raise BackupError(f"{there}/{path} is not what was copied", "take it from another copy")
    return True
