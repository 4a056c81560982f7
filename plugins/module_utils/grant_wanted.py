# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The declared rights, laid over the objects that there are. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_model import (
    Catalog,
    Declaration,
    Default,
    Grants,
    Item,
    Key,
    Target,
)

Wanted = dict[Target, set[Key]]


def lay_over(declaration: Declaration, catalog: Catalog) -> tuple[Wanted, list[str]]:
    """Return the wanted rights per object, and the declared names that fit nothing."""
    wanted: Wanted = {}
    there = {item.name for item in catalog.rights if item.kind == "schema"}
    missing = [f"schema {name}" for name in declaration.schemas if name not in there]
    closed = []
    if declaration.owner and declaration.owner not in catalog.roles:
        missing.append(f"role {declaration.owner}")
    for grants in declaration.grants or ():
        if grants.role not in catalog.roles:
            missing.append(f"role {grants.role}")
            continue
        for item, names in _items(grants, catalog, missing):
            if item.partition:
                closed.append(item.label)
            if item.owner != grants.role:  # an owner needs no grant
                wanted.setdefault(item, set()).update((grants.role, name) for name in names)
        for kind, names in grants.defaults.items():
            for schema in declaration.schemas:
                if declaration.owner and declaration.owner != grants.role:
                    default = Default(declaration.owner, kind, schema)
                    wanted.setdefault(default, set()).update((grants.role, name) for name in names)
    if closed:
        raise PostgresqlError(
            f"{', '.join(sorted(set(closed)))}: partitions get no rights of their own",
            remedy="grant on the partitioned table, through which its partitions are reached",
        )
    return wanted, list(dict.fromkeys(missing))


def _items(grants: Grants, catalog: Catalog, missing: list[str]) -> Iterator[tuple[Item, tuple[str, ...]]]:
    """Yield each object that the role is given something on. What is named itself overrides ``schema.*``."""
    for kind, declared in grants.rights.items():
        if kind == "database":
            yield catalog.database, declared[""]
            continue
        if kind == "column":
            yield from _columns(declared, catalog, missing)
            continue
        there = {_full_name(item): item for item in catalog.rights if item.kind == kind}
        named = set()
        for name, names in declared.items():
            if name.endswith(".*"):
                continue
            item = there.get(catalog.signatures.get(name, "") if kind == "function" else name)
            if item is None:
                missing.append(f"{kind} {name}")
            else:
                named.add(item)
                yield item, names
        for name, names in declared.items():
            if name.endswith(".*"):
                for item in there.values():
                    if item.schema == name[:-2] and not item.partition and item not in named:
                        yield item, names


def _full_name(item: Item) -> str:
    return f"{item.schema}.{item.name}" if item.kind in ("table", "sequence") else item.name


def _columns(
    declared: Mapping[str, tuple[str, ...]], catalog: Catalog, missing: list[str]
) -> Iterator[tuple[Item, tuple[str, ...]]]:
    tables = {(item.schema, item.name): item for item in catalog.rights if item.kind == "table"}
    for name, names in declared.items():
        schema, table, column = name.split(".")
        owner = tables.get((schema, table))
        if owner is None or (not owner.partition and column not in catalog.columns[schema, table]):
            missing.append(f"column {name}")
        else:
            yield Item("column", table, schema, column, owner.owner, owner.manageable, owner.partition), names
