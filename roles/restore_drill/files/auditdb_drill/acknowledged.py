# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the database has acknowledged, kept outside of it: a file a day, a line ``id microseconds hash`` a row."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

PREFIX = "acknowledged-"


class Acknowledged(NamedTuple):
    """A row of the ledger whose commit was acknowledged."""

    id: int
    at: int
    """Microseconds since 1970, by the database's clock."""
    hash: str

    def line(self) -> str:
        """Return the row as the file has it."""
        return f"{self.id} {self.at} {self.hash}\n"


def name_of(at: int) -> str:
    """Return the name of the file with the rows of this day."""
    return f"{PREFIX}{datetime.fromtimestamp(at // 1_000_000, UTC):%Y%m%d}"


def append(directory: Path, row: Acknowledged) -> None:
    """Keep the row, on disk."""
    descriptor = os.open(directory / name_of(row.at), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        os.write(descriptor, row.line().encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forget(directory: Path, days: int, now: datetime) -> None:
    """Remove the files of days that are older than this."""
    first = f"{PREFIX}{now.astimezone(UTC) - timedelta(days=days):%Y%m%d}"
    for path in directory.glob(f"{PREFIX}*"):
        if path.name < first:
            path.unlink()


def parse(lines: Iterable[str]) -> list[Acknowledged]:
    """Return the rows of the surviving history, the oldest first.

    After a restore to an earlier moment ids are given anew: what was acknowledged from there on before belongs to a
    history that was left on purpose. A last line that was cut off does not count.
    """
    found: list[Acknowledged] = []
    for line in lines:
        if line.endswith("\n") and len(words := line.split()) == 3:
            row = Acknowledged(int(words[0]), int(words[1]), words[2])
            while found and found[-1].id >= row.id:
                found.pop()
            found.append(row)
    return found


def read(directory: Path) -> list[Acknowledged]:
    """Return the rows of all files."""
    lines: list[str] = []
    for path in sorted(directory.glob(f"{PREFIX}*")):
        lines += path.read_text().splitlines(keepends=True)
    return parse(lines)
