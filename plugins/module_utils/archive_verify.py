# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether an archive's file is unharmed, and whether a table has the rows that were archived."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_files import (
    DATA,
    UNHARMED,
    file_errors,
    file_sha256,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_manifest import Manifest
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_seal import Seal, differences, explain, seal


def verify_files(directory: Path, manifest: Manifest) -> None:
    """Raise PostgresqlError where the data file is missing, or its size or digest is not that of the manifest."""
    path = Path(directory) / (manifest.name + DATA)
    with file_errors(f"archive {manifest.name}"):
        digest, size = file_sha256(path)
    if size != manifest.file_bytes:
        damage = f"has {size} bytes and not {manifest.file_bytes}"
    elif digest != manifest.file_sha256:
        damage = f"has the SHA-256 {digest} and not {manifest.file_sha256}"
    else:
        return
    raise PostgresqlError(f"archive {manifest.name}: {path.name} {damage}", remedy=UNHARMED)


def compare_table(session: Session, manifest: Manifest, relation: tuple[str, str]) -> Seal:
    """Return the table's seal; raise PostgresqlError with ``differences`` where it is not that of the archive."""
    # All columns: one that was added since is a difference, too.
    now = seal(session, relation, replace(manifest.seal.options, columns=None))
    refuse_differences(f"{'.'.join(relation)} has other rows than archive {manifest.name}", manifest.seal, now)
    return now


def refuse_differences(what: str, old: Seal, new: Seal) -> None:
    """Raise PostgresqlError with ``differences`` where the seals differ."""
    found: dict[str, Any] = differences(old, new)
    if found:
        raise PostgresqlError(
            f"{what}: {explain(found)}",
            remedy="nothing was changed or removed; compare the named rows, and keep both",
            differences=found,
        )
