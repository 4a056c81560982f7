# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read a directory of migrations on the control node, and refuse what could not be applied as it stands."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError

try:
    import pglast
    from pglast import ast, enums

    HAS_PGLAST = True
except ImportError:
    HAS_PGLAST = False

NAME = re.compile(r"(?P<version>\d{4,})_(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)(?P<kind>\.down|\.verify)?\.sql")
NO_TRANSACTION = re.compile(r"^--\s*migrate:\s*no-transaction\s*$", re.MULTILINE)
DIRECTIVE = re.compile(r"^--\s*migrate:(?P<words>.*)$", re.MULTILINE)
META_COMMAND = re.compile(r"^\\\S+", re.MULTILINE)
BREAKPOINT = "--> statement-breakpoint"
BOM = "\ufeff"


@dataclass(frozen=True)
class Migration:
    """One migration: the SQL that applies it, reverts it and verifies it."""

    version: str
    name: str
    file: str
    sql: str
    checksum: str
    byte_length: int
    transactional: bool = True
    statements: list[dict[str, Any]] = field(default_factory=list)
    """Its statements as {sql, line, index}; index is what CREATE INDEX CONCURRENTLY makes."""
    down: str | None = None
    verify: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the form in which the action plugin hands the migration to the module."""
        return asdict(self)


def normalise(data: bytes, file: str) -> str:
    """Return the file's text without byte order mark and with LF line ends, on which the checksum is computed."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PostgresqlError(f"{file} is not UTF-8: {error}", remedy="save the file as UTF-8") from error
    return text.removeprefix(BOM).replace("\r\n", "\n").replace("\r", "\n")


