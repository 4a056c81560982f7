# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look which rows of a table's partitions have expired, and where they are to go."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table, read_table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_history import table_of
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import bound_literal
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_leave import newest_row
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_names import NAME_BYTES
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import instant
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import period
from ansible_collections.auditdb.postgresql.plugins.module_utils.purge_plan import (
    Expiry,
    Policy,
    expiries,
    refuse_many,
    rules,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.purge_statements import (
    Aside,
    Columns,
    Referring,
    count,
)

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

POLICIES = """
SELECT policy_name AS name, data_classification AS classification, retention_days AS keep_days,
    delete_after_days AS delete_days FROM {policies} WHERE is_active::text IN ('true', 't') ORDER BY id
"""
REFERRING = """
SELECT n.nspname AS schema, c.relname AS name,
    (SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = f.conrelid
        AND attnum = f.conkey[array_position(f.confkey, k.attnum)]) AS key,
    ARRAY(SELECT ARRAY[own.attname::text, theirs.attname::text] FROM unnest(f.conkey, f.confkey) AS pair (own, theirs)
        JOIN pg_catalog.pg_attribute own ON own.attrelid = f.conrelid AND own.attnum = pair.own
        JOIN pg_catalog.pg_attribute theirs ON theirs.attrelid = f.confrelid AND theirs.attnum = pair.theirs) AS match,
    ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = f.conrelid AND attnum > 0
        AND NOT attisdropped AND attgenerated = '' ORDER BY attnum) AS columns
FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class c ON c.oid = f.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute k ON k.attrelid = f.confrelid AND k.attname = %(key)s
WHERE f.contype = 'f' AND f.conparentid = 0 AND f.confrelid = pg_catalog.to_regclass(%(table)s) ORDER BY 1, 2
"""
# How often rows were taken out of each partition, and whether that was after its newest seal.
TAKEN = """
SELECT p.name, (SELECT count(*) FROM {history} WHERE table_name = %(label)s AND part_of = p.name) AS before,
    {unsealed} AS unsealed
FROM unnest(%(names)s::text[], %(lowers)s::timestamptz[], %(uppers)s::timestamptz[]) AS p (name, lower, upper)
"""
UNSEALED = """
EXISTS (SELECT FROM {history} WHERE table_name = %(label)s AND part_of = p.name AND left_at > (SELECT max(sealed_at)
    FROM {seals} WHERE table_name = %(label)s AND time_from = p.lower AND time_to = p.upper))
"""


@dataclass(frozen=True)
class Purge:
    """What of one partition has expired, and where it goes."""

    expiry: Expiry
    aside: Aside
    classes: list[dict[str, Any]]

    @property
    def action(self) -> str:
        """Return what becomes of the rows, as the history says it."""
        return "drop" if self.expiry.delete else "archive"

    def as_dict(self) -> dict[str, Any]:
        """Return it as data."""
        return {
            "partition": self.expiry.partition.name,
            "table": None if self.expiry.delete else f"{self.aside.schema}.{self.aside.name}",
            "action": self.action,
            "rows": sum(each["rows"] for each in self.classes),
            "classes": self.classes,
        }


@dataclass(frozen=True)
class Found:
    """What there is to do."""

    table: Table
    purges: list[Purge]
    unsealed: list[Partition]
    """Partitions that an earlier run took rows out of, and was stopped before it sealed them again."""


def look(session: Session, options: Mapping[str, Any]) -> Found:
    """Return what has expired; raise where it looks like a mistake."""
    table = read_table(session, options["table"])
    columns = Columns(options["policy_column"], options["classification_column"])
    _refuse_columns(table, columns)
    now = instant(table, options["now"])
    policies = session.query(sql.SQL(POLICIES).format(policies=table_of(options["policies"])))
    due = expiries(table.partitions, rules([Policy(**row) for row in policies]), now)
    taken = _taken(session, table, options)
    unsealed = [each for each in table.partitions if taken.get(each.name, (0, False))[1]]
    if not due or table.standby:
        return Found(table, [], [] if table.standby else unsealed)
    counts = sql.SQL(" UNION ALL ").join(
        count(table, each, columns, options["holds"], number) for number, each in enumerate(due)
    )
    classes: dict[int, list[dict[str, Any]]] = {}
    for row in session.query(sql.SQL("SELECT * FROM ({}) AS c ORDER BY 1, 2, 3").format(counts)):
        classes.setdefault(row.pop("number"), []).append(row)
    if classes:
        refuse_many([due[number].partition for number in classes], options["max_leaving"])
        _refuse_clock(session, table, options)
    referring = read_referring(session, table) if classes else []
    purges = []
    for number, rows in classes.items():
        part = due[number].partition
        before, known = taken[part.name]
        taken[part.name] = (before + 1, known)
        involved = [each for each in referring if _refers(session, table, part, each)]
        purges.append(Purge(due[number], _aside(part, before + 1, involved), rows))
    return Found(table, purges, unsealed)


def _refuse_columns(table: Table, columns: Columns) -> None:
    missing = [name for name in (columns.policy, columns.classification) if name not in table.columns]
    if missing:
        raise PostgresqlError(
            f"{table.label} has no column {', '.join(missing)}",
            remedy="name its columns in policy_column and classification_column",
            sqlstate="42703",
        )


def _refuse_clock(session: Session, table: Table, options: Mapping[str, Any]) -> None:
    now = instant(table, options["now"])
    newest = newest_row(session, table, now)
    if newest is not None and newest < period(options["clock_lead"], "clock_lead").before(now):
        raise PostgresqlError(
            f"now is {now.isoformat()}, and the newest row is from {newest.isoformat()}: with a wrong clock, rows go "
            "too early",
            remedy="correct the clock; or, where no rows came for so long, raise clock_lead",
        )


def _taken(session: Session, table: Table, options: Mapping[str, Any]) -> dict[str, tuple[int, bool]]:
    unsealed = UNSEALED if options["seals"] else "false"
    names = {
        "history": table_of(options["history"]),
        "seals": table_of(options["seals"] or "none"),
    }
    statement = sql.SQL(TAKEN.replace("{unsealed}", unsealed)).format(**names)
    parts = [each for each in table.partitions if not each.default]
    values = {
        "label": table.label,
        "names": [each.name for each in parts],
        "lowers": [each.lower.isoformat() for each in parts],
        "uppers": [each.upper.isoformat() for each in parts],
    }
    return {row["name"]: (row["before"], row["unsealed"]) for row in session.query(statement, values)}


def read_referring(session: Session, table: Table) -> list[Referring]:
    """Return the tables with a foreign key to the table."""
    label = sql.Identifier(table.schema, table.name).as_string(session.connection)
    found = []
    for row in session.query(REFERRING, {"table": label, "key": table.key}):
        if row["key"] is None:
            raise PostgresqlError(
                f"the foreign key of {row['schema']}.{row['name']} to {table.label} leaves {table.key} out",
                remedy="have it name the partition key, too",
            )
        match = tuple((own, theirs) for own, theirs in row["match"])
        found.append(Referring(row["schema"], row["name"], row["key"], match, tuple(row["columns"])))
    return found


def _refers(session: Session, table: Table, part: Partition, other: Referring) -> bool:
    statement = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {key} >= %s AND {key} < %s) AS rows").format(
        sql.Identifier(other.schema, other.name), key=sql.Identifier(other.key)
    )
    bounds = [bound_literal(at, table.key_type) for at in (part.lower, part.upper)]
    return bool(session.query(statement, bounds)[0]["rows"])


def _aside(part: Partition, number: int, referring: Sequence[Referring]) -> Aside:
    name = f"{part.name}_expired_{number}"
    others = tuple((each, f"{name}_{each.name}") for each in referring)
    long = [each for each in (name, *(other for _table, other in others)) if len(each.encode()) > NAME_BYTES]
    if long:
        raise PostgresqlError(
            f"the name {long[0]} is longer than {NAME_BYTES} bytes", remedy="give the tables shorter names"
        )
    return Aside(part.schema, name, others)
