# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The backups of this host are kept on another one: WAL goes there, and restores read from there (gate.py)."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from . import restore, scratch, streamed, wal_archive, wal_name
from .asking import Connection, Peer
from .backup import MANIFEST, Backup, load, load_all
from .configuration import Configuration
from .engine import Request, Restored
from .errors import BackupError
from .repository import DIRECTORIES, Repository
from .restore import Unpack

HERE = ("push", "get", "restore", "recover", "extract", "discard")
"""Subcommands that are run on the database host."""
RELAYED = ("list", "status", "verify", "backup")
"""Subcommands that the backup host runs for it."""
FETCHED = "fetched-"
WAL = ("wal", "stream")
LEFT_SECONDS = 3600


def connection(settings: Configuration) -> Connection[Peer]:
    """Return a context manager that yields the backup host; raise BackupError where it is not reached."""
    return Connection(Peer, settings.backup_ssh, settings.key())


def relay(settings: Configuration, arguments: Namespace, argv: Sequence[str]) -> int:
    """Run a subcommand on the backup host, print what it prints, and return its exit code."""
    if arguments.command not in RELAYED or getattr(arguments, "identity", None):
        raise BackupError(
            f"the backups are kept on {settings.backup_ssh}, and this is done there", "run it on that host"
        )
    # What comes before the subcommand, such as the configuration, is of this host.
    with connection(settings) as host:
        done = host.ask("run", argv=list(argv[list(argv).index(arguments.command) :]))
    sys.stdout.write(done["output"])
    sys.stderr.write(done["errors"])
    return int(done["code"])


class Engine:
    """The part of an engine's contract that is the database host's."""

    def __init__(self, settings: Configuration, program: str, configuration: Path, wait: int) -> None:
        self._settings = settings
        self._own = [program, "--config", str(configuration)]
        self._wait = wait

    def push(self, path: Path) -> bool:
        """Archive a WAL file: what leaves this host is encrypted."""
        name = wal_name.check(path.name)
        with tempfile.TemporaryFile(dir=self._settings.repository) as file:
            header = wal_archive.store(self._settings, path, file)
            file.seek(0)
            found = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            file.seek(0)
            with connection(self._settings) as host:
                said = host.ask("archive", file, name=name, bytes=size, sha256=found, plain_sha256=header.plain_sha256)
        return bool(said["made"])

    def get(self, name: str, target: Path, identity: Path) -> bool:
        """Fetch a WAL file."""
        with self._place() as place, connection(self._settings) as host:
            said = host.ask("wal", name=wal_name.check(name))
            if said["path"] is None:
                return False
            found = place / said["path"]
            found.parent.mkdir()
            host.get(said["path"], found)
            wal_archive.bring(found, name, target, identity, int(said["segment_bytes"]))
        return True

    def backups(self) -> Mapping[str, Backup | BackupError]:
        """Return all backups."""
        with self._place() as place, connection(self._settings) as host:
            return {name: _read(place / name, told) for name, told in host.ask("backups")["backups"].items()}

    def check_restore(self, request: Request) -> Sequence[str]:
        """Return what a restore would use."""
        with connection(self._settings) as host:
            said = host.ask("check", backup=request.backup, target=asdict(request.target))
        return [str(each) for each in said["backups"]]

    def files(self, backups: Sequence[str]) -> Iterator[Path]:
        """Yield the files of these backups, and the WAL from the oldest of them on."""
        with connection(self._settings) as host:
            yield from [Path(each) for each in host.ask("files", backups=list(backups))["files"]]

    def fetch(self, files: Sequence[Path], directory: Path) -> int:
        """Copy files of the repository."""
        size = 0
        with connection(self._settings) as host:
            for path in files:
                try:
                    target = bring(host, path, directory)
                except BackupError:
                    if streamed.completed(path) == path:
                        raise
                    target = bring(host, streamed.completed(path), directory)
                size += target.stat().st_size
        return size

    @contextmanager
    def local(self, backups: Sequence[str]) -> Iterator[Configuration]:
        """Yield the configuration of a repository on this host that has these backups; it is gone after the block."""
        self._clear()
        with self._place() as place, scratch.held(place):
            repository = Repository(place)
            for each in DIRECTORIES:
                (place / each).mkdir(mode=0o700)
            self.fetch(self._parts(backups), place)
            yield replace(self._settings, repository=repository.root)

    def _parts(self, backups: Sequence[str]) -> list[Path]:
        """Return what is fetched before a restore.

        Recovery asks for the segments one by one; the histories are what tells which backup leads where.
        """
        return [path for path in self.files(backups) if path.parts[0] not in WAL or path.suffix == ".history"]

    def restore(self, request: Request) -> Restored:
        """Restore into an empty directory."""
        chosen = self.check_restore(request)
        with self.local(chosen) as settings:
            # Of these alone, the request chooses the same; it is what a next run compares, and stays as it was.
            known = load_all(settings.repository / "backups")
            return restore.restore(settings, known, request, self._own, self._unpacking(settings))

    def _unpacking(self, settings: Configuration) -> Unpack:
        return restore.unpacking(settings)

    def _clear(self) -> None:
        """Remove what killed runs have left."""
        for left in self._settings.repository.glob(f"{FETCHED}*"):
            with contextlib.suppress(BackupError, FileNotFoundError):
                if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                    with scratch.held(left):
                        shutil.rmtree(left)

    @contextmanager
    def _place(self) -> Iterator[Path]:
        """Yield a directory for what is fetched."""
        place = Path(tempfile.mkdtemp(prefix=FETCHED, dir=self._settings.repository))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def bring(host: Peer, path: Path, directory: Path) -> Path:
    """Copy a file of the repository into the directory, where its path is the same."""
    target = directory / path
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    host.get(path.as_posix(), target)
    return target


def _read(place: Path, told: Mapping[str, str]) -> Backup | BackupError:
    if "damaged" in told:
        return BackupError(told["damaged"], told["remedy"])
    place.mkdir()
    (place / MANIFEST).write_text(told["manifest"])
    return load(place)
