# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ledger of migrations in the database: reading it, locking it, and writing it beside what it records."""

from __future__ import annotations

import contextlib
import json
from contextlib import AbstractContextManager
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, advisory_lock
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_plan import IN_FORCE, Entry, File

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql


COLUMNS = ("version", "name", "checksum", "state", "completed", "failed_statement", "error")


class Ledger:
    """The table ``schema.table`` and its append-only event log ``schema.table_event``."""

    def __init__(self, session: Session, schema: str, table: str) -> None:
        self.session = session
        self.name = f"{schema}.{table}"
        self.schema = schema
        self.table = sql.Identifier(schema, table)
        self.events = sql.Identifier(schema, f"{table}_event")
        self.guard = sql.Identifier(schema, f"{table}_event_guard")

    def exists(self, *, schema_required: bool = True) -> bool:
        """Return whether the ledger's table is there; raise when its schema is not, or when it is something else."""
        row = self.session.query(
            "SELECT pg_catalog.to_regnamespace(pg_catalog.quote_ident(%(schema)s)) IS NOT NULL AS schema, "
            "pg_catalog.to_regclass(%(table)s) IS NOT NULL AS ledger, "
            "ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass(%(table)s)"
            " AND attnum > 0 AND NOT attisdropped) AS columns",
            {"schema": self.schema, "table": self.table.as_string(self.session.connection)},
        )[0]
        if not row["schema"] and schema_required:
            raise PostgresqlError(f"schema: '{self.schema}' does not exist", sqlstate="3F000")
        if row["ledger"] and not set(COLUMNS) <= set(row["columns"]):
            raise PostgresqlError(
                f"table: '{self.name}' exists and is no ledger of this module: it lacks the columns "
                + ", ".join(name for name in COLUMNS if name not in row["columns"]),
                remedy="give table another name; other tools for migrations use schema_migrations too",
            )
        return bool(row["ledger"])

    def read(self, *, schema_required: bool = True) -> list[Entry]:
        """Return the ledger's rows; none when there is no ledger yet."""
        if not self.exists(schema_required=schema_required):
            return []
        rows = self.session.query(
            sql.SQL("SELECT {} FROM {} ORDER BY version::bigint").format(
                sql.SQL(", ").join(map(sql.Identifier, COLUMNS)), self.table
            )
        )
        return [Entry(**{**row, "completed": tuple(row["completed"] or ())}) for row in rows]

    def create(self) -> None:
        """Create the tables, unless they are there."""
        if self.exists():
            return
        with self.session.transaction():
            for statement in (
                """CREATE TABLE {table} (
    version          text PRIMARY KEY CHECK (version ~ '^[0-9]+$'),
    name             text NOT NULL,
    checksum         text NOT NULL,
    checksum_algorithm text NOT NULL DEFAULT 'SHA-256',
    byte_length      integer NOT NULL,
    state            text NOT NULL CHECK (state IN ('applied', 'failed', 'reverted', 'baselined')),
    applied_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    applied_by       text NOT NULL DEFAULT session_user,
    duration_ms      integer,
    completed        text[],
    failed_statement integer,
    error            text
)""",
                """CREATE TABLE {events} (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    by_role  text NOT NULL DEFAULT session_user,
    version  text NOT NULL,
    event    text NOT NULL,
    checksum text,
    details  jsonb
)""",
                """CREATE FUNCTION {guard}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the event log of the migrations is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$""",
                "REVOKE ALL ON FUNCTION {guard}() FROM PUBLIC",
                "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {events} "
                "FOR EACH STATEMENT EXECUTE FUNCTION {guard}()",
                "COMMENT ON TABLE {table} IS 'Which migrations are applied, and of which file'",
                "COMMENT ON TABLE {events} IS 'What was ever done to the migrations, append-only'",
            ):
                self.session.execute(sql.SQL(statement).format(table=self.table, events=self.events, guard=self.guard))

    def lock(self, wait: float) -> AbstractContextManager[None]:
        """Hold the ledger's advisory lock, or raise after ``wait`` seconds."""
        return advisory_lock(self.session, f"migrations of {self.name}", wait)

    def record(self, file: File, state: str, **columns: Any) -> None:
        """Write the row of a migration."""
        values = {
            "version": file.version,
            "name": file.name,
            "checksum": file.checksum,
            "byte_length": file.byte_length,
            "state": state,
            "duration_ms": None,
            "completed": None,
            "failed_statement": None,
            "error": None,
            **columns,
        }
        names = list(values)
        self.session.execute(
            sql.SQL(
                "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT (version) DO UPDATE SET {}, "
                "applied_at = pg_catalog.clock_timestamp(), applied_by = session_user"
            ).format(
                self.table,
                sql.SQL(", ").join(map(sql.Identifier, names)),
                sql.SQL(", ").join(map(sql.Placeholder, names)),
                sql.SQL(", ").join(
                    sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in names if name != "version"
                ),
            ),
            values,
        )

    def repair(self, file: File | None, entry: Entry) -> None:
        """Align a row with its file, or make a half applied migration pending again; the event says what was."""
        self.session.execute(
            sql.SQL(
                "UPDATE {} SET name = %(name)s, checksum = %(checksum)s, "
                "byte_length = coalesce(%(length)s, byte_length), "
                "state = %(state)s, completed = CASE WHEN %(again)s THEN NULL ELSE completed END, "
                "failed_statement = NULL, error = NULL WHERE version = %(version)s"
            ).format(self.table),
            {
                "version": entry.version,
                "name": file.name if file else entry.name,
                "checksum": file.checksum if file else entry.checksum,
                "length": file.byte_length if file else None,
                "again": entry.state not in IN_FORCE,
                "state": entry.state if entry.state in IN_FORCE else "reverted",
            },
        )
        was = {"was_checksum": entry.checksum, "was_name": entry.name, "was_state": entry.state}
        self.log(file or entry, "repaired", **was, was_completed=len(entry.completed))

    def log(self, of: File | Entry, event: str, **details: Any) -> None:
        """Append an event."""
        self.session.execute(
            sql.SQL("INSERT INTO {} (version, event, checksum, details) VALUES (%s, %s, %s, %s)").format(self.events),
            (of.version, event, of.checksum, json.dumps(details) if details else None),
        )
