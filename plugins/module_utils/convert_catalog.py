# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read all that hangs on a table, in the words that make it again on a table that has its name."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Row, Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

SHAPE = """
SELECT n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.relpersistence AS persistence,
    c.reloftype <> 0 AS typed, c.relispartition AS partition, c.relreplident AS replica_identity,
    c.relrowsecurity AS row_security, c.relforcerowsecurity AS forced_row_security,
    pg_catalog.pg_get_userbyid(c.relowner) AS owner, current_user AS creator, c.reltuples AS rows,
    (SELECT spcname FROM pg_catalog.pg_tablespace WHERE oid = c.reltablespace) AS tablespace,
    pg_catalog.obj_description(c.oid, 'pg_class') AS comment,
    pg_catalog.pg_is_in_recovery() AS standby, pg_catalog.now() AS now,
    EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE c.oid IN (inhrelid, inhparent)) AS inherits,
    (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', a.attname, 'number', a.attnum,
        'type', pg_catalog.format_type(a.atttypid, NULL), 'not_null', a.attnotnull, 'identity', a.attidentity::text,
        'generated', a.attgenerated <> '',
        'sequence', pg_catalog.pg_get_serial_sequence(pg_catalog.format('%%I.%%I', n.nspname, c.relname), a.attname))
        ORDER BY a.attnum), '[]')
     FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = pg_catalog.to_regclass(%s)
"""
CONSTRAINTS = """
SELECT conname AS name, contype::text AS type, convalidated AS valid, connoinherit AS no_inherit,
    pg_catalog.pg_get_constraintdef(oid) AS definition, conindid::bigint AS index,
    pg_catalog.obj_description(oid, 'pg_constraint') AS comment,
    ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_catalog.pg_attribute ON attrelid = conrelid AND attnum = k.number ORDER BY place) AS columns
FROM pg_catalog.pg_constraint WHERE conrelid = pg_catalog.to_regclass(%s) AND contype <> 't' ORDER BY conname
"""
INDEXES = """
SELECT i.indexrelid::bigint AS oid, x.relname AS name, i.indisunique AS is_unique, i.indisvalid AS valid,
    pg_catalog.pg_get_indexdef(i.indexrelid) AS definition,
    pg_catalog.obj_description(i.indexrelid, 'pg_class') AS comment,
    ARRAY(SELECT attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_catalog.pg_attribute ON attrelid = i.indrelid AND attnum = k.number ORDER BY place) AS columns
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = pg_catalog.to_regclass(%s) ORDER BY x.relname
"""
TRIGGERS = """
SELECT tgname AS name, pg_catalog.pg_get_triggerdef(oid) AS definition, tgenabled::text AS enabled,
    tgnewtable IS NOT NULL OR tgoldtable IS NOT NULL AS transition, tgtype & 1 = 1 AS for_each_row
FROM pg_catalog.pg_trigger WHERE tgrelid = pg_catalog.to_regclass(%s) AND NOT tgisinternal ORDER BY tgname
"""
POLICIES = """
SELECT p.polname AS name, p.polpermissive AS permissive, p.polcmd::text AS command,
    ARRAY(SELECT CASE WHEN r.oid = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(r.oid)::text END
        FROM unnest(p.polroles) AS r (oid)) AS roles,
    pg_catalog.pg_get_expr(p.polqual, p.polrelid) AS condition,
    pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) AS checked
FROM pg_catalog.pg_policy p WHERE p.polrelid = pg_catalog.to_regclass(%s) ORDER BY p.polname
"""
GRANTS = """
SELECT NULL AS column, CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee) END AS grantee,
    x.privilege_type AS privilege, x.is_grantable AS grantable
FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) x
WHERE c.oid = pg_catalog.to_regclass(%(table)s) AND x.grantee <> c.relowner
UNION ALL
SELECT a.attname, CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
    x.privilege_type, x.is_grantable
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid, pg_catalog.aclexplode(a.attacl) x
WHERE c.oid = pg_catalog.to_regclass(%(table)s) AND x.grantee <> c.relowner
ORDER BY 1 NULLS FIRST, 2, 3
"""
# Roles to whom a table that current_user makes there is opened by default privileges.
OPENED_TO = """
SELECT DISTINCT CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee
FROM pg_catalog.pg_default_acl d, pg_catalog.aclexplode(d.defaclacl) x
WHERE d.defaclobjtype = 'r' AND d.defaclrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
    AND d.defaclnamespace IN (0, (SELECT relnamespace FROM pg_catalog.pg_class
        WHERE oid = pg_catalog.to_regclass(%s))) AND x.grantee <> d.defaclrole
"""
PUBLICATIONS = """
SELECT p.pubname AS name, (pg_catalog.to_jsonb(r) ->> 'prqual') IS NOT NULL
    OR (pg_catalog.to_jsonb(r) ->> 'prattrs') IS NOT NULL AS filtered
FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
WHERE r.prrelid = pg_catalog.to_regclass(%s) ORDER BY 1
"""
# What is bound to the table, and not to its name: it would go on with the old one.
DEPENDENTS = """
SELECT DISTINCT CASE d.classid WHEN 'pg_catalog.pg_rewrite'::regclass THEN v.relkind::text ELSE 'function' END AS kind,
    CASE d.classid WHEN 'pg_catalog.pg_rewrite'::regclass THEN v.oid::regclass::text
        ELSE pg_catalog.pg_describe_object(d.classid, d.objid, 0) END AS name,
    CASE WHEN v.relkind = 'v' THEN pg_catalog.pg_get_viewdef(v.oid) END AS definition,
    v.reloptions AS options
FROM pg_catalog.pg_depend d
LEFT JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid AND d.classid = 'pg_catalog.pg_rewrite'::regclass
LEFT JOIN pg_catalog.pg_class v ON v.oid = w.ev_class
WHERE (d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = pg_catalog.to_regclass(%(table)s)
    OR d.refclassid = 'pg_catalog.pg_type'::regclass AND d.refobjid IN (SELECT unnest(ARRAY[t.oid, t.typarray])
        FROM pg_catalog.pg_type t WHERE t.typrelid = pg_catalog.to_regclass(%(table)s)))
    AND d.deptype IN ('n', 'a') AND (d.classid = 'pg_catalog.pg_proc'::regclass
        OR d.classid = 'pg_catalog.pg_rewrite'::regclass
        OR d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_type'::regclass
            AND d.objid <> d.refobjid)
ORDER BY 1, 2
"""
INCOMING = """
SELECT conrelid::regclass::text AS referencing, conname AS name FROM pg_catalog.pg_constraint
WHERE contype = 'f' AND confrelid = pg_catalog.to_regclass(%s) AND conparentid = 0 ORDER BY 1, 2
"""
SEQUENCE = """
SELECT s.seqstart AS start, s.seqincrement AS increment, s.seqmax AS maximum, s.seqmin AS minimum,
    s.seqcache AS cache, s.seqcycle AS cycle
FROM pg_catalog.pg_sequence s WHERE s.seqrelid = pg_catalog.to_regclass(%s)
"""


