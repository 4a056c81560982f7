# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps a partition from leaving, and the SQL by which it leaves."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_history import MOVE, record
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import bound_literal
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import Hold

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

HOLDS = """
SELECT p.name AS partition, h.id AS number, h.reason, h.owner, h.organization_id AS organization
FROM unnest(%(names)s::text[], %(lowers)s::timestamptz[], %(uppers)s::timestamptz[]) AS p (name, lower, upper)
JOIN {holds} AS h ON h.released_at IS NULL
    AND (h.table_name IS NULL OR pg_catalog.to_regclass(h.table_name) IN (
        pg_catalog.to_regclass(%(table)s), pg_catalog.to_regclass(p.name)))
    AND coalesce(h.time_from, '-infinity') < p.upper AND coalesce(h.time_to, 'infinity') > p.lower
ORDER BY h.id
"""

# The foreign keys to the table, each with the column that holds the partition key there.
REFERENCES = """
SELECT f.conrelid::regclass::text AS referencing, f.conname AS constraint, a.attname AS column
FROM pg_catalog.pg_constraint f
JOIN pg_catalog.pg_attribute k ON k.attrelid = f.confrelid AND k.attname = %(key)s
JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid
    AND a.attnum = f.conkey[array_position(f.confkey, k.attnum)]
WHERE f.contype = 'f' AND f.conparentid = 0 AND f.confrelid = pg_catalog.to_regclass(%(table)s)
ORDER BY 1
"""

# A partition takes its foreign keys along; as long as they are there, what they refer to cannot leave in turn.
OWN_KEYS = """
SELECT p.name AS partition, c.conname AS key FROM unnest(%(names)s::text[]) AS p (name)
JOIN pg_catalog.pg_constraint c ON c.conrelid = p.name::regclass AND c.contype = 'f' ORDER BY 1, 2
"""


KEPT_SCHEMA = """
SELECT n.oid IS NOT NULL AS found, pg_catalog.has_schema_privilege(n.oid, 'CREATE') AS allowed,
    current_user::text AS login
FROM (SELECT pg_catalog.to_regnamespace(pg_catalog.quote_ident(%s)) AS oid) AS n
"""
TAKEN_THERE = """
SELECT c.relname AS name FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = ANY (%s) ORDER BY 1
"""


@dataclass(frozen=True)
class Reference:
    """Rows of another table that refer to rows of a partition."""

    partition: str
    table: str
    rows: int


def quoted(partition: Partition, session: Session) -> str:
    """Return the partition's name as SQL writes it, with its schema."""
    return str(sql.Identifier(partition.schema, partition.name).as_string(session.connection))


def holds_on(session: Session, table: Table, parts: Sequence[Partition], holds: str) -> list[tuple[Hold, str | None]]:
    """Return the holds that are about these partitions, each with the organization that it is limited to, if any."""
    if not holds or not parts:
        return []
    names = {quoted(each, session): each for each in parts}
    rows = session.query(
        sql.SQL(HOLDS).format(holds=sql.Identifier(*holds.split("."))),
        {
            "names": list(names),
            "lowers": [each.lower.isoformat() for each in parts],
            "uppers": [each.upper.isoformat() for each in parts],
            "table": sql.Identifier(table.schema, table.name).as_string(session.connection),
        },
    )
    return [
        (Hold(names[row["partition"]].name, row["number"], row["reason"], row["owner"]), row["organization"])
        for row in rows
    ]


def read_holds(session: Session, table: Table, old: Sequence[Partition], holds: str) -> list[Hold]:
    """Return the holds that keep one of these partitions. One on an organization keeps those with its rows."""
    by_name = {each.name: each for each in old}
    return [
        hold
        for hold, organization in holds_on(session, table, old, holds)
        if organization is None or _has_rows_of(session, table, by_name[hold.partition], organization)
    ]


def _has_rows_of(session: Session, table: Table, partition: Partition, organization: str) -> bool:
    if "organization_id" not in table.columns:
        return True  # nobody can tell whose the rows are
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE organization_id = %s) AS held").format(
        sql.Identifier(partition.schema, partition.name)
    )
    return bool(session.query(query, (organization,))[0]["held"])


