# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide, without a database, what a directory of migrations and a ledger of applied ones call for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError

IN_FORCE = ("applied", "baselined")
INTERRUPTED = "the run ended during this statement"


@dataclass(frozen=True)
class Entry:
    """One row of the ledger."""

    version: str
    name: str
    checksum: str
    state: str
    completed: tuple[str, ...] = ()
    """SHA-256 of each statement that a migration outside a transaction has completed."""
    failed_statement: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class File:
    """One migration of the directory, as the control node read it."""

    version: str
    name: str
    file: str
    sql: str
    checksum: str
    byte_length: int
    transactional: bool = True
    statements: tuple[Mapping[str, Any], ...] = ()
    """Each as {sql, line, index, alone, setting}, see migration_sql.split."""
    down: str | None = None
    down_statements: tuple[Mapping[str, Any], ...] = ()
    verify: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> File:
        """Return the migration that the action plugin described."""
        lists = {name: tuple(values.get(name) or ()) for name in ("statements", "down_statements", "verify")}
        return cls(**{**values, **lists})

    def beside(self, kind: str) -> str:
        """Return the name of the file beside it: ``down`` or ``verify``."""
        return f"{self.file.removesuffix('.sql')}.{kind}.sql"


@dataclass(frozen=True)
class Comparison:
    """How the ledger and the directory differ."""

    pending: list[File] = field(default_factory=list)
    mismatched: list[tuple[File, Entry]] = field(default_factory=list)
    missing: list[Entry] = field(default_factory=list)
    failed: list[tuple[File | None, Entry]] = field(default_factory=list)
    current: str | None = None


def number(version: str | None) -> int:
    """Return the version as a number; no version counts as zero."""
    return int(version or 0)


def statement_hash(statement: str) -> str:
    """Return the SHA-256 of one statement."""
    return hashlib.sha256(statement.encode("utf-8")).hexdigest()


def compare(files: Sequence[File], ledger: Sequence[Entry]) -> Comparison:
    """Return what is pending, edited, missing and failed."""
    by_version = {number(file.version): file for file in files}
    entries = {number(entry.version): entry for entry in ledger}
    in_force = [entry for entry in ledger if entry.state in IN_FORCE]
    return Comparison(
        pending=[
            file
            for version, file in sorted(by_version.items())
            if version not in entries or entries[version].state not in IN_FORCE
        ],
        mismatched=[
            (by_version[number(entry.version)], entry)
            for entry in in_force
            if number(entry.version) in by_version and by_version[number(entry.version)].checksum != entry.checksum
        ],
        missing=[entry for entry in in_force if number(entry.version) not in by_version],
        failed=[(by_version.get(number(entry.version)), entry) for entry in ledger if entry.state == "failed"],
        current=max((entry.version for entry in in_force), key=number, default=None),
    )


def refuse_drift(comparison: Comparison) -> None:
    """Raise where an applied migration was edited or has vanished: the ledger and the files must tell one story."""
    if comparison.mismatched:
        file, entry = comparison.mismatched[0]
        others = len(comparison.mismatched) - 1
        raise PostgresqlError(
            f"migration {file.file} was changed after it was applied: the ledger has SHA-256 {entry.checksum}, "
            f"the file {file.checksum}" + (f" (and {others} more)" if others else ""),
            remedy="restore the file and put the change into a new migration; if the change alters nothing (a comment, "
            "say), accept it with state: repaired",
            mismatched=[mismatch[0].version for mismatch in comparison.mismatched],
        )
    if comparison.missing:
        names = ", ".join(f"{entry.version}_{entry.name}" for entry in comparison.missing)
        raise PostgresqlError(
            f"applied migrations have no file in path: {names}",
            remedy="restore the files, or name the directory that has them",
            missing=[entry.version for entry in comparison.missing],
        )


def _known_target(files: Sequence[File], target: str | None) -> None:
    if target and number(target) and number(target) not in {number(file.version) for file in files}:
        known = ", ".join(file.version for file in files) or "none"
        raise PostgresqlError(f"target: no migration has the version {target}", remedy=f"choose one of: {known}")


