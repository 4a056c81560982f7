# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A second place answers: files, digest, get and put.

There is no request that removes or changes a file, so whoever has the key cannot do it either.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO

from . import durable, place
from .answering import Answer, Request, answer, body, unknown
from .errors import BackupError


def serve(root: Path) -> int:
    """Answer requests until there are no more."""

    def handle(request: Request, source: IO[bytes]) -> Answer:
        what = request["do"]
        if what == "files":
            return {"files": place.visible(root)}
        if what == "put":
            return {"made": _put(root, request, source)}
        if what == "digest":
            return {"sha256": place.digest(root / place.checked(request["path"]))}
        raise unknown(what, "files, digest, get or put")

    return answer(root, handle)


def _put(root: Path, request: Request, source: IO[bytes]) -> bool:
    """Add a file, or read past it where it is there already; raise BackupError where that is a different one."""
    with body(request, source) as sent:
        target = root / place.checked(request["path"])
        if not target.exists():
            target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            with durable.create(target) as file:
                found = hashlib.sha256()
                for chunk in sent.chunks():
                    found.update(chunk)
                    file.write(chunk)
                if not sent.complete or found.hexdigest() != request["sha256"]:
                    raise BackupError(f"{request['path']} did not arrive as it was sent", "run it again")
            return True
        if place.digest(target) != request["sha256"]:
            raise BackupError(f"a different {request['path']} is there", "find out who wrote it; it stays as it is")
        return False
