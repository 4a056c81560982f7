# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From declared and actual roles to the changes between them. Pure: reads nothing, changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_model import (
    NEW_ROLE,
    Actual,
    AlterRole,
    Catalog,
    Change,
    Comment,
    CreateRole,
    DropRole,
    Grant,
    Membership,
    Plan,
    Revoke,
    SetPassword,
    Setting,
    Skipped,
    Wanted,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_rights import denied, flag_denied
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_setting import same

GRANT_OPTIONS_SINCE = 16  # INHERIT and SET as options of a membership


def validate(wanted: Sequence[Wanted]) -> None:
    """Refuse what contradicts itself, naming every fault at once."""
    faults = []
    names = [role.name for role in wanted]
    faults += [
        f"role {name} is declared {names.count(name)} times" for name in dict.fromkeys(names) if names.count(name) > 1
    ]
    absent = {role.name for role in wanted if not role.present}
    for role in wanted:
        if role.name.startswith("pg_") or role.name in ("public", "none"):
            faults.append(f"role name {role.name} is reserved by PostgreSQL")
        if role.password is not None and not role.flags["login"]:
            faults.append(f"role {role.name} has a password but not login: true")
        if role.password is not None and not role.password:
            faults.append(f"the password of role {role.name} is empty")
        for other in (*(role.member_of or ()), *(role.members or ())):
            if other in absent and role.present:
                faults.append(f"role {role.name} names {other}, which is declared absent")
            if other == role.name:
                faults.append(f"role {role.name} cannot be a member of itself")
    if faults:
        raise PostgresqlError("option roles: " + "; ".join(faults), remedy="correct the declaration", faults=faults)


def check_names(wanted: Sequence[Wanted], catalog: Catalog) -> None:
    """Refuse memberships with roles that are neither there nor declared."""
    known = catalog.existing | {role.name for role in wanted}
    faults = [
        f"role {role.name} names {other}, which does not exist"
        for role in wanted
        if role.present
        for other in (*(role.member_of or ()), *(role.members or ()))
        if other not in known
    ]
    if faults:
        raise PostgresqlError(
            "option roles: " + "; ".join(faults),
            remedy="declare the missing role too, or correct the name",
            faults=faults,
        )


def make_plan(
    wanted: Sequence[Wanted], catalog: Catalog, passwords: Collection[str], *, exact_memberships: bool = True
) -> Plan:
    """Return what turns the catalog into the declaration. ``passwords``: the roles whose password must be set."""
    created = frozenset(role.name for role in wanted if role.present and role.name not in catalog.roles)
    skipped: list[Skipped] = []
    changes: list[Change] = []
    for role in wanted:
        changes += _attributes(role, catalog, skipped)
    for role in wanted:
        if role.present and role.name in passwords and role.password is not None:
            changes.append(SetPassword(role.name, role.password))
    for role in wanted:
        changes += _settings_and_comment(role, catalog.roles.get(role.name))
    grants, revokes, undeclared = _memberships([role for role in wanted if role.present], catalog)
    if exact_memberships:
        changes += revokes
        undeclared = ()
    changes += grants
    changes += [DropRole(role.name) for role in wanted if not role.present and role.name in catalog.roles]

    allowed: list[Change] = []
    uncreated: set[str] = set()
    for change in changes:
        if _depends_on(change, uncreated):
            continue  # what it needs is skipped, and said so
        refusal = denied(catalog, change, created)
        if refusal is None:
            allowed.append(change)
        else:
            skipped.append(refusal)
            if isinstance(change, CreateRole):
                uncreated.add(change.name)
    return Plan(tuple(allowed), tuple(skipped), undeclared)


def _depends_on(change: Change, missing: Collection[str]) -> bool:
    names = {change.role, change.member} if isinstance(change, (Grant, Revoke)) else {change.name}
    return bool(names & set(missing))


def _attributes(role: Wanted, catalog: Catalog, skipped: list[Skipped]) -> Iterator[Change]:
    if not role.present:
        return
    actual = catalog.roles.get(role.name)
    before: Mapping[str, bool] = actual.flags if actual else NEW_ROLE
    flags = {}
    for flag, on in role.flags.items():
        if on != before[flag]:
            refusal = flag_denied(catalog.login, role.name, flag, on)
            if refusal:
                skipped.append(refusal)
            else:
                flags[flag] = on
    if actual is None:
        yield CreateRole(role.name, flags, role.connection_limit, role.valid_until)
        return
    limit = role.connection_limit if role.connection_limit != actual.connection_limit else None
    until = role.valid_until if role.valid_until != (actual.valid_until or "infinity") else None
    if flags or limit is not None or until is not None:
        yield AlterRole(role.name, flags, limit, until)


def _settings_and_comment(role: Wanted, actual: Actual | None) -> Iterator[Change]:
    if not role.present:
        return
    for parameter, value in role.settings.items():
        if not same(parameter, value, actual.settings.get(parameter) if actual else None):
            yield Setting(role.name, parameter, value)
    if role.comment is not None and role.comment != ((actual.comment if actual else None) or ""):
        yield Comment(role.name, role.comment or None)


def _memberships(
    wanted: Sequence[Wanted], catalog: Catalog
) -> tuple[list[Change], list[Change], tuple[Membership, ...]]:
    options = catalog.login.version >= GRANT_OPTIONS_SINCE
    inherits = {name: actual.flags["inherit"] for name, actual in catalog.roles.items()}
    inherits |= {role.name: role.flags["inherit"] for role in wanted}
    pairs: dict[tuple[str, str], bool] = {}
    for role in wanted:
        for group in role.member_of or ():
            pairs[group, role.name] = inherits[role.name]
        for member in role.members or ():
            pairs[role.name, member] = inherits.get(member, True)

    grants: list[Change] = []
    revokes: list[Change] = []
    for (group, member), inherit in pairs.items():
        rows = [row for row in catalog.memberships if (row.role, row.member) == (group, member)]
        if options:
            # Several grantors may have granted the same membership: what counts is what they give together.
            too_much = [row for row in rows if row.inherit and not inherit]
            revokes += [Revoke(group, member, row.grantor) for row in too_much]
            rows = [row for row in rows if row not in too_much]
        there = any(row.set is not False for row in rows)
        if not there or (inherit and options and not any(row.inherit for row in rows)):
            grants.append(Grant(group, member, inherit if options else None))

    managed_groups = {role.name for role in wanted if role.members is not None}
    managed_members = {role.name for role in wanted if role.member_of is not None}
    declared = {role.name for role in wanted}
    undeclared = []
    for row in catalog.memberships:
        if (row.role, row.member) in pairs or row.administers_only or not {row.role, row.member} & declared:
            continue
        if row.role in managed_groups or row.member in managed_members:
            revokes.append(Revoke(row.role, row.member, row.grantor if options else None))
            undeclared.append(row)
    return grants, revokes, tuple(undeclared)
