# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a login may do to roles: PostgreSQL's rules before and since version 16, as plain predicates."""

from __future__ import annotations

from ansible_collections.auditdb.postgresql.plugins.module_utils.role_model import (
    AlterRole,
    Catalog,
    Change,
    Comment,
    CreateRole,
    DropRole,
    Grant,
    Login,
    Revoke,
    SetPassword,
    Setting,
    Skipped,
)

VERBS: dict[type, str] = {
    CreateRole: "create role",
    AlterRole: "alter role",
    SetPassword: "set the password of role",
    Comment: "comment on role",
    DropRole: "drop role",
}
OWN_ATTRIBUTES_SINCE = 16  # since then, CREATEROLE hands on only attributes that it has itself


def describe(change: Change) -> str:
    """Say what a change does, for people."""
    match change:
        case AlterRole(name=name, flags=flags) if flags:
            return f"make role {name} " + " ".join(flag_word(flag, on) for flag, on in flags.items())
        case Setting(name=name, parameter=parameter):
            return f"set {parameter} for role {name}"
        case Grant(role=role, member=member):
            return f"make {member} a member of {role}"
        case Revoke(role=role, member=member):
            return f"end the membership of {member} in {role}"
    return f"{VERBS[type(change)]} {change.name}"


def flag_word(flag: str, on: bool) -> str:
    """Return the attribute as ALTER ROLE says it."""
    return flag.upper() if on else f"NO{flag.upper()}"


def flag_denied(login: Login, role: str, flag: str, on: bool) -> Skipped | None:
    """Say why the login may not give or take this attribute, or return None if it may."""
    if login.superuser or flag in ("login", "inherit", "createrole"):
        return None
    what = f"make role {role} {flag_word(flag, on)}"
    remedy = f"as a superuser: ALTER ROLE {role} {flag_word(flag, on)}"
    if flag == "superuser":
        return Skipped(what, "only a superuser may", remedy)
    if login.version >= OWN_ATTRIBUTES_SINCE:
        if login.flags.get(flag):
            return None
        reason = f"since PostgreSQL 16 only a role that is {flag.upper()} itself may, and {login.name} is not"
        return Skipped(what, reason, f"{remedy}; or: ALTER ROLE {login.name} {flag.upper()}")
    return None if flag == "createdb" else Skipped(what, "before PostgreSQL 16 only a superuser may", remedy)


def denied(catalog: Catalog, change: Change, created: frozenset[str]) -> Skipped | None:
    """Say why the login may not make this change, or return None. ``created``: roles made by the same plan."""
    login = catalog.login
    if login.superuser:
        return None
    reason = remedy = ""
    match change:
        case Grant(role=role) | Revoke(role=role):
            reason, remedy = _membership_denied(catalog, change, role, created)
        case CreateRole():
            if not login.flags.get("createrole"):
                reason, remedy = (
                    f"{login.name} is not CREATEROLE",
                    f"as a superuser: ALTER ROLE {login.name} CREATEROLE",
                )
        case SetPassword(name=name) if name == login.name:
            pass
        case _:
            reason, remedy = _alter_denied(catalog, change.name, created)
    return Skipped(describe(change), reason, remedy) if reason else None


def _alter_denied(catalog: Catalog, name: str, created: frozenset[str]) -> tuple[str, str]:
    login = catalog.login
    if not login.flags.get("createrole"):
        return f"{login.name} is not CREATEROLE", f"as a superuser: ALTER ROLE {login.name} CREATEROLE"
    actual = catalog.roles.get(name)
    if actual is None or name in created:
        return "", ""
    if actual.flags["superuser"]:
        return f"{name} is a superuser", f"as a superuser: ALTER ROLE {name} NOSUPERUSER"
    if login.version >= OWN_ATTRIBUTES_SINCE:
        if name not in login.administers:
            return _no_admin(login, name)
    else:
        for flag in ("replication", "bypassrls"):
            if actual.flags[flag]:
                return f"{name} is {flag.upper()}", "log in as a superuser for this"
    return "", ""


def _membership_denied(catalog: Catalog, change: Grant | Revoke, role: str, created: frozenset[str]) -> tuple[str, str]:
    login = catalog.login
    if role in catalog.superusers:
        return f"{role} is a superuser", "log in as a superuser for this"
    if role not in created and role not in login.administers:
        if login.version >= OWN_ATTRIBUTES_SINCE:
            return _no_admin(login, role, member=change.member)
        if not login.flags.get("createrole"):
            return f"{login.name} is not CREATEROLE", f"as a superuser: ALTER ROLE {login.name} CREATEROLE"
    if isinstance(change, Revoke) and change.grantor not in (None, login.name):
        remedy = f"as a superuser: REVOKE {role} FROM {change.member} GRANTED BY {change.grantor}"
        return f"it was granted by {change.grantor}", remedy
    return "", ""


def _no_admin(login: Login, role: str, member: str | None = None) -> tuple[str, str]:
    itself = f"as a superuser: GRANT {role} TO {member}; or: " if member else "as a superuser: "
    return (
        f"since PostgreSQL 16 this needs the ADMIN option on {role}, which {login.name} has not",
        f"{itself}GRANT {role} TO {login.name} WITH ADMIN OPTION, INHERIT FALSE, SET FALSE",
    )