def plan_present(
    files: Sequence[File], ledger: Sequence[Entry], target: str | None = None, *, out_of_order: bool = False
) -> list[File]:
    """Return the migrations to apply, in order."""
    _known_target(files, target)
    comparison = compare(files, ledger)
    refuse_drift(comparison)
    for failed_file, entry in comparison.failed:
        if failed_file is None:
            raise PostgresqlError(
                f"migration {entry.version}_{entry.name} stopped at statement {entry.failed_statement}, and its file "
                "is gone",
                remedy="restore the file; or undo by hand what it did, then state: repaired forgets it",
            )
        resume_at(failed_file, entry)
    pending = [file for file in comparison.pending if not target or number(file.version) <= number(target)]
    started = {number(entry.version) for _file, entry in comparison.failed}
    late = [
        file
        for file in pending
        if number(file.version) < number(comparison.current) and number(file.version) not in started
    ]
    if late and not out_of_order:
        raise PostgresqlError(
            f"migration {late[0].file} is older than {comparison.current}, which is applied",
            remedy="give it a newer version; or, if it is independent of what was applied, set out_of_order: true",
            out_of_order=[file.version for file in late],
        )
    return pending


def resume_at(file: File, entry: Entry | None) -> int:
    """Return the index of the statement at which a migration outside a transaction goes on."""
    if entry is None or not entry.completed:
        return 0
    done = [statement_hash(statement["sql"]) for statement in file.statements[: len(entry.completed)]]
    if file.transactional or done != list(entry.completed):
        changed = "its header" if file.transactional else "a statement before that one"
        raise PostgresqlError(
            f"migration {file.file} completed {len(entry.completed)} of its statements and stopped ({entry.error}); "
            f"{changed} was changed since",
            remedy="restore what was completed and change only what follows it; or undo by hand what it did, then "
            "state: repaired makes it start from its first statement",
        )
    return len(entry.completed)


def remaining(file: File, entry: Entry | None) -> str:
    """Return the SQL that applying the migration runs: all of it, or what is left of one that stopped."""
    start = resume_at(file, entry)
    return ";\n".join(statement["sql"] for statement in file.statements[start:]) if start else file.sql


def plan_reverted(files: Sequence[File], ledger: Sequence[Entry], target: str) -> list[File]:
    """Return the migrations to revert, newest first, until ``target`` is the newest that is left (0: none)."""
    _known_target(files, target)
    comparison = compare(files, ledger)
    refuse_drift(comparison)
    if comparison.failed:
        entry = comparison.failed[0][1]
        raise PostgresqlError(
            f"migration {entry.version}_{entry.name} is half applied (statement {entry.failed_statement})",
            remedy="finish it with state: present first; or undo by hand what it did, then state: repaired forgets it",
        )
    by_version = {number(file.version): file for file in files}
    chosen = [
        by_version[number(entry.version)]
        for entry in sorted(ledger, key=lambda entry: number(entry.version), reverse=True)
        if entry.state in IN_FORCE and number(entry.version) > number(target)
    ]
    for file in chosen:
        if file.down is None:
            raise PostgresqlError(
                f"migration {file.file} has no way back",
                remedy=f"write {file.beside('down')}, or choose a target from {file.version} on",
            )
    return chosen


def plan_baselined(files: Sequence[File], ledger: Sequence[Entry], target: str | None = None) -> list[File]:
    """Return the migrations to record as applied without running them."""
    _known_target(files, target)
    comparison = compare(files, ledger)
    refuse_drift(comparison)
    return [file for file in comparison.pending if not target or number(file.version) <= number(target)]


def plan_repaired(
    files: Sequence[File], ledger: Sequence[Entry], target: str | None = None
) -> list[tuple[File | None, Entry]]:
    """Return the entries to align with their files, and the half applied ones, which are to start again."""
    _known_target(files, target)
    by_version = {number(file.version): file for file in files}
    chosen = []
    for entry in ledger:
        file = by_version.get(number(entry.version))
        differs = file is not None and (file.checksum, file.name) != (entry.checksum, entry.name)
        wanted = not target or number(entry.version) <= number(target)
        if wanted and (entry.state == "failed" or (entry.state in IN_FORCE and differs)):
            chosen.append((file, entry))
    return chosen
