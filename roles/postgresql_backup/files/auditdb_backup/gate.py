# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The backup host answers the database host: WAL is added, what a restore needs is read, and backups are asked about.

There is no request that removes or changes anything but by retention, nor one that decrypts: whoever has the key of the
database host can fill this disk, and not take a backup away.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import subprocess
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import IO

from . import durable, processes, wal_archive, wal_name
from .answering import Answer, Request, answer, body, unknown
from .backup import MANIFEST
from .configuration import Configuration
from .engine import Engine, Target
from .engine import Request as Restore
from .engine_remote import RELAYED
from .errors import BackupError
from .repository import Repository

NOWHERE = Path("/nowhere")


class Gate:
    """What the database host can ask for."""

    def __init__(
        self,
        settings: Configuration,
        engine: Engine,
        program: list[str],
        parse: Callable[[list[str]], Namespace],
    ) -> None:
        self._repository = Repository(settings.repository)
        self._engine = engine
        self._program = program
        self._parse = parse

    def answer(self) -> int:
        """Answer requests until there are no more."""
        self._repository.check()
        return answer(self._repository.root, self._handle)

    def _handle(self, request: Request, source: IO[bytes]) -> Answer:
        what = request["do"]
        if what == "archive":
            return {"made": self._archive(request, source)}
        if what == "wal":
            return self._wal(str(request["name"]))
        if what == "backups":
            return {"backups": self._backups()}
        if what == "check":
            target = Restore(NOWHERE, NOWHERE, request["backup"], Target(**request["target"]))
            return {"backups": list(self._engine.check_restore(target))}
        if what == "files":
            return {"files": [each.as_posix() for each in self._engine.files(request["backups"])]}
        if what == "run":
            return self._run([str(each) for each in request["argv"]])
        raise unknown(what, "archive, wal, get, backups, check, files or run")

    def _archive(self, request: Request, source: IO[bytes]) -> bool:
        """Add a stored WAL file; False where an identical one is there, an error where it is a different one."""
        name = wal_name.check(str(request["name"]))
        target = self._repository.wal / name
        with body(request, source) as sent:
            self._repository.check_user()
            try:
                if not target.exists():
                    with durable.create(target) as file:
                        found = hashlib.sha256()
                        for chunk in sent.chunks():
                            found.update(chunk)
                            file.write(chunk)
                        file.seek(0)
                        header = wal_archive.read_header(file, name)
                        if (found.hexdigest(), header.plain_sha256) != (request["sha256"], request["plain_sha256"]):
                            raise BackupError(f"WAL file {name} did not arrive as it was sent", "it is tried again")
                    return True
            except FileExistsError:
                pass  # another one was quicker: it is looked at like one that was there before
        wal_archive.compare(self._repository.wal, name, str(request["plain_sha256"]))
        return False

    def _wal(self, name: str) -> Answer:
        found = wal_archive.find(self._repository, name)
        path = found.relative_to(self._repository.root).as_posix() if found else None
        return {"path": path, "segment_bytes": wal_archive.segment_bytes(self._repository.wal)}

    def _backups(self) -> dict[str, Answer]:
        return {
            name: {"damaged": each.message, "remedy": each.remedy}
            if isinstance(each, BackupError)
            else {"manifest": (self._repository.backups / name / MANIFEST).read_text()}
            for name, each in self._engine.backups().items()
        }

    def _run(self, argv: list[str]) -> Answer:
        """Run a subcommand that reads, or takes a backup, and return how it ended."""
        nowhere = io.StringIO()  # what a parser prints is no answer
        try:
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                asked = self._parse(argv)
        except SystemExit as error:
            raise BackupError(f"'{' '.join(argv)}' is no subcommand", "see auditdb-backup --help") from error
        # Options before the subcommand, such as the configuration, are not for who asks to choose.
        if argv[0] != asked.command or asked.command not in RELAYED or getattr(asked, "identity", None):
            raise unknown(" ".join(argv), ", ".join(RELAYED) + ", without a private key")
        done = subprocess.run(
            [*self._program, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=processes.ENVIRONMENT,
        )
        said = {"output": done.stdout.decode(errors="replace"), "errors": done.stderr.decode(errors="replace")}
        return {"code": done.returncode, **said}
