# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The query on the catalog that finds a table and all that hangs on it."""

from __future__ import annotations

# Everything that PostgreSQL knows to depend on the table or on its row type, without what belongs to the table itself.
# A column that is read here by name is what convert_obstacles refuses and convert_dress carries over.
DEPENDENTS = """
SELECT d.classid, d.objid, min(pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)) AS description
FROM pg_catalog.pg_depend d
WHERE (d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.oid
    OR d.refclassid = 'pg_catalog.pg_type'::regclass AND d.refobjid IN (
        SELECT t.oid FROM pg_catalog.pg_type t WHERE c.reltype IN (t.oid, t.typelem)))
AND NOT (d.classid = 'pg_catalog.pg_class'::regclass AND d.objid IN (
    SELECT indexrelid FROM pg_catalog.pg_index WHERE indrelid = c.oid
    UNION ALL SELECT c.oid UNION ALL SELECT c.reltoastrelid
    UNION ALL SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = c.oid
    UNION ALL SELECT oid FROM pg_catalog.pg_class WHERE relkind = 'S'))
AND NOT (d.classid = 'pg_catalog.pg_constraint'::regclass AND d.objid IN (
    SELECT oid FROM pg_catalog.pg_constraint WHERE c.oid IN (conrelid, confrelid)))
AND NOT (d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid IN (
    SELECT oid FROM pg_catalog.pg_attrdef WHERE adrelid = c.oid))
AND NOT (d.classid = 'pg_catalog.pg_trigger'::regclass AND d.objid IN (
    SELECT oid FROM pg_catalog.pg_trigger WHERE tgrelid = c.oid))
AND NOT (d.classid = 'pg_catalog.pg_policy'::regclass AND d.objid IN (
    SELECT oid FROM pg_catalog.pg_policy WHERE polrelid = c.oid))
AND NOT (d.classid = 'pg_catalog.pg_statistic_ext'::regclass AND d.objid IN (
    SELECT oid FROM pg_catalog.pg_statistic_ext WHERE stxrelid = c.oid))
AND d.classid <> 'pg_catalog.pg_publication_rel'::regclass
AND NOT (d.classid = 'pg_catalog.pg_type'::regclass AND d.objid IN (
    SELECT oid FROM pg_catalog.pg_type WHERE c.reltype IN (oid, typelem)))
GROUP BY 1, 2
"""

ROLE = "CASE WHEN {oid} = 0 THEN 'PUBLIC' ELSE (SELECT rolname FROM pg_catalog.pg_roles r WHERE r.oid = {oid}) END"

