# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Negative controls: damage that must be found. A drill that would not find it proves nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from auditdb_backup.backup import Backup
from auditdb_backup.engine import Engine
from auditdb_backup.errors import BackupError
from auditdb_backup.repository import STREAM
from auditdb_backup.wal_name import holding, segment

from .rows import Row, row

GROUP = "negative controls"
REMEDY = "what a verification overlooks is not proven: treat all backups as unproven, and find out why"
MANIFEST = "manifest.json"


def look(engine: Engine, root: Path, backups: list[str]) -> list[Row]:
    """Damage the copy in each way, and return whether it was found. It is as before afterwards."""
    newest = backups[-1]
    files = [root / path for path in engine.files([newest])]
    data = _largest(path for path in files if newest in path.parts)
    known = [each for each in engine.backups().values() if isinstance(each, Backup)]
    name = needed((path.name for path in (root / "wal").iterdir()), known)
    # What was streamed of it counts only until it is archived.
    archived = (path for path in files if path.parent.name != STREAM)
    lost = _largest(path for path in archived if path.name.split("-")[0] == name)
    clean = row(GROUP, "an undamaged copy is not found fault with", _said(engine, None), REMEDY)
    rows = [clean]
    with _flipped(data):
        rows.append(_found("a flipped byte in a backup is found", engine, newest, newest))
    with _away(root / "backups" / newest / MANIFEST):
        rows.append(_found("a deleted manifest is found", engine, newest, newest))
    with _away(lost):
        rows.append(_found("a missing WAL segment is found", engine, None, name))
    with _flipped(lost):
        rows.append(_found("a flipped byte in a WAL segment is found", engine, None, name))
    return rows


def _largest(files: Iterable[Path]) -> Path:
    """Return the one that holds the bytes, and not what is noted of them."""
    return max(files, key=lambda path: path.stat().st_size)


def needed(names: Iterable[str], backups: Iterable[Backup]) -> str:
    """Return the name of a segment that must not be missing: from the middle of what came after the newest backup.

    Older backups count less: where two were taken on a day, retention keeps moments from the newer one on alone.
    """
    newest = max((each for each in backups if each.kind != "logical"), key=lambda each: each.started_at)
    size = newest.wal_segment_bytes
    own = holding(newest.start_lsn, newest.timeline, size)
    found = (segment(name, size) for name in names)
    later = sorted(each for each in found if each and each.timeline == own.timeline and each.number >= own.number)
    # The last that is archived has no successor that would tell of a gap.
    return (later[len(later) // 2] if len(later) > 2 else own).name(size)


def _said(engine: Engine, only: str | None) -> list[str]:
    try:
        return [f"{each.subject}: {each.message}" for each in engine.verify(only, None)]
    except BackupError as error:
        return [str(error)]


def _found(name: str, engine: Engine, only: str | None, subject: str) -> Row:
    said = _said(engine, only)
    named = [text for text in said if subject in text]
    return row(
        GROUP, name, [] if named else [f"{subject} was damaged, and verifying said: {said or 'nothing'}"], REMEDY
    )


@contextlib.contextmanager
def _flipped(path: Path) -> Iterator[None]:
    def flip() -> None:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))

    flip()
    try:
        yield
    finally:
        flip()


@contextlib.contextmanager
def _away(path: Path) -> Iterator[None]:
    hidden = path.with_name(f".{path.name}.away")
    path.rename(hidden)
    try:
        yield
    finally:
        hidden.rename(path)
