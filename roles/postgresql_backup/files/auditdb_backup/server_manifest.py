# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PostgreSQL's own manifest of a base backup."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .errors import BackupError

# Names, sizes and digests of the files, and nothing of what is in them: the next incremental backup needs it in clear.
NAME = "backup_manifest"


@dataclass(frozen=True)
class WalRange:
    """The WAL that the backup needs, from its first to its last position."""

    timeline: int
    start: str
    stop: str


def wal_range(data: Path) -> WalRange:
    """Return the WAL that the manifest in a data directory asks for."""
    ranges = json.loads((data / NAME).read_bytes())["WAL-Ranges"]
    if len(ranges) != 1:
        raise BackupError("the server changed its timeline during the backup", "take the backup again")
    return WalRange(int(ranges[0]["Timeline"]), str(ranges[0]["Start-LSN"]), str(ranges[0]["End-LSN"]))
