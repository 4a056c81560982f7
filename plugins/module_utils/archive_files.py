# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that are either complete or do not count, and the compressed streams in them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError

try:
    import zstandard

    ZSTANDARD_IMPORT_ERROR: str | None = None
except ImportError:
    ZSTANDARD_IMPORT_ERROR = traceback.format_exc()

DATA, MANIFEST, PARTIAL = ".copy.zst", ".manifest.json", ".partial"
FILE_MODE, DIRECTORY_MODE = 0o640, 0o750
CHUNK_BYTES = 1 << 20
UNHARMED = "take an unharmed copy of the archive"
# A file name has at most 255 bytes; the longest suffix and a digest go with it.
NAME_BYTES = 200
NAME = re.compile(r"[A-Za-z0-9_%-][A-Za-z0-9_.%-]*")


def require_zstandard() -> None:
    """Raise PostgresqlError where the Python package zstandard is missing."""
    if ZSTANDARD_IMPORT_ERROR:
        raise PostgresqlError(
            "the Python package zstandard is missing",
            remedy="install python3-zstandard (Debian) or zstandard (PyPI) for the Python that runs this module",
            exception=ZSTANDARD_IMPORT_ERROR,
        )


def archive_name(relation: tuple[str, str]) -> str:
    """Return the name of the table's archive: schema.table in ASCII, percent-encoded, at most 200 bytes."""
    parts = [quote(part, safe="").replace(".", "%2E").replace("~", "%7E") for part in relation]
    name = ".".join(parts)
    if len(name) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return re.sub("%.?$", "", name[: NAME_BYTES - 17]) + "-" + digest


def check_name(name: str) -> str:
    """Return the archive's name; raise where it would leave the directory or not fit into a file name."""
    if not NAME.fullmatch(name) or len(name) > NAME_BYTES:
        raise PostgresqlError(
            f"'{name}' is no name of an archive",
            remedy=f"use letters, digits, '_', '-', '%' and, not at the beginning, '.'; at most {NAME_BYTES}",
        )
    return name


@contextmanager
def file_errors(what: str) -> Iterator[None]:
    """Raise the errors of the operating system in the block as PostgresqlError: what failed, and on which file."""
    try:
        yield
    except OSError as error:
        raise PostgresqlError(
            f"{what}: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""),
            remedy="check the directory's free space, owner and mode",
            errno=error.errno,
        ) from error


def make_directory(directory: Path) -> None:
    """Make the directory, mode 0750, with those above it; one that exists keeps its mode."""
    missing = []
    place = directory
    while not place.exists():
        missing.append(place)
        place = place.parent
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):  # by another run, since
            each.mkdir()
            each.chmod(DIRECTORY_MODE)  # whatever the umask
            sync_directory(each.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in the directory survive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Durable:
    """A file that appears under its name complete, on disk and mode 0640, or not at all.

    It is written as NAME.partial. What a killed run left there is overwritten; what a running one writes is locked, and
    raises PostgresqlError with ``busy``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(path.name + PARTIAL)
        self.size = 0
        self.committed = False
        self._digest = hashlib.sha256()
        self._file = self._open()

    def _open(self) -> IO[bytes]:
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.partial, flags, FILE_MODE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever had the lock may have renamed the file meanwhile: this would then be the complete one.
                if self._is(descriptor):
                    os.ftruncate(descriptor, 0)
                    os.fchmod(descriptor, FILE_MODE)
                    return os.fdopen(descriptor, "wb")
            except BlockingIOError:
                os.close(descriptor)
                raise PostgresqlError(
                    f"another run writes {self.path.name}", remedy="wait for the other run to end", busy=True
                ) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _is(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.partial.stat(follow_symlinks=False))
        except FileNotFoundError:
            return False

    @property
    def sha256(self) -> str:
        """Return the digest of what was written so far, hexadecimal."""
        return self._digest.hexdigest()

    def write(self, data: Any) -> int:
        """Append bytes."""
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)
        return len(data)

    def commit(self) -> None:
        """Put the file under its name, where a power failure does not reach it. The lock is kept until the end."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self.partial.rename(self.path)
        sync_directory(self.path.parent)
        self.committed = True

    def __enter__(self) -> Durable:
        return self

    def __exit__(self, *error: object) -> None:
        if not self.committed:
            self.partial.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what a full disk did not take; the error that counts is on its way
            self._file.close()


class Compressed:
    """Compresses what is written into a file: ``sha256`` and ``size`` are those of the uncompressed stream."""

    def __init__(self, file: Durable, level: int) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._buffer = bytearray()
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
        self._stream: Any = compressor.stream_writer(file, closefd=False)  # type: ignore[arg-type]

    @property
    def sha256(self) -> str:
        """Return the digest of the uncompressed stream, hexadecimal, once ``close`` was called."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Append bytes; they are compressed in large pieces, since a row is small."""
        self._buffer += data
        if len(self._buffer) >= CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._digest.update(self._buffer)
        self.size += len(self._buffer)
        self._stream.write(self._buffer)
        self._buffer.clear()

    def close(self) -> None:
        """Write what is left and the end of the stream."""
        self._flush()
        self._stream.close()


class Decompressed:
    """Reads a compressed file as a stream of at most ``size`` bytes; ``error`` is what went wrong on the way.

    It does not raise while it is read: psycopg2 would turn that into an error of the server.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.error: PostgresqlError | None = None
        self.size = 0
        self._limit = size
        self._digest = hashlib.sha256()
        self._stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)

    @property
    def sha256(self) -> str:
        """Return the digest of what was read so far, hexadecimal."""
        return self._digest.hexdigest()

    def read(self, count: int = CHUNK_BYTES) -> bytes:
        """Return at most ``count`` bytes, nothing at the end or after an error."""
        if self.error:
            return b""
        try:
            data = self._stream.read(count)
        except zstandard.ZstdError as error:
            self.error = PostgresqlError(f"the archive cannot be decompressed: {error}", remedy=UNHARMED)
            return b""
        self._digest.update(data)
        self.size += len(data)
        if self.size > self._limit:
            self.error = PostgresqlError(
                f"the archive is longer than the {self._limit} bytes of its manifest", remedy=UNHARMED
            )
            return b""
        return data


def file_sha256(path: Path) -> tuple[str, int]:
    """Return the digest of a file, hexadecimal, and its bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
