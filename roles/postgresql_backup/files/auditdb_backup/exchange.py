# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a restored database or table stands in the live server: absent, beside the live one, or in its place."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import sql

from . import clock
from .errors import BackupError
from .postgres import Server

ABSENT = "absent"
BESIDE = "beside"
EXCHANGED = "exchanged"
LOADING = "auditdb-backup extract, loading: "
WHOLE = "auditdb-backup extract, whole: "
REPLACED = "auditdb-backup extract, replaced by: "
SETTING = "auditdb.restored"
TRIES = 20
DATABASES = """
SELECT d.datname, (SELECT substr(each, length(%(setting)s) + 2) FROM pg_catalog.pg_db_role_setting AS s,
    unnest(s.setconfig) AS each WHERE s.setdatabase = d.oid AND s.setrole = 0 AND each LIKE %(setting)s || '=%%')
FROM pg_catalog.pg_database AS d
"""
SCHEMAS = "SELECT nspname, obj_description(oid, 'pg_namespace') FROM pg_catalog.pg_namespace"
DEPENDENTS = """
SELECT conrelid::regclass::text FROM pg_catalog.pg_constraint
WHERE contype = 'f' AND confrelid = ANY(%(tree)s) AND conrelid <> ALL(%(tree)s)
UNION
SELECT r.ev_class::regclass::text FROM pg_catalog.pg_depend AS d
JOIN pg_catalog.pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY(%(tree)s) AND r.ev_class <> ALL(%(tree)s)
"""
FOREIGN = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
WHERE contype = 'f' AND conparentid = 0 AND conrelid = to_regclass(%s)
"""
TREE = """
SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%(table)s)
    OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(to_regclass(%(table)s)))
"""
PARENT = """
SELECT i.inhparent::regclass::text, pg_get_expr(c.relpartbound, c.oid)
FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
WHERE c.relispartition AND c.oid = to_regclass(%s)
"""


@dataclass(frozen=True)
class Place:
    """A name in the live server, and the request whose result may have it."""

    server: Server
    database: str
    table: str
    """Quoted, with its schema; empty where a whole database is restored."""
    name: str
    mark: str

    def state(self) -> str:
        """Return where the result of this request is; raise BackupError where something else has its name."""
        if self.table:
            with self.server.connect(self.database) as cursor:
                cursor.execute(SCHEMAS)
                found = dict(cursor.fetchall())
            if REPLACED + self.mark in found.values():
                return EXCHANGED
            whole, unfinished = WHOLE + self.mark, LOADING + self.mark
        else:
            with self.server.connect() as cursor:
                cursor.execute(DATABASES, {"setting": SETTING})
                found = dict(cursor.fetchall())
            if found.get(self.database) == self.mark:
                return EXCHANGED
            whole, unfinished = self.mark, ""
        if self.name not in found or (unfinished and found[self.name] == unfinished):
            return ABSENT
        if found[self.name] != whole:
            kind = "schema" if self.table else "database"
            raise BackupError(f"there is a {kind} {self.name}, of something else", "give another name, or remove it")
        return BESIDE

    def clear(self) -> None:
        """Remove a schema that this request has left unfinished."""
        with self.server.connect(self.database) as cursor:
            cursor.execute(SCHEMAS)
            if dict(cursor.fetchall()).get(self.name) == LOADING + self.mark:
                cursor.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(self.name)))

    def complete(self, loaded: str) -> None:
        """Give what was loaded and compared its name and its mark, at once."""
        name = sql.Identifier(self.name)
        with self.server.connect(self.database if self.table else "postgres") as cursor:
            if self.table:
                _comment(cursor, self.name, WHOLE + self.mark)
            else:
                cursor.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(loaded), name))
                mark = sql.Literal(self.mark)
                cursor.execute(
                    sql.SQL("ALTER DATABASE {} SET {} = {}").format(name, sql.Identifier(*SETTING.split(".")), mark)
                )

    def exchange(self) -> str:
        """Put it in the place of the live one, in one transaction; return under which name the live one is kept."""
        stamp = f"{clock.now():%Y%m%d_%H%M%S}"
        if self.table:
            return self._exchange_table(f"before_{stamp}")
        aside = f"{self.database.encode()[:40].decode(errors='ignore')}_before_{stamp}"
        for left in reversed(range(TRIES)):
            try:
                self._rename(aside)
                break
            except BackupError as error:
                if not isinstance(error.__cause__, psycopg2.errors.ObjectInUse) or not left:
                    raise
                time.sleep(0.1)
        return aside

    def _rename(self, aside: str) -> None:
        with self.server.connect("postgres") as cursor:
            names = [self.database, self.name]
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = ANY(%s)", (names,)
            )
            for one, other in ((self.database, aside), (self.name, self.database)):
                query = sql.SQL("ALTER DATABASE {} RENAME TO {}")
                cursor.execute(query.format(sql.Identifier(one), sql.Identifier(other)))

    def _exchange_table(self, aside: str) -> str:
        with self.server.connect(self.database) as cursor:
            live = tree(cursor, self.table)
            own = next(((schema, name) for _oid, schema, name in live if _quoted(schema, name) == self.table), None)
            if own is None:
                raise BackupError(
                    f"there is no {self.table} to exchange", "move the restored one: ALTER TABLE SET SCHEMA"
                )
            cursor.execute(DEPENDENTS, {"tree": [oid for oid, _schema, _name in live]})
            dependents = sorted(name for (name,) in cursor.fetchall())
            if dependents:
                raise BackupError(
                    f"{', '.join(dependents)} refer to {self.table}, and would go on to do so",
                    "restore the whole database, or copy the rows out of the restored table",
                )
            cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(*own)))
            cursor.execute(FOREIGN, (self.table,))
            foreign = cursor.fetchall()
            cursor.execute(PARENT, (self.table,))
            parents = cursor.fetchall()
            here = sql.Identifier(*own)
            for parent, _bound in parents:
                cursor.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(sql.SQL(parent), here))
            cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(aside)))
            move(cursor, live, aside)
            move(cursor, tree(cursor, _quoted(self.name, own[1])), own[0])
            for name, text in foreign:
                add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")
                cursor.execute(add.format(here, sql.Identifier(name), sql.SQL(text)))
            for parent, bound in parents:
                attach = sql.SQL("ALTER TABLE {} ATTACH PARTITION {} {}")
                cursor.execute(attach.format(sql.SQL(parent), here, sql.SQL(bound)))
            cursor.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(self.name)))
            _comment(cursor, aside, REPLACED + self.mark)
        return aside


def _quoted(*names: str) -> str:
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def _comment(cursor: Any, schema: str, text: str) -> None:
    cursor.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(schema), sql.Literal(text)))


def tree(cursor: Any, table: str) -> list[tuple[int, str, str]]:
    """Return the table and its partitions, each with oid, schema and name; nothing where there is no such table."""
    cursor.execute(TREE, {"table": table})
    found: list[tuple[int, str, str]] = cursor.fetchall()
    return found


def move(cursor: Any, tables: list[tuple[int, str, str]], schema: str) -> None:
    """Move tables, with all that they own, into the schema."""
    for _oid, old, name in tables:
        query = sql.SQL("ALTER TABLE {} SET SCHEMA {}")
        cursor.execute(query.format(sql.Identifier(old, name), sql.Identifier(schema)))
