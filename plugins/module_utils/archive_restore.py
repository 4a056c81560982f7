# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read an archive back into the server: to compare it, or to make it a table again."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_definition import (
    close_statements,
    create_table,
    finish_statements,
    plain_columns,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_files import (
    DATA,
    UNHARMED,
    Decompressed,
    file_errors,
    require_zstandard,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_manifest import Manifest, load_manifest
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_verify import compare_table, verify_files
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, database_error
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_seal import Seal, relation_oid, settle_output

with contextlib.suppress(ImportError):  # run_module reports it
    import psycopg2
    from psycopg2 import sql

COPY_BYTES = 1 << 18


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
