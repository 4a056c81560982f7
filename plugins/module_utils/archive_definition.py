# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a table is, as far as an archive of it is made a table again: columns, constraints, comments, bounds."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_seal import relation_oid

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

TABLE = """
SELECT c.relpartbound IS NOT NULL AS attached, pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bounds,
    pg_catalog.obj_description(c.oid, 'pg_class') AS comment,
    (SELECT pg_catalog.jsonb_build_array(n.nspname, p.relname) FROM pg_catalog.pg_inherits i
     JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
     WHERE i.inhrelid = c.oid AND c.relispartition) AS parent
FROM pg_catalog.pg_class c WHERE c.oid = %s
"""

COLUMNS = """
SELECT a.attname AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
    CASE WHEN a.attcollation <> t.typcollation
        THEN pg_catalog.jsonb_build_array(n.nspname, l.collname) END AS collation,
    CASE WHEN a.attgenerated <> '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END AS generated,
    pg_catalog.col_description(a.attrelid, a.attnum) AS comment
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

CONSTRAINTS = """
SELECT o.conname AS name, o.contype::text AS type, pg_catalog.pg_get_constraintdef(o.oid) AS definition,
    pg_catalog.obj_description(o.oid, 'pg_constraint') AS comment
FROM pg_catalog.pg_constraint o WHERE o.conrelid = %s AND o.contype IN ('p', 'u', 'c', 'x', 'f')
ORDER BY o.contype, o.conname COLLATE "C"
"""

GRANTEES = """
SELECT DISTINCT CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS name
FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) x WHERE c.oid = %s AND x.grantee <> c.relowner ORDER BY 1
"""


def read_definition(session: Session, relation: tuple[str, str]) -> dict[str, Any]:
    """Return the table's definition as JSON has it; raise PostgresqlError (42P01) where there is none.

    Settings of ``settle_output`` are needed: expressions name everything with its schema, bounds are in UTC.
    Foreign keys are kept apart, since an archive outlives what its rows point to. Defaults and identities are left out:
    no row will be added, and a default would tie the archive to a sequence or a function of the living system.
    """
    oid = relation_oid(session, relation)
    if oid is None:
        raise PostgresqlError(f"there is no table {'.'.join(relation)}", sqlstate="42P01")
    table = session.query(TABLE, (oid,))[0]
    constraints = session.query(CONSTRAINTS, (oid,))
    return {
        "bounds": table["bounds"],
        "columns": session.query(COLUMNS, (oid,)),
        "comment": table["comment"],
        "constraints": [each for each in constraints if each["type"] != "f"],
        "foreign_keys": [each for each in constraints if each["type"] == "f"],
        "parent": table["parent"],
    }


def plain_columns(definition: Mapping[str, Any]) -> list[str]:
    """Return the columns that a COPY takes: all but the generated ones."""
    return [each["name"] for each in definition["columns"] if each["generated"] is None]


def create_table(definition: Mapping[str, Any], relation: Sequence[str], kind: str = "TABLE") -> sql.Composable:
    """Return the CREATE TABLE, without the constraints. ``relation`` is (schema, name), or (name,) of a TEMP TABLE."""
    columns = []
    for each in definition["columns"]:
        column = [sql.Identifier(each["name"]), sql.SQL(each["type"])]
        if each["collation"]:
            column.append(sql.SQL("COLLATE {}").format(sql.Identifier(*each["collation"])))
        if each["generated"] is not None:
            column.append(sql.SQL(f"GENERATED ALWAYS AS ({each['generated']}) STORED"))
        if each["not_null"]:
            column.append(sql.SQL("NOT NULL"))
        columns.append(sql.SQL(" ").join(column))
    return sql.SQL("CREATE {} {} ({})").format(sql.SQL(kind), sql.Identifier(*relation), sql.SQL(", ").join(columns))


def finish_statements(definition: Mapping[str, Any], relation: tuple[str, str]) -> list[sql.Composable]:
    """Return what follows once the rows are in: constraints and comments.

    Keys get a name from the server, because the name of an index may be taken in the schema.
    """
    table = sql.Identifier(*relation)
    statements: list[sql.Composable] = []
    for each in definition["constraints"]:
        name = sql.SQL("CONSTRAINT {} ").format(sql.Identifier(each["name"])) if each["type"] == "c" else sql.SQL("")
        statements.append(sql.SQL("ALTER TABLE {} ADD {}").format(table, name) + sql.SQL(each["definition"]))
        if each["type"] == "c" and each["comment"]:
            statements.append(
                sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(
                    sql.Identifier(each["name"]), table, sql.Literal(each["comment"])
                )
            )
    if definition["comment"]:
        statements.append(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(definition["comment"])))
    for each in definition["columns"]:
        if each["comment"]:
            column = sql.Identifier(*relation, each["name"])
            statements.append(sql.SQL("COMMENT ON COLUMN {} IS {}").format(column, sql.Literal(each["comment"])))
    return statements


def close_statements(session: Session, relation: tuple[str, str]) -> list[sql.Composable]:
    """Return what takes away the rights that default privileges gave: an archive has no row security any more."""
    grantees = [row["name"] for row in session.query(GRANTEES, (relation_oid(session, relation),))]
    if not grantees:
        return []
    others = sql.SQL(", ").join(sql.SQL(n) if n == "PUBLIC" else sql.Identifier(n) for n in grantees)
    return [sql.SQL("REVOKE ALL ON TABLE {} FROM {}").format(sql.Identifier(*relation), others)]
