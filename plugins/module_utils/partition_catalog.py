# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read what the catalog knows of partitioned tables: any number of them in one query."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Row, Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import (
    EARLIEST,
    LATEST,
    NUMBERS,
    parse_bound,
    place,
    shown,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition, Range

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

KEY_TYPES = ("timestamp with time zone", "timestamp without time zone", "date")
BOUND = re.compile(r"FOR VALUES FROM \((?P<lower>.+?)\) TO \((?P<upper>.+?)\)")
KINDS = {
    "r": "a plain table",
    "p": "a partitioned table",
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "i": "an index",
    "I": "an index",
    "S": "a sequence",
    "c": "a type",
}

# A bound names no column, so pg_get_expr need not look up the partition, which takes longer than all the rest.
# The default privileges that would open a new partition are those of the role that creates it (current_user).
QUERY = """
SELECT wanted.name AS wanted, n.nspname AS schema, c.relname AS table, c.relkind,
    (SELECT rolname FROM pg_catalog.pg_roles WHERE oid = c.relowner) AS owner, current_user AS creator,
    (SELECT spcname FROM pg_catalog.pg_tablespace WHERE oid = c.reltablespace) AS tablespace,
    p.partstrat, p.partnatts, p.partattrs[0] AS key_number, a.attname AS key,
    pg_catalog.format_type(a.atttypid, NULL) AS key_type,
    pg_catalog.pg_is_in_recovery() AS standby, pg_catalog.now() AS now,
    (SELECT count(*) FROM pg_catalog.pg_index WHERE indrelid = c.oid) AS indexes,
    ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute
        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum) AS columns,
    EXISTS (SELECT FROM pg_catalog.pg_constraint
        WHERE contype = 'f' AND c.oid IN (conrelid, confrelid)) AS foreign_keys,
    pg_catalog.current_setting('max_locks_per_transaction')::int
        * (pg_catalog.current_setting('max_connections')::int
           + pg_catalog.current_setting('max_prepared_transactions')::int) AS lock_slots,
    (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
        'name', k.relname, 'schema', kn.nspname, 'bound', pg_catalog.pg_get_expr(k.relpartbound, 0),
        'detach_pending', i.inhdetachpending, 'rows', k.reltuples,
        'size', CASE WHEN %(sizes)s THEN (SELECT sum(pg_catalog.pg_total_relation_size(tree.relid))
            FROM pg_catalog.pg_partition_tree(k.oid) AS tree) END) ORDER BY k.relname), '[]')
     FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class k ON k.oid = i.inhrelid
     JOIN pg_catalog.pg_namespace kn ON kn.oid = k.relnamespace
     WHERE i.inhparent = c.oid) AS partitions,
    (SELECT coalesce(pg_catalog.jsonb_agg(DISTINCT CASE WHEN x.grantee = 0 THEN 'PUBLIC'
        ELSE (SELECT rolname FROM pg_catalog.pg_roles WHERE oid = x.grantee) END), '[]')
     FROM pg_catalog.pg_default_acl d, pg_catalog.aclexplode(d.defaclacl) x
     WHERE d.defaclobjtype = 'r' AND d.defaclnamespace IN (0, c.relnamespace)
     AND d.defaclrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
     AND x.grantee NOT IN (c.relowner, d.defaclrole)) AS opened_to
FROM unnest(%(tables)s::text[]) WITH ORDINALITY AS wanted (name, number)
LEFT JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(wanted.name)
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
ORDER BY wanted.number
"""

