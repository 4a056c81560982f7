# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files and directories become artefacts of a backup, and the other way round."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO

from . import durable
from .backup import DAMAGED, Artefact
from .configuration import Configuration
from .encryption import Sealed, seal, unseal
from .errors import BackupError
from .processes import pipeline


def _artefact(path: Path, sealed: Sealed) -> Artefact:
    return Artefact(path.name, sealed.bytes, sealed.sha256, sealed.plain_bytes, sealed.plain_sha256)


def pack_stream(settings: Configuration, source: IO[bytes], target: Path) -> Artefact:
    """Write the stream into the file, compressed and encrypted."""
    with durable.create(target) as file:
        sealed = seal(source, file, settings.recipients, settings.compression_level)
    return _artefact(target, sealed)


def pack_directory(settings: Configuration, source: Path, target: Path) -> Artefact:
    """Write the directory into the file, as a tar archive, compressed and encrypted."""
    with pipeline([["tar", "--create", "--directory", str(source), "--file=-", "."]]) as (into, stream):
        into.close()
        return pack_stream(settings, stream, target)


def keep_plain(source: Path, target: Path) -> Artefact:
    """Copy the file as it is."""
    content = source.read_bytes()
    with durable.create(target) as file:
        file.write(content)
    found = hashlib.sha256(content).hexdigest()
    return Artefact(target.name, len(content), found, len(content), found)


def check(directory: Path, artefact: Artefact) -> None:
    """Raise BackupError where the artefact's file is not what was stored."""
    path = directory / artefact.name
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BackupError(f"backup {directory.name}: {error.strerror}: {path}", DAMAGED) from error
    if found != artefact.sha256:
        raise BackupError(f"backup {directory.name}: {artefact.name} is not what was stored", DAMAGED)


def unpack_directory(source: Path, artefact: Artefact, target: Path, identity: Path) -> None:
    """Extract a packed directory into an existing one."""
    with (
        (source / artefact.name).open("rb") as file,
        pipeline([["tar", "--extract", "--directory", str(target), "--file=-"]]) as (into, _nothing),
    ):
        sealed = unseal(file, into, identity)
        into.close()
    if (sealed.sha256, sealed.plain_sha256) != (artefact.sha256, artefact.plain_sha256):
        raise BackupError(f"backup {source.name}: {artefact.name} is not what was stored", DAMAGED)
