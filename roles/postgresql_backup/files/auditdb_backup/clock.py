# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moments as they are written down: ISO 8601 in UTC, to the microsecond."""

from __future__ import annotations

from datetime import UTC, datetime

from .errors import BackupError


def now() -> datetime:
    """Return this moment."""
    return datetime.now(UTC)


def write(moment: datetime) -> str:
    """Return the moment as text that sorts by time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read(text: str) -> datetime:
    """Return the moment of ISO 8601 text; raise BackupError where it is none, or does not say its time zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BackupError(f"'{text}' is no moment", "write it as 2026-05-01T12:00:00Z") from None
    if moment.tzinfo is None:
        raise BackupError(f"'{text}' has no time zone", "write it as 2026-05-01T12:00:00Z, or with +02:00") from None
    return moment.astimezone(UTC)
