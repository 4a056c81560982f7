# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of WAL: what a file in pg_wal is, and where in the WAL it lies."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import BackupError

NAME = re.compile(r"(?P<timeline>[0-9A-F]{8})(\.history|(?P<log>[0-9A-F]{8})(?P<segment>[0-9A-F]{8})(?P<rest>.*))")
REST = re.compile(r"|\.partial|\.[0-9A-F]{8}\.backup")
SEGMENT_BYTES = 16 << 20


@dataclass(frozen=True, order=True)
class Segment:
    """A segment: its timeline, and its number counted from the beginning of all WAL."""

    timeline: int
    number: int

    def name(self, size: int = SEGMENT_BYTES) -> str:
        """Return the file's name, for segments of ``size`` bytes."""
        log, segment = divmod(self.number, (1 << 32) // size)
        return f"{self.timeline:08X}{log:08X}{segment:08X}"


def check(name: str) -> str:
    """Return the name; raise BackupError where PostgreSQL has no such file in pg_wal."""
    found = NAME.fullmatch(name)
    if not found or not (name.endswith(".history") or REST.fullmatch(found["rest"])):
        raise BackupError(f"'{name}' is no WAL file", "give the name of a segment, .partial, .history or .backup")
    return name


def segment(name: str, size: int = SEGMENT_BYTES) -> Segment | None:
    """Return the segment of this name; None where it is another file."""
    found = NAME.fullmatch(name)
    if not found or found["rest"] != "":
        return None
    return Segment(int(found["timeline"], 16), int(found["log"], 16) * ((1 << 32) // size) + int(found["segment"], 16))


def position(text: str) -> int:
    """Return a log sequence number such as 0/3000028 as a number."""
    if not re.fullmatch(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}", text):
        raise BackupError(f"'{text}' is no log sequence number", "write it as 0/3000028")
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def holding(lsn: str, timeline: int, size: int = SEGMENT_BYTES) -> Segment:
    """Return the segment that holds the byte at this position."""
    return Segment(timeline, position(lsn) // size)


def ending(lsn: str, timeline: int, size: int = SEGMENT_BYTES) -> Segment:
    """Return the last segment that is needed to replay up to this position."""
    return Segment(timeline, (position(lsn) - 1) // size)
