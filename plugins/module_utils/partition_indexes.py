# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Indexes that are not valid: those of partitions are built anew, and those of the table completed, concurrently."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    LOCK_NOT_AVAILABLE,
    Row,
    Session,
    with_lock_retries,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_names import NAME_BYTES
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

LEFTOVER = re.compile(r"_cc(new|old)\d*$")
CONSTRAINTS = {"p": "PRIMARY KEY", "u": "UNIQUE"}

INVALID = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = pg_catalog.to_regclass(%(parent)s) AND NOT indisvalid)
    OR EXISTS (SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_index x ON x.indrelid = i.inhrelid
        WHERE i.inhparent = pg_catalog.to_regclass(%(parent)s) AND NOT x.indisvalid) AS found
"""
# Two indexes are alike where they are written alike from USING on: names and tables are before that.
# Somebody else's build shows as a backend that reports one and has a lock on the table; who that is may be hidden.
INDEXES = """
WITH part AS MATERIALIZED (
    SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind, EXISTS (
        SELECT FROM pg_catalog.pg_stat_progress_create_index p JOIN pg_catalog.pg_locks l ON l.pid = p.pid
        WHERE p.pid <> pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.relation = c.oid
            AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())) AS busy
    FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE i.inhparent = pg_catalog.to_regclass(%(parent)s) AND NOT i.inhdetachpending
), every AS MATERIALIZED (
    SELECT x.indexrelid AS oid, x.indrelid AS relation, i.relname AS index, x.indisvalid AS valid,
        x.indisunique AS is_unique, h.inhparent AS shell, con.contype,
        (SELECT spcname FROM pg_catalog.pg_tablespace WHERE oid = i.reltablespace) AS tablespace,
        right(pg_catalog.pg_get_indexdef(x.indexrelid), -length('CREATE ' || CASE WHEN x.indisunique THEN 'UNIQUE '
            ELSE '' END || 'INDEX ' || quote_ident(i.relname) || ' ON ' || CASE i.relkind WHEN 'I' THEN 'ONLY '
            ELSE '' END || quote_ident(n.nspname) || '.' || quote_ident(t.relname) || ' ')) AS definition
    FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    JOIN pg_catalog.pg_class t ON t.oid = x.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
    LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = x.indexrelid
    LEFT JOIN pg_catalog.pg_constraint con ON con.conindid = x.indexrelid AND con.contype IN ('p', 'u', 'x')
    WHERE x.indrelid = pg_catalog.to_regclass(%(parent)s) OR x.indrelid IN (SELECT oid FROM part)
)
SELECT 'invalid' AS what, part.schema, part.name, part.busy, part.relkind::text AS kind, e.index, e.contype::text,
    e.shell IS NOT NULL AS attached, NULL AS own, NULL AS definition, NULL AS is_unique, NULL AS tablespace
FROM part JOIN every e ON e.relation = part.oid WHERE NOT e.valid AND part.relkind = 'r'
UNION ALL
SELECT 'shell', part.schema, part.name, part.busy, part.relkind::text, s.index, s.contype::text,
    mine.oid IS NOT NULL, coalesce(mine.index, (
        SELECT min(e.index::text) FROM every e WHERE e.relation = part.oid AND e.shell IS NULL
            AND (e.definition, e.is_unique) = (s.definition, s.is_unique)
            AND (s.contype IS NULL OR e.contype = s.contype)
            AND (e.valid OR e.index::text !~ '_cc(new|old)[0-9]*$'))),
    s.definition, s.is_unique, s.tablespace
FROM every s CROSS JOIN part LEFT JOIN every mine ON mine.relation = part.oid AND mine.shell = s.oid
WHERE s.relation = pg_catalog.to_regclass(%(parent)s) AND NOT s.valid
ORDER BY what, index, name
"""
TAKEN = "SELECT relname AS name FROM pg_catalog.pg_class WHERE relname = ANY (%s)"


@dataclass(frozen=True)
class Repair:
    """One step on one index of a partition."""

    partition: str
    index: str
    what: str
    """dropped (left by a REINDEX that was stopped), rebuilt, built, adopted or validated."""
    statement: Any
    concurrently: bool = True


def read_repairs(session: Session, table: Table, leave: Sequence[Partition]) -> list[Repair]:
    """Return what makes the indexes valid. Partitions that leave, and those somebody builds on, are left alone."""
    parent = sql.Identifier(table.schema, table.name).as_string(session.connection)
    if not session.query(INVALID, {"parent": parent})[0]["found"]:  # the usual case, and the other query takes long
        return []
    rows = [
        row
        for row in session.query(INDEXES, {"parent": parent})
        if not row["busy"] and (row["schema"], row["name"]) not in {(each.schema, each.name) for each in leave}
    ]
    names = {name for row in rows if row["what"] == "shell" for name in index_names(table.name, row)}
    taken = {row["name"] for row in session.query(TAKEN, (sorted(names),))} if names else set()
    return decide(table, rows, taken)


def decide(table: Table, rows: Sequence[Row], taken: set[str]) -> list[Repair]:
    """Return the steps, without a database: clear away, build anew, then complete the table's indexes."""
    invalid = [row for row in rows if row["what"] == "invalid"]
    leftovers = [row for row in invalid if LEFTOVER.search(row["index"]) and not row["attached"]]
    builds = [_step(row, "dropped", "DROP INDEX CONCURRENTLY {index}") for row in leftovers]
    for row in invalid:
        if row not in leftovers:
            # What an exclusion constraint needs cannot be built concurrently.
            how = "" if row["contype"] == "x" else " CONCURRENTLY"
            builds.append(_step(row, "rebuilt", f"REINDEX INDEX{how} {{index}}"))
    shells = [row for row in rows if row["what"] == "shell"]
    for shell in dict.fromkeys(row["index"] for row in shells):
        mine = [row for row in shells if row["index"] == shell]
        lacking = [row for row in mine if not row["attached"]]
        for row in lacking:
            builds += _complete(table, row, taken)
        if not lacking:  # attached while it was not valid: attaching it once more looks again
            builds.append(_attach(table, mine[0], mine[0]["own"], "validated"))
    return builds


