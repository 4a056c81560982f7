# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compressed by zstd, encrypted by age: to all recipients, so that a host that encrypts cannot decrypt."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .errors import BackupError
from .processes import pipeline

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Sealed:
    """What went into an encrypted stream and what came out."""

    plain_sha256: str
    plain_bytes: int
    sha256: str
    bytes: int


class Counting:
    """Counts and hashes what is read from a stream."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.bytes = 0
        self._stream = stream
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Return the digest of what was read so far, hexadecimal."""
        return self._digest.hexdigest()

    def copy(self, write: Callable[[bytes], Any]) -> None:
        """Read to the end, and hand on what was read."""
        while chunk := self._stream.read(CHUNK_BYTES):
            self._digest.update(chunk)
            self.bytes += len(chunk)
            write(chunk)


class Feeder:
    """Copies a stream into a program's input, beside the reader of its output."""

    def __init__(self, source: IO[bytes], into: IO[bytes]) -> None:
        self.counting = Counting(source)
        self.error: Exception | None = None
        self._into = into
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        try:
            with self._into:
                self.counting.copy(self._into.write)
        except Exception as error:
            self.error = error

    def join(self) -> None:
        """Wait for the end of the copying."""
        self._thread.join()


def _through(commands: Sequence[Sequence[str]], source: IO[bytes], target: IO[bytes]) -> tuple[Counting, Counting]:
    """Send the source through the programs into the target; return what was counted at both ends."""
    with pipeline(commands) as (into, stream):
        feeder = Feeder(source, into)
        out = Counting(stream)
        out.copy(target.write)
        feeder.join()
    if feeder.error:  # a program that ended early has said why by now: this is the source's own
        raise feeder.error
    return feeder.counting, out


def seal(source: IO[bytes], target: IO[bytes], recipients: Path, level: int) -> Sealed:
    """Write the source into the target, compressed and encrypted."""
    if not recipients.is_file():
        raise BackupError(f"the recipients' keys are not in {recipients}", "run the role postgresql_backup")
    commands = [
        ["zstd", "--quiet", "--stdout", f"-{level}"],
        ["age", "--encrypt", "--recipients-file", str(recipients)],
    ]
    plain, stored = _through(commands, source, target)
    return Sealed(plain.sha256, plain.bytes, stored.sha256, stored.bytes)


def decrypting(identity: Path) -> list[list[str]]:
    """Return the programs that turn a sealed stream into the plain one."""
    if not identity.is_file():
        raise BackupError(f"there is no identity file {identity}", "give the private key's path with --identity")
    return [["age", "--decrypt", "--identity", str(identity)], ["zstd", "--quiet", "--decompress", "--stdout"]]


def unseal(source: IO[bytes], target: IO[bytes], identity: Path) -> Sealed:
    """Write what was sealed into the target."""
    stored, plain = _through(decrypting(identity), source, target)
    return Sealed(plain.sha256, plain.bytes, stored.sha256, stored.bytes)