@dataclass(frozen=True)
class Attached:
    """A table and all that hangs on it."""

    shape: Row
    constraints: list[Row]
    indexes: list[Row]
    triggers: list[Row]
    policies: list[Row]
    grants: list[Row]
    opened_to: list[str | None]
    """None is PUBLIC."""
    publications: list[Row]
    dependents: list[Row]
    incoming: list[Row]
    sequence: Row | None
    """Of the identity column, where there is one."""

    @property
    def label(self) -> str:
        """Return schema and name."""
        return f"{self.shape['schema']}.{self.shape['name']}"

    @property
    def primary_key(self) -> Row | None:
        """Return the primary key's constraint."""
        return next((each for each in self.constraints if each["type"] == "p"), None)

    @property
    def identity(self) -> Row | None:
        """Return the identity column."""
        return next((each for each in self.shape["columns"] if each["identity"]), None)

    @property
    def columns(self) -> list[str]:
        """Return the columns that are written."""
        return [each["name"] for each in self.shape["columns"] if not each["generated"]]

    def column(self, name: str) -> Row | None:
        """Return a column."""
        return next((each for each in self.shape["columns"] if each["name"] == name), None)

    @property
    def now(self) -> datetime:
        """Return the server's clock."""
        return self.shape["now"].astimezone(UTC)  # type: ignore[no-any-return]


