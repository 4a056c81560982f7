# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A second place answers, over standard input and output: the forced command of a key (sshd(8), ``command=``).

A request is a line of JSON, for ``put`` followed by the file; an answer is a line of JSON, for ``get`` followed by the
file. There is no request that removes or changes a file, so whoever has the key cannot do it either.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import IO, Any

from . import durable, place
from .errors import BackupError

CHUNK_BYTES = 1 << 20
LINE_BYTES = 4096


def serve(root: Path) -> int:
    """Answer requests on standard input until it ends."""
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    while line := source.readline(LINE_BYTES):
        try:
            request = json.loads(line)
            answer: dict[str, Any] = {"ok": True, **_answer(root, request, source)}
        except BackupError as error:
            answer = {"ok": False, "message": error.message, "remedy": error.remedy}
        except (KeyError, TypeError, ValueError) as error:
            answer = {"ok": False, "message": f"this is no request: {error!r}", "remedy": "use auditdb-backup offsite"}
        except OSError as error:
            answer = {"ok": False, "message": str(error), "remedy": "check space, owner and mode there"}
        answers.write(json.dumps(answer).encode() + b"\n")
        if answer["ok"] and request["do"] == "get":
            with (root / place.checked(request["path"])).open("rb") as file:
                _pass(file, answers, answer["bytes"])
        answers.flush()
    return 0


def _answer(root: Path, request: dict[str, Any], source: IO[bytes]) -> dict[str, Any]:
    what = request["do"]
    if what == "files":
        return {"files": place.visible(root)}
    if what == "put":
        return {"made": _put(root, request, source)}
    path = root / place.checked(request["path"])
    if what == "digest":
        return {"sha256": place.digest(path)}
    if what == "get":
        return {"bytes": path.stat().st_size}
    raise BackupError(f"'{what}' is nothing that can be asked for", "ask for files, digest, get or put")


def _put(root: Path, request: dict[str, Any], source: IO[bytes]) -> bool:
    """Add a file, or read past it where it is there already; raise BackupError where that is a different one."""
    left = int(request["bytes"])
    try:
        target = root / place.checked(request["path"])
        if not target.exists():
            target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            with durable.create(target) as file:
                found = hashlib.sha256()
                while left and (chunk := source.read(min(left, CHUNK_BYTES))):
                    left -= len(chunk)
                    found.update(chunk)
                    file.write(chunk)
                if left or found.hexdigest() != request["sha256"]:
                    raise BackupError(f"{request['path']} did not arrive as it was sent", "run it again")
            return True
        if place.digest(target) != request["sha256"]:
            raise BackupError(f"a different {request['path']} is there", "find out who wrote it; it stays as it is")
        return False
    finally:
        while left and (chunk := source.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)


def _pass(source: IO[bytes], target: IO[bytes], count: int) -> None:
    while count and (chunk := source.read(min(count, CHUNK_BYTES))):
        count -= len(chunk)
        target.write(chunk)
