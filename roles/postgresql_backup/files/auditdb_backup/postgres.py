# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the running server is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg2

from .configuration import Configuration
from .errors import BackupError

FACTS = """
SELECT (pg_control_system()).system_identifier::text,
    current_setting('server_version'),
    current_setting('server_version_num')::integer / 10000,
    (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'),
    ARRAY(SELECT spcname::text FROM pg_catalog.pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global'))
"""
DATABASES = "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname"
ARCHIVER = """
SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()),
    (SELECT count(*) FROM pg_catalog.pg_ls_archive_statusdir() WHERE name LIKE '%.ready'),
    archived_count, failed_count, last_archived_wal, last_failed_wal,
    extract(epoch FROM pg_catalog.now() - last_archived_time)::bigint,
    current_setting('archive_mode'), current_setting('archive_command'),
    (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'),
    coalesce((SELECT extract(epoch FROM pg_catalog.now() - backend_start)::integer
        FROM pg_catalog.pg_stat_activity WHERE backend_type = 'checkpointer'
            AND pg_catalog.pg_conf_load_time() <= backend_start
            AND pg_catalog.now() - backend_start <= current_setting('checkpoint_timeout')::interval), 0)
FROM pg_catalog.pg_stat_archiver
"""
# A checkpointer that began while the server still recovered, which is at each start, sleeps for a whole
# checkpoint_timeout, and ends no segment meanwhile; a signal wakes it (PostgreSQL 15 to 17, checkpointer.c, where
# cur_timeout is computed).
WAKE = """
SELECT pg_catalog.pg_reload_conf() FROM pg_catalog.pg_stat_activity
WHERE backend_type = 'checkpointer' AND pg_catalog.pg_conf_load_time() <= backend_start
    AND NOT pg_catalog.pg_is_in_recovery()
"""


STREAM = """
SELECT CASE WHEN flush_lsn >= pg_catalog.pg_current_wal_flush_lsn() THEN 0
    ELSE pg_catalog.ceil(extract(epoch FROM coalesce(flush_lag, pg_catalog.now() - backend_start)))::integer END
FROM pg_catalog.pg_stat_replication WHERE application_name = %s AND state = 'streaming'
"""
SLOT_LOST = "SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND restart_lsn IS NULL"
# Reserved at once: one that pg_receivewal makes keeps WAL only from when it is first read.
SLOT_MAKE = """
SELECT pg_catalog.pg_create_physical_replication_slot(%(name)s, true)
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = %(name)s)
"""
SLOT_BEGIN = "SELECT (restart_lsn - '0/0')::bigint FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"
STANDBY = """
SELECT pg_catalog.pg_is_in_recovery(), (pg_catalog.pg_control_system()).system_identifier::text,
    coalesce(current_setting('summarize_wal', true) = 'on', false)
"""
LAST_CHECKPOINT = """
SELECT timeline_id, checkpoint_lsn::text, redo_lsn::text, next_xid, extract(epoch FROM checkpoint_time)::bigint
FROM pg_catalog.pg_control_checkpoint()
"""
FLUSHED = """
SELECT pg_catalog.pg_walfile_name(lsn), (lsn - '0/0')::bigint FROM pg_catalog.pg_current_wal_flush_lsn() AS found (lsn)
"""
# A server whose host is gone without a word is noticed within a minute, and not never.
KEEPALIVE = "keepalives_idle=30 keepalives_interval=10 keepalives_count=3"


@dataclass(frozen=True)
class Facts:
    """What a backup's manifest says of the server."""

    system_identifier: str
    server_version: str
    major: int
    wal_segment_bytes: int
    tablespaces: list[str]

    def check(self, repository: str) -> None:
        """Raise BackupError where the server cannot be backed up into the repository of this system identifier."""
        if self.system_identifier != repository:
            raise BackupError(
                f"the server's system identifier is {self.system_identifier}, and not the repository's",
                "give this cluster a repository of its own",
            )
        if self.tablespaces:
            raise BackupError(
                f"the server has the tablespaces {', '.join(self.tablespaces)}, which are not backed up",
                "move their tables to pg_default",
            )


@dataclass(frozen=True)
class Standby:
    """What a server says that should be a standby."""

    in_recovery: bool
    system_identifier: str
    summarizes: bool
    """Whether an incremental backup can be taken of it."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, as pg_control has it: a standby has the primary's once it has replayed it."""

    timeline: int
    lsn: str
    redo: str
    """From here on, WAL is needed to recover from it."""
    next_xid: str
    at: int
    """Seconds since 1970."""


