# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes the ledger and keeps what was acknowledged. Any failure ends it, and systemd starts it anew."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
from auditdb_backup.configuration import Configuration
from auditdb_backup.errors import BackupError

from . import acknowledged, ledger

STANDBY = "SELECT pg_catalog.pg_is_in_recovery()"
LOCK = 7211480413
"""Number of the advisory lock: one writer a cluster."""
FORGET_SECONDS = 3600


def _wait_to_lead(cursor: Any, interval: float) -> None:
    """Return once the server takes writes: of members that elect their leader, one does."""
    while True:
        cursor.execute(STANDBY)
        if cursor.fetchone() == (False,):
            return
        time.sleep(interval)


def beat_for_ever(settings: Configuration, database: str, interval: float, days: tuple[int, int], place: Path) -> None:
    """Write rows until it is ended; ``days``: how long they are kept in the database, and outside of it."""
    connection = psycopg2.connect(
        host=settings.host,
        port=settings.port,
        user=settings.user,
        dbname=database,
        connect_timeout=10,
        application_name="auditdb-heartbeat",
        options="-c statement_timeout=10s -c idle_session_timeout=0 -c client_min_messages=warning",
    )
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        _wait_to_lead(cursor, interval)
        cursor.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", [LOCK])
        if cursor.fetchone() != (True,):
            raise BackupError("another heartbeat writes into this cluster", "run one, on one host")
        cursor.execute(ledger.CREATE)
        swept = 0.0
        due = time.monotonic()
        while True:
            cursor.execute(ledger.BEAT)
            (row,) = cursor.fetchall()
            acknowledged.append(place, acknowledged.Acknowledged(*row))
            if due - swept > FORGET_SECONDS or not swept:
                swept = due
                cursor.execute(ledger.FORGET, [days[0]])
                acknowledged.forget(place, days[1], datetime.now(UTC))
            due = max(due + interval, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
