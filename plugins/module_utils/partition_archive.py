# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put a table into an archive, read it back, make it a table again. Nothing here drops a table that it did not make."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_definition import (
    close_statements,
    create_table,
    finish_statements,
    plain_columns,
    read_definition,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_files import (
    DATA,
    MANIFEST,
    UNHARMED,
    Compressed,
    Decompressed,
    Durable,
    archive_name,
    check_name,
    file_errors,
    file_sha256,
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
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, database_error
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_seal import (
    Seal,
    SealOptions,
    copy_out,
    differences,
    explain,
    lock,
    relation_oid,
    seal,
    settle_output,
    snapshot,
)

with contextlib.suppress(ImportError):  # run_module reports it
    import psycopg2
    from psycopg2 import sql

__all__ = [
    "Manifest",
    "compare_table",
    "export",
    "find_manifest",
    "list_archives",
    "read_back",
    "restore",
    "verify_files",
]

COPY_BYTES = 1 << 18
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


def compare_table(session: Session, manifest: Manifest, relation: tuple[str, str]) -> Seal:
    """Return the table's seal; raise PostgresqlError with ``differences`` where it is not that of the archive."""
    now = seal(session, relation, manifest.seal.key, manifest.seal.order_by, manifest.seal.block_rows)
    refuse_differences(f"{'.'.join(relation)} has other rows than archive {manifest.name}", manifest.seal, now)
    return now


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
        sealed = seal(session, relation, options.key, options.order_by, options.block_rows)
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


def read_back(
    session: Session, directory: Path, name: str, *, schema: str | None = None, expected: str | None = None
) -> Seal:
    """Load the archive into a scratch table, seal that and return the seal, which equals the manifest's.

    The scratch table is unlogged in ``schema``, temporary where None; its transaction is always rolled back, so that a
    killed run leaves nothing either. ``expected`` is the manifest's SHA-256 as it was kept elsewhere: without it a
    forged manifest beside a forged file is not found. Raises PostgresqlError where file, stream or rows differ, with
    ``differences`` for rows.
    """
    require_zstandard()
    manifest = load_manifest(directory, name, expected)
    verify_files(directory, manifest)
    scratch = f"read_back_{secrets.token_hex(8)}"
    relation = (schema or "pg_temp", scratch)
    with session.discarded():
        settle_output(session)
        if schema:
            session.execute(create_table(manifest.definition, relation, "UNLOGGED TABLE"))
        else:
            session.execute(create_table(manifest.definition, (scratch,), "TEMPORARY TABLE"))
        return _load(session, directory, manifest, relation)


def restore(
    session: Session, directory: Path, name: str, into: tuple[str, str], *, expected: str | None = None
) -> Manifest:
    """Make the table ``into`` (schema, name) from the archive, and return the manifest.

    One transaction: the table is there complete, with the manifest's seal, its constraints and comments, closed to
    everybody but its owner, or it is not there. Raises PostgresqlError where something has the name (42P07), a type or
    the schema is missing, or the rows are not those of the seal. ``expected`` is as for ``read_back``.
    """
    require_zstandard()
    manifest = load_manifest(directory, name, expected)
    verify_files(directory, manifest)
    with session.transaction():
        settle_output(session)
        if relation_oid(session, into) is not None:
            raise PostgresqlError(f"{'.'.join(into)} exists", remedy="restore under another name", sqlstate="42P07")
        session.execute(create_table(manifest.definition, into))
        for statement in close_statements(session, into):
            session.execute(statement)
        _load(session, directory, manifest, into)
        for statement in finish_statements(manifest.definition, into):
            session.execute(statement)
    return manifest


def _load(session: Session, directory: Path, manifest: Manifest, relation: tuple[str, str]) -> Seal:
    """Copy the archive into an empty table and return its seal; raise where it is not the manifest's."""
    columns = sql.SQL(", ").join(map(sql.Identifier, plain_columns(manifest.definition)))
    text = (
        sql.SQL("COPY {} ({}) FROM STDIN (FORMAT text, ENCODING 'UTF8')")
        .format(sql.Identifier(*relation), columns)
        .as_string(session.connection)
    )
    with file_errors(f"archive {manifest.name}"), (Path(directory) / (manifest.name + DATA)).open("rb") as file:
        source: Any = Decompressed(file, manifest.stream_bytes)
        with session.connection.cursor() as cursor:
            try:
                cursor.copy_expert(text, source, COPY_BYTES)
            except psycopg2.Error as error:
                raise source.error or database_error(error, text) from error
    session.executed.append(text)
    if source.error:
        raise source.error
    if source.sha256 != manifest.stream_sha256:
        raise PostgresqlError(
            f"archive {manifest.name}: the decompressed stream has the SHA-256 {source.sha256} and not "
            f"{manifest.stream_sha256}",
            remedy=UNHARMED,
        )
    return compare_table(session, manifest, relation)


def refuse_differences(what: str, old: Seal, new: Seal) -> None:
    """Raise PostgresqlError with ``differences`` where the seals differ."""
    found: dict[str, Any] = differences(old, new)
    if found:
        raise PostgresqlError(
            f"{what}: {explain(found)}",
            remedy="nothing was changed or removed; compare the named rows, and keep both",
            differences=found,
        )
