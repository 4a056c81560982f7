# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply a migration that cannot be in a transaction: statement by statement, so that the next run can go on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_plan import (
    INTERRUPTED,
    Entry,
    File,
    resume_at,
    statement_hash,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_run import Runner, since

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

# What a failed CREATE INDEX CONCURRENTLY or REINDEX CONCURRENTLY can leave. An index that a session is still building
# is invalid too, and no leftover.
INVALID_INDEXES = """
SELECT i.indexrelid AS oid, i.indexrelid::pg_catalog.regclass::text AS name
FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relkind = 'i'
    AND (i.indexrelid = pg_catalog.to_regclass(%s) OR c.relname ~ '_ccnew[0-9]*$')
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index AS p WHERE p.index_relid = i.indexrelid)
"""


class Steps:
    """The statements of one migration outside a transaction; ``entry`` is what an earlier run left of it."""

    def __init__(self, runner: Runner, file: File, entry: Entry | None) -> None:
        self.runner = runner
        self.session = runner.session
        self.ledger = runner.ledger
        self.file = file
        self.entry = entry
        self.start = resume_at(file, entry)
        self.done = list(entry.completed) if entry else []

    def apply(self) -> None:
        """Run what is left, verify, and record the migration as applied."""
        begun = time.monotonic()
        self.runner.prepare(local=False)
        self._record(self.start + 1)
        self.ledger.log(self.file, "resumed" if self.entry else "started", statement=self.start + 1)
        position = self.start
        try:
            for statement in self.file.statements[: self.start]:
                if statement.get("setting"):  # of the session, so it went with the earlier run
                    self.runner.run_statement(statement, self.file.file)
            for position, statement in enumerate(self.file.statements[self.start :], self.start + 1):
                self._step(statement, position)
            position += 1
            self.runner.retry(lambda: self._finish(begun))
        except PostgresqlError as error:
            raise self._stopped(error, position) from error

    def _step(self, statement: Mapping[str, Any], position: int) -> None:
        """Run one statement and record it, in one transaction where the statement bears one."""
        self.done.append(statement_hash(statement["sql"]))
        try:
            if not statement.get("alone"):

                def together() -> None:
                    with self.session.transaction():
                        self.runner.run_statement(statement, self.file.file)
                        self._record(position + 1)

                self.runner.retry(together)
                return
            if not self._completed_unseen(statement, position):
                self._alone(statement, position)
        except PostgresqlError:
            self.done.pop()
            raise
        self._record(position + 1)

    def _alone(self, statement: Mapping[str, Any], position: int) -> None:
        """Run a statement that bears no transaction; what a lost try left is dropped before the next, and at last."""
        index = statement["index"] or None
        known = {row["oid"] for row in self.session.query(INVALID_INDEXES, (index,))}
        if index and self._was_tried(position):  # a killed run could not clean up
            known -= {
                row["oid"] for row in self.session.query("SELECT pg_catalog.to_regclass(%s)::oid AS oid", (index,))
            }

        def leftovers() -> list[str]:
            return [row["name"] for row in self.session.query(INVALID_INDEXES, (index,)) if row["oid"] not in known]

        def attempt() -> None:
            for name in leftovers():
                self._drop(name)
            self.runner.run_statement(statement, self.file.file)

        try:
            self.runner.retry(attempt)
        except PostgresqlError as error:
            for name in [] if self.session.connection.closed else leftovers():
                try:
                    self._drop(name)
                except PostgresqlError as problem:
                    error.details.setdefault("invalid_indexes", []).append(name)
                    error.remedy = f"{error.remedy}; DROP INDEX CONCURRENTLY {name} ({problem.message})".lstrip("; ")
            raise
        if self._validity(index) is False:  # IF NOT EXISTS was content with what somebody else left
            raise PostgresqlError(
                f"{self.file.file} line {statement['line']}: index {index} exists and is invalid",
                remedy=f"DROP INDEX CONCURRENTLY {index}",
            )

    def _drop(self, index: str) -> None:
        self.session.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.SQL(index)))

    def _was_tried(self, position: int) -> bool:
        return self.entry is not None and position == self.start + 1

    def _completed_unseen(self, statement: Mapping[str, Any], position: int) -> bool:
        """Return whether the server completed an index for a run that was killed while it waited.

        Only when neither the file changed since, nor the statement had failed: then the index is of this statement.
        """
        return bool(
            self.entry is not None
            and self._was_tried(position)
            and self.entry.error == INTERRUPTED
            and self.entry.checksum == self.file.checksum
            and self._validity(statement["index"] or None)
        )

    def _validity(self, index: str | None) -> bool | None:
        """Return whether the index is valid; None when there is none."""
        rows = self.session.query(
            "SELECT indisvalid AS valid FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass(%s)",
            (index,),
        )
        return bool(rows[0]["valid"]) if rows else None

    def _finish(self, begun: float) -> None:
        with self.session.transaction():
            self.runner.verify(self.file)
            self.ledger.record(self.file, "applied", duration_ms=since(begun), completed=self.done)
            self.ledger.log(self.file, "applied")

    def _record(self, position: int, error: str = INTERRUPTED) -> None:
        """Record what is completed, and what comes next, before it runs: so a killed run is known as well."""
        over = position > len(self.file.statements)
        self.ledger.record(
            self.file,
            "failed",
            completed=self.done,
            failed_statement=None if over else position,
            error="the run ended during the verification" if over and error == INTERRUPTED else error,
        )

    def _stopped(self, error: PostgresqlError, position: int) -> PostgresqlError:
        """Record the failure, and return the error that says how to go on."""
        total = len(self.file.statements)
        if not self.session.connection.closed:  # else the ledger says already that the run ended there
            with contextlib.suppress(PostgresqlError):
                self._record(position, error.message)
                self.ledger.log(self.file, "failed", statement=position, error=error.message, sqlstate=error.sqlstate)
        where = f"statement {position} of {total}" if position <= total else f"after its {total} statements"
        message = error.message if error.message.startswith(self.file.file) else f"{self.file.file}: {error.message}"
        return PostgresqlError(
            f"{message} ({where})",
            remedy=f"{error.remedy or 'mend the statement'}; the next run goes on with "
            + (f"statement {position}" if position <= total else "the verification"),
            sqlstate=error.sqlstate,
            statement=error.statement,
            **{**error.details, "failed_at": position, "version": self.file.version},
        )
