# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Repair indexes of partitions, and give partitions those that the table has, with nobody locked out."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Row, Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import NAME_BYTES

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

# Only where an index of the table is invalid is a definition asked for: it is what costs time. One that is being built
# now is invalid, too, and none of our business.
QUERY = """
WITH parent AS (SELECT pg_catalog.to_regclass(%s)::oid AS id),
parts AS (SELECT k.oid AS id, n.nspname, k.relname FROM parent JOIN pg_catalog.pg_inherits i ON i.inhparent = parent.id
    JOIN pg_catalog.pg_class k ON k.oid = i.inhrelid AND k.relkind = 'r' AND NOT i.inhdetachpending
    JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace),
building AS (SELECT relid, index_relid FROM pg_catalog.pg_stat_progress_create_index),
lacking AS (SELECT x.relname AS name, i.indexrelid, i.indisunique,
        substring(pg_catalog.pg_get_indexdef(i.indexrelid) FROM ' USING (.*)$') AS definition
    FROM parent JOIN pg_catalog.pg_index i ON i.indrelid = parent.id AND NOT i.indisvalid
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid)
SELECT p.nspname AS schema, p.relname AS partition, x.relname AS index, NULL AS parent_index, NULL AS definition,
    i.indisunique AS is_unique, false AS valid, h.inhparent IS NOT NULL AS attached
FROM parts p JOIN pg_catalog.pg_index i ON i.indrelid = p.id AND NOT i.indisvalid
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = i.indexrelid
WHERE NOT EXISTS (SELECT FROM building b WHERE b.relid = p.id)
UNION ALL
SELECT p.nspname, p.relname, (SELECT own.relname FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class own ON own.oid = i.indexrelid
        WHERE i.indrelid = p.id AND i.indisunique = l.indisunique
        AND substring(pg_catalog.pg_get_indexdef(i.indexrelid) FROM ' USING (.*)$') = l.definition
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhrelid = i.indexrelid)
        AND own.relname !~ '_cc(new|old)[0-9]*$' ORDER BY i.indisvalid DESC, 1 LIMIT 1),
    l.name, l.definition, l.indisunique, NULL, false
FROM lacking l CROSS JOIN parts p
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_index i ON i.indexrelid = h.inhrelid
        WHERE h.inhparent = l.indexrelid AND i.indrelid = p.id)
    AND NOT EXISTS (SELECT FROM building b WHERE b.relid = p.id)
ORDER BY 4 NULLS FIRST, 1, 2, 3
"""
LEFT_OVER = re.compile(r"_cc(new|old)[0-9]*$")


@dataclass(frozen=True)
class Repair:
    """One index of one partition, and the statements that make it right, each outside a transaction."""

    partition: str
    index: str
    what: str
    """dropped (left by a REINDEX that was stopped), rebuilt, built or adopted."""
    statements: list[Any]


def read_repairs(session: Session, table: Table) -> list[Repair]:
    """Return what is wrong with the indexes of partitions: one query, whatever their number."""
    label = sql.Identifier(table.schema, table.name).as_string(session.connection)
    return list(repairs(table, session.query(QUERY, (label,))))


def repairs(table: Table, rows: Iterable[Row]) -> Iterable[Repair]:
    """Yield the repairs: first what is invalid, so that it can be adopted after."""
    for row in rows:
        index: Any = sql.Identifier(row["schema"], row["index"]) if row["index"] else None
        if row["parent_index"] is None:
            if LEFT_OVER.search(row["index"]) and not row["attached"]:
                texts = [sql.SQL("DROP INDEX CONCURRENTLY {}").format(index)]
                yield Repair(row["partition"], row["index"], "dropped", texts)
            else:
                texts = [sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(index)]
                yield Repair(row["partition"], row["index"], "rebuilt", texts)
            continue
        parent = sql.Identifier(table.schema, row["parent_index"])
        attach = sql.SQL("ALTER INDEX {} ATTACH PARTITION {}")
        if index:
            yield Repair(row["partition"], row["index"], "adopted", [attach.format(parent, index)])
            continue
        name = index_name(table.name, row["partition"], row["parent_index"])
        create = sql.SQL("CREATE {}INDEX CONCURRENTLY {} ON {} USING {}").format(
            sql.SQL("UNIQUE " if row["is_unique"] else ""),
            sql.Identifier(name),
            sql.Identifier(row["schema"], row["partition"]),
            sql.SQL(row["definition"]),
        )
        built = sql.Identifier(row["schema"], name)
        yield Repair(row["partition"], name, "built", [create, attach.format(parent, built)])


def index_name(table: str, partition: str, index: str) -> str:
    """Return the name of a partition's index, after the table's; shortened by a digest where it is too long."""
    name = f"{partition}_{index.removeprefix(table + '_')}"
    if len(name.encode()) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name.encode()[: NAME_BYTES - 13].decode(errors='ignore')}_{digest}"
