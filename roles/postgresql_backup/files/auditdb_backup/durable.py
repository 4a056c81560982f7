# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that appear under their names complete and on disk, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import BackupError

MODE = 0o640


def sync_directory(directory: Path) -> None:
    """Make the names in the directory survive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def partial(path: Path) -> Path:
    """Return the temporary name in the same directory under which the file is written."""
    return path.with_name(f".{path.name}.partial")


def _open(path: Path) -> IO[bytes]:
    """Open the temporary file; what a killed run left there is overwritten, what a running one writes is locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had the lock may have given the file its final name meanwhile.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                os.ftruncate(descriptor, 0)
                return os.fdopen(descriptor, "w+b")
        except BlockingIOError:
            os.close(descriptor)
            raise BackupError(f"another run writes {path}", "wait for it to end") from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextmanager
def create(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write. After the block it is on disk under its name; FileExistsError where the name is taken."""
    temporary = partial(path)
    file = _open(temporary)
    try:
        yield file
        file.flush()
        os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename, this never overwrites
    finally:
        temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what a full disk did not take; the error that counts is on its way
            file.close()
    sync_directory(path.parent)


def replace(path: Path, content: bytes, mode: int = MODE) -> None:
    """Give the file this content, durably: a reader sees the old one or the new one."""
    temporary = partial(path)
    with _open(temporary) as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        temporary.rename(path)
    sync_directory(path.parent)