# name -> a query on the table c; each becomes a list of objects.
LISTS = {
    "columns": """SELECT a.attname AS name, a.attnotnull AS not_null, a.attidentity::text AS identity,
        a.attgenerated::text AS generated, pg_catalog.format_type(a.atttypid, NULL) AS type,
        nullif(a.attstattarget, -1) AS statistics, a.attoptions IS NOT NULL AS options
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum""",
    "grants": f"""SELECT NULL::name AS "column", {ROLE.format(oid="x.grantee")} AS grantee, x.is_grantable AS grantable,
        pg_catalog.array_agg(DISTINCT x.privilege_type ORDER BY x.privilege_type) AS privileges
        FROM pg_catalog.aclexplode(c.relacl) x GROUP BY x.grantee, x.is_grantable
        UNION ALL SELECT a.attname, {ROLE.format(oid="x.grantee")}, x.is_grantable,
        pg_catalog.array_agg(DISTINCT x.privilege_type ORDER BY x.privilege_type)
        FROM pg_catalog.pg_attribute a, pg_catalog.aclexplode(a.attacl) x
        WHERE a.attrelid = c.oid AND NOT a.attisdropped GROUP BY a.attname, x.grantee, x.is_grantable
        ORDER BY 1 NULLS FIRST, 2, 3""",
    "indexes": """SELECT i.relname AS name, pg_catalog.pg_get_indexdef(i.oid) AS definition, x.indisvalid AS valid,
        x.indisunique AS unique, x.indisprimary AS primary, k.conname AS constraint,
        pg_catalog.pg_get_constraintdef(k.oid) AS constraint_definition, k.condeferrable AS deferrable,
        (SELECT spcname FROM pg_catalog.pg_tablespace WHERE oid = i.reltablespace) AS tablespace,
        (SELECT p.relname FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class p ON p.oid = h.inhparent
            WHERE h.inhrelid = i.oid) AS parent,
        coalesce(pg_catalog.obj_description(k.oid, 'pg_constraint'),
            pg_catalog.obj_description(i.oid, 'pg_class')) AS comment,
        ARRAY(SELECT a.attname FROM pg_catalog.unnest(x.indkey::int2[]) WITH ORDINALITY AS u (number, at)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.number
            WHERE u.at <= x.indnkeyatts ORDER BY u.at) AS columns,
        ARRAY(SELECT a.attname FROM pg_catalog.unnest(x.indkey::int2[]) WITH ORDINALITY AS u (number, at)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.number
            WHERE u.at > x.indnkeyatts ORDER BY u.at) AS included
        FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
        LEFT JOIN pg_catalog.pg_constraint k
            ON k.conindid = i.oid AND k.conrelid = c.oid AND k.contype IN ('p', 'u', 'x')
        WHERE x.indrelid = c.oid ORDER BY 1""",
    "constraints": """SELECT conname AS name, contype::text AS type, convalidated AS valid, connoinherit AS no_inherit,
        pg_catalog.pg_get_constraintdef(oid) AS definition,
        pg_catalog.obj_description(oid, 'pg_constraint') AS comment,
        (SELECT pg_catalog.jsonb_build_array(fn.nspname, f.relname) FROM pg_catalog.pg_class f
            JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace WHERE f.oid = confrelid
            AND pg_catalog.has_table_privilege(f.oid, 'UPDATE, DELETE, TRUNCATE')) AS lockable
        FROM pg_catalog.pg_constraint WHERE conrelid = c.oid AND contype IN ('c', 'f', 'x') ORDER BY 1""",
    "key_dependents": """SELECT min(pg_catalog.pg_describe_object(d.classid, d.objid, 0)) AS description
        FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_constraint k ON k.oid = d.refobjid
        WHERE d.refclassid = 'pg_catalog.pg_constraint'::regclass AND k.conrelid = c.oid AND k.contype = 'p'
        AND d.classid NOT IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_constraint'::regclass)
        GROUP BY d.classid, d.objid ORDER BY 1""",
    "references": """SELECT conname AS name, conrelid::regclass::text AS "table" FROM pg_catalog.pg_constraint
        WHERE confrelid = c.oid AND contype = 'f' AND conparentid = 0 ORDER BY 2, 1""",
    "triggers": """SELECT tgname AS name, pg_catalog.pg_get_triggerdef(oid) AS definition, tgenabled::text AS enabled,
        tgtype & 1 = 1 AS for_row, pg_catalog.obj_description(oid, 'pg_trigger') AS comment,
        tgoldtable IS NOT NULL OR tgnewtable IS NOT NULL AS transition, tgtype & 8 = 8 AS on_delete
        FROM pg_catalog.pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal ORDER BY 1""",
    "policies": f"""SELECT polname AS name, polpermissive AS permissive, polcmd::text AS command,
        ARRAY(SELECT {ROLE.format(oid="u.oid")} FROM pg_catalog.unnest(polroles) AS u (oid)) AS roles,
        pg_catalog.pg_get_expr(polqual, polrelid) AS using, pg_catalog.pg_get_expr(polwithcheck, polrelid) AS check,
        pg_catalog.obj_description(oid, 'pg_policy') AS comment
        FROM pg_catalog.pg_policy WHERE polrelid = c.oid ORDER BY 1""",
    "rules": """SELECT rulename AS name FROM pg_catalog.pg_rewrite WHERE ev_class = c.oid ORDER BY 1""",
    "statistics": """SELECT sn.nspname AS schema, s.stxname AS name, nullif(s.stxstattarget, -1) AS target,
        pg_catalog.pg_get_statisticsobjdef(s.oid) AS definition
        FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace sn ON sn.oid = s.stxnamespace
        WHERE s.stxrelid = c.oid ORDER BY 1, 2""",
    "sequences": f"""SELECT qn.nspname AS schema, q.relname AS name, a.attname AS column,
        a.attidentity::text AS identity, pg_catalog.obj_description(q.oid, 'pg_class') AS comment,
        s.seqstart AS start, s.seqincrement AS increment, s.seqmin AS minimum, s.seqmax AS maximum, s.seqcache AS cache,
        s.seqcycle AS cycle, (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'grantee', {ROLE.format(oid="x.grantee")}, 'privilege', x.privilege_type, 'grantable', x.is_grantable)
            ORDER BY x.grantee, x.privilege_type), '[]') FROM pg_catalog.aclexplode(q.relacl) x
            WHERE x.grantee <> q.relowner) AS grants
        FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class q ON q.oid = d.objid AND q.relkind = 'S'
        JOIN pg_catalog.pg_namespace qn ON qn.oid = q.relnamespace
        JOIN pg_catalog.pg_sequence s ON s.seqrelid = q.oid
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
        AND d.refobjid = c.oid AND d.deptype IN ('a', 'i') ORDER BY 1, 2""",
    "publications": """SELECT p.pubname AS name, p.pubviaroot AS via_root, r.prrelid IS NOT NULL AS listed,
        pg_catalog.pg_has_role(p.pubowner, 'USAGE') AS owned, pg_catalog.pg_get_expr(r.prqual, c.oid) AS condition,
        ARRAY(SELECT a.attname FROM pg_catalog.unnest(r.prattrs::int2[]) AS u (number)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.number) AS columns
        FROM pg_catalog.pg_publication p
        LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
        WHERE p.puballtables OR r.prrelid IS NOT NULL OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace
            WHERE pnpubid = p.oid AND pnnspid = c.relnamespace) ORDER BY 1""",
    "views": f"""SELECT DISTINCT vn.nspname AS schema, v.relname AS name, v.reloptions AS options,
        (SELECT rolname FROM pg_catalog.pg_roles WHERE oid = v.relowner) AS owner,
        pg_catalog.pg_get_viewdef(v.oid) AS definition, pg_catalog.pg_has_role(v.relowner, 'USAGE') AS owned
        FROM ({DEPENDENTS}) AS x JOIN pg_catalog.pg_rewrite w ON w.oid = x.objid AND w.ev_type = '1'
        JOIN pg_catalog.pg_class v ON v.oid = w.ev_class AND v.relkind = 'v'
        JOIN pg_catalog.pg_namespace vn ON vn.oid = v.relnamespace
        WHERE x.classid = 'pg_catalog.pg_rewrite'::regclass ORDER BY 1, 2""",
    "others": f"""SELECT x.description FROM ({DEPENDENTS}) AS x
        LEFT JOIN pg_catalog.pg_rewrite w ON x.classid = 'pg_catalog.pg_rewrite'::regclass AND w.oid = x.objid
        LEFT JOIN pg_catalog.pg_class v ON v.oid = w.ev_class
        WHERE w.ev_class IS DISTINCT FROM c.oid AND NOT (coalesce(w.ev_type = '1' AND v.relkind = 'v', false))
        ORDER BY 1""",
}

