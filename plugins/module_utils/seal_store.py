# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of seals: the newest seal of each closed partition, new ones, and verifications that are written down."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import EARLIEST, bound_literal
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import Period
from ansible_collections.auditdb.postgresql.plugins.module_utils.seal_model import Seal, canonical_json

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

# By bounds and not by name: a partition may be renamed.
NEWEST = """
SELECT DISTINCT ON (time_from, time_to) id, time_from, time_to, partition_name AS name, seal FROM {seals}
WHERE table_name = %s ORDER BY time_from, time_to, id DESC
"""
ADD = """
INSERT INTO {seals} (table_name, partition_schema, partition_name, time_from, time_to, row_count, sha256, seal,
    previous_id)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
KEY = """
SELECT a.attname AS name FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary
CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (number, place)
JOIN pg_catalog.pg_attribute a ON a.attnum = k.number AND a.attrelid = c.oid
WHERE n.nspname = %s AND c.relname = %s ORDER BY k.place
"""
RECORDED = """
INSERT INTO {log} (audit_log_id, audit_log_timestamp, verification_status, verification_details, verified_by)
SELECT {key}, %s, %s, session_user FROM {partition} {where} ORDER BY {key} LIMIT 1
"""


@dataclass(frozen=True)
class Kept:
    """The newest seal of a partition, and the number under which it is kept."""

    number: int
    name: str
    seal: Seal


Range = tuple[datetime, datetime]


def identifier(name: str) -> Any:
    """Return a table's name with its schema as SQL writes it."""
    return sql.Identifier(*name.split("."))


def closed(partitions: Sequence[Partition], after: Period, now: datetime) -> list[Partition]:
    """Return the partitions whose range ended so long ago, oldest first."""
    limit = after.before(now)
    return sorted(
        (each for each in partitions if not each.default and each.lower > EARLIEST and each.upper <= limit),
        key=lambda each: each.lower,
    )


def newest_seals(session: Session, table: Table, seals: str) -> dict[Range, Kept]:
    """Return the newest seal of each range that has one."""
    rows = session.query(sql.SQL(NEWEST).format(seals=identifier(seals)), (table.label,))
    return {
        (row["time_from"], row["time_to"]): Kept(row["id"], row["name"], Seal.from_dict(row["seal"])) for row in rows
    }


def primary_key(session: Session, table: Table) -> tuple[str, ...]:
    """Return the columns of the primary key; without one, the column of time.

    Late rows have later numbers, so that with such a key they come last, and are told apart from changed ones.
    """
    return tuple(row["name"] for row in session.query(KEY, (table.schema, table.name))) or (table.key,)


def add_seal(
    session: Session, table: Table, part: Partition, new: Seal, keep: tuple[str, int | None]
) -> dict[str, Any]:
    """Keep a seal in the table of ``keep``, after the one of its number. Return what was kept."""
    seals, previous = keep
    lower, upper = (bound_literal(at, "timestamp with time zone") for at in (part.lower, part.upper))
    session.execute(
        sql.SQL(" ".join(ADD.split())).format(seals=identifier(seals)),
        (
            *(table.label, part.schema, part.name, lower, upper),
            *(new.rows, new.sha256, canonical_json(new.as_dict()), previous),
        ),
    )
    return {
        "table": table.label,
        "partition": part.name,
        "rows": new.rows,
        "sha256": new.sha256,
        "follows": previous is not None,
    }


def record(session: Session, part: Partition, old: Seal, log: str, result: Mapping[str, Any]) -> None:
    """Write a verification for the first row of the partition; of the range that differs, where one does."""
    key = sql.SQL(", ").join(map(sql.Identifier, old.order_by))
    block = (result.get("differences") or {}).get("first_block")
    where: Any = sql.SQL("")
    if block and block["from"]:
        values = sql.SQL(", ").join(map(sql.Literal, block["from"]))
        where = sql.SQL("WHERE ({key}) >= ({values})").format(key=key, values=values)
    statement = sql.SQL(" ".join(RECORDED.split())).format(
        log=identifier(log), key=key, partition=sql.Identifier(part.schema, part.name), where=where
    )
    status = "tampered" if result["status"] == "changed" else "success"
    session.execute(statement, (status, canonical_json({"partition": part.name, **result})))
