# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup: what its manifest says, and how the manifest is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import durable
from .canonical import canonical, digest
from .errors import BackupError

FORMAT = 1
MANIFEST = "manifest.json"
DAMAGED = "restore from another backup, and take a full one"


@dataclass(frozen=True)
class Artefact:
    """A file of a backup, and what it becomes once it is decrypted and decompressed."""

    name: str
    bytes: int
    sha256: str
    plain_bytes: int
    plain_sha256: str


@dataclass(frozen=True)
class Backup:
    """A backup that is complete. Moments are ISO 8601 in UTC."""

    format: int
    id: str
    kind: str
    """full, incremental or logical."""
    engine: str
    cluster: str
    system_identifier: str
    server_version: str
    started_at: str
    finished_at: str
    chain: str
    """The full backup that it rests on; its own id where it rests on none."""
    parent: str | None
    timeline: int
    start_lsn: str
    stop_lsn: str
    wal_segment_bytes: int
    databases: tuple[str, ...]
    """Databases that were dumped, where it is logical."""
    recipients_sha256: str
    """Of the file with the public keys that it is encrypted to."""
    artefacts: tuple[Artefact, ...]
    # Older manifests lack these.
    source: str = ""
    """The server that it was taken of: primary or standby, and its address where it has one."""
    notices: tuple[str, ...] = ()
    """Why standbys that were asked first were passed over."""

    @property
    def bytes(self) -> int:
        """Return the size of all its files."""
        return sum(each.bytes for each in self.artefacts)

    def as_dict(self) -> dict[str, Any]:
        """Return the manifest as JSON has it, without its own digest."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    def write(self, directory: Path) -> None:
        """Write the manifest, which makes the backup count."""
        content = self.as_dict()
        durable.replace(directory / MANIFEST, canonical({**content, "manifest_sha256": digest(content)}) + b"\n")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Backup:
        """Return the backup of a manifest's content; raise BackupError where it was changed."""
        values = dict(content)
        if values.pop("manifest_sha256", None) != digest(values):
            raise BackupError("the manifest was changed", DAMAGED)
        try:
            values["artefacts"] = tuple(Artefact(**each) for each in values["artefacts"])
            for name in ("databases", "notices"):
                values[name] = tuple(values.get(name, ()))
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise BackupError(f"this is no manifest: {error}", DAMAGED) from error


def load(directory: Path) -> Backup:
    """Return the backup in the directory; raise BackupError where its manifest is missing or damaged."""
    path = directory / MANIFEST
    try:
        written = path.read_bytes()
        content = json.loads(written)
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        if written != canonical(content) + b"\n":
            raise BackupError("the manifest was changed", DAMAGED)
        found = Backup.from_dict(content)
        if found.id != directory.name:
            raise BackupError(f"the manifest is that of {found.id}", "give the directory its name back")
    except OSError as error:
        raise BackupError(f"backup {directory.name}: {error.strerror}: {path}", DAMAGED) from error
    except ValueError as error:
        raise BackupError(f"backup {directory.name}: the manifest is no JSON: {error}", DAMAGED) from error
    except BackupError as error:
        raise BackupError(f"backup {directory.name}: {error.message}", error.remedy) from error
    return found


def load_all(directory: Path) -> dict[str, Backup | BackupError]:
    """Return all backups by id, the oldest first; an error in place of one that cannot be used."""
    found: dict[str, Backup | BackupError] = {}
    for each in sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            found[each.name] = load(each)
        except BackupError as error:
            found[each.name] = error
    return found
