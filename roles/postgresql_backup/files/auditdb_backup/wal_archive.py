# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archive of WAL: each file under its own name, behind a header that says what it holds.

A stored file is 512 bytes of canonical JSON, padded with spaces, and then the file compressed by zstd and encrypted by
age. Without this program: ``tail --bytes=+513 FILE | age --decrypt --identity KEY | zstd --decompress``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from . import clock, durable, streamed, wal_name
from .canonical import canonical, digest
from .configuration import Configuration
from .encryption import CHUNK_BYTES, seal, unseal
from .errors import BackupError
from .repository import STREAM, Repository
from .wal_continuity import history

FORMAT = 1
HEADER_BYTES = 512
DAMAGED = "keep the file for the inquiry, take an intact copy of it, and take a full backup"


@dataclass(frozen=True)
class Header:
    """What a stored file says of itself."""

    format: int
    name: str
    plain_sha256: str
    plain_bytes: int
    stored_sha256: str
    """Of what follows the header."""
    stored_bytes: int
    closed_at: str
    """When the last byte was written into the segment: everything committed before is in here or in an earlier one."""
    parent: str
    """Of a timeline's history: the timeline it left and where, such as ``1 50331648``; empty otherwise."""

    def pack(self) -> bytes:
        """Return the header as it is stored: with its own digest."""
        content = asdict(self)
        return canonical({**content, "header_sha256": digest(content)}).ljust(HEADER_BYTES - 1) + b"\n"


def read_header(file: IO[bytes], name: str) -> Header:
    """Return the header at the beginning of a stored file; raise BackupError where it is damaged."""
    packed = file.read(HEADER_BYTES)
    try:
        content = json.loads(packed)
        content.pop("header_sha256", None)
        header = Header(**content)
        if header.pack() != packed or header.name != name or header.format != FORMAT:
            raise ValueError("it is another one")
    except (ValueError, TypeError, AttributeError) as error:
        raise BackupError(f"WAL file {name}: the header is damaged: {error}", DAMAGED) from error
    return header


def inspect(directory: Path, name: str) -> Header:
    """Return the header of a stored file whose bytes are what it says; raise BackupError otherwise."""
    with (directory / name).open("rb") as file:
        header = read_header(file, name)
        found = hashlib.sha256()
        count = 0
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
            count += len(chunk)
    if (found.hexdigest(), count) != (header.stored_sha256, header.stored_bytes):
        raise BackupError(f"WAL file {name}: its bytes are not those that were stored", DAMAGED)
    return header


def push(settings: Configuration, path: Path) -> bool:
    """Store a file of pg_wal, and return whether it was stored now; False where an identical one is there already.

    A different one of this name is an error. What is stored is on disk.
    """
    repository = Repository(settings.repository)
    repository.check_user()
    name = wal_name.check(path.name)
    target = repository.wal / name
    try:
        if not target.exists():
            with durable.create(target) as file:
                store(settings, path, file)
            return True
    except FileExistsError:
        pass  # another run was quicker: what it stored is looked at like what was there before
    with path.open("rb") as source:
        compare(repository.wal, name, hashlib.file_digest(source, "sha256").hexdigest())
    return False


def store(settings: Configuration, path: Path, file: IO[bytes]) -> Header:
    """Write a file of pg_wal as it is stored; return its header."""
    with path.open("rb") as source:
        closed = datetime.fromtimestamp(os.fstat(source.fileno()).st_mtime, UTC)
        file.write(b" " * HEADER_BYTES)
        sealed = seal(source, file, settings.recipients, settings.compression_level)
    header = Header(
        format=FORMAT,
        name=path.name,
        plain_sha256=sealed.plain_sha256,
        plain_bytes=sealed.plain_bytes,
        stored_sha256=sealed.sha256,
        stored_bytes=sealed.bytes,
        closed_at=clock.write(closed),
        parent=parent(path),
    )
    file.seek(0)
    file.write(header.pack())
    return header


