# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SQL that creates partitions, and how much of it fits into one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_carry import new_statements
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import bound_literal
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition, Range

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql


MOVE_ROWS = (
    "WITH moved AS (DELETE FROM ONLY {default} WHERE {key} >= {lower} AND {key} < {upper} RETURNING {columns}) "
    "INSERT INTO {partition} ({columns}) SELECT {columns} FROM moved"
)
# The same rows twice: those that were there, with nobody locked out, and those that came meanwhile. The parent is
# locked and not just its default partition: a reader that was planned before, and then waited for the default partition
# alone, would find the rows in neither. The check spares the reading of the new table while the lock is held.
MOVE = (
    "ALTER TABLE {partition} ADD CONSTRAINT {moved} CHECK ({key} IS NOT NULL AND {key} >= {lower} AND {key} < {upper})",
    MOVE_ROWS,
    "LOCK TABLE ONLY {parent} IN ACCESS EXCLUSIVE MODE",
    MOVE_ROWS,
)


def create_statements(table: Table, new: Range) -> list[Any]:
    """Return the statements that create one partition, closed to everybody but its owner.

    PARTITION OF takes an ACCESS EXCLUSIVE lock on the parent: only where the parent has no partition, and so nothing to
    read or write. Otherwise the table is made beside it and attached, which takes SHARE UPDATE EXCLUSIVE: readers and
    writers go on. EXCLUDING IDENTITY, because PostgreSQL 17 refuses to attach a table with an identity of its own.

    Rows of the default partition move in the transaction that attaches, so that nobody ever misses one.
    """
    schema = new.detached.schema if new.detached else table.schema
    values = _names(table) | {"partition": sql.Identifier(schema, new.name)}
    bounds = "DEFAULT"
    if not new.default:
        bounds = "FOR VALUES FROM ({lower}) TO ({upper})"
        values |= {
            "lower": sql.Literal(bound_literal(new.lower, table.key_type)),
            "upper": sql.Literal(bound_literal(new.upper, table.key_type)),
            "moved": sql.Identifier("moved_from_default"),
        }
    fresh = not table.partitions and not new.detached
    if new.detached:
        texts = []
    elif fresh:
        texts = [f"CREATE TABLE {{partition}} PARTITION OF {{parent}} {bounds}"]
    else:
        texts = ["CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL EXCLUDING IDENTITY)"]
    if texts and (table.new_tablespace or (table.tablespace and not fresh)):  # LIKE leaves the table's out
        texts[0] += " TABLESPACE {tablespace}"
    if texts and table.new_tablespace:  # where the indexes go
        texts.insert(0, "SET LOCAL default_tablespace = {tablespace}")
    if table.opened_to and not new.detached:
        texts.append("REVOKE ALL ON TABLE {partition} FROM {others}")
    if table.owner != table.creator and not new.detached:
        texts.append("ALTER TABLE {partition} OWNER TO {owner}")
    before = [sql.SQL(text).format(**values) for text in texts]
    # Before it is attached: nobody is to see rows in it that a policy of the table hides.
    before += new_statements(table, new, values["partition"], like=not fresh)
    texts = list(MOVE) if new.rows else []
    if not fresh:
        texts.append(f"ALTER TABLE {{parent}} ATTACH PARTITION {{partition}} {bounds}")
    if new.rows:
        texts.append("ALTER TABLE {partition} DROP CONSTRAINT {moved}")
    return before + [sql.SQL(text).format(**values) for text in texts]


def finalize_statements(table: Table, pending: Sequence[Partition]) -> list[Any]:
    """Return the statements that end interrupted detachings, without which their ranges refuse rows."""
    parent = sql.Identifier(table.schema, table.name)
    return [
        sql.SQL("ALTER TABLE {} DETACH PARTITION {} FINALIZE").format(parent, sql.Identifier(each.schema, each.name))
        for each in pending
    ]


def _names(table: Table) -> dict[str, Any]:
    """Return what every statement on the table may name."""
    default = table.default
    return {
        "parent": sql.Identifier(table.schema, table.name),
        "default": sql.Identifier(default.schema, default.name) if default else None,
        "key": sql.Identifier(table.key),
        "columns": sql.SQL(", ").join(map(sql.Identifier, table.columns)),
        "owner": sql.Identifier(table.owner),
        "tablespace": sql.Identifier(table.new_tablespace or table.tablespace or ""),
        "others": sql.SQL(", ").join(
            sql.SQL("PUBLIC") if name == "PUBLIC" else sql.Identifier(name) for name in table.opened_to
        ),
    }


def chunks(table: Table, create: Sequence[Range]) -> Iterator[Sequence[Range]]:
    """Yield the new partitions in portions, one transaction each.

    Their locks take at most half of the server's lock table: each partition locks itself, its indexes, its TOAST table
    and that one's index until the transaction ends (PostgreSQL manual, 20.12, max_locks_per_transaction).

    Attaching also locks the tables at the other end of foreign keys against writers, and a default partition against
    everybody. They are spared by one short transaction for each partition.
    """
    fit = max(1, table.lock_slots // 2 // (3 + table.indexes))
    size = 1 if table.foreign_keys or table.default else fit
    for begin in range(0, len(create), size):
        yield create[begin : begin + size]