REACH = """
WITH s AS (SELECT pg_catalog.pg_get_serial_sequence({label}, {name})::pg_catalog.regclass AS sequence)
SELECT CASE WHEN sequence IS NULL THEN (SELECT max({key}) FROM {table})
    ELSE greatest(pg_catalog.pg_sequence_last_value(sequence), (SELECT max({key}) FROM {table}{own})) END AS reach
FROM s
"""
# A table has a row type of its name, so that the name of any other type is taken, too. Arrays make room by themselves.
TAKEN = """
WITH parent AS (SELECT c.oid, n.oid AS schema FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %(schema)s AND c.relname = %(table)s)
SELECT c.relname AS name, c.relkind::text AS kind,
    EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhrelid = c.oid AND inhparent = parent.oid) AS partition
FROM parent JOIN pg_catalog.pg_class c ON c.relnamespace = parent.schema AND c.relname = ANY (%(names)s)
UNION ALL
SELECT t.typname, 'c', false
FROM parent JOIN pg_catalog.pg_type t ON t.typnamespace = parent.schema AND t.typname = ANY (%(names)s)
WHERE t.typrelid = 0 AND t.typcategory <> 'A'
ORDER BY 1
"""


@dataclass(frozen=True)
class PassedOn:
    """What partition_carry gives a new partition, since PostgreSQL does not."""

    rows: list[tuple[str, Any, Any]]
    """Kind, what it has, and what it is to have."""
    storage: dict[str, str]
    closed: dict[str, str]
    """Storage parameters of one whose range has ended by ``now``."""
    now: datetime


@dataclass(frozen=True)
class Table:
    """A table that is partitioned by a range of time, or of numbers."""

    schema: str
    name: str
    owner: str
    creator: str
    key: str
    key_type: str
    columns: list[str]
    """Those that are written; generated ones write themselves."""
    partitions: list[Partition]
    opened_to: list[str]
    """Whom the creator's default privileges would give rights on a new table."""
    indexes: int
    foreign_keys: bool
    """Whether the table references others, or others reference it."""
    lock_slots: int
    standby: bool
    now: datetime
    tablespace: str | None = None
    new_tablespace: str | None = None
    """Of partitions to come and their indexes, where one is declared."""
    reach: datetime | None = None
    """The greatest number in use, where the key is a number."""
    passed_on: PassedOn | None = None

    @property
    def label(self) -> str:
        """Return schema and name."""
        return f"{self.schema}.{self.name}"

    @property
    def default(self) -> Partition | None:
        """Return the default partition, if there is one."""
        return next((each for each in self.partitions if each.default), None)


def read_tables(
    session: Session, tables: Sequence[str], *, sizes: bool = False, numbers: bool = False
) -> list[Table | PostgresqlError]:
    """Return, for each name, what the catalog says, or why it is not a table that has partitions by time.

    With ``numbers``, partitions by a number will do as well.
    """
    rows = session.query(QUERY, {"tables": list(tables), "sizes": sizes})
    found: list[Table | PostgresqlError] = []
    for row in rows:
        try:
            table = _table(row, KEY_TYPES + NUMBERS if numbers else KEY_TYPES)
            found.append(replace(table, reach=_reach(session, table)) if table.key_type in NUMBERS else table)
        except PostgresqlError as error:
            found.append(error)
    return found


def _reach(session: Session, table: Table) -> datetime:
    """Return the greatest number in use, by the rows or the sequence, whichever is ahead.

    What lies in the default partition does not count where there is a sequence: a number that was mistyped would call
    for thousands of partitions.
    """
    label = sql.Identifier(table.schema, table.name)
    default = table.default
    values = {
        "table": label,
        "key": sql.Identifier(table.key),
        "label": sql.Literal(label.as_string(session.connection)),
        "name": sql.Literal(table.key),
        "own": sql.SQL(""),
    }
    if default:
        regclass = sql.Literal(sql.Identifier(default.schema, default.name).as_string(session.connection))
        values["own"] = sql.SQL(" WHERE tableoid <> {}::pg_catalog.regclass").format(regclass)
    return place(session.query(sql.SQL(REACH).format(**values))[0]["reach"] or 0)


