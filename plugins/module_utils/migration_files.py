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
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_sql import line_of, split

NAME = re.compile(r"(?P<version>\d{4,})_(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)(?P<kind>\.down|\.verify)?\.sql")
NO_TRANSACTION = re.compile(r"^--\s*migrate:\s*no-transaction\s*$", re.MULTILINE)
DIRECTIVE = re.compile(r"^--\s*migrate:(?P<words>.*)$", re.MULTILINE)
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
    """Its statements, as migration_sql.split returns them."""
    down: str | None = None
    down_statements: list[dict[str, Any]] = field(default_factory=list)
    verify: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the form in which the action plugin hands the migration to the module."""
        return asdict(self)


def normalise(data: bytes, file: str) -> str:
    """Return the file's text without byte order mark and with LF line ends, on which the checksum is computed."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PostgresqlError(f"{file} is not UTF-8: {error}", remedy="save the file as UTF-8") from error
    text = text.removeprefix(BOM).replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:  # what follows it would be neither parsed nor sent
        raise PostgresqlError(
            f"{file} line {line_of(text, text.index(chr(0)))}: a NUL character", remedy="save the file as UTF-8"
        )
    return text


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


def _read(file: Path) -> str:
    try:
        text = normalise(file.read_bytes(), file.name)
    except OSError as error:
        raise PostgresqlError(f"{file.name} cannot be read: {error}", remedy="make it a readable file") from error
    if not text.strip():
        raise PostgresqlError(f"{file.name} is empty", remedy="write it or remove it")
    return text


def _load_numbered(path: Path) -> list[Migration]:
    texts: dict[str, dict[str, str]] = {}
    stems: dict[int, str] = {}
    for file in sorted(path.glob("*.sql")):
        match = NAME.fullmatch(file.name)
        if match is None:
            raise PostgresqlError(
                f"{file.name} is not named NNNN_description.sql", remedy="rename it, e.g. 0007_add_index.sql"
            )
        number, stem = int(match["version"]), f"{match['version']}_{match['name']}"
        if number == 0:
            raise PostgresqlError(
                f"{file.name}: version 0 stands for no migration at all", remedy="number migrations from 0001 on"
            )
        if stems.setdefault(number, stem) != stem:
            raise PostgresqlError(
                f"version {match['version']} is used twice: {stems[number]}.sql and {file.name}",
                remedy="give each migration a version of its own",
            )
        texts.setdefault(stem, {})[match["kind"] or ""] = _read(file)
    migrations = []
    for _number, stem in sorted(stems.items()):
        kinds = texts[stem]
        if "" not in kinds:
            raise PostgresqlError(
                f"{stem}{next(iter(kinds))}.sql has no {stem}.sql beside it", remedy="add the migration it belongs to"
            )
        version, name = stem.split("_", 1)
        migrations.append(
            build(version, name, f"{stem}.sql", kinds[""], down=kinds.get(".down"), verify=kinds.get(".verify"))
        )
    return migrations


def _load_drizzle(path: Path, journal: Path) -> list[Migration]:
    try:
        entries = json.loads(journal.read_text(encoding="utf-8-sig"))["entries"]
        tags = sorted((int(entry["idx"]), str(entry["tag"])) for entry in entries)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PostgresqlError(
            f"{journal} is not a Drizzle journal: {error}", remedy="run drizzle-kit again, or set format: numbered"
        ) from error
    migrations = []
    for position, (index, tag) in enumerate(tags):
        if position and tags[position - 1][0] == index:
            raise PostgresqlError(
                f"{journal.name} has the idx {index} twice: {tags[position - 1][1]} and {tag}",
                remedy="give each migration an idx of its own, as drizzle-kit does",
            )
        file = path / f"{tag}.sql"
        if not file.is_file():
            raise PostgresqlError(f"{file.name} is in {journal.name} and not in {path}", remedy="restore the file")
        text = _read(file)
        # The breakpoint is a comment to PostgreSQL, but nothing promises that the statement before it ends with ';'.
        runnable = text.replace(BREAKPOINT, ";")
        version = f"{index:04d}"
        migrations.append(build(version, tag.removeprefix(f"{version}_"), file.name, runnable, source=text))
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
    stem = file.removesuffix(".sql")
    _check_directives(sql, file, {"no-transaction"})
    for text, kind in ((down, "down"), (verify, "verify")):
        _check_directives(text or "", f"{stem}.{kind}.sql", set())
    transactional = NO_TRANSACTION.search(sql) is None
    original = sql if source is None else source
    return Migration(
        version=version,
        name=name,
        file=file,
        sql=sql,
        checksum=checksum(original),
        byte_length=len(original.encode("utf-8")),
        transactional=transactional,
        statements=split(sql, file, transactional=transactional),
        down=down,
        down_statements=split(down, f"{stem}.down.sql", transactional=True) if down else [],
        verify=split(verify, f"{stem}.verify.sql", transactional=True) if verify else [],
    )


def _check_directives(text: str, file: str, known: set[str]) -> None:
    for directive in DIRECTIVE.finditer(text):
        if directive["words"].strip() not in known:
            raise PostgresqlError(
                f"{file} line {line_of(text, directive.start())}: unknown directive '{directive.group().strip()}'",
                remedy="the only one is '-- migrate: no-transaction', in the file that applies; a way back and a "
                "verification always run in a transaction",
            )
