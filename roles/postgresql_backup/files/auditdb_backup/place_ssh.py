# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A second place on another host, over SSH. Its key can add files there and read them: see serve.py."""

from __future__ import annotations

from pathlib import Path

from . import place
from .asking import Connection, Peer
from .configuration import Configuration


class Remote(Peer):
    """A second place, while the connection lasts."""

    def files(self) -> list[str]:
        """Return the paths of all files."""
        return [str(each) for each in self.ask("files")["files"]]

    def digest(self, path: str) -> str:
        """Return the SHA-256 of a file, as it was read there."""
        return str(self.ask("digest", path=path)["sha256"])

    def put(self, path: str, source: Path) -> None:
        """Add a file."""
        size, sha256 = source.stat().st_size, place.digest(source)
        with source.open("rb") as file:
            self.ask("put", file, path=path, bytes=size, sha256=sha256)


def connection(settings: Configuration) -> Connection[Remote]:
    """Return a context manager that yields the second place; raise BackupError where it is not reached."""
    return Connection(Remote, settings.offsite_ssh, settings.key())
