# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One database, table or partition of a moment beside the live one; on demand, in its place.

Nothing live is written over. What is loaded has another name until it is whole, and a mark of its request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from psycopg2 import sql

from . import contents, exchange, scratch
from .backup import Backup
from .canonical import digest
from .configuration import Configuration
from .engine import Engine, Request
from .errors import BackupError
from .postgres import Server
from .processes import pipeline, run

NAME_BYTES = 63
PARENT = "SELECT inhparent::regclass::text FROM pg_catalog.pg_inherits WHERE inhrelid = to_regclass(%(table)s)"
REFERENCES = """
SELECT conname FROM pg_catalog.pg_constraint
WHERE contype = 'f' AND conparentid = 0 AND conrelid = to_regclass(%(table)s)
"""


@dataclass(frozen=True)
class Wanted:
    """What is restored, and under which name."""

    database: str
    schema: str
    """Of the table; empty where the whole database is wanted."""
    table: str
    name: str
    """Of the new database, or of the new schema that holds the table."""
    over: bool
    """Whether it takes the place of the live one."""


def wanted(database: str, table: str, name: str, over: str) -> Wanted:
    """Return what the command line asks for; raise BackupError where it cannot be."""
    schema, _dot, relation = table.partition(".")
    if table and not (schema and relation):
        raise BackupError(f"--table is '{table}'", "give the schema too: SCHEMA.TABLE")
    name = name or ("restored" if table else f"{database}_restored")
    if len(name.encode()) > NAME_BYTES or not name or name.startswith("pg_"):
        raise BackupError(f"--as is '{name}'", f"give a name of at most {NAME_BYTES} bytes that begins not with pg_")
    whole = f"{database}:{table}" if table else database
    if over not in ("", whole):
        raise BackupError(f"--over is '{over}', and what is restored is {whole}", f"give '{whole}', or nothing")
    if name in (database, schema):
        raise BackupError(f"--as is '{name}', which is the live one", "give a name of its own")
    return Wanted(database, schema, relation, name, bool(over))


