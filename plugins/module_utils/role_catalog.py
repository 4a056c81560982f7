# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the server knows about the declared roles, in one query."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_model import (
    FLAGS,
    Actual,
    Catalog,
    Login,
    Membership,
    Wanted,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_setting import parse_stored

FLAG_COLUMNS = """jsonb_build_object('login', r.rolcanlogin, 'superuser', r.rolsuper, 'createdb', r.rolcreatedb,
    'createrole', r.rolcreaterole, 'inherit', r.rolinherit, 'replication', r.rolreplication,
    'bypassrls', r.rolbypassrls)"""

# The membership options appeared in 16; through jsonb the query is the same for all versions.
CATALOG = f"""
SELECT current_user AS login,
  (SELECT {FLAG_COLUMNS} FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) AS login_flags,
  (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'name', r.rolname, 'flags', {FLAG_COLUMNS}, 'connection_limit', r.rolconnlimit,
      'valid_until', r.rolvaliduntil::text, 'comment', pg_catalog.shobj_description(r.oid, 'pg_authid'),
      'settings', (SELECT to_jsonb(s.setconfig) FROM pg_catalog.pg_db_role_setting s
                   WHERE s.setrole = r.oid AND s.setdatabase = 0))), '[]')
   FROM pg_catalog.pg_roles r WHERE r.rolname = ANY (%(declared)s)) AS roles,
  (SELECT coalesce(jsonb_agg(to_jsonb(m) || jsonb_build_object(
      'role', g.rolname, 'member', u.rolname, 'grantor', b.rolname) ORDER BY g.rolname, u.rolname, b.rolname), '[]')
   FROM pg_catalog.pg_auth_members m
   JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
   JOIN pg_catalog.pg_roles u ON u.oid = m.member
   LEFT JOIN pg_catalog.pg_roles b ON b.oid = m.grantor
   WHERE g.rolname = ANY (%(declared)s) OR u.rolname = ANY (%(declared)s)) AS memberships,
  (SELECT coalesce(jsonb_agg(jsonb_build_object('name', r.rolname, 'superuser', r.rolsuper,
      'administered', pg_catalog.pg_has_role(r.oid, 'USAGE WITH ADMIN OPTION'))), '[]')
   FROM pg_catalog.pg_roles r WHERE r.rolname = ANY (%(mentioned)s)) AS mentioned
"""


def mentioned(wanted: Sequence[Wanted]) -> list[str]:
    """Return the names of all roles that the declaration names."""
    names = [role.name for role in wanted]
    for role in wanted:
        names += [*(role.member_of or ()), *(role.members or ())]
    return sorted(set(names))


def read_catalog(session: Session, wanted: Sequence[Wanted]) -> Catalog:
    """Read the declared roles, their memberships, and what the login may do."""
    names = [role.name for role in wanted]
    row = session.query(CATALOG, {"declared": names, "mentioned": mentioned(wanted)})[0]
    # The groups of undeclared memberships are not mentioned, yet may have to be revoked: ask what may be done to them.
    groups = sorted({entry["role"] for entry in row["memberships"]})
    others = {entry["name"]: entry for entry in row["mentioned"]}
    if set(groups) - set(others):
        again = session.query(CATALOG, {"declared": [], "mentioned": groups})[0]
        others |= {entry["name"]: entry for entry in again["mentioned"]}
    login = Login(
        name=row["login"],
        version=session.server_version,
        flags=row["login_flags"],
        administers=frozenset(name for name, entry in others.items() if entry["administered"]),
    )
    return Catalog(
        login=login,
        roles={
            entry["name"]: Actual(
                name=entry["name"],
                flags={flag: entry["flags"][flag] for flag in FLAGS},
                connection_limit=entry["connection_limit"],
                valid_until=entry["valid_until"],
                settings=parse_stored(entry["settings"]),
                comment=entry["comment"],
            )
            for entry in row["roles"]
        },
        memberships=tuple(
            Membership(
                role=entry["role"],
                member=entry["member"],
                grantor=entry["grantor"],
                admin=entry["admin_option"],
                inherit=entry.get("inherit_option"),
                set=entry.get("set_option"),
            )
            for entry in row["memberships"]
        ),
        existing=frozenset(others),
        superusers=frozenset(name for name, entry in others.items() if entry["superuser"]),
    )


def normalized_time(session: Session, value: str) -> str:
    """Return a point in time as the catalog prints it; the server judges what it means."""
    return str(session.query("SELECT %s::timestamptz::text AS time", (value,))[0]["time"])
