# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From wanted and actual rights to the changes between them. Pure: reads nothing, changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_model import (
    PRIVILEGES,
    PUBLIC,
    AnyChange,
    Catalog,
    Change,
    Declaration,
    Default,
    Item,
    Key,
    Plan,
    Right,
    SchemaChange,
    SettingChange,
    Skipped,
    Target,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_wanted import Wanted, lay_over
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_setting import same

OPTION = "REVOKE GRANT OPTION FOR"
# What is taken comes before what is given: taking a right on a table takes it on the table's columns too.
ORDER = {"REVOKE": 0, OPTION: 1, "GRANT": 2}

Step = tuple[str, Target, str, str, bool]  # verb, target, grantee, privilege, cascade


def make_plan(declaration: Declaration, catalog: Catalog) -> Plan:
    """Return what turns the catalog into the declaration."""
    skipped: list[Skipped] = []
    changes: list[AnyChange] = []
    for change, refusal in _surroundings(declaration, catalog):
        if refusal is None:
            changes.append(change)
        else:
            skipped.append(refusal)
    catalog = _with_new_schemas(declaration, catalog)
    wanted, missing = lay_over(declaration, catalog)
    foreign: list[str] = []
    if declaration.grants is not None:
        steps = list(_rights(declaration, catalog, wanted, foreign)) + list(_defaults(declaration, catalog, wanted))
        for change in merge(steps):
            allowed = tuple(target for target in change.targets if target.manageable)
            if allowed:
                changes.append(replace(change, targets=allowed))
            skipped += [_refusal(change, target, catalog) for target in change.targets if not target.manageable]
    return Plan(tuple(changes), tuple(skipped), tuple(missing), tuple(foreign))


def _refusal(change: Change, target: Target, catalog: Catalog) -> Skipped:
    word = "to" if change.verb == "GRANT" else "from"
    return Skipped(
        f"{change.verb.lower()} {', '.join(change.privileges)} on {target.label} {word} {', '.join(change.grantees)}",
        f"it belongs to {target.owner}, whose rights {catalog.login} has not",
        f"do it as {target.owner} or as a superuser; or, as a superuser: GRANT {target.owner} TO {catalog.login}",
    )


def _surroundings(declaration: Declaration, catalog: Catalog) -> Iterator[tuple[AnyChange, Skipped | None]]:
    """Yield schemas to create or hand over, and settings of the database."""
    schemas = {item.name: item for item in catalog.rights if item.kind == "schema"}
    for name in declaration.schemas if declaration.create_schemas and declaration.owner else ():
        owner = str(declaration.owner)
        if name not in schemas:
            refusal = Skipped(
                f"create schema {name} for {owner}",
                f"{catalog.login} may not create schemas in this database for {owner}",
                f"as a superuser: CREATE SCHEMA {name} AUTHORIZATION {owner}",
            )
            yield SchemaChange(name, owner, True), None if catalog.may_create_schema else refusal
        elif schemas[name].owner != owner:
            refusal = Skipped(
                f"give schema {name} to {owner}",
                f"it belongs to {schemas[name].owner}, whose rights {catalog.login} has not",
                f"as a superuser: ALTER SCHEMA {name} OWNER TO {owner}",
            )
            allowed = schemas[name].manageable and catalog.may_create_schema
            yield SchemaChange(name, owner, False), None if allowed else refusal
    database = catalog.database
    for parameter, value in declaration.database_settings.items():
        if not same(parameter, value, catalog.database_settings.get(parameter)):
            refusal = Skipped(
                f"set {parameter} for database {database.name}",
                f"it belongs to {database.owner}, whose rights {catalog.login} has not",
                f"do it as {database.owner} or as a superuser",
            )
            yield SettingChange(database.name, parameter, value), None if database.manageable else refusal


def _with_new_schemas(declaration: Declaration, catalog: Catalog) -> Catalog:
    if not declaration.create_schemas:
        return catalog
    new = {Item("schema", name, owner=str(declaration.owner)): () for name in declaration.schemas}
    return replace(catalog, rights={**new, **catalog.rights})