def checksum(text: str) -> str:
    """Return the SHA-256 of the normalised text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def load_directory(path: Path, layout: str = "auto") -> list[Migration]:
    """Return the directory's migrations in the order of their versions.

    ``layout`` is ``numbered`` (NNNN_description.sql with optional .down.sql and .verify.sql), ``drizzle``
    (meta/_journal.json) or ``auto``. Raises PostgresqlError naming the file and the line of whatever is wrong.
    """
    if not path.is_dir():
        raise PostgresqlError(f"path: '{path}' is not a directory", remedy="name a directory of migrations")
    journal = path / "meta" / "_journal.json"
    if layout == "drizzle" or (layout == "auto" and journal.is_file()):
        return _load_drizzle(path, journal)
    return _load_numbered(path)


def _load_numbered(path: Path) -> list[Migration]:
    texts: dict[str, dict[str, str]] = {}
    files: dict[str, str] = {}
    for file in sorted(path.glob("*.sql")):
        match = NAME.fullmatch(file.name)
        if match is None:
            raise PostgresqlError(
                f"{file.name} is not named NNNN_description.sql", remedy="rename it, e.g. 0007_add_index.sql"
            )
        version, kind = match["version"], match["kind"] or ""
        stem = f"{version}_{match['name']}"
        if files.setdefault(version, stem) != stem:
            raise PostgresqlError(
                f"version {version} is used twice: {files[version]}.sql and {file.name}",
                remedy="give each migration a version of its own",
            )
        text = normalise(file.read_bytes(), file.name)
        if not text.strip():
            raise PostgresqlError(f"{file.name} is empty", remedy="write it or remove it")
        texts.setdefault(stem, {})[kind] = text
    migrations = []
    for version, stem in sorted(files.items(), key=lambda item: int(item[0])):
        kinds = texts[stem]
        if "" not in kinds:
            raise PostgresqlError(
                f"{stem}{next(iter(kinds))}.sql has no {stem}.sql beside it", remedy="add the migration it belongs to"
            )
        for kind in (".down", ".verify"):
            if kind in kinds:
                check_sql(kinds[kind], f"{stem}{kind}.sql", transactional=True)
        migrations.append(
            build(
                version,
                stem.partition("_")[2],
                f"{stem}.sql",
                kinds[""],
                down=kinds.get(".down"),
                verify=kinds.get(".verify"),
            )
        )
    return migrations


def _load_drizzle(path: Path, journal: Path) -> list[Migration]:
    try:
        entries = json.loads(journal.read_text(encoding="utf-8"))["entries"]
        tags = [(int(entry["idx"]), str(entry["tag"])) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PostgresqlError(
            f"{journal} is not a Drizzle journal: {error}", remedy="run drizzle-kit again, or set format: numbered"
        ) from error
    migrations = []
    for index, tag in sorted(tags):
        file = path / f"{tag}.sql"
        if not file.is_file():
            raise PostgresqlError(f"{file.name} is in {journal.name} and not in {path}", remedy="restore the file")
        text = normalise(file.read_bytes(), file.name)
        # The breakpoint is a comment to PostgreSQL, but nothing promises that the statement before it ends with ';'.
        runnable = text.replace(BREAKPOINT, ";")
        migrations.append(build(f"{index:04d}", tag.partition("_")[2] or tag, file.name, runnable, source=text))
    return migrations


def build(
    version: str,
    name: str,
    file: str,
    sql: str,
    *,
    down: str | None = None,
    verify: str | None = None,
    source: str | None = None,
) -> Migration:
    """Return the migration of this text after checking it; the checksum is that of ``source``, or of ``sql``."""
    for directive in DIRECTIVE.finditer(sql):
        if directive["words"].strip() != "no-transaction":
            raise PostgresqlError(
                f"{file} line {_line(sql, directive.start())}: unknown directive '{directive.group().strip()}'",
                remedy="the only one is '-- migrate: no-transaction'",
            )
    transactional = NO_TRANSACTION.search(sql) is None
    statements = check_sql(sql, file, transactional=transactional)
    original = sql if source is None else source
    return Migration(
        version=version,
        name=name,
        file=file,
        sql=sql,
        checksum=checksum(original),
        byte_length=len(original.encode("utf-8")),
        transactional=transactional,
        statements=statements,
        down=down,
        verify=verify,
    )


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def check_sql(sql: str, file: str, *, transactional: bool) -> list[dict[str, Any]]:
    """Return the statements of the text as {sql, line, index}; refuse what could not run as announced.

    The parser is PostgreSQL's own (pglast). Its grammar may be newer than the server's, so only its refusals of
    syntax that no version knows stop here; the server has the last word.
    """
    if not HAS_PGLAST:
        raise PostgresqlError(
            "the Python package pglast is missing on the control node", remedy="pip install -r requirements.txt"
        )
    try:
        parsed = pglast.parse_sql(sql)
    except pglast.parser.ParseError as error:
        location = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], int) else 0
        command = META_COMMAND.search(sql)
        if command is not None:
            raise PostgresqlError(
                f"{file} line {_line(sql, command.start())}: '{command.group()}' is a command of psql, not SQL",
                remedy="write SQL only",
            ) from error
        raise PostgresqlError(f"{file} line {_line(sql, location)}: {error.args[0]}", sqlstate="42601") from error
    statements = []
    for raw in parsed:
        begin = raw.stmt_location or 0
        text = sql[begin : begin + raw.stmt_len if raw.stmt_len else None]
        line = _line(sql, begin + len(text) - len(text.lstrip()))
        problem = _problem(raw.stmt, transactional)
        if problem:
            raise PostgresqlError(f"{file} line {line}: {problem[0]}", remedy=problem[1])
        statements.append({"sql": text.strip(), "line": line, "index": _index_name(raw.stmt)})
    if not statements:
        raise PostgresqlError(f"{file} holds no statement", remedy="write it or remove it")
    return statements


def _problem(statement: Any, transactional: bool) -> tuple[str, str] | None:
    """Return what is wrong with the statement, and the remedy."""
    if isinstance(statement, ast.TransactionStmt):
        return ("transaction control in a migration", "remove it: a migration is one transaction already")
    outside = (
        (isinstance(statement, ast.IndexStmt | ast.DropStmt | ast.ReindexStmt) and _concurrent(statement))
        or (isinstance(statement, ast.VacuumStmt) and statement.is_vacuumcmd)
        or isinstance(statement, ast.CreatedbStmt | ast.DropdbStmt | ast.AlterSystemStmt)
        or (isinstance(statement, ast.AlterTableStmt) and any(map(_detaches_concurrently, statement.cmds or ())))
    )
    if outside and transactional:
        return (
            "this statement cannot run in a transaction",
            "put it in a migration of its own that says '-- migrate: no-transaction'",
        )
    return None


def _index_name(statement: Any) -> str:
    """Return the quoted name of the index that the statement makes concurrently, or nothing."""
    if not (isinstance(statement, ast.IndexStmt) and statement.concurrent and statement.idxname and statement.relation):
        return ""
    parts = [statement.relation.schemaname, statement.idxname]
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts if part)


def _concurrent(statement: Any) -> bool:
    if isinstance(statement, ast.ReindexStmt):
        return any(parameter.defname == "concurrently" for parameter in statement.params or ())
    return bool(statement.concurrent)


def _detaches_concurrently(command: Any) -> bool:
    detach = command.subtype == enums.AlterTableType.AT_DetachPartition
    return bool(detach and command.def_ is not None and getattr(command.def_, "concurrent", False))