def _step(row: Row, action: str, text: str) -> Repair:
    index = sql.Identifier(row["schema"], row["index"])
    return Repair(row["name"], row["index"], action, sql.SQL(text).format(index=index), "CONCURRENTLY" in text)


def _complete(table: Table, row: Row, taken: set[str]) -> list[Repair]:
    """Return the steps that give a partition an index of the table."""
    if row["own"]:
        return [_attach(table, row, row["own"], "adopted")]
    if row["kind"] != "r" or row["contype"] == "x":
        return []  # nothing can be built concurrently there
    name = next(name for name in index_names(table.name, row) if name not in taken)
    taken.add(name)
    partition = sql.Identifier(row["schema"], row["name"])
    # Written by the server itself, in full.
    text = "CREATE {unique}INDEX CONCURRENTLY {index} ON {partition} {definition}"
    values = {
        "unique": sql.SQL("UNIQUE " if row["is_unique"] else ""),
        "index": sql.Identifier(name),
        "partition": partition,
        "definition": _definition(row),
    }
    builds = [Repair(row["name"], name, "built", sql.SQL(text).format(**values))]
    if row["contype"]:
        text = f"ALTER TABLE {{}} ADD CONSTRAINT {{}} {CONSTRAINTS[row['contype']]} USING INDEX {{}}"
        statement = sql.SQL(text).format(partition, sql.Identifier(name), sql.Identifier(name))
        builds.append(Repair(row["name"], name, "built", statement, concurrently=False))
    return [*builds, _attach(table, row, name, "built")]


def _definition(row: Row) -> Any:
    """Return the definition from USING on, with the tablespace, which comes before the condition."""
    definition, space = row["definition"], row["tablespace"]
    if not space:
        return sql.SQL(definition)
    head, where, condition = definition.partition(" WHERE ")
    return sql.SQL("{} TABLESPACE {}{}").format(sql.SQL(head), sql.Identifier(space), sql.SQL(where + condition))


def _attach(table: Table, row: Row, index: str, action: str) -> Repair:
    shell, own = sql.Identifier(table.schema, row["index"]), sql.Identifier(row["schema"], index)
    statement = sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(shell, own)
    return Repair(row["name"], index, action, statement, concurrently=False)


def index_names(table: str, row: Row) -> list[str]:
    """Return names for the partition's index: as PostgreSQL would choose it, and others for when that is taken."""
    rest = row["index"].removeprefix(f"{table}_")
    plain = f"{row['name']}_{rest}"
    mark = hashlib.sha256(f"{row['name']} {row['index']}".encode()).hexdigest()
    cut = row["name"].encode()[: NAME_BYTES - 17].decode(errors="ignore")
    marked = [f"{cut}_{mark[at : at + 12]}_idx" for at in (0, 12, 24)]
    return [plain, *marked] if len(plain.encode()) <= NAME_BYTES else marked


def repair(session: Session, options: Mapping[str, Any], repairs: Sequence[Repair]) -> None:
    """Take the steps, each in a transaction of its own."""
    for build in repairs:
        timeout = f"{max(1, int(options['wait'] * 1000))}ms" if build.concurrently else options["lock_timeout"]

        def work(build: Repair = build, timeout: str = timeout) -> None:
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, false)", (timeout,))
            session.execute(session.render(build.statement))

        try:
            # Trying once more would leave one more index that is not valid; the next run clears it away first.
            with_lock_retries(work, attempts=1 if build.concurrently else options["lock_attempts"])
        except PostgresqlError as error:
            if build.concurrently and error.sqlstate == LOCK_NOT_AVAILABLE:
                error.remedy = (
                    f"{build.index} waited {options['wait']:g} s for a transaction that began before: end it, or "
                    "raise wait, and run this again"
                )
            raise


def describe_repairs(repairs: Sequence[Repair]) -> list[dict[str, str]]:
    """Return what becomes of each index, as data; one entry an index."""
    found = {(each.partition, each.index): each.what for each in repairs}
    return [{"partition": partition, "index": index, "what": what} for (partition, index), what in found.items()]
