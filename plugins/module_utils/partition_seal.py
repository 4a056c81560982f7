# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A table's seal: a digest of its rows that does not depend on the server, its version, its settings or row order.

docs/decisions/what-a-seal-covers.md says what the canonical form is and why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, database_error
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.seal_model import (
    ALGORITHM,
    BLOCK_ROWS,
    Digest,
    Seal,
    SealOptions,
    differences,
    explain,
)

with contextlib.suppress(ImportError):  # run_module reports it
    import psycopg2
    from psycopg2 import sql

__all__ = [
    "ALGORITHM",
    "BLOCK_ROWS",
    "Seal",
    "SealOptions",
    "differences",
    "explain",
    "relation_oid",
    "seal",
    "settle_output",
    "snapshot",
]

# What the text of a value depends on. row_security: a policy that hides rows must be an error, not a smaller table.
# search_path: names of types and regclass values are written with their schema.
SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "xmloption": "content",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "row_security": "off",
    "client_encoding": "UTF8",
}

COLUMNS = """
SELECT a.attname AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, a.attcollation <> 0 AS collatable
FROM pg_catalog.pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
"""


@contextmanager
def snapshot(session: Session) -> Iterator[None]:
    """Run the block in one REPEATABLE READ READ ONLY transaction with the settings that fix the text of values.

    Inside a transaction of the caller that one is used as it is, and keeps the settings until it ends.
    """
    if not session.connection.autocommit:
        settle_output(session)
        yield
        return
    with session.discarded():
        session.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        settle_output(session)
        yield


def settle_output(session: Session) -> None:
    """Fix what the text of values depends on, until the current transaction ends."""
    # SET, because a SELECT of set_config() would take the snapshot before the table is locked.
    settings = [
        sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in SETTINGS.items()
    ]
    session.query(sql.SQL("; ").join(settings))


def relation_oid(session: Session, relation: tuple[str, str], kinds: str = "rp") -> int | None:
    """Return the table's OID, or None where nothing has this name; raise where it is no table."""
    name = session.render(sql.Identifier(*relation))
    rows = session.query(
        "SELECT c.oid::bigint AS oid, c.relkind::text AS kind, "
        "octet_length(long.name) > current_setting('max_identifier_length')::int AS cut, long.name AS part "
        "FROM unnest(%s::text[]) AS long (name) LEFT JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(%s)",
        (list(relation), name),
    )
    for row in rows:
        if row["cut"]:  # the server would cut it off without a word, and find another table
            raise PostgresqlError(f"the name {row['part']} is too long", remedy="shorten it", sqlstate="42622")
    rows = [row for row in rows if row["oid"] is not None]
    if not rows:
        return None
    if rows[0]["kind"] not in kinds:
        raise PostgresqlError(f"{name} is not a table", remedy="name a table or a partition", sqlstate="42809")
    return int(rows[0]["oid"])


def seal(session: Session, relation: tuple[str, str], options: SealOptions, limit: int | None = None) -> Seal:
    """Return the seal of the table (schema, name), read in one snapshot.

    With ``limit``, of its first rows alone. Memory is constant here; the server sorts, with temporary files beyond
    work_mem. Raises PostgresqlError where the table or a column is missing (42P01, 42703), may not be read (42501) or
    has rows that a policy hides (42501).
    """
    key, order_by = options.key, options.order_by
    if options.block_rows < 1:
        raise PostgresqlError(f"block_rows: {options.block_rows} is less than 1", remedy="give 1 or more")
    with snapshot(session):
        label = ".".join(relation)
        # Before the first snapshot: the table cannot change its shape between the catalog and the rows.
        lock(session, relation)
        oid = relation_oid(session, relation)
        columns = {row["name"]: row for row in session.query(COLUMNS, (oid,))}
        missing = [name for name in (key, *order_by, *(options.columns or ())) if name not in columns]
        if missing or not order_by:
            raise PostgresqlError(
                f"{label} has no column {', '.join(missing)}" if missing else "order_by is empty",
                remedy="name columns of the table in key, order_by and columns",
                sqlstate="42703",
            )
        names = sorted(options.columns or columns)
        digest = Digest(names, order_by, options.block_rows)
        copy_out(session, canonical_rows(relation, names, order_by, columns, limit), digest)
        minimum, maximum = extremes(session, relation, key, columns[key]["type"])
    return Seal(
        rows=digest.rows,
        minimum=minimum,
        maximum=maximum,
        sha256=digest.finish(),
        columns=tuple((name, columns[name]["type"]) for name in names),
        algorithm=ALGORITHM,
        blocks=tuple(digest.blocks),
        key=key,
        order_by=tuple(order_by),
        block_rows=options.block_rows,
    )


