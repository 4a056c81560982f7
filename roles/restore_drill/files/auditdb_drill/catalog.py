# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a restore must bring back beside rows: roles, memberships, rights, policies and partitions, as lines of text."""

from __future__ import annotations

from typing import Any

ROLES = """
SELECT pg_catalog.format('role %s super=%s inherit=%s createrole=%s createdb=%s login=%s replication=%s bypassrls=%s',
    rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls)
FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_'
UNION ALL
SELECT pg_catalog.format('member %s of %s', pg_catalog.pg_get_userbyid(member), pg_catalog.pg_get_userbyid(roleid))
FROM pg_catalog.pg_auth_members
UNION ALL
SELECT pg_catalog.format('database %s owner=%s rights=%s', datname, pg_catalog.pg_get_userbyid(datdba), datacl)
FROM pg_catalog.pg_database
ORDER BY 1
"""
OBJECTS = """
WITH schemas AS (
    SELECT oid, nspname, nspowner, nspacl FROM pg_catalog.pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
)
SELECT pg_catalog.format('schema %s owner=%s rights=%s', nspname, pg_catalog.pg_get_userbyid(nspowner), nspacl)
FROM schemas
UNION ALL
SELECT pg_catalog.format('relation %s.%s kind=%s owner=%s rights=%s row_security=%s/%s bound=%s',
    nspname, relname, relkind, pg_catalog.pg_get_userbyid(relowner), relacl, relrowsecurity, relforcerowsecurity,
    pg_catalog.pg_get_expr(relpartbound, c.oid))
FROM pg_catalog.pg_class AS c JOIN schemas AS s ON s.oid = c.relnamespace WHERE relkind <> 'i'
UNION ALL
SELECT pg_catalog.format('function %s owner=%s rights=%s', p.oid::regprocedure,
    pg_catalog.pg_get_userbyid(proowner), proacl)
FROM pg_catalog.pg_proc AS p JOIN schemas AS s ON s.oid = p.pronamespace
UNION ALL
SELECT pg_catalog.format('policy %s on %s.%s %s %s %s %s', policyname, schemaname, tablename,
    roles, cmd, qual, with_check)
FROM pg_catalog.pg_policies
ORDER BY 1
"""


def roles(cursor: Any) -> list[str]:
    """Return what the whole cluster has."""
    cursor.execute(ROLES)
    return [line for (line,) in cursor.fetchall()]


def objects(cursor: Any, database: str) -> list[str]:
    """Return what the database has, each line with its name."""
    # Names with their schemas, whatever the search path of the one who asks is.
    cursor.execute("SET search_path TO ''")
    cursor.execute(OBJECTS)
    return [f"{database}: {line}" for (line,) in cursor.fetchall()]


def differences(before: list[str], after: list[str]) -> list[str]:
    """Return what is missing and what is more, as findings."""
    return [f"missing: {line}" for line in sorted(set(before) - set(after))] + [
        f"not in production: {line}" for line in sorted(set(after) - set(before))
    ]
