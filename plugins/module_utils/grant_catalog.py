# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All rights in the declared scope, in one query."""

from __future__ import annotations

from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_model import (
    PUBLIC,
    Catalog,
    Declaration,
    Default,
    Item,
    Right,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_setting import parse_stored

# An access control list as [[grantor, grantee, privilege, grantable], ...]; an absent one is what its kind begins with.
ACL = """(SELECT coalesce(jsonb_agg(jsonb_build_array(pg_get_userbyid(a.grantor),
    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable)), '[]')
    FROM aclexplode({}) a)"""


def acl(column: str, kind: str, owner: str) -> str:
    """Return the SQL of an access control list."""
    return ACL.format(f"coalesce({column}, acldefault('{kind}', {owner}))")


# What belongs to an extension is the extension's business.
OWN = """NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{}'::regclass AND e.objid = {}.oid
    AND e.deptype = 'e')"""
MAY = "(me.rolsuper OR pg_has_role(me.oid, {}, 'USAGE'))"

CATALOG = f"""
WITH me AS (SELECT oid, rolsuper FROM pg_roles WHERE rolname = current_user),
     scope AS (SELECT oid, nspname, nspowner, nspacl FROM pg_namespace WHERE nspname = ANY (%(schemas)s)),
     items AS (
  SELECT 'database' AS kind, NULL::text AS schema, d.datname::text AS name, d.datdba AS owner, false AS partition,
         {acl("d.datacl", "d", "d.datdba")} AS acl, NULL::jsonb AS columns, NULL::jsonb AS column_acl
  FROM pg_database d WHERE d.datname = current_database()
  UNION ALL
  SELECT 'schema', NULL, n.nspname, n.nspowner, false, {acl("n.nspacl", "n", "n.nspowner")}, NULL, NULL
  FROM pg_namespace n WHERE n.nspname = ANY (%(schemas)s) OR n.nspname = 'public'
  UNION ALL
  SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, n.nspname, c.relname, c.relowner, c.relispartition,
         CASE c.relkind WHEN 'S' THEN {acl("c.relacl", "s", "c.relowner")}
                        ELSE {acl("c.relacl", "r", "c.relowner")} END,
         CASE WHEN c.relkind <> 'S' AND NOT c.relispartition THEN
           (SELECT jsonb_agg(t.attname) FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attnum > 0
              AND NOT t.attisdropped) END,
         (SELECT jsonb_object_agg(t.attname, {ACL.format("t.attacl")}) FROM pg_attribute t
          WHERE t.attrelid = c.oid AND t.attacl IS NOT NULL AND NOT t.attisdropped)
  FROM pg_class c JOIN scope n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND {OWN.format("pg_class", "c")}
  UNION ALL
  SELECT 'function', n.nspname, p.oid::regprocedure::text, p.proowner, false, {acl("p.proacl", "f", "p.proowner")},
         NULL, NULL
  FROM pg_proc p JOIN scope n ON n.oid = p.pronamespace
  WHERE {OWN.format("pg_proc", "p")}
  UNION ALL
  -- What objects to come are created with: anywhere (only the owner's), and in the declared schemas (anybody's).
  SELECT 'default', NULL, k.word, o.oid, false,
         {ACL.format("coalesce(x.defaclacl, acldefault(k.begin::" + '"char"' + ", o.oid))")}, NULL, NULL
  FROM (VALUES ('table', 'r', 'r'), ('sequence', 'S', 's'), ('function', 'f', 'f')) AS k (word, type, begin)
  JOIN pg_roles o ON o.rolname = %(owner)s
  LEFT JOIN pg_default_acl x ON x.defaclrole = o.oid AND x.defaclnamespace = 0 AND x.defaclobjtype::text = k.type
  UNION ALL
  SELECT 'default', n.nspname, k.word, x.defaclrole, false, {ACL.format("x.defaclacl")}, NULL, NULL
  FROM pg_default_acl x JOIN scope n ON n.oid = x.defaclnamespace
  JOIN (VALUES ('table', 'r'), ('sequence', 'S'), ('function', 'f')) AS k (word, type)
    ON x.defaclobjtype::text = k.type)
SELECT i.kind, i.schema, i.name, pg_get_userbyid(i.owner) AS owner, i.partition, i.acl, i.columns, i.column_acl,
       {MAY.format("i.owner")} AS manageable
FROM items i, me ORDER BY i.kind, i.schema, i.name
"""

CONTEXT = """
SELECT current_user AS login,
  (SELECT coalesce(jsonb_agg(rolname), '[]') FROM pg_roles WHERE rolname = ANY (%(roles)s)) AS roles,
  (SELECT coalesce(jsonb_object_agg(f, to_regprocedure(f)::text), '{}')
   FROM unnest(%(functions)s::text[]) f) AS signatures,
  (SELECT to_jsonb(s.setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
   WHERE d.datname = current_database() AND s.setrole = 0) AS settings,
  (SELECT r.rolsuper OR (has_database_privilege(current_database(), 'CREATE')
     AND EXISTS (SELECT FROM pg_roles o WHERE o.rolname = %(owner)s AND pg_has_role(o.oid, 'MEMBER')))
   FROM pg_roles r WHERE r.rolname = current_user) AS may_create_schema
"""


def read_catalog(session: Session, declaration: Declaration) -> Catalog:
    """Read all rights in the declared scope, and what the declaration names."""
    # Names that the server writes are then complete, and nobody's function stands before the server's own.
    session.query("SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false)")
    grants = declaration.grants or ()
    functions = [name for entry in grants for name in entry.rights.get("function", {}) if not name.endswith(".*")]
    roles = sorted({entry.role for entry in grants} | ({declaration.owner} if declaration.owner else set()))
    try:
        context = session.query(CONTEXT, {"roles": roles, "functions": functions, "owner": declaration.owner})[0]
    except PostgresqlError as error:
        if error.sqlstate == "42501" and declaration.owner:  # a function's signature needs USAGE of its schema
            error.remedy = f"as a superuser: GRANT {declaration.owner} TO the login, or log in as a superuser"
        raise
    rights: dict[Item, tuple[Right, ...]] = {}
    defaults: dict[Default, tuple[Right, ...]] = {}
    columns: dict[tuple[str, str], frozenset[str]] = {}
    for row in session.query(CATALOG, {"schemas": list(declaration.schemas), "owner": declaration.owner}):
        if row["kind"] == "default":
            default = Default(row["owner"], row["name"], row["schema"] or "", row["manageable"])
            defaults[default] = _rights(row["acl"])
            continue
        item = Item(
            kind=row["kind"],
            name=row["name"],
            schema=row["schema"] or "",
            owner=row["owner"],
            manageable=row["manageable"],
            partition=row["partition"],
        )
        rights[item] = _rights(row["acl"])
        if row["columns"] is not None:
            columns[item.schema, item.name] = frozenset(row["columns"])
        for name, entries in (row["column_acl"] or {}).items():
            column = Item("column", item.name, item.schema, name, item.owner, item.manageable, item.partition)
            rights[column] = _rights(entries)
    return Catalog(
        login=context["login"],
        version=session.server_version,
        rights=rights,
        defaults=defaults,
        columns=columns,
        roles=frozenset(context["roles"]) | {PUBLIC},
        signatures={name: text for name, text in context["signatures"].items() if text},
        database_settings=parse_stored(context["settings"]),
        may_create_schema=context["may_create_schema"],
    )


def _rights(entries: list[list[Any]]) -> tuple[Right, ...]:
    return tuple(Right(*entry) for entry in entries)
