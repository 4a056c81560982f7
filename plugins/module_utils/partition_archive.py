# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put a table into an archive, read it back, make it a table again. Nothing here drops a table that it did not make."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_definition import (
    plain_columns,
    read_definition,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_files import (
    DATA,
    MANIFEST,
    Compressed,
    Durable,
    archive_name,
    check_name,
    file_errors,
    make_directory,
    require_zstandard,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_manifest import (
    FORMAT_VERSION,
    Manifest,
    find_manifest,
    list_archives,
    load_manifest,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_restore import read_back, restore
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_verify import compare_table, verify_files
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_seal import (
    Seal,
    SealOptions,
    copy_out,
    lock,
    seal,
    snapshot,
)

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

# What a caller needs; the other parts are in archive_*.py.
__all__ = [
    "Manifest",
    "SealOptions",
    "archive_name",
    "compare_table",
    "export",
    "find_manifest",
    "list_archives",
    "load_manifest",
    "read_back",
    "restore",
    "verify_files",
]

ORIGIN = "SELECT current_setting('server_version') AS version, now() AS now, current_database()::text AS database"


def export(
    session: Session,
    relation: tuple[str, str],
    directory: Path,
    options: SealOptions,
    *,
    name: str | None = None,
    level: int = 6,
    bounds: str | None = None,
) -> Manifest:
    """Write the table (schema, name) into NAME.copy.zst and NAME.manifest.json, and return the manifest.

    Seal and rows come from one snapshot. ``level`` is zstd's, 1 to 19. ``bounds`` replaces the partition bound of the
    catalog, which a detached partition has no more. An archive that holds the same rows is left as it is; one that
    holds others, or is damaged, raises PostgresqlError with ``differences``. Without a manifest, which is written last,
    nothing counts: what a killed run left is replaced.
    """
    require_zstandard()
    name = check_name(name or archive_name(relation))
    directory = Path(directory)
    existing = _unchanged(session, relation, directory, name)
    if existing:  # before anything is written: the medium may be read-only
        return existing
    with file_errors(f"archive {name}"):
        make_directory(directory)
        # The manifest's lock is held throughout, so that no other run puts its data beside this one's manifest.
        with Durable(directory / (name + MANIFEST)) as record:
            existing = _unchanged(session, relation, directory, name)
            if existing:
                return existing
            with Durable(directory / (name + DATA)) as data:
                manifest = _write(session, relation, data, options, name=name, level=level, bounds=bounds)
                record.write(manifest.text().encode())
                data.commit()
                record.commit()
    return manifest


def _unchanged(session: Session, relation: tuple[str, str], directory: Path, name: str) -> Manifest | None:
    manifest = find_manifest(directory, name)
    if manifest is None:
        return None
    if (manifest.schema, manifest.table) != relation:
        raise PostgresqlError(
            f"archive {name} holds {manifest.schema}.{manifest.table} and not {'.'.join(relation)}",
            remedy="give the archive another name, or another directory",
        )
    compare_table(session, manifest, relation)
    verify_files(directory, manifest)
    return manifest


def _write(
    session: Session,
    relation: tuple[str, str],
    data: Durable,
    options: SealOptions,
    *,
    name: str,
    level: int,
    bounds: str | None,
) -> Manifest:
    stream = Compressed(data, level)
    with snapshot(session):
        lock(session, relation)
        definition = read_definition(session, relation)
        definition["bounds"] = bounds or definition["bounds"]
        sealed = seal(session, relation, options)
        rows = copy_out(session, _copy_to(relation, plain_columns(definition), sealed), stream)
        server = session.query(ORIGIN)[0]
    stream.close()
    if rows != sealed.rows:
        raise PostgresqlError(f"archive {name}: {rows} rows were copied, {sealed.rows} were sealed")
    return Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        database=server["database"],
        schema=relation[0],
        table=relation[1],
        definition=definition,
        seal=sealed,
        file_bytes=data.size,
        file_sha256=data.sha256,
        stream_bytes=stream.size,
        stream_sha256=stream.sha256,
        server_version=server["version"],
        created_at=server["now"].isoformat(),
    )


def _copy_to(relation: tuple[str, str], columns: Sequence[str], sealed: Seal) -> sql.Composable:
    # Ordered as the seal is, so that two exports of the same rows are the same stream, and a restored table is
    # clustered by time. The text format: it is the same on every version, and readable without a server.
    return sql.SQL("COPY (SELECT {} FROM {} AS r ORDER BY {}) TO STDOUT (FORMAT text, ENCODING 'UTF8')").format(
        sql.SQL(", ").join(sql.SQL("r.{}").format(sql.Identifier(name)) for name in columns),
        sql.Identifier(*relation),
        sql.SQL(", ").join(sql.SQL("r.{}").format(sql.Identifier(name)) for name in sealed.order_by),
    )
