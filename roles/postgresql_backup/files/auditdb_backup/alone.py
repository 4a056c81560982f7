# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server that runs alone: reachable by nobody but the one who started it, and not archiving."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from .configuration import Configuration
from .errors import BackupError
from .processes import ENVIRONMENT, run

PREFIX = "auditdb-alone-"
"""Of the directory of the socket and the log."""
LOG_BYTES = 4000
PORT = 5432
"""Of the socket, in a directory of its own."""
SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "archive_mode": "off",
    # Nobody is to look while it recovers, and so limits need not be as high as the original's.
    "hot_standby": "off",
    "shared_buffers": "128MB",
    "max_wal_senders": "0",
    "synchronous_standby_names": "",
    "wal_level": "replica",
    "summarize_wal": "off",
    "ssl": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "log",
    "log_line_prefix": "%n ",
}
# What ends a phase of recovery, as the server says it.
MILESTONES = {
    "start": re.compile(r"starting (point-in-time recovery|archive recovery|backup recovery)"),
    "replay": re.compile(r"redo done at|redo is not required"),
    "promote": re.compile(r"database system is ready to accept connections"),
}


@dataclass(frozen=True)
class Server:
    """A server that runs alone."""

    socket: Path
    """Directory of its socket."""
    user: str
    log: Path

    def connect(self, database: str = "postgres") -> Any:
        """Return a connection, each statement a transaction."""
        connection = psycopg2.connect(host=str(self.socket), port=PORT, user=self.user, dbname=database)
        connection.autocommit = True
        return connection

    def milliseconds(self, begun: float) -> dict[str, int]:
        """Return how long each phase of recovery took, from this moment (seconds since 1970) on."""
        return phases(self.log.read_text(errors="replace"), begun)


def phases(log: str, begun: float) -> dict[str, int]:
    """Return the milliseconds of each phase that the log tells the end of."""
    found: dict[str, int] = {}
    last = begun
    for line in log.splitlines():
        moment, _space, message = line.partition(" ")
        for name, pattern in MILESTONES.items():
            if name not in found and re.fullmatch(r"[0-9]+[.][0-9]+", moment) and pattern.search(message):
                found[name] = round((float(moment) - last) * 1000)
                last = float(moment)
    return found


def configuration_of(settings: Configuration) -> Path:
    """Return the file with the cluster's settings, where Debian has it."""
    return Path("/etc/postgresql") / settings.bin.parent.name / settings.cluster / "postgresql.conf"


def stop(settings: Configuration, directory: Path) -> None:
    """Stop at once what still runs in the directory, such as the server of a run that was killed."""
    path = directory / "postmaster.pid"
    if path.exists():
        socket = Path("".join(path.read_text().splitlines()[4:5]))  # its fifth line
        argv = [str(settings.bin / "pg_ctl"), "stop", "-D", str(directory), "-m", "immediate", "-s"]
        subprocess.run(argv, check=False, env=ENVIRONMENT)
        path.unlink(missing_ok=True)
        if socket.name.startswith(PREFIX):
            shutil.rmtree(socket, ignore_errors=True)


@contextlib.contextmanager
def running(
    settings: Configuration, directory: Path, seconds: float, configuration: Path, more: Mapping[str, str]
) -> Iterator[Server]:
    """Run the directory's server until the block ends, which begins once it has recovered and accepts writes."""
    deadline = time.monotonic() + seconds
    program = settings.bin / "pg_ctl"
    stop(settings, directory)
    place = Path(tempfile.mkdtemp(prefix=PREFIX))
    server = Server(place, settings.user, place / "log")
    options = {
        **SETTINGS,
        "config_file": str(configuration),
        "data_directory": str(directory),
        "unix_socket_directories": str(place),
        "external_pid_file": str(place / "pid"),
        **more,
    }
    if int(settings.bin.parent.name) < 17:
        options.pop("summarize_wal")
    words = " ".join(f"-c {name}='{value}'" for name, value in options.items())
    try:
        run([str(program), "start", "-D", str(directory), "-l", str(server.log), "-W", "-s", "-o", words])
        _wait(server, directory, deadline)
        yield server
        run([str(program), "stop", "-D", str(directory), "-m", "fast", "-w", "-t", "600", "-s"])
    finally:
        stop(settings, directory)
        shutil.rmtree(place, ignore_errors=True)


def _wait(server: Server, directory: Path, deadline: float) -> None:
    """Return once recovery has ended; raise BackupError where it failed, with the end of the log."""
    started = time.monotonic()
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg2.OperationalError):
            connection = server.connect()
            with contextlib.closing(connection), connection.cursor() as cursor:
                cursor.execute("SELECT pg_is_in_recovery()")
                if cursor.fetchone() == (False,):
                    return
        if time.monotonic() - started > 2 and not _lives(directory):
            raise BackupError(
                f"recovery failed: {_tail(server.log)}",
                "see the log's end: the target may not be in the archived WAL, or WAL is missing",
            )
        time.sleep(0.1)
    raise BackupError(f"recovery did not end in time: {_tail(server.log)}", "give it more time: --seconds")


def _lives(directory: Path) -> bool:
    """Return whether there is the process that the directory's server says it is: a killed one leaves its file."""
    path = directory / "postmaster.pid"
    try:
        return Path("/proc", path.read_text().splitlines()[0].lstrip("-")).exists()
    except (FileNotFoundError, IndexError):
        return False


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_BYTES:].strip() if log.exists() else "there is no log"
