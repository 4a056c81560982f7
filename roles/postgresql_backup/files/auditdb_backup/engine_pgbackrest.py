# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine ``pgbackrest``: pgBackRest keeps the bytes, and what this program knows of them lies beside.

Each backup has a manifest in ``backups``, with the digests of all its files; each WAL file has a header in ``wal``.
So lists, chains, continuity, retention and status are the same as those of the engine basebackup.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from . import backup, clock, durable, offsite, passphrase, place, wal_archive, wal_name
from .backup import Artefact, Backup, load_all
from .base_backup import publish
from .canonical import canonical
from .configuration import Configuration
from .engine import Finding, Request
from .engine_basebackup import Engine as Base
from .errors import BackupError
from .expire import remove
from .packing import check, keep_plain
from .pgbackrest import DIRECTORY, Fetched, PgBackRest, Stanza, Taken
from .postgres import Facts, Server
from .restore import Phase, Unpack
from .retention import Plan
from .verify import Reader as AnyReader

FILES = "files.sha256"
"""Artefact: the digest and path of each file of the backup, as sha256sum(1) writes them."""
NOTE = "pgbackrest.json"
"""What changes in the repository, as it was last written: digests, the backups that pgBackRest knows, and a number."""
STATES = "states"
"""Where a second place has it: what is there never changes, so each state has a directory, named by its number."""
ALTERED = "find out who changed it, and take a full backup"


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text().splitlines():
        sha256, _space, name = line.partition("  ")
        yield sha256, name


class Reader:
    """Reads again what pgBackRest keeps, against what was noted when it was stored."""

    def __init__(self, settings: Configuration, tool: Stanza) -> None:
        self._settings = settings
        self._tool = tool

    def backup(self, each: Backup, identity: Path | None) -> None:
        """Read a backup: each of its files is there, no other is, and none was changed. It needs no key."""
        directory = self._settings.repository / "backups" / each.id
        (listed,) = (artefact for artefact in each.artefacts if artefact.name == FILES)
        check(directory, listed)
        there = self._tool.directory(each.id)
        noted = {path: sha256 for sha256, path in _lines(directory / FILES)}
        found = set(place.visible(there)) if there.is_dir() else set()
        wrong = sorted(found ^ set(noted)) or sorted(
            path for path in noted if place.digest(there / path) != noted[path]
        )
        if wrong:
            raise BackupError(
                f"backup {each.id}: {', '.join(wrong[:5])}: {len(wrong)} files are not what was stored", ALTERED
            )

    def wal(self, name: str, identity: Path | None) -> None:
        """Read a WAL file."""
        with (self._settings.repository / "wal" / name).open("rb") as file:
            header = wal_archive.read_header(file, name)
        path = self._tool.wal(name)
        if (place.digest(path), path.stat().st_size) != (header.stored_sha256, header.stored_bytes):
            raise BackupError(f"WAL file {name}: its bytes are not those that were stored", wal_archive.DAMAGED)


def unpack_by(tool: Stanza, chosen: Backup, data: Path, phase: Phase) -> None:
    """Make a data directory of a backup."""
    data.mkdir(mode=0o700)
    with phase("decrypt"):
        tool.run("restore", f"--set={chosen.id}", "--type=none", f"--pg1-path={data}")
    (data / "recovery.signal").unlink(missing_ok=True)


