# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A table and all that hangs on it: what a table that takes its place must have, too."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Row, Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_query import QUERY

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql


@dataclass(frozen=True)
class Subject:
    """A table with all that hangs on it. Lists hold rows of the queries in convert_query.LISTS."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    replica_identity: str
    partition: bool
    typed: bool
    options: list[str] | None
    row_security: bool
    force_row_security: bool
    rows: float
    """Estimated; -1 where it was never analysed."""
    pages: int
    access_method: str | None
    owner: str
    creator: str
    owned: bool
    """Whether the login has the rights of the owner."""
    may_create: bool
    granted: bool
    """Whether rights were ever granted or revoked, so that not just the owner's defaults hold."""
    tablespace: str | None
    comment: str | None
    labelled: bool
    subscribed: bool
    """Whether rows come from a publication of another database."""
    extension: str | None
    """The extension that it belongs to."""
    inherits: bool
    standby: bool
    now: datetime
    lock_slots: int
    opened_to: list[str]
    """Whom the creator's default privileges would give rights on a new table."""
    sequences_opened_to: list[str]
    columns: list[Row]
    grants: list[Row]
    indexes: list[Row]
    constraints: list[Row]
    key_dependents: list[Row]
    """What depends on the primary key itself, such as a view that groups by it."""
    references: list[Row]
    triggers: list[Row]
    policies: list[Row]
    rules: list[Row]
    statistics: list[Row]
    sequences: list[Row]
    publications: list[Row]
    views: list[Row]
    others: list[Row]

    @property
    def label(self) -> str:
        """Return schema and name."""
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> Row | None:
        """Return the column of this name."""
        return next((each for each in self.columns if each["name"] == name), None)

    def index(self, name: str) -> Row | None:
        """Return the index of this name."""
        return next((each for each in self.indexes if each["name"] == name), None)

    def constraint(self, name: str) -> Row | None:
        """Return the check, foreign key or exclusion constraint of this name."""
        return next((each for each in self.constraints if each["name"] == name), None)

    @property
    def primary_key(self) -> Row | None:
        """Return the index of the primary key."""
        return next((each for each in self.indexes if each["primary"]), None)


def read_subject(session: Session, name: str) -> Subject | None:
    """Return what there is under this name; None for nothing. Definitions are read with every name in full."""
    rows = session.query(QUERY, {"name": name})
    if not rows:
        return None
    row = rows[0] | {"now": rows[0]["now"].astimezone(UTC)}
    return Subject(**{each.name: row[each.name] for each in fields(Subject)})


def resolve(session: Session, name: str) -> tuple[str, str] | None:
    """Return schema and name of a table as its search path finds it; from then on the session has an empty one.

    Definitions from the catalog then name everything in full, and mean the same wherever they are run.
    """
    rows = session.query(
        "SELECT n.nspname AS schema, c.relname AS name FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass(%s)",
        (name,),
    )
    # Row security is to raise an error rather than hide rows from the module.
    session.query("SET search_path = pg_catalog; SET row_security = off")
    return (rows[0]["schema"], rows[0]["name"]) if rows else None


def quoted(session: Session, schema: str, name: str) -> str:
    """Return the name as SQL writes it, with its schema."""
    return str(sql.Identifier(schema, name).as_string(session.connection))
