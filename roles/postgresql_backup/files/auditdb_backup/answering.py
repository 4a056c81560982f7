# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host answers another one, over standard input and output: the forced command of a key (sshd(8), ``command=``).

A request is a line of JSON, for some followed by a file; an answer is a line of JSON, for ``get`` followed by the file.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from . import place
from .encryption import CHUNK_BYTES
from .errors import BackupError

LINE_BYTES = 1 << 16
Request = dict[str, Any]
Answer = dict[str, Any]


class Body:
    """What follows a request: so many bytes, which are read to their end whatever is done with them."""

    def __init__(self, source: IO[bytes], count: int) -> None:
        self._source, self._left = source, count

    def chunks(self) -> Iterator[bytes]:
        """Yield all of it, as far as it arrives."""
        while self._left and (chunk := self._source.read(min(self._left, CHUNK_BYTES))):
            self._left -= len(chunk)
            yield chunk

    @property
    def complete(self) -> bool:
        """Return whether all of it has arrived."""
        return self._left == 0


@contextlib.contextmanager
def body(request: Request, source: IO[bytes]) -> Iterator[Body]:
    """Yield what follows the request."""
    found = Body(source, int(request["bytes"]))
    try:
        yield found
    finally:
        for _chunk in found.chunks():
            pass


def answer(root: Path, handle: Callable[[Request, IO[bytes]], Answer]) -> int:
    """Answer requests on standard input until it ends. Files are sent from the root alone."""
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    while line := source.readline(LINE_BYTES):
        sent: Path | None = None
        try:
            request: Request = json.loads(line)
            if request["do"] == "get":
                sent = root / place.checked(request["path"])
                said: Answer = {"ok": True, "bytes": sent.stat().st_size}
            else:
                said = {"ok": True, **handle(request, source)}
        except BackupError as error:
            said = {"ok": False, "message": error.message, "remedy": error.remedy}
        except (KeyError, TypeError, ValueError) as error:
            said = {"ok": False, "message": f"this is no request: {error!r}", "remedy": "use auditdb-backup"}
        except OSError as error:
            said = {"ok": False, "message": str(error), "remedy": "check space, owner and mode there"}
        answers.write(json.dumps(said).encode() + b"\n")
        if said["ok"] and sent:
            with sent.open("rb") as file:
                _pass(file, answers, said["bytes"])
        answers.flush()
    return 0


def unknown(what: str, known: str) -> BackupError:
    """Return the error that says that there is no such request."""
    return BackupError(f"'{what}' is nothing that can be asked for", f"ask for {known}")


def _pass(source: IO[bytes], target: IO[bytes], count: int) -> None:
    while count and (chunk := source.read(min(count, CHUNK_BYTES))):
        count -= len(chunk)
        target.write(chunk)
