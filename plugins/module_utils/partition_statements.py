# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SQL that creates partitions, and how much of it fits into one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import bound_literal
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Range

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql


def create_statements(table: Table, new: Range) -> list[Any]:
    """Return the statements that create one partition, closed to everybody but its owner.

    PARTITION OF takes an ACCESS EXCLUSIVE lock on the parent: only where the parent has no partition, and so nothing to
    read or write. Otherwise the table is made beside it and attached, which takes SHARE UPDATE EXCLUSIVE: readers and
    writers go on. EXCLUDING IDENTITY, because PostgreSQL 17 refuses to attach a table with an identity of its own.
    """
    names = {
        "partition": sql.Identifier(table.schema, new.name),
        "parent": sql.Identifier(table.schema, table.name),
        "lower": sql.Literal(bound_literal(new.lower, table.key_type)),
        "upper": sql.Literal(bound_literal(new.upper, table.key_type)),
        "owner": sql.Identifier(table.owner),
        "tablespace": sql.Identifier(table.tablespace or ""),
        "others": sql.SQL(", ").join(
            sql.SQL("PUBLIC") if name == "PUBLIC" else sql.Identifier(name) for name in table.opened_to
        ),
    }
    fresh = not table.partitions
    if fresh:
        texts = ["CREATE TABLE {partition} PARTITION OF {parent} FOR VALUES FROM ({lower}) TO ({upper})"]
    else:  # unlike PARTITION OF, LIKE leaves the parent's tablespace out
        tablespace = " TABLESPACE {tablespace}" if table.tablespace else ""
        texts = ["CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL EXCLUDING IDENTITY)" + tablespace]
    if table.opened_to:
        texts.append("REVOKE ALL ON TABLE {partition} FROM {others}")
    if table.owner != table.creator:
        texts.append("ALTER TABLE {partition} OWNER TO {owner}")
    if not fresh:
        texts.append("ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ({lower}) TO ({upper})")
    return [sql.SQL(text).format(**names) for text in texts]


def chunks(table: Table, create: Sequence[Range]) -> Iterator[Sequence[Range]]:
    """Yield the new partitions in portions, one transaction each.

    Their locks take at most half of the server's lock table: each partition locks itself, its indexes, its TOAST table
    and that one's index until the transaction ends (PostgreSQL manual, 20.12, max_locks_per_transaction).

    Attaching also locks the tables at the other end of foreign keys against writers, and a default partition against
    everybody. They are spared by one short transaction for each partition.
    """
    fit = max(1, table.lock_slots // 2 // (3 + table.indexes))
    size = 1 if table.foreign_keys or table.default_partition else fit
    for begin in range(0, len(create), size):
        yield create[begin : begin + size]