def newest_row(session: Session, table: Table, now: datetime) -> datetime | None:
    """Return the time of the newest row that is not in the future, outside the default partition."""
    for each in sorted(
        (part for part in table.partitions if not part.default), key=lambda part: part.lower, reverse=True
    ):
        if each.lower > now:
            continue
        query = sql.SQL("SELECT max({}) AS newest FROM {} WHERE {} <= %s").format(
            sql.Identifier(table.key), sql.Identifier(each.schema, each.name), sql.Identifier(table.key)
        )
        newest = session.query(query, (bound_literal(now, "timestamp with time zone"),))[0]["newest"]
        if newest is not None:
            value = (
                newest if isinstance(newest, datetime) else datetime(newest.year, newest.month, newest.day, tzinfo=UTC)
            )
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return None


def refuse_referenced(session: Session, table: Table, leave: Sequence[Partition]) -> None:
    """Raise where rows of other tables refer to rows of a partition that is to leave, naming and counting them."""
    if not leave:
        return
    label = sql.Identifier(table.schema, table.name).as_string(session.connection)
    found = []
    for each in session.query(REFERENCES, {"table": label, "key": table.key}):
        query = sql.SQL("SELECT count(*) AS rows FROM {} WHERE {column} >= %s AND {column} < %s").format(
            sql.SQL(each["referencing"]), column=sql.Identifier(each["column"])
        )
        for part in leave:
            bounds = [bound_literal(at, table.key_type) for at in (part.lower, part.upper)]
            rows = session.query(query, bounds)[0]["rows"]
            if rows:
                found.append(Reference(part.name, each["referencing"], rows))
    if found:
        raise PostgresqlError(
            f"partitions of {table.label} cannot leave while others refer to them: "
            + ", ".join(f"{each.rows} rows of {each.table} refer to {each.partition}" for each in found),
            remedy="let the partitions of the referring table leave first, with the same retention",
            sqlstate="23503",
            references=[vars(each) for each in found],
        )


def refuse_schema(session: Session, leave: Sequence[Partition], options: Mapping[str, Any]) -> None:
    """Raise where partitions cannot move to the declared schema."""
    schema = options["retention_schema"]
    if not schema or options["retention_action"] in ("keep", "drop"):
        return
    row = session.query(KEPT_SCHEMA, (schema,))[0]
    if not row["found"]:
        raise PostgresqlError(
            f"retention_schema: there is no schema '{schema}'", remedy=f"CREATE SCHEMA {schema}", sqlstate="3F000"
        )
    if not row["allowed"]:
        raise PostgresqlError(
            f"retention_schema: {row['login']} may not create in schema '{schema}'",
            remedy=f"GRANT CREATE, USAGE ON SCHEMA {schema} TO {row['login']}",
            sqlstate="42501",
        )
    taken = session.query(TAKEN_THERE, (schema, [each.name for each in leave])) if leave else []
    if taken:
        raise PostgresqlError(
            f"retention_schema: {schema} has {', '.join(each['name'] for each in taken)} already",
            remedy="rename them there",
            sqlstate="42P07",
        )


def leave_statements(
    session: Session, table: Table, leave: Sequence[Partition], action: str, options: Mapping[str, Any]
) -> list[list[Any]]:
    """Return, for each partition, the statements of the transaction in which it leaves.

    A plain DETACH, which needs the table to itself for a moment: DETACH CONCURRENTLY is ruled out by a default
    partition, refuses rows of its range while it waits, and stays half done when it is killed.
    """
    names = [quoted(each, session) for each in leave]
    own_keys = session.query(OWN_KEYS, {"names": names}) if leave and action != "drop" else []
    parent = sql.Identifier(table.schema, table.name)
    statements = []
    for each, name in zip(leave, names, strict=True):
        partition = sql.Identifier(each.schema, each.name)
        texts = [sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(parent, partition)]
        texts += [
            sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(partition, sql.Identifier(row["key"]))
            for row in own_keys
            if row["partition"] == name
        ]
        if action == "drop":
            texts.append(sql.SQL("DROP TABLE {}").format(partition))
        gone = each
        if action != "drop" and options["retention_schema"]:
            gone = replace(each, schema=options["retention_schema"])
            texts.append(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(partition, sql.Identifier(gone.schema)))
        if options["history"]:
            recorded = MOVE if action == "archive" and gone.schema != each.schema else action
            texts.append(record(table.label, gone, recorded, options["history"]))
        statements.append(texts)
    return statements