class Engine(Base):
    """The engine ``pgbackrest``."""

    _incremental_since = 0

    def __init__(self, settings: Configuration, program: str, configuration: Path, wait: int) -> None:
        super().__init__(settings, program, configuration, wait)
        self._tool = PgBackRest(settings, configuration)

    @property
    def tool(self) -> PgBackRest:
        """Return pgBackRest with this repository."""
        return self._tool

    def prepare(self, made: bool) -> None:
        """Make the stanza, and seal the passphrase for those who restore elsewhere."""
        lacking = not all(path.exists() for path in self._tool.indexes())
        if lacking:
            self._tool.run("stanza-create")
        if passphrase.keep(self._settings, self._tool.configuration) or lacking:
            self._note_changing()

    def push(self, path: Path) -> bool:
        """Archive a WAL file."""
        self._repository.check_user()
        name = wal_name.check(path.name)
        record = self._repository.wal / name
        with path.open("rb") as file:
            plain = hashlib.file_digest(file, "sha256").hexdigest()
        status = path.stat()
        if not record.exists():
            self._tool.run("archive-push", str(path.absolute()))
            stored = self._tool.wal(name)
            header = wal_archive.Header(
                format=wal_archive.FORMAT,
                name=name,
                plain_sha256=plain,
                plain_bytes=status.st_size,
                stored_sha256=place.digest(stored),
                stored_bytes=stored.stat().st_size,
                closed_at=clock.write(datetime.fromtimestamp(status.st_mtime, UTC)),
                parent=wal_archive.parent(path),
            )
            try:
                with durable.create(record) as file:
                    file.write(header.pack())
                return True
            except FileExistsError:
                pass  # another run was quicker
        wal_archive.same(self._header(name), plain)
        self._reader().wal(name, None)
        return False

    def get(self, name: str, target: Path, identity: Path) -> bool:
        """Fetch a WAL file. The private key is needed only where this is a copy, without a configuration."""
        self._repository.check()
        if wal_archive.find(self._repository, name) is None:
            return False
        self._opened(identity).bring(self._header(name), target)
        return True

    def _opened(self, identity: Path) -> Stanza:
        """Return pgBackRest as it reads this repository: a copy has no configuration, but the passphrase, sealed."""
        if self._tool.configuration.exists():
            return self._tool
        return Fetched(self._settings, passphrase.read(self._repository.root / passphrase.SEALED, identity))

    def _header(self, name: str) -> wal_archive.Header:
        with (self._repository.wal / name).open("rb") as file:
            return wal_archive.read_header(file, name)

    def _take(self, parent: Backup | None) -> Backup:
        facts = Server(self._settings).facts()
        facts.check(self._repository.check()["system_identifier"])
        before = self._tool.taken()
        if parent and (not before or before[-1].label != parent.id):
            # It always rests on its newest one, also where that was found damaged.
            raise BackupError("the newest backup cannot be rested on", "take a full one: auditdb-backup backup full")
        started = clock.now()
        self._tool.run("backup", f"--type={'incr' if parent else 'full'}")
        there = self._tool.taken()
        self._note_changing(there)
        (taken,) = (each for each in there if each.label not in {known.label for known in before})
        return self._note(taken, started, facts)

    def _note(self, taken: Taken, started: datetime, facts: Facts) -> Backup:
        """Write the manifest, which makes the backup count."""
        there = self._tool.directory(taken.label)
        with self._repository.workplace(taken.label) as work:
            directory = work / "backup"
            directory.mkdir(mode=0o750)
            listed = work / FILES
            listed.write_text("".join(f"{place.digest(there / path)}  {path}\n" for path in place.visible(there)))
            artefact = keep_plain(listed, directory / FILES)
            made = Backup(
                format=backup.FORMAT,
                id=taken.label,
                kind="incremental" if taken.incremental else "full",
                engine="pgbackrest",
                cluster=self._settings.cluster,
                system_identifier=facts.system_identifier,
                server_version=facts.server_version,
                started_at=clock.write(started),
                finished_at=clock.write(clock.now()),
                chain=taken.label.split("_")[0],
                parent=taken.prior,
                timeline=int(taken.first_wal[:8], 16),
                start_lsn=taken.start_lsn,
                stop_lsn=taken.stop_lsn,
                wal_segment_bytes=facts.wal_segment_bytes,
                databases=(),
                recipients_sha256="",
                artefacts=(
                    artefact,
                    Artefact(DIRECTORY, taken.bytes, artefact.sha256, taken.plain_bytes, artefact.sha256),
                ),
                source=Server(self._settings).name(),
            )
            publish(self._repository, made, directory)
        return made

    def _note_changing(self, taken: Sequence[Taken] | None = None) -> None:
        """Write down what changes, as it is now, and what pgBackRest knows. Only this program has it changed."""
        note = self._repository.root / NOTE
        number = int(json.loads(note.read_bytes())["number"]) if note.exists() else 0
        files = {path.relative_to(self._repository.root).as_posix(): place.digest(path) for path in self._changing()}
        known = [each.label for each in (self._tool.taken() if taken is None else taken)]
        durable.replace(note, canonical({"backups": known, "files": files, "number": number + 1}) + b"\n")

    def _changing(self) -> list[Path]:
        return [*self._tool.indexes(), self._repository.root / passphrase.SEALED]

    def _reader(self) -> AnyReader:
        return Reader(self._settings, self._tool)

    def verify(self, only: str | None, identity: Path | None) -> list[Finding]:
        """Read backups and WAL again, and the indexes."""
        findings = super().verify(only, identity)
        noted = json.loads((self._repository.root / NOTE).read_bytes())
        for path, digest in noted["files"].items():
            there = self._repository.root / path
            if not there.is_file() or place.digest(there) != digest:
                findings.append(Finding(path, f"{path} is not what was written. Remedy: {ALTERED}"))
        return findings

    def _remove(self, plan: Plan) -> None:
        kinds = {name: each for name, each in self.backups().items() if isinstance(each, Backup)}
        for name in plan.drop:
            # With a full one, those that rest on it go too.
            if name in kinds and kinds[name].kind == "full" and self._tool.directory(name).exists():
                self._tool.run("expire", f"--set={name}")
        self._note_changing()
        for name in plan.drop_wal:
            with contextlib.suppress(BackupError):  # what is missing, verify names
                self._tool.wal(name).unlink()
        remove(self._repository, plan)

    def _unpacking(self) -> Unpack:
        def unpack(chosen: Sequence[Backup], request: Request, data: Path, phase: Phase) -> None:
            # A manifest that is damaged, it passes over for its copy.
            with phase("verify"):
                for each in chosen:
                    self._reader().backup(each, None)
            unpack_by(self._opened(request.identity), chosen[-1], data, phase)

        return unpack

    def files(self, backups: Sequence[str]) -> Iterator[Path]:
        """Yield the files of these backups, the WAL from the oldest of them on, and the indexes."""
        archived = []
        for path in super().files(backups):
            yield path
            if path.parent.name == self._repository.wal.name:
                archived.append(path.name)
        yield from (path.relative_to(self._repository.root) for path in self._stored(backups, archived))
        current = [*self._changing(), self._repository.root / NOTE]
        # A second place has them by their states.
        found = current if all(path.exists() for path in current) else _newest(self._tool.root)
        yield from (path.relative_to(self._repository.root) for path in found)

    def _stored(self, backups: Sequence[str], archived: Sequence[str]) -> Iterator[Path]:
        """Yield what pgBackRest has of these backups and WAL files. What is missing, verify names."""
        for label in backups:
            there = self._tool.directory(label)
            yield from (there / path for path in place.visible(there))
        for name in archived:
            with contextlib.suppress(BackupError):
                yield self._tool.wal(name)

    def _settle(self, directory: Path) -> None:
        """Put the newest state of what changes, as a second place has it, where it belongs."""
        if (directory / NOTE).exists():
            return
        state = {path.name: path for path in _newest(directory / DIRECTORY)}
        for path in [*self._changing(), self._repository.root / NOTE]:  # the note comes last: with it, all are there
            target = directory / path.relative_to(self._repository.root)
            if path.name not in state:
                raise BackupError(f"{path.name} is missing", "take it from another copy")
            target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            shutil.copyfile(state[path.name], target)

    def _copied(self) -> dict[str, Path]:
        """Return what a second place gets: what never changes, and what does, as it is now."""
        found = super()._copied()
        physical = [name for name in self.backups() if self._tool.directory(name).is_dir()]
        for path in self._stored(physical, wal_archive.names(self._repository.wal)):
            found[path.relative_to(self._repository.root).as_posix()] = path
        note = self._repository.root / NOTE
        state = f"{DIRECTORY}/{STATES}/{json.loads(note.read_bytes())['number']:08}"
        return found | {f"{state}/{path.name}": path for path in [*self._changing(), note]}

    def adopt(self) -> bool:
        """Make the repository of the second place's copy, which has what expired, too: pgBackRest knows it no more."""

        def settle(root: Path) -> None:
            self._settle(root)
            known = json.loads((root / NOTE).read_bytes())["backups"]
            for name, each in load_all(root / "backups").items():
                if isinstance(each, Backup) and each.kind != "logical" and name not in known:
                    shutil.rmtree(root / "backups" / name)

        return offsite.adopt(self._settings, settle)


def _newest(root: Path) -> list[Path]:
    """Return the files of the newest state that a second place, or a copy of it, has of what changes."""
    states = sorted((root / STATES).glob("*/"))
    return sorted(states[-1].iterdir()) if states else []
