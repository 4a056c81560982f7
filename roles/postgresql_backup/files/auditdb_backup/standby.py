# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A standby that a base backup can be taken from: it has shown that its WAL is the primary's, and up to date."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from .configuration import Configuration
from .errors import BackupError
from .postgres import Checkpoint, Server
from .server_manifest import WalRange
from .wal_name import position

LOOK_SECONDS = 0.3
SIGNAL = "standby.signal"
"""In a data directory: it is a standby's. A backup of a standby has it, too."""
LABEL = "backup_label"


class LeadsError(BackupError):
    """It is the member that leads now: another one is asked, and nothing is to be said of it."""


def reach(settings: Configuration, address: str, primary: Server, *, incremental: bool) -> tuple[Server, Checkpoint]:
    """Return the standby and the checkpoint from which on a backup of it begins; raise BackupError why it is not taken.

    The primary makes a checkpoint for it. So nothing in the backup is older than the job, and an incremental one begins
    after its parent's end, however quiet the standby is.
    """
    server = Server(replace(settings, host=address))
    found = server.standby()
    if not found.in_recovery and address in settings.members:
        raise LeadsError(f"{address} leads", "ask another member")
    if not found.in_recovery:
        raise BackupError("it is no standby: it is not in recovery", "take it out of postgresql_backup_standbys")
    identifier = primary.facts().system_identifier
    if found.system_identifier != identifier:
        raise BackupError(
            f"it is of another cluster: its system identifier is {found.system_identifier}, and not {identifier}",
            "take it out of postgresql_backup_standbys",
        )
    if incremental and not found.summarizes:
        raise BackupError("it does not summarize WAL", "set summarize_wal to on there, and reload it")
    return server, _agree(primary, server, settings.standby_lag)


def _agree(primary: Server, server: Server, seconds: int) -> Checkpoint:
    """Return a checkpoint that the primary has made now, and the standby after it.

    Servers that know the same checkpoint, to the transaction and the second, have the same WAL up to there. A system
    identifier does not tell: a copy that was started elsewhere has it, too.
    """
    asked = primary.checkpoint()
    known = {asked}
    deadline = time.monotonic() + seconds
    while (found := server.checkpoint()) not in known:
        if time.monotonic() > deadline:
            if found.timeline != asked.timeline:
                raise BackupError(
                    f"it is on timeline {found.timeline}, and the primary on {asked.timeline}", "make the standby anew"
                )
            if position(found.lsn) > position(asked.lsn):
                raise BackupError("its WAL is not the primary's", "make the standby anew")
            raise BackupError(
                f"it lags: within {seconds} s it has not replayed the primary's checkpoint at {asked.lsn}, only that "
                f"at {found.lsn}",
                "see whether it streams (pg_stat_wal_receiver), or allow it more: postgresql_backup_standby_lag",
            )
        time.sleep(LOOK_SECONDS)
        known.add(primary.last_checkpoint())
    return found


def check(data: Path, needed: WalRange, agreed: Checkpoint, primary: Server) -> None:
    """See that what was copied is a standby's, of the primary's WAL; raise BackupError otherwise."""
    label = dict(line.split(": ", 1) for line in (data / LABEL).read_text().splitlines() if ": " in line)
    if label.get("BACKUP FROM") != "standby":
        raise BackupError("it was no standby any more when the backup began", "see who promoted it")
    timeline, written = primary.flushed()
    if not needed.timeline == agreed.timeline == timeline:
        raise BackupError(
            f"it was copied on timeline {needed.timeline}, and the primary is on {timeline}", "see who promoted it"
        )
    if position(needed.start) < position(agreed.redo) or position(needed.stop) > written:
        raise BackupError(
            f"what was copied needs WAL from {needed.start} to {needed.stop}, which the primary does not have",
            "make the standby anew",
        )