# Whom the creator's default privileges would give rights on a new relation of this kind.
OPENED = """(SELECT coalesce(pg_catalog.array_agg(DISTINCT {role}), '{{}}')
     FROM pg_catalog.pg_default_acl d, pg_catalog.aclexplode(d.defaclacl) x
     WHERE d.defaclobjtype = '{kind}' AND d.defaclnamespace IN (0, c.relnamespace)
     AND d.defaclrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
     AND x.grantee NOT IN (c.relowner, d.defaclrole)) AS {name}"""

QUERY = """
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, c.relpersistence::text AS persistence,
    c.relreplident::text AS replica_identity, c.relispartition AS partition, c.reloftype <> 0 AS typed,
    c.reloptions AS options,
    c.relrowsecurity AS row_security, c.relforcerowsecurity AS force_row_security, c.reltuples AS rows,
    c.relpages AS pages,
    (SELECT amname FROM pg_catalog.pg_am WHERE oid = c.relam) AS access_method,
    (SELECT rolname FROM pg_catalog.pg_roles WHERE oid = c.relowner) AS owner, current_user::text AS creator,
    pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owned,
    pg_catalog.has_schema_privilege(c.relnamespace, 'CREATE') AS may_create,
    c.relacl IS NOT NULL AS granted,
    (SELECT spcname FROM pg_catalog.pg_tablespace WHERE oid = c.reltablespace) AS tablespace,
    pg_catalog.obj_description(c.oid, 'pg_class') AS comment,
    EXISTS (SELECT FROM pg_catalog.pg_seclabel WHERE objoid = c.oid) AS labelled,
    EXISTS (SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class k ON k.oid = i.inhrelid
        WHERE c.relkind = 'r' AND NOT k.relispartition AND c.oid IN (i.inhrelid, i.inhparent)) AS inherits,
    EXISTS (SELECT FROM pg_catalog.pg_subscription_rel WHERE srrelid = c.oid) AS subscribed,
    (SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') AS extension,
    pg_catalog.pg_is_in_recovery() AS standby, pg_catalog.now() AS now,
    pg_catalog.current_setting('max_locks_per_transaction')::int
        * (pg_catalog.current_setting('max_connections')::int
           + pg_catalog.current_setting('max_prepared_transactions')::int) AS lock_slots,
    {opened},
    {lists}
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = pg_catalog.to_regclass(%(name)s)
""".format(
    opened=",\n    ".join(
        OPENED.format(role=ROLE.format(oid="x.grantee"), kind=kind, name=name)
        for kind, name in (("r", "opened_to"), ("S", "sequences_opened_to"))
    ),
    lists=",\n    ".join(
        f"(SELECT coalesce(pg_catalog.jsonb_agg(l), '[]') FROM ({text}) AS l) AS {name}" for name, text in LISTS.items()
    ),
)
