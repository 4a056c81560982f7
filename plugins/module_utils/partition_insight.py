# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read what there is to know of the partitions of one table beyond their bounds: each question is one query."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_history import table_of
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

NOT_PRELOADED = "55000"

PARTS = """
SELECT c.relname AS name, pg_catalog.pg_relation_size(c.oid) AS heap_bytes,
    pg_catalog.age(NULLIF(c.relfrozenxid, '0')) AS xid_age,
    s.n_dead_tup AS dead_rows, greatest(s.last_analyze, s.last_autoanalyze) AS analyzed_at,
    (SELECT count(*) FROM pg_catalog.pg_index WHERE indrelid = c.oid) AS indexes,
    (SELECT coalesce(sum(pg_catalog.pg_relation_size(indexrelid)), 0)::bigint FROM pg_catalog.pg_index
        WHERE indrelid = c.oid) AS index_bytes,
    ARRAY(SELECT indexrelid::regclass::text FROM pg_catalog.pg_index
        WHERE indrelid = c.oid AND NOT indisvalid ORDER BY 1) AS invalid_indexes
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
LEFT JOIN pg_catalog.pg_stat_all_tables s ON s.relid = c.oid
WHERE i.inhparent = pg_catalog.to_regclass(%s)
"""
PARENT = """
SELECT (SELECT max(greatest(last_analyze, last_autoanalyze)) FROM pg_catalog.pg_stat_all_tables
        WHERE relid = c.oid) IS NOT NULL
        OR EXISTS (SELECT FROM pg_catalog.pg_statistic WHERE starelid = c.oid AND stainherit) AS analyzed,
    ARRAY(SELECT indexrelid::regclass::text FROM pg_catalog.pg_index
        WHERE indrelid = c.oid AND NOT indisvalid ORDER BY 1) AS invalid_indexes,
    pg_catalog.current_setting('max_locks_per_transaction')::int AS max_locks,
    pg_catalog.current_setting('autovacuum_freeze_max_age')::int AS freeze_max_age
FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass(%s)
"""
SEALS = """
SELECT DISTINCT ON (time_from, time_to) time_from AS lower, time_to AS upper, sealed_at, row_count AS rows, sha256
FROM {seals} WHERE table_name = %s ORDER BY time_from, time_to, id DESC
"""
HISTORY = """
SELECT partition_schema || '.' || partition_name AS name, part_of, time_from AS "from", time_to AS "to", action,
    left_at, row_count AS rows, sha256, archive_name AS archive, archived_at, dropped_at
FROM {history} WHERE table_name = %s ORDER BY id
"""
EXTENSION = """
SELECT n.nspname AS schema FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'
"""
# A statement that reads the table and never names its key looks into every partition.
STATEMENTS = """
SELECT queryid::text AS queryid, query, calls, mean_exec_time AS mean_ms, total_exec_time AS total_ms
FROM {statements} WHERE dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND query ~* %s AND query !~* %s ORDER BY total_exec_time DESC LIMIT 5
"""


@dataclass(frozen=True)
class Insight:
    """What is known of one table."""

    parts: dict[str, dict[str, Any]]
    analyzed: bool
    invalid_indexes: list[str]
    """Indexes of the table that a partition lacks."""
    max_locks: int
    freeze_max_age: int
    seals: dict[tuple[datetime, datetime], dict[str, Any]] = field(default_factory=dict)
    departures: list[dict[str, Any]] = field(default_factory=list)
    statements: list[dict[str, Any]] = field(default_factory=list)
    statements_problem: str | None = None


def read_insight(session: Session, table: Table, options: Mapping[str, Any]) -> Insight:
    """Return what the catalog, the statistics and this collection's own tables say."""
    label = sql.Identifier(table.schema, table.name).as_string(session.connection)
    parent = session.query(PARENT, (label,))[0]
    seals, departures = [], []
    if options["seals"]:
        seals = session.query(sql.SQL(SEALS).format(seals=table_of(options["seals"])), (table.label,))
    if options["history"]:
        departures = session.query(sql.SQL(HISTORY).format(history=table_of(options["history"])), (table.label,))
    statements, problem = read_statements(session, table) if options["statements"] else ([], None)
    return Insight(
        {row.pop("name"): row for row in session.query(PARTS, (label,))},
        parent["analyzed"],
        parent["invalid_indexes"],
        parent["max_locks"],
        parent["freeze_max_age"],
        {(row.pop("lower"), row.pop("upper")): row for row in seals},
        departures,
        statements,
        problem,
    )


def read_statements(session: Session, table: Table) -> tuple[list[dict[str, Any]], str | None]:
    """Return the costliest statements that cannot prune, and why nothing is known of them where that is so."""
    found = session.query(EXTENSION)
    if not found:
        return [], "the extension pg_stat_statements is not in this database"
    name = sql.Identifier(found[0]["schema"], "pg_stat_statements")
    reads = rf'\m(from|join|update)\s+(only\s+)?("?{table.schema}"?\.)?"?{table.name}"?(?![\w"])'
    try:
        rows = session.query(sql.SQL(STATEMENTS).format(statements=name), (reads, rf'(?<![\w])"?{table.key}"?(?![\w])'))
        hidden = session.query(
            sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE query = '<insufficient privilege>') AS hidden").format(name)
        )[0]["hidden"]
    except PostgresqlError as error:
        if error.sqlstate == NOT_PRELOADED:
            return [], "pg_stat_statements is not in shared_preload_libraries"
        return [], error.message
    return rows, "statements of others are hidden: the login lacks pg_read_all_stats" if hidden else None


def count_rows(session: Session, table: Table, column: str | None) -> dict[str, dict[str | None, int]]:
    """Return the exact number of rows of each partition, by the values of a column where one is given.

    One query for as many partitions as half of the server's lock table takes; see ``partition_statements.chunks``.
    """
    if column and column not in table.columns:
        raise PostgresqlError(f"{table.label} has no column {column}", remedy="name one in class_column")
    fit = max(1, table.lock_slots // 2 // (3 + table.indexes))
    value = sql.SQL("{}::text").format(sql.Identifier(column)) if column else sql.SQL("NULL::text")
    counts: dict[str, dict[str | None, int]] = {each.name: {} for each in table.partitions}
    for begin in range(0, len(table.partitions), fit):
        each = [_count(part, value) for part in table.partitions[begin : begin + fit]]
        for row in session.query(sql.SQL(" UNION ALL ").join(each)):
            counts[row["name"]][row["class"]] = row["rows"]
    return counts


def _count(part: Partition, value: Any) -> Any:
    return sql.SQL("SELECT {name} AS name, {value} AS class, count(*) AS rows FROM {table} GROUP BY 2").format(
        name=sql.Literal(part.name), value=value, table=sql.Identifier(part.schema, part.name)
    )