def lock(session: Session, relation: tuple[str, str]) -> None:
    """Hold off changes of the table's definition until the transaction ends; readers and writers go on."""
    session.query(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.Identifier(*relation)))


def canonical_rows(
    relation: tuple[str, str],
    names: Sequence[str],
    order_by: Sequence[str],
    columns: Mapping[str, Any],
    limit: int | None,
) -> sql.Composable:
    """Return the COPY that streams the canonical rows, one a line.

    concat() gives what the type's output function writes; a cast to text differs for boolean, char(n) and inet. JSON
    has no control characters, so a CSV whose delimiter and quote are such characters never quotes: the stream is the
    canonical text itself.
    """
    values = sql.SQL(", ").join(
        sql.SQL("CASE WHEN r.{0} IS DISTINCT FROM NULL THEN concat(r.{0}) END").format(sql.Identifier(name))
        for name in names
    )
    return sql.SQL(
        'COPY (SELECT array_to_json(ARRAY[{values}]::text[])::text COLLATE "C" FROM {relation} AS r '
        "ORDER BY {order}, 1 LIMIT {limit}) "
        "TO STDOUT (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02', ENCODING 'UTF8')"
    ).format(
        values=values,
        relation=sql.Identifier(*relation),
        order=ordering(order_by, columns),
        limit=sql.Literal(limit),
    )


def ordering(order_by: Sequence[str], columns: Mapping[str, Any]) -> sql.Composable:
    """Return the sort keys; text is compared by its bytes, since collations change with the operating system."""
    return sql.SQL(", ").join(
        sql.SQL('r.{} COLLATE "C"' if columns[name]["collatable"] else "r.{}").format(sql.Identifier(name))
        for name in order_by
    )


def extremes(session: Session, relation: tuple[str, str], key: str, key_type: str) -> tuple[str | None, str | None]:
    """Return the least and the greatest key as ISO 8601 in UTC, None where there are no rows."""
    naive = key_type.startswith("timestamp") and key_type.endswith("without time zone")
    text = " AT TIME ZONE 'UTC'" if naive else ""
    row = session.query(
        sql.SQL(
            "SELECT to_json(min(k){zone}) #>> '{{}}' AS least, to_json(max(k){zone}) #>> '{{}}' AS most "
            "FROM (SELECT {key} AS k FROM {table}) AS r"
        ).format(zone=sql.SQL(text), key=sql.Identifier(key), table=sql.Identifier(*relation))
    )[0]
    return row["least"], row["most"]


def copy_out(session: Session, statement: sql.Composable, sink: Any) -> int:
    """Stream a COPY ... TO STDOUT into ``sink.write(bytes)``, called once a row; return the number of rows.

    An error of the sink cancels the statement and is raised as it is: an exception inside psycopg2's callback would
    leave the connection in the middle of a COPY.
    """
    text = statement.as_string(session.connection)
    guarded = _Guarded(session, sink)
    with session.connection.cursor() as cursor:
        try:
            cursor.copy_expert(text, guarded)
        except psycopg2.Error as error:
            if guarded.error is not None:
                raise guarded.error from error
            raise database_error(error, text) from error
        if guarded.error is not None:
            raise guarded.error
        return int(cursor.rowcount)


class _Guarded:
    def __init__(self, session: Session, sink: Any) -> None:
        self.session = session
        self.sink = sink
        self.error: Exception | None = None

    def write(self, data: bytes) -> None:
        if self.error is None:
            try:
                self.sink.write(data)
            except Exception as error:
                self.error = error
                self.session.connection.cancel()
