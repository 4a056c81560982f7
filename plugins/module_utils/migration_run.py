# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply, revert, baseline and repair migrations, each with its line in the ledger."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, settle, with_lock_retries
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_ledger import Ledger
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_plan import Entry, File


@dataclass(frozen=True)
class Limits:
    """How long a migration may wait and work, and as whom and where it does."""

    lock_timeout: str
    lock_attempts: int
    statement_timeout: str
    search_path: Sequence[str] = ()
    session_role: str | None = None


class Runner:
    """Runs migrations in one session."""

    def __init__(self, session: Session, ledger: Ledger, limits: Limits) -> None:
        self.session = session
        self.ledger = ledger
        self.limits = limits

    def apply(self, file: File) -> None:
        """Apply one migration in one transaction."""

        def work() -> None:
            begun = time.monotonic()
            with self.session.transaction():
                self.prepare(local=True)
                for statement in file.statements:
                    self.run_statement(statement, file.file)
                self.verify(file)
                self.ledger.record(file, "applied", duration_ms=since(begun))
                self.ledger.log(file, "applied")

        with self._failures(file, "failed"):
            self.retry(work)

    def revert(self, file: File) -> None:
        """Run the way back of one migration in one transaction."""

        def work() -> None:
            begun = time.monotonic()
            with self.session.transaction():
                self.prepare(local=True)
                for statement in file.down_statements:
                    self.run_statement(statement, file.beside("down"))
                self._check_constraints(file.beside("down"))
                self.prepare(local=True)
                self.ledger.record(file, "reverted", duration_ms=since(begun))
                self.ledger.log(file, "reverted")

        with self._failures(file, "revert failed"):
            self.retry(work)

    def baseline(self, files: Sequence[File]) -> None:
        """Record migrations as applied without running them."""
        with self.session.transaction():
            for file in files:
                self.ledger.record(file, "baselined")
                self.ledger.log(file, "baselined")

    def repair(self, pairs: Sequence[tuple[File | None, Entry]]) -> None:
        """Align the ledger with the files."""
        with self.session.transaction():
            for file, entry in pairs:
                self.ledger.repair(file, entry)

    def prepare(self, *, local: bool) -> None:
        """Give the session its settings and limits; what earlier SQL set, became or made only for itself ends."""
        self.session.query("RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; DISCARD TEMP")
        settle(self.session, self.limits.session_role)
        settings = {"lock_timeout": self.limits.lock_timeout, "statement_timeout": self.limits.statement_timeout}
        if self.limits.search_path:
            settings["search_path"] = ", ".join('"' + name.replace('"', '""') + '"' for name in self.limits.search_path)
        for name, value in settings.items():
            self.session.query("SELECT pg_catalog.set_config(%s, %s, %s)", (name, value, local))

    def run_statement(self, statement: Mapping[str, Any], file: str) -> None:
        """Run one statement of a file; an error says where it stands."""
        text = statement["sql"]
        try:
            self.session.execute(text)
        except PostgresqlError as error:
            line = statement["line"] + text.count("\n", 0, error.details.get("position", 1) - 1)
            raise _in_file(error, f"{file} line {line}", file=file, line=line) from error

    def verify(self, file: File) -> None:
        """Run the migration's own check in a read-only savepoint that is rolled back."""
        self._check_constraints(file.file)
        self.prepare(local=True)
        if not file.verify:
            return
        name = file.beside("verify")
        self.session.query("SAVEPOINT verify")
        self.session.query("SET LOCAL transaction_read_only = on")
        for statement in file.verify:
            try:
                rows = self.session.query(statement["sql"])
            except PostgresqlError as error:
                line = statement["line"] + statement["sql"].count("\n", 0, error.details.get("position", 1) - 1)
                raise _in_file(error, f"{name} line {line}", file=name, line=line) from error
            if len(rows) == 1 and list(rows[0].values()) in ([False], [None]):
                raise PostgresqlError(
                    f"{name} line {statement['line']} says that {file.file} did not do what it should",
                    remedy="mend the migration or its verification",
                    file=name,
                    line=statement["line"],
                )
        self.session.query("ROLLBACK TO SAVEPOINT verify")

    def retry(self, work: Callable[[], object]) -> None:
        """Run it until it gets its locks."""
        with_lock_retries(work, attempts=self.limits.lock_attempts)

    def _check_constraints(self, file: str) -> None:
        """Check deferred constraints now, where an error still belongs to this file, and not at COMMIT."""
        try:
            self.session.query("SET CONSTRAINTS ALL IMMEDIATE")
        except PostgresqlError as error:
            raise _in_file(error, f"{file} leaves a deferred constraint violated", file=file) from error

    @contextlib.contextmanager
    def _failures(self, file: File, event: str) -> Iterator[None]:
        """Log that a migration failed, after its transaction was rolled back."""
        try:
            yield
        except PostgresqlError as error:
            if not self.session.connection.closed:
                with contextlib.suppress(PostgresqlError):  # the reason of the failure matters more than its event
                    self.ledger.log(file, event, error=error.message, sqlstate=error.sqlstate)
            if "file" in error.details:
                raise
            raise _in_file(error, file.file, file=file.file) from error


def since(begun: float) -> int:
    """Return the milliseconds since then."""
    return round((time.monotonic() - begun) * 1000)


def _in_file(error: PostgresqlError, where: str, **details: Any) -> PostgresqlError:
    """Return the error with the place it comes from in front."""
    return PostgresqlError(
        f"{where}: {error.message}",
        remedy=error.remedy,
        sqlstate=error.sqlstate,
        statement=error.statement,
        **{**error.details, **details},
    )
