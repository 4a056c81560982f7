# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply, revert, baseline and repair migrations, each with its line in the ledger."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, with_lock_retries
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_ledger import Ledger
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_plan import (
    Entry,
    File,
    resume_at,
    statement_hash,
)

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql


@dataclass(frozen=True)
class Limits:
    """How long a migration may wait and work."""

    lock_timeout: str
    lock_attempts: int
    statement_timeout: str
    search_path: Sequence[str] = ()


class Runner:
    """Runs migrations in one session."""

    def __init__(self, session: Session, ledger: Ledger, limits: Limits) -> None:
        self.session = session
        self.ledger = ledger
        self.limits = limits

    def apply(self, file: File, entry: Entry | None) -> None:
        """Apply one migration, or go on with one that stopped."""
        if not file.transactional:
            self._apply_statements(file, entry)
            return

        def work() -> None:
            begun = time.monotonic()
            with self.session.transaction():
                self._prepare(local=True)
                for statement in file.statements:
                    self._run_text(statement["sql"], file.file, statement["line"])
                self._verify(file)
                self.ledger.record(file, "applied", duration_ms=_since(begun))
                self.ledger.log(file, "applied")

        self._retry(work)

    def revert(self, file: File) -> None:
        """Run the way back of one migration."""

        def work() -> None:
            begun = time.monotonic()
            with self.session.transaction():
                self._prepare(local=True)
                self._run_text(file.down or "", file.file.removesuffix(".sql") + ".down.sql", 1)
                self.ledger.record(file, "reverted", duration_ms=_since(begun))
                self.ledger.log(file, "reverted")

        self._retry(work)

    def baseline(self, files: Sequence[File]) -> None:
        """Record migrations as applied without running them."""
        with self.session.transaction():
            for file in files:
                self.ledger.record(file, "baselined")
                self.ledger.log(file, "baselined")

    def repair(self, pairs: Sequence[tuple[File, Entry]]) -> None:
        """Align the ledger with the files."""
        with self.session.transaction():
            for file, entry in pairs:
                self.ledger.record(file, entry.state)
                self.ledger.log(file, "repaired", was_checksum=entry.checksum, was_name=entry.name)

    def _apply_statements(self, file: File, entry: Entry | None) -> None:
        begun = time.monotonic()
        done = list(entry.completed) if entry else []
        start = resume_at(file, entry) if entry else 0
        self._prepare(local=False)
        if start == 0 and not done:
            self.ledger.log(file, "started")
        for position, statement in enumerate(file.statements[start:], start + 1):
            # Recorded before it runs, so that a killed run is found and gone on with as well as a failed one.
            self.ledger.record(
                file, "failed", completed=done, failed_statement=position, error="the run ended during this statement"
            )
            try:
                self._drop_invalid(statement["index"])
                self._retry(lambda text=statement["sql"]: self.session.execute(text))  # type: ignore[misc]
                self._require_valid(statement["index"])
            except PostgresqlError as error:
                self.ledger.record(file, "failed", completed=done, failed_statement=position, error=error.message)
                self.ledger.log(file, "failed", statement=position, error=error.message)
                raise PostgresqlError(
                    f"{file.file} statement {position} of {len(file.statements)}: {error.message}",
                    remedy=f"{error.remedy or 'mend the statement'}; the next run goes on with statement {position}",
                    sqlstate=error.sqlstate,
                    statement=error.statement,
                    failed_at=position,
                    version=file.version,
                ) from error
            done.append(statement_hash(statement["sql"]))
        with self.session.transaction():
            self._verify(file)
            self.ledger.record(file, "applied", duration_ms=_since(begun), completed=done)
            self.ledger.log(file, "applied")

    def _drop_invalid(self, index: str) -> None:
        """Drop what an interrupted CREATE INDEX CONCURRENTLY left: an invalid index that only costs writes."""
        if self._is_invalid(index):
            self.session.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.SQL(index)))

    def _require_valid(self, index: str) -> None:
        if self._is_invalid(index):
            raise PostgresqlError(f"index {index} is invalid after its creation")

    def _is_invalid(self, index: str) -> bool:
        if not index:
            return False
        rows = self.session.query(
            "SELECT NOT indisvalid AS invalid FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass(%s)",
            (index,),
        )
        return bool(rows and rows[0]["invalid"])

    def _prepare(self, *, local: bool) -> None:
        settings = {"lock_timeout": self.limits.lock_timeout, "statement_timeout": self.limits.statement_timeout}
        if self.limits.search_path:
            settings["search_path"] = ", ".join('"' + name.replace('"', '""') + '"' for name in self.limits.search_path)
        for name, value in settings.items():
            self.session.query("SELECT pg_catalog.set_config(%s, %s, %s)", (name, value, local))

    def _run_text(self, text: str, file: str, line: int) -> None:
        """Run SQL that stands in ``file`` from ``line`` on; an error says where."""
        try:
            self.session.execute(text)
        except PostgresqlError as error:
            line += text.count("\n", 0, error.details.get("position", 1) - 1)
            raise PostgresqlError(
                f"{file} line {line}: {error.message}",
                remedy=error.remedy,
                sqlstate=error.sqlstate,
                statement=error.statement,
            ) from error

    def _verify(self, file: File) -> None:
        """Run the migration's own check in a read-only savepoint that is rolled back."""
        if not file.verify:
            return
        name = file.file.removesuffix(".sql") + ".verify.sql"
        self.session.query("SAVEPOINT verify")
        self.session.query("SET LOCAL transaction_read_only = on")
        try:
            rows = self.session.query(file.verify)
        except PostgresqlError as error:
            raise PostgresqlError(f"{name}: {error.message}", sqlstate=error.sqlstate, remedy=error.remedy) from error
        self.session.query("ROLLBACK TO SAVEPOINT verify")
        if len(rows) == 1 and list(rows[0].values()) == [False]:
            raise PostgresqlError(
                f"{name} says that {file.file} did not do what it should; it was rolled back",
                remedy="mend the migration or its verification",
            )

    def _retry(self, work: Callable[[], object]) -> None:
        with_lock_retries(work, attempts=self.limits.lock_attempts)


def _since(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)