def read_table(session: Session, table: str, *, numbers: bool = False) -> Table:
    """Return what the catalog says; raise where the table is not one that has partitions by time, or ``numbers``."""
    found = read_tables(session, [table], numbers=numbers)[0]
    if isinstance(found, PostgresqlError):
        raise found
    return found


def refuse_taken_names(session: Session, table: Table, create: Sequence[Range]) -> None:
    """Raise where a new partition's name belongs to something else: creating 'if not exists' would hide the gap."""
    if not create:
        return
    siblings = {each.name: each for each in table.partitions if each.schema == table.schema}
    clashes = {}
    values = {"schema": table.schema, "table": table.name, "names": [each.name for each in create]}
    for row in session.query(TAKEN, values):
        kind = KINDS.get(row["kind"], "another relation")
        if row["partition"]:
            other = siblings.get(row["name"])
            if other is None:  # made by another run since the table was read
                continue
            bounds = [shown(at, table.key_type) for at in (other.lower, other.upper)]
            kind = f"a partition of {table.label} from {bounds[0]} to {bounds[1]}"
        clashes[row["name"]] = kind
    if clashes:
        raise PostgresqlError(
            f"the names of new partitions in schema {table.schema} are taken: "
            + ", ".join(f"{name} is {kind}" for name, kind in clashes.items()),
            remedy="rename or remove these; they do not cover the range their name suggests",
            sqlstate="42P07",
            clashes=list(clashes),
        )


def _table(row: Row, key_types: Sequence[str]) -> Table:
    if row["table"] is None:
        raise PostgresqlError(f"table: '{row['wanted']}' does not exist", sqlstate="42P01")
    label = f"{row['schema']}.{row['table']}"
    if row["relkind"] != "p":
        raise PostgresqlError(
            f"table: '{label}' is not partitioned, it is {KINDS.get(row['relkind'], 'something else')}",
            sqlstate="42P17",
        )
    _refuse_other_keys(row, label, key_types)
    return Table(
        schema=row["schema"],
        name=row["table"],
        owner=row["owner"],
        creator=row["creator"],
        key=row["key"],
        key_type=row["key_type"],
        columns=row["columns"],
        partitions=[_partition(each, row["key_type"]) for each in row["partitions"]],
        opened_to=sorted(row["opened_to"]),
        indexes=row["indexes"],
        foreign_keys=row["foreign_keys"],
        lock_slots=row["lock_slots"],
        standby=row["standby"],
        now=row["now"].astimezone(UTC),
        tablespace=row["tablespace"],
    )


def _refuse_other_keys(row: Row, label: str, key_types: Sequence[str]) -> None:
    if row["partstrat"] != "r":
        strategy = {"l": "LIST", "h": "HASH"}.get(row["partstrat"], row["partstrat"])
        raise PostgresqlError(
            f"table: '{label}' is partitioned by {strategy}", remedy="name a table that is partitioned by RANGE"
        )
    if row["partnatts"] != 1 or not row["key_number"]:
        raise PostgresqlError(
            f"table: the partition key of '{label}' is not a single column", remedy="partition by one column of time"
        )
    if row["key_type"] not in key_types:
        raise PostgresqlError(
            f"table: the partition key '{row['key']}' of '{label}' is of type {row['key_type']}",
            remedy=f"partition by a column of type {', '.join(key_types)}",
        )


def _partition(row: Row, key_type: str) -> Partition:
    default = row["bound"] == "DEFAULT"
    bound = BOUND.fullmatch(row["bound"] or "")
    if bound is None and not default:
        raise PostgresqlError(f"partition '{row['name']}' has bounds that are not understood: {row['bound']}")
    return Partition(
        row["name"],
        EARLIEST if bound is None else parse_bound(bound["lower"], key_type),
        LATEST if bound is None else parse_bound(bound["upper"], key_type),
        default=default,
        detach_pending=row["detach_pending"],
        schema=row["schema"],
        rows=int(row["rows"]),
        size=row["size"],
    )
