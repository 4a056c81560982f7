# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The directory of a drill: its own, empty but for a marker, emptied before and after."""

from __future__ import annotations

import shutil
from pathlib import Path

from auditdb_backup.errors import BackupError

MARKER = "DRILL"


def clear(directory: Path) -> None:
    """Empty the directory; raise BackupError where it is not a drill's."""
    if not (directory / MARKER).exists():
        raise BackupError(
            f"{directory} has no file {MARKER}, so it is not a drill's", "give restore_drill_directory one of its own"
        )
    for path in directory.iterdir():
        if path.name != MARKER:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
