# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads everything again: that it is what was stored, that chains and WAL are whole, that it decrypts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from . import proof, scratch, wal_archive
from .backup import DAMAGED, Backup
from .base_backup import DATA
from .chains import broken, build, needs
from .configuration import Configuration, Retention
from .encryption import unseal
from .engine import Finding
from .errors import BackupError
from .packing import check, unpack_directory
from .processes import run
from .repository import Repository
from .retention import daily, keep, threshold
from .wal_archive import HEADER_BYTES
from .wal_continuity import WalState, gaps, state
from .wal_name import Segment, ending, holding, segment


class Reader(Protocol):
    """How an engine reads again what it stores; both raise BackupError where it is not what was stored."""

    def backup(self, each: Backup, identity: Path | None) -> None:
        """Read a full or an incremental backup."""

    def wal(self, name: str, identity: Path | None) -> None:
        """Read a WAL file."""


def verify(
    settings: Configuration,
    backups: Mapping[str, Backup | BackupError],
    only: str | None,
    identity: Path | None,
    reader: Reader,
) -> list[Finding]:
    """Return what is wrong with the backups, or with one of them, and with the WAL; keep it as their proofs."""
    repository = Repository(settings.repository)
    if only and only not in backups:
        raise BackupError(f"there is no backup {only}", "choose one of: auditdb-backup list")
    findings = []
    for name, each in backups.items():
        if only in (None, name):
            known = proof.read(repository, name)
            try:
                _verify_one(settings, backups, each, identity, reader)
                restored = identity is not None and isinstance(each, Backup) and each.kind == "logical"
                proof.write(repository, name, proof.passed(known, restored=restored))
            except BackupError as error:
                proof.write(repository, name, proof.failed(known, error.message))
                findings.append(Finding(name, str(error)))
    if only is None:
        findings += _verify_wal(repository, identity, reader)
        findings += [
            Finding(name, f"WAL file {name} is missing. Remedy: {wal_archive.DAMAGED}")
            for name in wal_state(repository, backups, settings.retention).missing
        ]
    return findings


def _verify_one(
    settings: Configuration,
    backups: Mapping[str, Backup | BackupError],
    each: Backup | BackupError,
    identity: Path | None,
    reader: Reader,
) -> None:
    if isinstance(each, BackupError):
        raise each
    why = broken(backups, each)
    if why:
        raise BackupError(f"backup {each.id}: {why}", DAMAGED)
    if each.kind == "logical":
        read_backup(settings, each, identity)
    else:
        reader.backup(each, identity)


def read_backup(settings: Configuration, each: Backup, identity: Path | None) -> None:
    """Read a backup whose files are its artefacts; raise BackupError where one is not what was stored."""
    directory = settings.repository / "backups" / each.id
    for artefact in each.artefacts:
        check(directory, artefact)
    present = {entry.name for entry in directory.iterdir()}
    more = present - {artefact.name for artefact in each.artefacts} - {"manifest.json"}
    if more:
        raise BackupError(f"backup {each.id}: {', '.join(sorted(more))} is not its own", "find out who wrote it")
    if identity:
        _decrypt(settings, directory, each, identity)


def _decrypt(settings: Configuration, directory: Path, each: Backup, identity: Path) -> None:
    for artefact in each.artefacts:
        if artefact.name == DATA:
            with tempfile.TemporaryDirectory(dir=settings.repository / "work") as place:
                unpack_directory(directory, artefact, Path(place), identity)
                run([str(settings.bin / "pg_verifybackup"), "--quiet", place])
        elif artefact.name.endswith(".age"):
            with (directory / artefact.name).open("rb") as source, Path(os.devnull).open("wb") as nothing:
                found = unseal(source, nothing, identity)
            if found.plain_sha256 != artefact.plain_sha256:
                raise BackupError(f"backup {each.id}: {artefact.name} is not what was stored", DAMAGED)
    if each.kind == "logical":
        with tempfile.TemporaryDirectory(dir=settings.repository / "work") as place:
            scratch.prove(settings, each, Path(place), identity)


def _verify_wal(repository: Repository, identity: Path | None, reader: Reader) -> list[Finding]:
    findings = []
    for name in wal_archive.names(repository.wal):
        try:
            reader.wal(name, identity)
        except BackupError as error:
            findings.append(Finding(name, str(error)))
    return findings


def read_wal(repository: Repository, name: str, identity: Path | None) -> None:
    """Read a stored WAL file; raise BackupError where it is not what was archived."""
    header = wal_archive.inspect(repository.wal, name)
    if identity:
        with (repository.wal / name).open("rb") as source, Path(os.devnull).open("wb") as nothing:
            source.seek(HEADER_BYTES)
            found = unseal(source, nothing, identity)
        if found.plain_sha256 != header.plain_sha256:
            raise BackupError(f"WAL file {name}: it is not what was archived", wal_archive.DAMAGED)


def wal_state(repository: Repository, backups: Mapping[str, Backup | BackupError], policy: Retention) -> WalState:
    """Return what is archived and what is missing: from the oldest chain of the last days on, and in older chains."""
    names = wal_archive.names(repository.wal)
    physical = [each for each in backups.values() if isinstance(each, Backup) and each.kind != "logical"]
    size = wal_archive.segment_bytes(repository.wal)
    chains = build(backups, proof.read_all(repository, backups))
    onwards = {each.id for each in daily(chains, keep(chains, policy))}
    wanted = needs(chains, backups, onwards)
    first: dict[int, Segment] = {}
    for need in wanted:
        if need.onwards:
            first[need.first.timeline] = min(need.first, first.get(need.first.timeline, need.first))
    known = [found for name in names if (found := segment(name, size))]
    inside = []
    for each in known:
        begin = threshold(each.timeline, wanted)
        if begin is not None and each.number >= begin:
            inside.append(each.name(size))
    missing = set(gaps(inside, first, wal_archive.parents(repository.wal), size))
    for backup in physical:
        numbers = range(
            holding(backup.start_lsn, backup.timeline, size).number,
            ending(backup.stop_lsn, backup.timeline, size).number + 1,
        )
        missing |= {Segment(backup.timeline, number) for number in numbers} - set(known)
    return state(names, missing, size)