class Extraction:
    """One request, which a run that was stopped leaves for the next."""

    def __init__(self, settings: Configuration, engine: Engine, request: Request, what: Wanted) -> None:
        self._settings = settings
        self._engine = engine
        self._request = request
        self._wanted = what
        source = {"backup": request.backup, **asdict(request.target)}
        # Without the exchange: what was looked at first is exchanged later, as it is.
        self._mark = digest({**source, **{key: value for key, value in asdict(what).items() if key != "over"}})
        self._place = exchange.Place(Server(settings), what.database, self._full(), what.name, self._mark)

    def _full(self) -> str:
        return (
            contents.pattern(self._wanted.schema) + "." + contents.pattern(self._wanted.table)
            if self._wanted.table
            else ""
        )

    def _logical(self) -> Backup | None:
        found = self._engine.backups().get(self._request.backup or "")
        if not isinstance(found, Backup) or found.kind != "logical":
            return None
        if any(value for key, value in asdict(self._request.target).items() if key not in ("timeline", "action")):
            raise BackupError(f"{found.id} is of one moment, and there is a target", "give no target, or no backup")
        if self._wanted.database not in found.databases:
            has = ", ".join(found.databases)
            raise BackupError(f"{found.id} has no database {self._wanted.database}", f"choose one of: {has}")
        return found

    def plan(self) -> dict[str, Any]:
        """Return what would be done; raise BackupError where it would be refused. Nothing is changed."""
        logical = self._logical()
        backups = [logical.id] if logical else list(self._engine.check_restore(self._request))
        state = self._place.state()
        todo = state == exchange.ABSENT or (self._wanted.over and state == exchange.BESIDE)
        return {"backups": backups, "name": self._wanted.name, "state": state, "todo": todo}

    def run(self, seconds: int) -> dict[str, Any]:
        """Restore, compare, and exchange where that is asked for; return what was compared."""
        plan = self.plan()
        done: dict[str, Any] = {"changed": False, "name": self._wanted.name, "backups": plan["backups"]}
        if plan["state"] == exchange.ABSENT:
            with self._scratch(seconds) as source:
                done |= {"changed": True, "restored": self._restore(source)}
        if self._wanted.over and plan["state"] != exchange.EXCHANGED:
            done |= {"changed": True, "kept_as": self._place.exchange()}
        return done

    @contextlib.contextmanager
    def _scratch(self, seconds: int) -> Iterator[Configuration]:
        logical, request = self._logical(), self._request
        if logical:
            place, databases = request.directory.parent, [self._wanted.database]
            with (
                self._engine.local([logical.id]) as settings,
                scratch.of_dump(settings, logical, place, request.identity, databases) as found,
            ):
                yield found
        else:
            with scratch.of_moment(self._settings, self._engine, request, seconds) as found:
                yield found

    def _restore(self, source: Configuration) -> dict[str, Any]:
        known = Server(source).databases()
        if self._wanted.database not in known:
            raise BackupError(
                f"there was no database {self._wanted.database} then", f"choose one of: {', '.join(known)}"
            )
        return self._restore_table(source) if self._wanted.table else self._restore_database(source)

    def _restore_database(self, source: Configuration) -> dict[str, Any]:
        loading = f"auditdb_loading_{self._mark[:16]}"
        with Server(source).connect("template1") as cursor:
            names = sql.Identifier(self._wanted.database), sql.Identifier(loading)
            cursor.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*names))
        live = Server(self._settings)
        run([str(self._settings.bin / "dropdb"), *live.options, "--if-exists", "--force", loading])
        self._copy(source, [contents.dbname(loading), "--create"], ["--create", "--dbname=postgres"])
        found = self._compare(source, loading, loading, None)
        self._place.complete(loading)
        return found

    def _restore_table(self, source: Configuration) -> dict[str, Any]:
        name, database = self._wanted.name, self._wanted.database
        with Server(source).connect(database) as cursor:
            self._set_apart(cursor)
        self._place.clear()
        restore = [contents.dbname(database), "--single-transaction"]
        self._copy(source, [contents.dbname(database), f"--schema={contents.pattern(name)}"], restore)
        found = self._compare(source, database, database, name)
        self._place.complete("")
        return found

    def _set_apart(self, cursor: Any) -> None:
        """Move the table and its partitions, in the scratch instance, into a schema that is dumped as a whole."""
        table = {"table": self._full()}
        tree = exchange.tree(cursor, self._full())
        if not tree:
            raise BackupError(
                f"there was no table {self._full()} in {self._wanted.database} then", "see its name, and the target"
            )
        schema = sql.Identifier(self._wanted.name)
        cursor.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        mark = sql.Literal(exchange.LOADING + self._mark)
        cursor.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, mark))
        cursor.execute(PARENT, table)
        own = sql.Identifier(self._wanted.schema, self._wanted.table)
        for (parent,) in cursor.fetchall():
            cursor.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(sql.SQL(parent), own))
        # A copy that referred to live tables would hold their rows fast.
        cursor.execute(REFERENCES, table)
        for (constraint,) in cursor.fetchall():
            cursor.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(own, sql.Identifier(constraint)))
        exchange.move(cursor, tree, self._wanted.name)

    def _copy(self, source: Configuration, dump: list[str], restore: list[str]) -> None:
        tools = self._settings.bin
        reader = [str(tools / "pg_dump"), *Server(source).options, "--format=custom", "--compress=0", *dump]
        writer = [str(tools / "pg_restore"), *Server(self._settings).options, "--exit-on-error", "--no-tablespaces"]
        with pipeline([reader, [*writer, *restore]]) as (into, _nothing):
            into.close()

    def _compare(self, source: Configuration, there: str, here: str, schema: str | None) -> dict[str, Any]:
        with Server(source).connect(there) as cursor:
            expected = contents.describe(cursor, schema)
        with Server(self._settings).connect(here) as cursor:
            found = contents.describe(cursor, schema)
        wrong = contents.differences(expected, found) + contents.redefined(
            contents.definition(source, there, schema), contents.definition(self._settings, here, schema)
        )
        if wrong:
            raise BackupError(
                f"what was restored is not what was dumped: {'; '.join(wrong)}", "report this as a defect"
            )
        return found