def parent(path: Path) -> str:
    """Return, of a timeline's history, the timeline it left and where; nothing for other files."""
    left = history(path.read_text()) if path.name.endswith(".history") else {}
    return f"{max(left)} {left[max(left)]}" if left else ""


def parents(directory: Path) -> dict[int, tuple[int, int]]:
    """Return each timeline's parent and the position at which it left it, as far as they are archived."""
    found = {}
    for name in names(directory):
        if name.endswith(".history"):
            # One that is damaged is named by verify.
            with contextlib.suppress(BackupError, ValueError), (directory / name).open("rb") as file:
                timeline, left = read_header(file, name).parent.split()
                found[int(name[:8], 16)] = (int(timeline), int(left))
    return found


def compare(directory: Path, name: str, plain_sha256: str) -> None:
    """Raise BackupError where the stored file of this name does not hold what has this digest."""
    same(inspect(directory, name), plain_sha256)


def same(header: Header, plain_sha256: str) -> None:
    """Raise BackupError where a stored file does not hold what has this digest."""
    name = header.name
    if header.plain_sha256 != plain_sha256:
        raise BackupError(
            f"a different WAL file {name} is archived already (SHA-256 {header.plain_sha256}, this one {plain_sha256})",
            "find out which cluster or timeline wrote it; never remove it unseen",
        )


def find(repository: Repository, name: str) -> Path | None:
    """Return the file that stands for this one, archived or streamed; None where nothing after it is archived either.

    A segment that is missing while a later one of its timeline is there is an error: recovery would end too early.
    """
    path = repository.wal / wal_name.check(name)
    if path.exists():
        return path
    found = streamed.find(repository, name, last=not later(repository.wal, name))
    if found is None:
        _refuse_gap(repository.wal, name)
    return found


def get(settings: Configuration, name: str, target: Path, identity: Path) -> bool:
    """Write a stored file to the target; return False where there is none. What is not archived may be streamed."""
    repository = Repository(settings.repository)
    repository.check()
    found = find(repository, name)
    if found is None:
        return False
    bring(found, name, target, identity, segment_bytes(repository.wal))
    return True


def bring(found: Path, name: str, target: Path, identity: Path, size: int) -> None:
    """Write what stands for a WAL file to the target: decrypted where it was archived, as it is where streamed."""
    if found.parent.name == STREAM:
        streamed.fetch(found, target, size)
        return
    header = inspect(found.parent, name)
    partial = durable.partial(target)
    try:
        with found.open("rb") as source, partial.open("wb") as file:
            source.seek(HEADER_BYTES)
            sealed = unseal(source, file, identity)
            file.flush()
            os.fsync(file.fileno())
        if (sealed.plain_sha256, sealed.plain_bytes) != (header.plain_sha256, header.plain_bytes):
            raise BackupError(f"WAL file {name}: decrypted, it is not what was archived", DAMAGED)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def later(directory: Path, name: str) -> list[str]:
    """Return the archived segments of the same timeline that come after this one."""
    if wal_name.segment(name) is None:
        return []
    return [each for each in names(directory) if len(each) == len(name) and each[:8] == name[:8] and each > name]


def _refuse_gap(directory: Path, name: str) -> None:
    after = later(directory, name)
    if after:
        raise BackupError(
            f"WAL file {name} is not archived, and {min(after)} is: the WAL has a gap",
            "take the missing file from another copy, or restore to a moment before it",
        )


def segment_bytes(directory: Path) -> int:
    """Return the size of the cluster's segments, as an archived one tells it."""
    for name in reversed(names(directory)):
        if wal_name.segment(name):
            with contextlib.suppress(BackupError), (directory / name).open("rb") as file:
                return read_header(file, name).plain_bytes
    return wal_name.SEGMENT_BYTES


def names(directory: Path) -> list[str]:
    """Return the names of what is archived, sorted."""
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith("."))