@dataclass(frozen=True)
class Archiver:
    """How the server's archiver is doing."""

    current: str
    """The segment that is being written."""
    ready: int
    """Segments that wait for the archiver."""
    archived_count: int
    failed_count: int
    last_archived: str | None
    last_failed: str | None
    last_archived_age: int | None
    mode: str
    command: str
    segment_bytes: int
    asleep: int
    """Seconds since the server began in which no segment was ended after archive_timeout; 0 once it is."""


class Server:
    """The server, over a connection of its own for each question."""

    def __init__(self, settings: Configuration) -> None:
        self._settings = settings

    @property
    def options(self) -> list[str]:
        """Return the options by which PostgreSQL's programs reach it."""
        settings = self._settings
        return ["--host", settings.host, "--port", str(settings.port), "--username", settings.user, "--no-password"]

    @property
    def session(self) -> str:
        """Return which server is meant, as libpq's target_session_attrs: of the members, the one that takes writes."""
        return "read-write" if len(self._settings.members) > 1 else "any"

    def name(self) -> str:
        """Return what a backup's manifest calls it, as the primary: of more than one address, the one that answers."""
        host = self._settings.host
        if host.startswith("/"):
            return "primary"
        if len(self._settings.members) > 1:
            with self.connect() as cursor:
                host = cursor.connection.info.host
        return f"primary {host}"

    @contextlib.contextmanager
    def connect(self, database: str = "postgres") -> Iterator[Any]:
        """Yield a cursor; raise BackupError where the server cannot be asked."""
        settings = self._settings
        try:
            connection = psycopg2.connect(
                KEEPALIVE,
                host=settings.host,
                port=settings.port,
                user=settings.user,
                dbname=database,
                connect_timeout=10,
                target_session_attrs=self.session,
                application_name="auditdb-backup",
            )
            try:
                with connection, connection.cursor() as cursor:
                    yield cursor
            finally:
                connection.close()
        except psycopg2.Error as error:
            raise BackupError(
                f"the server on port {settings.port}: {error}", "see whether it runs: pg_lsclusters"
            ) from error

    def _row(self, query: str) -> tuple[Any, ...]:
        with self.connect() as cursor:
            cursor.execute(query)
            row: tuple[Any, ...] = cursor.fetchone()
            return row

    def facts(self) -> Facts:
        """Return what a backup's manifest says of the server."""
        return Facts(*self._row(FACTS))

    def archiver(self) -> Archiver:
        """Return how the archiver is doing."""
        return Archiver(*self._row(ARCHIVER))

    def streamed(self, application: str) -> int | None:
        """Return how many seconds of commits were not received yet; None where nothing receives WAL."""
        with self.connect() as cursor:
            cursor.execute(STREAM, (application,))
            row = cursor.fetchone()
            return int(row[0]) if row else None

    def slot_lost(self, name: str) -> bool:
        """Return whether the replication slot keeps no WAL: it was invalidated, because it kept too much."""
        with self.connect() as cursor:
            cursor.execute(SLOT_LOST, (name,))
            return cursor.fetchone() is not None

    def drop_slot(self, name: str) -> None:
        """Drop the replication slot."""
        with self.connect() as cursor:
            cursor.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", (name,))

    def make_slot(self, name: str) -> int:
        """Make the replication slot, where there is none; return the position from which on it keeps WAL."""
        with self.connect() as cursor:
            cursor.execute(SLOT_MAKE, {"name": name})
        with self.connect() as cursor:
            cursor.execute(SLOT_BEGIN, (name,))
            (begin,) = cursor.fetchone()
            return int(begin)

    def standby(self) -> Standby:
        """Return what it says as a standby."""
        return Standby(*self._row(STANDBY))

    def checkpoint(self) -> Checkpoint:
        """Make a checkpoint; on a standby, the newest that it has replayed. Return it."""
        with self.connect() as cursor:
            cursor.execute("CHECKPOINT")
        return self.last_checkpoint()

    def last_checkpoint(self) -> Checkpoint:
        """Return the last checkpoint."""
        return Checkpoint(*self._row(LAST_CHECKPOINT))

    def flushed(self) -> tuple[int, int]:
        """Return the server's timeline and the position up to which its WAL is on disk."""
        name, written = self._row(FLUSHED)
        return int(name[:8], 16), int(written)

    def wake(self) -> bool:
        """Have segments ended after archive_timeout from now on; return whether that had to be done."""
        with self.connect() as cursor:
            cursor.execute(WAKE)
            return cursor.fetchone() is not None

    def databases(self) -> list[str]:
        """Return the names of all databases that can be dumped."""
        with self.connect() as cursor:
            cursor.execute(DATABASES)
            return [name for (name,) in cursor.fetchall()]

    def switch_wal(self) -> str:
        """End the current segment, and return the name of the last one that holds data."""
        # One byte less: the position may be the first of the next segment.
        (name,) = self._row("SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_switch_wal() - 1)")
        return str(name)
