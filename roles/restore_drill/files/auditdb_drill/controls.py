# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Negative controls: damage that must be found. A drill that would not find it proves nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from auditdb_backup.backup import Backup
from auditdb_backup.engine import Engine
from auditdb_backup.errors import BackupError
from auditdb_backup.wal_name import holding

from .rows import Row, row

GROUP = "negative controls"
REMEDY = "what a verification overlooks is not proven: treat all backups as unproven, and find out why"
MANIFEST = "manifest.json"
SEGMENT = re.compile("[0-9A-F]{24}")


def look(engine: Engine, root: Path, backups: list[str]) -> list[Row]:
    """Damage the copy in each way, and return whether it was found. It is as before afterwards."""
    newest = backups[-1]
    data = max((root / "backups" / newest).iterdir(), key=lambda path: path.stat().st_size)
    lost = _needed(engine, root, newest)
    clean = row(GROUP, "an undamaged copy is not found fault with", _said(engine, None), REMEDY)
    rows = [clean]
    with _flipped(data):
        rows.append(_found("a flipped byte in a backup is found", engine, newest, newest))
    with _away(root / "backups" / newest / MANIFEST):
        rows.append(_found("a deleted manifest is found", engine, newest, newest))
    with _away(lost):
        rows.append(_found("a missing WAL segment is found", engine, None, lost.name))
    with _flipped(lost):
        rows.append(_found("a flipped byte in a WAL segment is found", engine, None, lost.name))
    return rows


def _needed(engine: Engine, root: Path, newest: str) -> Path:
    """Return a segment that a restore needs: from the middle of the newest timeline, or the backup's own."""
    backup = engine.backups()[newest]
    assert isinstance(backup, Backup)
    segments = sorted(path for path in (root / "wal").iterdir() if SEGMENT.fullmatch(path.name))
    last = [path for path in segments if path.name[:8] == segments[-1].name[:8]]
    if len(last) > 2:
        return last[len(last) // 2]
    return (
        root
        / "wal"
        / holding(backup.start_lsn, backup.timeline, backup.wal_segment_bytes).name(backup.wal_segment_bytes)
    )


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
