# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a role should be, what it is, and the changes between them: plain data, no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

# The attributes of a role that are on or off, in the order in which they are written.
FLAGS = ("login", "superuser", "createdb", "createrole", "inherit", "replication", "bypassrls")
NEW_ROLE = {flag: flag == "inherit" for flag in FLAGS}  # what CREATE ROLE alone gives
UNLIMITED = -1


@dataclass(frozen=True)
class Wanted:
    """A declared role. None means that this side of the role is not managed."""

    name: str
    present: bool = True
    flags: Mapping[str, bool] = field(default_factory=lambda: dict(NEW_ROLE))
    connection_limit: int = UNLIMITED
    password: str | None = field(default=None, repr=False)
    valid_until: str | None = None  # as the server prints it, in UTC
    member_of: tuple[str, ...] | None = None
    members: tuple[str, ...] | None = None
    settings: Mapping[str, str | None] = field(default_factory=dict)  # None resets
    comment: str | None = None


@dataclass(frozen=True)
class Actual:
    """A role as the catalog has it."""

    name: str
    flags: Mapping[str, bool]
    connection_limit: int = UNLIMITED
    valid_until: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    comment: str | None = None


@dataclass(frozen=True)
class Membership:
    """``member`` is in ``role``. Before PostgreSQL 16 inheriting is the member's own attribute, and SET is given."""

    role: str
    member: str
    grantor: str
    admin: bool = False
    inherit: bool | None = None
    set: bool | None = None

    @property
    def administers_only(self) -> bool:
        """Whether it gives no right of the role, as what PostgreSQL 16 and later give a role's creator."""
        return self.admin and self.inherit is False and self.set is False


@dataclass(frozen=True)
class Login:
    """The role that the module works as, and what it may do."""

    name: str
    version: int
    flags: Mapping[str, bool] = field(default_factory=dict)
    administers: frozenset[str] = frozenset()  # roles whose membership it may grant

    @property
    def superuser(self) -> bool:
        """Whether it may do everything."""
        return self.flags.get("superuser", False)


@dataclass(frozen=True)
class Catalog:
    """Everything about the declared roles that the server knows."""

    login: Login
    roles: Mapping[str, Actual] = field(default_factory=dict)
    memberships: tuple[Membership, ...] = ()
    existing: frozenset[str] = frozenset()  # names of all roles that are declared or mentioned, and there
    superusers: frozenset[str] = frozenset()  # of these, the superusers


# The changes. Each is one statement; role_sql says it in SQL.


@dataclass(frozen=True)
class CreateRole:
    """A role that is not there."""

    name: str
    flags: Mapping[str, bool]
    connection_limit: int
    valid_until: str | None


@dataclass(frozen=True)
class AlterRole:
    """Attributes that differ."""

    name: str
    flags: Mapping[str, bool] = field(default_factory=dict)  # only those that change
    connection_limit: int | None = None
    valid_until: str | None = None


@dataclass(frozen=True)
class SetPassword:
    """A password that is not the declared one."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Setting:
    """A configuration parameter that differs."""

    name: str
    parameter: str
    value: str | None  # None resets


@dataclass(frozen=True)
class Comment:
    """A comment that differs."""

    name: str
    text: str | None


@dataclass(frozen=True)
class Grant:
    """A membership that is missing."""

    role: str
    member: str
    inherit: bool | None = None  # None: the server has no such option (before 16)


@dataclass(frozen=True)
class Revoke:
    """A membership that is too much."""

    role: str
    member: str
    grantor: str | None = None  # None: whoever granted it (before 16)


@dataclass(frozen=True)
class DropRole:
    """A role that should not be there."""

    name: str


Change: TypeAlias = "CreateRole | AlterRole | SetPassword | Setting | Comment | Grant | Revoke | DropRole"


@dataclass(frozen=True)
class Skipped:
    """Something that the login may not do."""

    what: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class Plan:
    """What to do, what the login may not do, and which memberships are there without being declared."""

    changes: tuple[Change, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    undeclared: tuple[Membership, ...] = ()
