# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""That a drill cannot reach production, proven by trying."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from auditdb_backup.configuration import Configuration

from .request import Drill
from .rows import Row, row

GROUP = "isolation"
REMEDY = "run the drill by its unit auditdb-drill@CLUSTER.service, which isolates it"
SECONDS = 2


def look(drill: Drill, settings: Configuration) -> list[Row]:
    """Try to reach production in each way, and return what came of it."""
    reached = [f"{address}:{settings.port} answers" for address in drill.addresses if _connects(address, settings.port)]
    path = f"{settings.host}/.s.PGSQL.{settings.port}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as local:
        local.connect(path)
        reached.append(f"{path} answers")
    return [
        row(GROUP, "the production server is out of reach", reached, REMEDY),
        row(GROUP, "the production data are out of reach", _seen(drill.data_directory), REMEDY),
        row(GROUP, "the backups cannot be changed", _written(settings), REMEDY),
    ]


def _connects(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), SECONDS):
        return True
    return False


def _seen(directory: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return [f"{directory} can be read: {len(list(directory.iterdir()))} entries"]
    return []


def _written(settings: Configuration) -> list[str]:
    found = []
    for root in (settings.repository, settings.offsite):
        if root:
            probe = root / ".auditdb-drill-probe"
            with contextlib.suppress(OSError):
                probe.touch()
                probe.unlink()
                found.append(f"{root} can be written to")
    return found
