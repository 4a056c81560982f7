# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether there is room for a drill, told before the first byte is copied: a full disk would tell it in the middle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from auditdb_backup.backup import Backup
from auditdb_backup.errors import BackupError

WAL_SEGMENTS = 64
"""That a server which recovers keeps at most: 1 GB, the default of max_wal_size, in segments of 16 MB."""


def restored(known: Mapping[str, Backup | BackupError], names: Sequence[str], wal: int) -> int:
    """Return the bytes that a restore of these backups and so many WAL segments takes."""
    chosen = [each for name in names if isinstance(each := known[name], Backup)]
    plain = sum(artefact.plain_bytes for each in chosen for artefact in each.artefacts)
    # pg_combinebackup writes the combined copy beside its parts.
    combined = plain if len(chosen) > 1 else 0
    return plain + combined + min(wal, WAL_SEGMENTS) * max(each.wal_segment_bytes for each in chosen)


def check(directory: Path, needed: int) -> None:
    """Raise BackupError where the directory's file system has less than these bytes left."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise BackupError(
            f"restore_drill_directory {directory}: {needed} bytes are needed, {free} are free",
            "free some, give restore_drill_directory a larger place, or rehearse fewer cases",
        )
