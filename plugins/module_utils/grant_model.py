# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rights on the objects of a database: what is declared, what there is, and the changes between them. No SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

PUBLIC = "PUBLIC"

# In the order in which statements name them.
PRIVILEGES: dict[str, tuple[str, ...]] = {
    "database": ("CREATE", "CONNECT", "TEMPORARY"),
    "schema": ("CREATE", "USAGE"),
    "table": ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"),
    "column": ("SELECT", "INSERT", "UPDATE", "REFERENCES"),
    "sequence": ("USAGE", "SELECT", "UPDATE"),
    "function": ("EXECUTE",),
}
SINCE = {"MAINTAIN": 17}
DEFAULT_KINDS = {"tables": "table", "sequences": "sequence", "functions": "function"}

Key = tuple[str, str]  # grantee, privilege


@dataclass(frozen=True)
class Item:
    """Something that rights are given on. ``name`` of a function is its signature as the server writes it."""

    kind: str
    name: str
    schema: str = ""
    column: str = ""
    owner: str = field(default="", compare=False)
    manageable: bool = field(default=True, compare=False)  # whether the login has the owner's rights
    partition: bool = field(default=False, compare=False)

    @property
    def label(self) -> str:
        """Name for people."""
        if self.kind in ("database", "schema", "function"):
            return f"{self.kind} {self.name}"
        return f"{self.kind} {self.schema}.{self.name}" + (f".{self.column}" if self.column else "")


@dataclass(frozen=True)
class Right:
    """One right in an access control list."""

    grantor: str
    grantee: str
    privilege: str
    grantable: bool = False

    @property
    def key(self) -> Key:
        """Return who may do what."""
        return self.grantee, self.privilege


@dataclass(frozen=True)
class Default:
    """What objects to come are created with: those of ``owner``, in ``schema`` or (empty) anywhere."""

    owner: str
    kind: str
    schema: str = ""
    manageable: bool = field(default=True, compare=False)

    @property
    def label(self) -> str:
        """Name for people."""
        return f"{self.kind}s to come of {self.owner}" + (f" in schema {self.schema}" if self.schema else "")


Target: TypeAlias = "Item | Default"


@dataclass(frozen=True)
class Catalog:
    """What there is."""

    login: str
    version: int
    rights: Mapping[Item, tuple[Right, ...]] = field(default_factory=dict)  # every item in scope, and its rights
    defaults: Mapping[Default, tuple[Right, ...]] = field(default_factory=dict)
    columns: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)  # (schema, table) -> names
    roles: frozenset[str] = frozenset()  # of the declared ones, those that are there
    signatures: Mapping[str, str] = field(default_factory=dict)  # declared function -> as the server writes it
    database_settings: Mapping[str, str] = field(default_factory=dict)
    may_create_schema: bool = True

    @property
    def database(self) -> Item:
        """Return the database itself."""
        return next(item for item in self.rights if item.kind == "database")


@dataclass(frozen=True)
class Grants:
    """One declared role's rights: object as declared -> privileges, per kind."""

    role: str
    rights: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    defaults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Declaration:
    """What should be. ``grants`` None: rights are not looked at."""

    schemas: tuple[str, ...]
    grants: tuple[Grants, ...] | None = None
    owner: str | None = None
    create_schemas: bool = False
    revoke_public: bool = True
    database_settings: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One statement about rights. ``verb``: GRANT, REVOKE, or REVOKE GRANT OPTION FOR."""

    verb: str
    privileges: tuple[str, ...]
    targets: tuple[Target, ...]  # several only of one kind; columns only of one table
    grantees: tuple[str, ...]
    cascade: bool = False


@dataclass(frozen=True)
class SchemaChange:
    """A schema that is missing, or belongs to somebody else."""

    schema: str
    owner: str
    create: bool


@dataclass(frozen=True)
class SettingChange:
    """A configuration parameter of the database that differs; None resets it."""

    database: str
    parameter: str
    value: str | None


AnyChange: TypeAlias = "Change | SchemaChange | SettingChange"


@dataclass(frozen=True)
class Skipped:
    """Something that the login may not do."""

    what: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class Plan:
    """What to do, and what stands in the way."""

    changes: tuple[AnyChange, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    missing: tuple[str, ...] = ()  # declared roles and objects that are not there
    foreign: tuple[str, ...] = ()  # rights given by somebody who is not the owner
