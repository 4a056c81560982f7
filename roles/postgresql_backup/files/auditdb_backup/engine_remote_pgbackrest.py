# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Another host keeps the backups of this one by pgBackRest, and has its passphrase (gate_pgbackrest.py).

WAL goes there in clear, inside SSH; what comes from there is encrypted, and read here where the private key is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import passphrase, wal_archive, wal_name
from . import place as places
from .backup import Backup
from .configuration import Configuration
from .engine import Request
from .engine_pgbackrest import Reader, unpack_by
from .engine_remote import Engine as Base
from .engine_remote import bring, connection
from .pgbackrest import Fetched
from .processes import run
from .restore import Phase, Unpack


class Engine(Base):
    """The part of the engine ``pgbackrest`` that is the database host's."""

    def push(self, path: Path) -> bool:
        """Archive a WAL file."""
        name = wal_name.check(path.name)
        with self._place() as place:
            packed = place / name
            level = f"-{self._settings.compression_level}"
            run(["zstd", "--quiet", level, str(path.absolute()), "-o", str(packed)])
            told = {"bytes": packed.stat().st_size, "plain_sha256": places.digest(path), "closed": path.stat().st_mtime}
            with packed.open("rb") as file, connection(self._settings) as host:
                return bool(host.ask("archive", file, name=name, **told)["made"])

    def get(self, name: str, target: Path, identity: Path) -> bool:
        """Fetch a WAL file."""
        with self._place() as place:
            with connection(self._settings) as host:
                said = host.ask("wal", name=wal_name.check(name))
                if said["path"] is None:
                    return False
                for path in (said["path"], *said["parts"]):
                    bring(host, Path(path), place)
            with (place / said["path"]).open("rb") as file:
                header = wal_archive.read_header(file, name)
            settings = replace(self._settings, repository=place)
            tool = self._tool(settings, identity)
            Reader(settings, tool).wal(name, None)
            tool.bring(header, target)
        return True

    def _parts(self, backups: Sequence[str]) -> list[Path]:
        with connection(self._settings) as host:
            return [Path(each) for each in host.ask("parts", backups=list(backups))["files"]]

    def _unpacking(self, settings: Configuration) -> Unpack:
        def unpack(chosen: Sequence[Backup], request: Request, data: Path, phase: Phase) -> None:
            tool = self._tool(settings, request.identity)
            with phase("verify"):
                for each in chosen:
                    Reader(settings, tool).backup(each, None)
            unpack_by(tool, chosen[-1], data, phase)

        return unpack

    def _tool(self, settings: Configuration, identity: Path) -> Fetched:
        return Fetched(settings, passphrase.read(settings.repository / passphrase.SEALED, identity))
