# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Another host, over SSH: asked by lines of JSON. What it can be asked for is up to the key: see answering.py."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, TypeVar

from . import durable
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


def options(key: Path) -> list[str]:
    """Return ssh's options for a host that lets this key in, beside which its .known_hosts lies."""
    files = {"IdentityFile": str(key), "UserKnownHostsFile": f"{key}.known_hosts"}
    return ["-F", "none", "-T", *(f"-o{name}={value}" for name, value in {**OPTIONS, **files}.items())]


def command(address: str, key: Path) -> list[str]:
    """Return how the host is reached: USER@HOST:PORT."""
    account, port = address.rsplit(":", 1)
    return ["ssh", *options(key), "-p", port, account]


class Peer:
    """The other host, while the connection lasts."""

    def __init__(self, name: str, into: IO[bytes], stream: IO[bytes]) -> None:
        self._name, self._into, self._stream = name, into, stream

    def __str__(self) -> str:
        """Return where it is."""
        return self._name

    def ask(self, do: str, source: IO[bytes] | None = None, **request: Any) -> dict[str, Any]:
        """Send a request, and what follows it; return the answer, or raise BackupError where it is an error."""
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

    def get(self, path: str, target: Path) -> None:
        """Copy a file from there."""
        left = int(self.ask("get", path=path)["bytes"])
        with durable.create(target) as file:
            while left:
                chunk = self._stream.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise BrokenPipeError
                left -= len(chunk)
                file.write(chunk)


PeerT = TypeVar("PeerT", bound=Peer)


class Connection(Generic[PeerT]):
    """Context manager that connects, and ends the connection after the block."""

    def __init__(self, kind: type[PeerT], address: str, key: Path) -> None:
        self._kind, self._address, self._key = kind, address, key
        self._stack = ExitStack()

    def __enter__(self) -> PeerT:
        """Connect."""
        into, stream = self._stack.enter_context(pipeline([command(self._address, self._key)]))

        def finish(
            kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
        ) -> None:
            if kind is None:
                into.close()
                stream.read()

        self._stack.push(finish)
        return self._kind(self._address, into, stream)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """End the connection; raise BackupError where the host was not reached."""
        return self._stack.__exit__(kind, error, trace)
