# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The trace of partitions that left: recorded as they leave, filled in once their archive was read back."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, with_lock_retries
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_archive import (
    Manifest,
    SealOptions,
    archive_name,
    compare_table,
    export,
    read_back,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import bound_literal
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

MOVE = "move"
"""The action of a partition that is archived, and stays in a schema of its own."""
RECORD = """
INSERT INTO {history} (table_name, partition_schema, partition_name, part_of, time_from, time_to, action, dropped_at)
VALUES ({table}, {schema}, {name}, {part_of}, {lower}, {upper}, {action}, {dropped})
"""
UNFINISHED = """
SELECT id, action, partition_schema AS schema, partition_name AS name, time_from, time_to, archive_name,
    manifest_sha256,
    pg_catalog.to_regclass(pg_catalog.quote_ident(partition_schema) || '.' || pg_catalog.quote_ident(partition_name))
        IS NULL AS lost,
    (SELECT count(*) FROM {history} AS b WHERE b.partition_schema = h.partition_schema
        AND b.partition_name = h.partition_name AND b.action = h.action AND b.archived_at IS NOT NULL
        AND b.id <> h.id) AS before
FROM {history} AS h WHERE table_name = %s AND (action = 'archive' AND dropped_at IS NULL
    OR action = 'move' AND archived_at IS NULL) ORDER BY time_from
"""
ARCHIVED = """
UPDATE {history} SET row_count = %s, sha256 = %s, archive_name = %s, archive_directory = %s, manifest_sha256 = %s,
    archived_at = pg_catalog.now() WHERE id = %s
"""
KEY = """
SELECT a.attname AS name FROM pg_catalog.pg_index i, unnest(i.indkey) WITH ORDINALITY AS k (number, place)
JOIN pg_catalog.pg_attribute a ON a.attnum = k.number WHERE i.indrelid = %s::regclass AND a.attrelid = i.indrelid
AND i.indisprimary ORDER BY k.place
"""


@dataclass(frozen=True)
class Departure:
    """A partition that left to be archived, and was not dropped yet."""

    number: int
    partition: Partition
    archive: str
    """Name of the archive, which is or will be."""
    manifest_sha256: str | None
    """Of the archive that is complete; only the table is left to be dropped."""
    lost: bool
    """Whether somebody else removed the table."""
    stays: bool = False
    """Whether its table is not dropped once it is archived."""


def table_of(history: str) -> Any:
    """Return the history's name as SQL writes it."""
    return sql.Identifier(*history.split("."))


def record(label: str, each: Partition, action: str, history: str, part_of: str | None = None) -> Any:
    """Return the statement that records a departure, for the transaction in which it happens.

    ``label`` names the partitioned table. ``part_of`` names the partition that stays, where only rows of it left.
    """
    lower, upper = (bound_literal(at, "timestamp with time zone") for at in (each.lower, each.upper))
    return sql.SQL(" ".join(RECORD.split())).format(
        history=table_of(history),
        table=sql.Literal(label),
        schema=sql.Literal(each.schema),
        name=sql.Literal(each.name),
        part_of=sql.Literal(part_of),
        lower=sql.Literal(lower),
        upper=sql.Literal(upper),
        action=sql.Literal(action),
        dropped=sql.SQL("pg_catalog.now()") if action == "drop" else sql.SQL("NULL"),
    )


def unfinished(session: Session, table: Table, history: str) -> list[Departure]:
    """Return the departures whose archive is not complete, or whose table still stands and is not to stay."""
    found = []
    for row in session.query(sql.SQL(UNFINISHED).format(history=table_of(history)), (table.label,)):
        # A range that was declared again, and left again, is another archive.
        name = archive_name((row["schema"], row["name"])) + (f".{row['before'] + 1}" if row["before"] else "")
        found.append(
            Departure(
                row["id"],
                Partition(row["name"], row["time_from"], row["time_to"], schema=row["schema"]),
                row["archive_name"] or name,
                row["manifest_sha256"],
                row["lost"],
                row["action"] == MOVE,
            )
        )
    return found


def refuse_lost(departures: Sequence[Departure]) -> None:
    """Raise where a table was removed by somebody else before its archive was complete."""
    lost = [f"{d.partition.schema}.{d.partition.name}" for d in departures if d.lost and not d.manifest_sha256]
    if lost:
        raise PostgresqlError(
            f"these left to be archived, and are gone without an archive: {', '.join(lost)}",
            remedy="restore them from a backup under their names, and run this again",
            sqlstate="42P01",
        )


def archive(session: Session, table: Table, departure: Departure, options: Mapping[str, Any]) -> Manifest:
    """Export the table that left, read the archive back, and record it. One that is complete is read back again."""
    each = departure.partition
    relation = (each.schema, each.name)
    directory = Path(options["archive_directory"])
    key = session.query(KEY, (sql.Identifier(*relation).as_string(session.connection),))
    lower, upper = (bound_literal(at, table.key_type) for at in (each.lower, each.upper))
    manifest = export(
        session,
        relation,
        directory,
        SealOptions(table.key, tuple(row["name"] for row in key) or (table.key,)),
        name=departure.archive,
        bounds=f"FOR VALUES FROM ('{lower}') TO ('{upper}')",
    )
    read_back(session, directory, departure.archive, expected=departure.manifest_sha256 or manifest.sha256)
    if not departure.manifest_sha256:
        session.execute(
            sql.SQL(" ".join(ARCHIVED.split())).format(history=table_of(options["history"])),
            (
                manifest.seal.rows,
                manifest.seal.sha256,
                departure.archive,
                str(directory),
                manifest.sha256,
                departure.number,
            ),
        )
    return manifest


def drop_statements(departure: Departure, history: str) -> list[Any]:
    """Return what removes a table whose archive was read back."""
    each = departure.partition
    gone = [] if departure.lost else [sql.SQL("DROP TABLE {}").format(sql.Identifier(each.schema, each.name))]
    return [
        *gone,
        sql.SQL("UPDATE {} SET dropped_at = pg_catalog.now() WHERE id = {}").format(
            table_of(history), sql.Literal(departure.number)
        ),
    ]


def drop(session: Session, departure: Departure, manifest: Manifest | None, options: Mapping[str, Any]) -> None:
    """Drop the table in a transaction in which nobody can change it, and in which it still is what was archived."""
    relation = (departure.partition.schema, departure.partition.name)

    def work() -> None:
        with session.transaction():
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
            if manifest:
                session.query(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(*relation)))
                compare_table(session, manifest, relation)
            for statement in drop_statements(departure, options["history"]):
                session.execute(statement)

    with_lock_retries(work, attempts=options["lock_attempts"])
