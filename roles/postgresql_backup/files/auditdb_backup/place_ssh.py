# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A second place on another host, over SSH. Its key can add files there and read them: see serve.py."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from . import durable, place
from .configuration import Configuration
from .encryption import CHUNK_BYTES
from .errors import BackupError
from .processes import pipeline

OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": "15",
    "IdentitiesOnly": "yes",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
    "StrictHostKeyChecking": "yes",
    "GlobalKnownHostsFile": "none",
}


def command(settings: Configuration) -> list[str]:
    """Return how the host is reached. What runs there is up to the key."""
    address, port = settings.offsite_ssh.rsplit(":", 1)
    files = {"IdentityFile": str(settings.ssh_key), "UserKnownHostsFile": f"{settings.ssh_key}.known_hosts"}
    options = [f"-o{name}={value}" for name, value in {**OPTIONS, **files}.items()]
    return ["ssh", "-F", "none", "-T", *options, "-p", port, address]


class Remote:
    """A second place, while the connection lasts."""

    def __init__(self, name: str, into: IO[bytes], stream: IO[bytes]) -> None:
        self._name, self._into, self._stream = name, into, stream

    def __str__(self) -> str:
        """Return where it is."""
        return self._name

    def _ask(self, do: str, source: IO[bytes] | None = None, **request: Any) -> dict[str, Any]:
        self._into.write(json.dumps({"do": do, **request}).encode() + b"\n")
        while source and (chunk := source.read(CHUNK_BYTES)):
            self._into.write(chunk)
        self._into.flush()
        line = self._stream.readline()
        if not line:
            raise BrokenPipeError  # ssh has ended: it says why
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise BackupError(f"{self._name}: {answer['message']}", answer["remedy"])
        return answer

    def files(self) -> list[str]:
        """Return the paths of all files."""
        return [str(each) for each in self._ask("files")["files"]]

    def digest(self, path: str) -> str:
        """Return the SHA-256 of a file, as it was read there."""
        return str(self._ask("digest", path=path)["sha256"])

    def put(self, path: str, source: Path) -> None:
        """Add a file."""
        size, sha256 = source.stat().st_size, place.digest(source)
        with source.open("rb") as file:
            self._ask("put", file, path=path, bytes=size, sha256=sha256)

    def get(self, path: str, target: Path) -> None:
        """Copy a file from there."""
        left = int(self._ask("get", path=path)["bytes"])
        with durable.create(target) as file:
            while left:
                chunk = self._stream.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise BrokenPipeError
                left -= len(chunk)
                file.write(chunk)


class Connection:
    """Context manager that connects, and ends the connection after the block."""

    def __init__(self, settings: Configuration) -> None:
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> Remote:
        """Connect."""
        into, stream = self._stack.enter_context(pipeline([command(self._settings)]))

        def finish(
            kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
        ) -> None:
            if kind is None:
                into.close()
                stream.read()

        self._stack.push(finish)
        return Remote(self._settings.offsite_ssh, into, stream)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """End the connection; raise BackupError where the host was not reached."""
        return self._stack.__exit__(kind, error, trace)
