# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring a restored directory to its target beside the running cluster, unreachable over any network, and stop it.

So the cluster is exchanged for a copy that has recovered already, and not for one that may yet fail to.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from .canonical import canonical
from .configuration import Configuration
from .errors import BackupError
from .processes import ENVIRONMENT, run

MARKER = "auditdb_restore.json"
"""In the directory: what it was restored to, until it has taken the place of the cluster's."""
RECOVERED = "recovered"
LOG_BYTES = 4000
PORT = 5432
"""Of the socket, in a directory of its own."""
ALONE = {
    "listen_addresses": "",
    "port": str(PORT),
    "archive_mode": "off",
    # Nobody is to look while it recovers, and so limits need not be as high as the original's.
    "hot_standby": "off",
    "shared_buffers": "128MB",
    "max_wal_senders": "0",
    "wal_level": "replica",
    "summarize_wal": "off",
    "ssl": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "log",
}
# Whatever the recovery was told must not hold for the server that the directory becomes.
RESET = (
    "restore_command",
    "archive_mode",
    "primary_conninfo",
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
    begun = time.monotonic()
    with _running(settings, directory, begun + seconds) as connection, connection.cursor() as cursor:
        for name in RESET:
            cursor.execute(f"ALTER SYSTEM RESET {name}")
        cursor.execute("CHECKPOINT")
        cursor.execute(
            "SELECT pg_last_wal_replay_lsn()::text, "
            "to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), "
            "(SELECT timeline_id FROM pg_control_checkpoint())"
        )
        lsn, last_commit, timeline = cursor.fetchone()
    found = Recovered(lsn, last_commit, timeline, round((time.monotonic() - begun) * 1000))
    mark(directory, {**marked, RECOVERED: found.__dict__})
    return found


@contextlib.contextmanager
def _running(settings: Configuration, directory: Path, deadline: float) -> Iterator[Any]:
    """Run the server alone in the directory until the block ends; yield a connection once it has recovered."""
    program = settings.bin / "pg_ctl"
    if (directory / "postmaster.pid").exists():  # of a run that was killed
        subprocess.run([program, "stop", "-D", directory, "-m", "immediate", "-s"], check=False, env=ENVIRONMENT)
        (directory / "postmaster.pid").unlink(missing_ok=True)
    etc = Path("/etc/postgresql") / settings.bin.parent.name / settings.cluster / "postgresql.conf"
    place = Path(tempfile.mkdtemp(prefix="auditdb-recover-"))
    log = place / "log"
    options = {
        **ALONE,
        "config_file": str(etc),
        "data_directory": str(directory),
        "unix_socket_directories": str(place),
        "external_pid_file": str(place / "pid"),
    }
    if int(settings.bin.parent.name) < 17:
        options.pop("summarize_wal")
    words = " ".join(f"-c {name}='{value}'" for name, value in options.items())
    try:
        run([str(program), "start", "-D", str(directory), "-l", str(log), "-W", "-s", "-o", words])
        connection = _wait(settings, place, log, directory, deadline)
        try:
            yield connection
        finally:
            connection.close()
        run([str(program), "stop", "-D", str(directory), "-m", "fast", "-w", "-t", "600", "-s"])
    finally:
        if (directory / "postmaster.pid").exists():
            subprocess.run([program, "stop", "-D", directory, "-m", "immediate", "-s"], check=False, env=ENVIRONMENT)
        shutil.rmtree(place, ignore_errors=True)


def _wait(settings: Configuration, place: Path, log: Path, directory: Path, deadline: float) -> Any:
    """Return a connection once recovery has ended; raise BackupError where it failed, with the end of the log."""
    started = time.monotonic()
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg2.OperationalError):
            connection = psycopg2.connect(host=str(place), port=PORT, user=settings.user, dbname="postgres")
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_is_in_recovery()")
                if cursor.fetchone() == (False,):
                    return connection
            connection.close()
        if time.monotonic() - started > 2 and not (directory / "postmaster.pid").exists():
            raise BackupError(
                f"recovery failed: {_tail(log)}",
                "see the log's end: the target may not be in the archived WAL, or WAL is missing",
            )
        time.sleep(0.1)
    raise BackupError(f"recovery did not end in time: {_tail(log)}", "give it more time: --seconds")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_BYTES:].strip() if log.exists() else "there is no log"
