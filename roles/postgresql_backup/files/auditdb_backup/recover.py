# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring a restored directory to its target beside the running cluster, unreachable over any network, and stop it.

So the cluster is exchanged for a copy that has recovered already, and not for one that may yet fail to.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import alone
from .canonical import canonical
from .configuration import Configuration
from .errors import BackupError

MARKER = "auditdb_restore.json"
"""In the directory: what it was restored to, until it has taken the place of the cluster's."""
RECOVERED = "recovered"
# Whatever the recovery was told must not hold for the server that the directory becomes.
RESET = (
    "restore_command",
    "archive_mode",
    "archive_cleanup_command",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
)


@dataclass(frozen=True)
class Recovered:
    """Where recovery ended."""

    lsn: str
    """The last position that was replayed."""
    last_commit: str | None
    """Of the last transaction that was replayed; None where there was none."""
    timeline: int
    milliseconds: int
    phases: Mapping[str, int]
    """Milliseconds of start, replay and promote, as the server's log tells them."""


def mark(directory: Path, content: dict[str, Any]) -> None:
    """Write down in a restored directory what it was restored to."""
    (directory / MARKER).write_bytes(canonical(content) + b"\n")


def read_mark(directory: Path) -> dict[str, Any] | None:
    """Return what a directory was restored to; None where it is not one that a restore made."""
    path = directory / MARKER
    found: dict[str, Any] | None = json.loads(path.read_bytes()) if path.exists() else None
    return found


def recover(settings: Configuration, directory: Path, seconds: int) -> Recovered:
    """Start the directory, wait until it has recovered and accepts writes, take its settings back, and stop it."""
    marked = read_mark(directory)
    if marked is None:
        raise BackupError(f"{directory} was not made by a restore", "restore into it first: auditdb-backup restore")
    if RECOVERED in marked:
        return Recovered(**marked[RECOVERED])
    begun, moment = time.monotonic(), time.time()
    with alone.running(settings, directory, seconds, alone.configuration_of(settings), {}) as server:
        with contextlib.closing(server.connect()) as connection, connection.cursor() as cursor:
            for name in RESET:
                cursor.execute(f"ALTER SYSTEM RESET {name}")
            cursor.execute("CHECKPOINT")
        reached = where(server)
        phases = server.milliseconds(moment)
    found = Recovered(*reached, round((time.monotonic() - begun) * 1000), phases)
    mark(directory, {**marked, RECOVERED: found.__dict__})
    return found


def where(server: alone.Server) -> tuple[str, str | None, int]:
    """Return the last position and commit that were replayed, and the timeline that was begun."""
    with contextlib.closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_last_wal_replay_lsn()::text, "
            "to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), "
            "(SELECT timeline_id FROM pg_control_checkpoint())"
        )
        lsn, last_commit, timeline = cursor.fetchone()
    return lsn, last_commit, timeline