def read_attached(session: Session, schema: str, name: str) -> Attached | None:
    """Return the table and what hangs on it; None where it does not exist."""
    table = sql.Identifier(schema, name).as_string(session.connection)
    shapes = session.query(SHAPE, (table,))
    if not shapes:
        return None
    shape = shapes[0]
    identity = next((each for each in shape["columns"] if each["identity"]), None)
    # From PostgreSQL 17 on, partitions have the identity of their table, and no sequence.
    sequences = session.query(SEQUENCE, (identity["sequence"],)) if identity else []
    return Attached(
        shape=shape,
        constraints=session.query(CONSTRAINTS, (table,)),
        indexes=session.query(INDEXES, (table,)),
        triggers=session.query(TRIGGERS, (table,)),
        policies=session.query(POLICIES, (table,)),
        grants=session.query(GRANTS, {"table": table}),
        opened_to=[row["grantee"] for row in session.query(OPENED_TO, (table,))],
        publications=session.query(PUBLICATIONS, (table,)),
        dependents=session.query(DEPENDENTS, {"table": table}),
        incoming=session.query(INCOMING, (table,)),
        sequence=sequences[0] if sequences else None,
    )


def split_name(session: Session, table: str) -> tuple[str, str]:
    """Return schema and name of an existing table, as search_path finds it; raise where there is none."""
    rows = session.query(
        "SELECT n.nspname AS schema, c.relname AS name FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass(%s)",
        (table,),
    )
    if not rows:
        raise PostgresqlError(f"table: '{table}' does not exist", sqlstate="42P01")
    return rows[0]["schema"], rows[0]["name"]


def refusals(found: Attached, key: str, own: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return what keeps a table from being converted by a column of time, each with the remedy: all at once.

    ``own`` names the constraint and the index that a conversion adds.
    """
    shape = found.shape
    wrong: list[tuple[str, str]] = []
    column = found.column(key)
    if column is None:
        wrong.append((f"it has no column {key}", "name its column of time in key"))
    elif column["type"] not in ("timestamp with time zone", "timestamp without time zone", "date"):
        wrong.append((f"{key} is of type {column['type']}", "name a column of time in key"))
    elif column["generated"] or not column["not_null"]:
        wrong.append((f"{key} may be null or is generated", f"ALTER TABLE {found.label} ALTER {key} SET NOT NULL"))
    if shape["persistence"] != "p" or shape["typed"] or shape["inherits"]:
        wrong.append(("it is unlogged, temporary, typed or inherits", "make it a plain table"))
    for each in found.incoming:
        wrong.append(
            (
                f"{each['referencing']} refers to it ({each['name']})",
                f"drop that key; a key to a partitioned table names {key}, too",
            )
        )
    for each in found.dependents:
        if each["kind"] != "v":
            wrong.append((f"{each['name']} is bound to it", "drop it, and make it again afterwards"))
    wrong += _refused_constraints(found, key, own)
    for each in found.triggers:
        if each["transition"] and each["for_each_row"]:
            wrong.append((f"trigger {each['name']} has transition tables", "drop it; partitioned tables have none"))
    for each in found.publications:
        if each["filtered"]:
            wrong.append((f"publication {each['name']} filters it", "take it out, and add it again afterwards"))
    if shape["replica_identity"] == "i":
        wrong.append(("its replica identity is an index", "ALTER TABLE ... REPLICA IDENTITY DEFAULT or FULL"))
    return wrong


def _refused_constraints(found: Attached, key: str, own: Sequence[str]) -> list[tuple[str, str]]:
    wrong = []
    backing = {each["index"] for each in found.constraints}
    for each in found.constraints:
        if each["name"] in own:
            continue
        if each["type"] == "x" or (each["type"] == "u" and key not in each["columns"]):
            wrong.append((f"constraint {each['name']} does not hold {key}", "drop it: partitions cannot keep it"))
        elif not each["valid"]:
            wrong.append((f"constraint {each['name']} is not valid", f"VALIDATE CONSTRAINT {each['name']}, or drop it"))
        elif each["no_inherit"] and each["type"] == "c":
            wrong.append((f"constraint {each['name']} is NO INHERIT", "make it again without"))
    for each in found.indexes:
        if each["name"] in own:
            continue
        if each["is_unique"] and each["oid"] not in backing and key not in each["columns"]:
            wrong.append((f"unique index {each['name']} does not hold {key}", "drop it, or make it not unique"))
        if not each["valid"]:
            wrong.append((f"index {each['name']} is invalid", f"REINDEX INDEX CONCURRENTLY {each['name']}"))
    return wrong
