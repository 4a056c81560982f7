# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The backup host answers the database host where pgBackRest keeps the backups: by the same requests (gate.py).

pgBackRest's own protocol has requests that write and remove any file, so it is not spoken with the database host:
WAL is handed to pgBackRest here, and its files are read from here as they lie, encrypted.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from . import passphrase, place, processes, wal_name
from .answering import Answer, Request, body
from .backup import Backup
from .configuration import Configuration
from .engine_pgbackrest import Engine
from .errors import BackupError
from .gate import Gate as Base

ARRIVING = ".arriving-"
LEFT_SECONDS = 3600


class Gate(Base):
    """What the database host can ask for."""

    def __init__(
        self,
        settings: Configuration,
        engine: Engine,
        program: list[str],
        parse: Callable[[list[str]], Namespace],
    ) -> None:
        super().__init__(settings, engine, program, parse)
        self._tool = engine.tool

    def _handle(self, request: Request, source: IO[bytes]) -> Answer:
        if request["do"] == "parts":
            return {"files": list(self._parts([str(each) for each in request["backups"]]))}
        return super()._handle(request, source)

    def _archive(self, request: Request, source: IO[bytes]) -> bool:
        """Archive a WAL file that comes compressed."""
        name = wal_name.check(str(request["name"]))
        with body(request, source) as sent, self._arriving() as arriving:
            packed, plain = arriving / "packed", arriving / name
            with packed.open("wb") as file:
                for chunk in sent.chunks():
                    file.write(chunk)
            processes.run(["zstd", "--quiet", "--decompress", str(packed), "-o", str(plain)])
            if place.digest(plain) != request["plain_sha256"]:
                raise BackupError(f"WAL file {name} did not arrive as it was sent", "it is tried again")
            closed = float(request["closed"])
            os.utime(plain, (closed, closed))
            return self._engine.push(plain)

    @contextmanager
    def _arriving(self) -> Iterator[Path]:
        """Yield a directory for what arrives. What killed runs have left is removed."""
        root = self._repository.root
        for left in root.glob(f"{ARRIVING}*"):
            if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=ARRIVING, dir=root) as found:
            yield Path(found)

    def _wal(self, name: str) -> Answer:
        found = super()._wal(name)
        if found["path"] is not None:
            found["parts"] = [self._relative(path) for path in (self._tool.wal(name), *self._own())]
        return found

    def _parts(self, backups: list[str]) -> Iterator[str]:
        """Yield what a restore of these backups reads, but for the WAL."""
        known = self._engine.backups()
        yield from (self._relative(path) for path in (self._repository.marker, *self._own()))
        yield from (self._relative(path) for path in sorted(self._repository.wal.glob("*.history")))
        for name in backups:
            each = known.get(name)
            if not isinstance(each, Backup):
                raise BackupError(f"backup {name} cannot be restored", "choose one of: auditdb-backup list")
            directories = [self._repository.backups / name]
            directories += [self._tool.directory(name)] if each.kind != "logical" else []
            for directory in directories:
                yield from (self._relative(directory / path) for path in place.visible(directory))

    def _own(self) -> list[Path]:
        """Return what each restore needs: pgBackRest's indexes, and its passphrase, sealed."""
        return [*self._tool.indexes(), self._repository.root / passphrase.SEALED]

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._repository.root).as_posix()
