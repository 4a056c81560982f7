# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest of an archive: what makes its data file count, and a table again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_files import (
    MANIFEST,
    UNHARMED,
    check_name,
    file_errors,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.seal_model import Seal, canonical_json

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """What an archive holds. ``definition`` is what ``read_definition`` returned, bounds included."""

    format_version: int
    name: str
    database: str
    schema: str
    table: str
    definition: dict[str, Any]
    seal: Seal
    file_bytes: int
    """Of the compressed file."""
    file_sha256: str
    stream_bytes: int
    """Of the uncompressed COPY text."""
    stream_sha256: str
    server_version: str
    created_at: str
    """The server's clock at the snapshot, ISO 8601 in UTC."""

    def as_dict(self) -> dict[str, Any]:
        """Return the manifest as JSON has it, without its own digest."""
        return {**self.__dict__, "seal": self.seal.as_dict()}

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the manifest's canonical JSON, hexadecimal: to be kept where the archive is not."""
        return hashlib.sha256(canonical_json(self.as_dict()).encode()).hexdigest()

    def text(self) -> str:
        """Return the content of the manifest's file."""
        return canonical_json({**self.as_dict(), "manifest_sha256": self.sha256}) + "\n"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Manifest:
        """Return the manifest of a file's content; raise PostgresqlError where it is none or was changed."""
        values = dict(data)
        digest = values.pop("manifest_sha256", None)
        if values.get("format_version") != FORMAT_VERSION:
            raise PostgresqlError(
                f"the manifest's format is {values.get('format_version')} and not {FORMAT_VERSION}",
                remedy="use the version of this collection that wrote it",
            )
        if digest != hashlib.sha256(canonical_json(values).encode()).hexdigest():
            raise PostgresqlError("the manifest was changed", remedy=UNHARMED)
        try:
            return cls(**{**values, "seal": Seal.from_dict(values["seal"])})
        except (KeyError, TypeError) as error:
            raise PostgresqlError(f"this is no manifest: {error!r}", remedy=UNHARMED) from error


def find_manifest(directory: Path, name: str) -> Manifest | None:
    """Return the archive's manifest, None where there is none; raise PostgresqlError where it is damaged."""
    path = Path(directory) / (check_name(name) + MANIFEST)
    try:
        with file_errors(f"archive {name}"):
            content = json.loads(path.read_bytes())
    except PostgresqlError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    except ValueError as error:
        raise PostgresqlError(f"archive {name}: the manifest is no JSON: {error}", remedy=UNHARMED) from error
    if not isinstance(content, dict):
        raise PostgresqlError(f"archive {name}: the manifest is no JSON object", remedy=UNHARMED)
    try:
        manifest = Manifest.from_dict(content)
    except PostgresqlError as error:
        raise PostgresqlError(f"archive {name}: {error.message}", remedy=error.remedy) from error
    if manifest.name != name:
        raise PostgresqlError(
            f"archive {name}: the manifest is that of {manifest.name}", remedy="give its files their names back"
        )
    return manifest


def load_manifest(directory: Path, name: str, expected: str | None = None) -> Manifest:
    """Return the archive's manifest; raise PostgresqlError where it is missing, damaged or not the expected one.

    ``expected`` is the manifest's SHA-256, hexadecimal, as it was kept elsewhere.
    """
    manifest = find_manifest(directory, name)
    if manifest is None:
        raise PostgresqlError(
            f"there is no archive {name} in {directory}", remedy="check name and directory, or export the table first"
        )
    if expected and manifest.sha256 != expected.lower():
        raise PostgresqlError(
            f"archive {name}: the manifest has the SHA-256 {manifest.sha256} and not the expected {expected}",
            remedy="take the copy of the archive that has the expected one",
        )
    return manifest


def list_archives(directory: Path) -> dict[str, Manifest | PostgresqlError]:
    """Return, by name, each archive that has a manifest, or why that cannot be used; empty without a directory."""
    found: dict[str, Manifest | PostgresqlError] = {}
    for path in sorted(Path(directory).glob("*" + MANIFEST)):
        name = path.name.removesuffix(MANIFEST)
        try:
            found[name] = load_manifest(directory, name)
        except PostgresqlError as error:
            found[name] = error
    return found