def _rights(declaration: Declaration, catalog: Catalog, wanted: Wanted, foreign: list[str]) -> Iterator[Step]:
    new = {target: () for target in wanted if isinstance(target, Item) and target not in catalog.rights}
    items = sorted([*catalog.rights, *new], key=lambda item: item.kind == "column")  # columns after their tables
    taken: set[tuple[str, str, Key]] = set()
    for item in items:
        rights = tuple(right for right in catalog.rights.get(item, ()) if right.grantee != item.owner)
        if item.kind == "schema" and item.name not in declaration.schemas:
            # The schema public is not ours, except that nobody may plant objects there for others to run into.
            rights = tuple(right for right in rights if right.key == (PUBLIC, "CREATE"))
        if item.kind == "column":
            rights = tuple(right for right in rights if (item.schema, item.name, right.key) not in taken)
        keep_public = not declaration.revoke_public
        for step in _compare(item, item.owner, rights, wanted.get(item, set()), keep_public):
            if item.kind == "table" and step[0] == "REVOKE":
                taken.add((item.schema, item.name, (step[2], step[3])))
            yield step
        for right in rights:
            if right.grantor != item.owner:
                foreign.append(f"{right.privilege} on {item.label} to {right.grantee} by {right.grantor}")


def _compare(
    target: Target, owner: str, rights: Iterable[Right], wanted: set[Key], keep_public: bool
) -> Iterator[Step]:
    """Yield what is too much and what is missing. Only the owner's grants count.

    What somebody else granted hangs on a grant option, and goes with it (CASCADE).
    """
    own = {right.key: right.grantable for right in rights if right.grantor == owner}
    for (grantee, privilege), grantable in own.items():
        if (grantee, privilege) in wanted:
            if grantable:
                yield OPTION, target, grantee, privilege, True
        elif not (keep_public and grantee == PUBLIC):
            yield "REVOKE", target, grantee, privilege, grantable
    for grantee, privilege in sorted(wanted - set(own)):
        yield "GRANT", target, grantee, privilege, False


def _defaults(declaration: Declaration, catalog: Catalog, wanted: Wanted) -> Iterator[Step]:
    new = [target for target in wanted if isinstance(target, Default) and target not in catalog.defaults]
    by_owner = {default.owner: default.manageable for default in catalog.defaults}
    for default in [*catalog.defaults, *new]:
        known = Default(default.owner, default.kind, default.schema, by_owner.get(default.owner, True))
        rights = [right for right in catalog.defaults.get(default, ()) if right.grantee != default.owner]
        for verb, _target, grantee, privilege, _cascade in _compare(
            known, default.owner, rights, wanted.get(default, set()), not declaration.revoke_public
        ):
            yield verb, known, grantee, privilege, False


def merge(steps: Iterable[Step]) -> list[Change]:
    """Say with as few statements as possible: privileges together, then objects, then grantees."""
    privileges: dict[tuple[str, Target, str, bool, str], list[str]] = {}
    for verb, target, grantee, privilege, cascade in steps:
        # A column's privilege stands beside its columns: one statement each.
        alone = privilege if target.kind == "column" else ""
        privileges.setdefault((verb, target, grantee, cascade, alone), []).append(privilege)
    targets: dict[tuple[str, tuple[str, ...], object, str, bool], list[Target]] = {}
    for (verb, target, grantee, cascade, _alone), names in privileges.items():
        listed = tuple(sorted(names, key=PRIVILEGES[target.kind].index))
        targets.setdefault((verb, listed, _bucket(target), grantee, cascade), []).append(target)
    grantees: dict[tuple[str, tuple[str, ...], tuple[Target, ...], bool], list[str]] = {}
    for (verb, listed, _together, grantee, cascade), group in targets.items():
        grantees.setdefault((verb, listed, tuple(group), cascade), []).append(grantee)
    changes = [
        Change(verb, listed, group, tuple(names), cascade) for (verb, listed, group, cascade), names in grantees.items()
    ]
    return sorted(changes, key=lambda change: ORDER[change.verb])


def _bucket(target: Target) -> object:
    """Return what two targets of one statement have in common."""
    if isinstance(target, Default):
        return target
    return (target.kind, target.schema, target.name) if target.kind == "column" else target.kind
