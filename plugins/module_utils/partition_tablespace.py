# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where partitions are stored: new ones in one tablespace, old ones moved to another, a few in a run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    LOCK_NOT_AVAILABLE,
    Row,
    Session,
    with_lock_retries,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import Period, period

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

KNOWN = """
SELECT w.name, t.oid IS NOT NULL AS found, pg_catalog.has_tablespace_privilege(t.oid, 'CREATE') AS allowed,
    current_user::text AS login
FROM unnest(%s::text[]) AS w (name) LEFT JOIN pg_catalog.pg_tablespace t ON t.spcname = w.name
"""
# reltablespace is 0 in the database's own tablespace. What a stopped REINDEX CONCURRENTLY left is dropped before.
PLACES = """
WITH wanted AS (SELECT CASE WHEN t.oid = d.dattablespace THEN 0 ELSE t.oid END AS oid
    FROM pg_catalog.pg_tablespace t, pg_catalog.pg_database d
    WHERE t.spcname = %(tablespace)s AND d.datname = current_database())
SELECT n.nspname AS schema, k.relname AS name, k.reltablespace <> wanted.oid AS rows,
    ARRAY(SELECT i.relname::text FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
        WHERE x.indrelid = k.oid AND i.reltablespace <> wanted.oid AND NOT x.indisexclusion
        AND (x.indisvalid OR i.relname !~ '_cc(new|old)[0-9]*$') ORDER BY 1) AS indexes,
    ARRAY(SELECT i.relname::text FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
        WHERE x.indrelid = k.oid AND i.reltablespace <> wanted.oid AND x.indisexclusion ORDER BY 1) AS exclusions
FROM wanted, pg_catalog.pg_inherits h JOIN pg_catalog.pg_class k ON k.oid = h.inhrelid AND k.relkind = 'r'
JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace
WHERE h.inhparent = pg_catalog.to_regclass(%(table)s)
"""


@dataclass(frozen=True)
class Move:
    """An old partition that is not where it belongs, and what moves it."""

    partition: str
    builds: list[Any]
    """Each builds an index there anew with nobody locked out, outside a transaction."""
    copies: list[Any]
    """Each copies something there, and locks everybody out of this partition meanwhile."""

    @property
    def statements(self) -> list[Any]:
        """Return the statements in order."""
        return [*self.builds, *self.copies]


def check_tablespaces(session: Session, options: Mapping[str, Any]) -> None:
    """Raise where a declared tablespace does not exist, or may not be used."""
    if options["old_tablespace"]:
        period(options["old_after"], "old_after")
        if options["max_moves"] < 1:
            raise PostgresqlError(f"max_moves: {options['max_moves']} is less than 1", remedy="give 1 or more")
    wanted = {name: options[name] for name in ("tablespace", "old_tablespace") if options[name]}
    rows = {row["name"]: row for row in session.query(KNOWN, (sorted(set(wanted.values())),))} if wanted else {}
    for option, name in wanted.items():
        if not rows[name]["found"]:
            raise PostgresqlError(
                f"{option}: there is no tablespace '{name}'",
                remedy=f"make its directory, then CREATE TABLESPACE {name} LOCATION ...",
                sqlstate="42704",
            )
        if not rows[name]["allowed"]:
            login = rows[name]["login"]
            raise PostgresqlError(
                f"{option}: {login} may not create in tablespace '{name}'",
                remedy=f"GRANT CREATE ON TABLESPACE {name} TO {login}",
                sqlstate="42501",
            )


def read_moves(session: Session, table: Table, options: Mapping[str, Any], now: datetime) -> tuple[list[Move], int]:
    """Return what moves in this run, oldest first, and how many partitions are left to the next ones."""
    if not options["old_tablespace"]:
        return [], 0
    if table.reach is not None:
        raise PostgresqlError(
            f"old_tablespace: the partition key of '{table.label}' is a number, which tells no age",
            remedy="leave it out",
        )
    values = {
        "tablespace": options["old_tablespace"],
        "table": sql.Identifier(table.schema, table.name).as_string(session.connection),
    }
    places = {(row["schema"], row["name"]): row for row in session.query(PLACES, values)}
    moves = []
    for each in old(table.partitions, period(options["old_after"], "old_after"), now):
        place = places.get((each.schema, each.name))
        if place and (place["rows"] or place["indexes"] or place["exclusions"]):
            moves.append(_move(each, options["old_tablespace"], place))
    most = options["max_moves"]
    return moves[:most], len(moves[most:])


def old(partitions: Sequence[Partition], after: Period, now: datetime) -> list[Partition]:
    """Return the partitions that ended so long ago, oldest first. The default one is never old."""
    return sorted(
        (
            each
            for each in partitions
            if not each.default and not each.detach_pending and each.upper <= after.before(now)
        ),
        key=lambda each: each.lower,
    )


def _move(each: Partition, tablespace: str, place: Row) -> Move:
    there = sql.Identifier(tablespace)
    # Index by index: of a whole table, that of its TOAST table would be built, too, which the copy takes along.
    builds = [
        sql.SQL("REINDEX (TABLESPACE {}) INDEX CONCURRENTLY {}").format(there, sql.Identifier(each.schema, name))
        for name in place["indexes"]
    ]
    copies = [  # what an exclusion constraint needs cannot be built concurrently
        sql.SQL("ALTER INDEX {} SET TABLESPACE {}").format(sql.Identifier(each.schema, name), there)
        for name in place["exclusions"]
    ]
    if place["rows"]:
        copies.append(sql.SQL("ALTER TABLE {} SET TABLESPACE {}").format(sql.Identifier(each.schema, each.name), there))
    return Move(each.name, builds, copies)


def move(session: Session, options: Mapping[str, Any], moves: Sequence[Move]) -> None:
    """Move them, one by one: each statement for itself, so that the next run goes on where one was stopped."""
    for each in moves:
        for text in each.builds:
            _build(session, options, each.partition, text)
        for text in each.copies:
            _copy(session, options, text)


def _build(session: Session, options: Mapping[str, Any], partition: str, text: Any) -> None:
    session.query("SELECT pg_catalog.set_config('lock_timeout', %s, false)", (f"{int(options['wait'] * 1000) or 1}ms",))
    try:
        session.execute(text)
    except PostgresqlError as error:
        if error.sqlstate == LOCK_NOT_AVAILABLE:
            error.remedy = (
                f"the indexes of {partition} waited {options['wait']:g} s for a transaction that began before: "
                "end it, or raise wait, and run this again"
            )
        raise


def _copy(session: Session, options: Mapping[str, Any], text: Any) -> None:
    def work() -> None:
        with session.transaction():
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
            session.execute(text)

    with_lock_retries(work, attempts=options["lock_attempts"])
