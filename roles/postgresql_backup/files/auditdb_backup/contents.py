# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in a database: rows and digests of its tables, constraints, indexes, grants, and its definition."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from psycopg2 import sql

from .configuration import Configuration
from .postgres import Server
from .processes import run

OWN = """n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND (%(schema)s IS NULL OR n.nspname = %(schema)s)"""
TABLES = f"""
SELECT n.nspname, c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND {OWN} ORDER BY 1, 2
"""
SEQUENCES = f"""
SELECT n.nspname, c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND {OWN} ORDER BY 1, 2
"""
COUNTS = f"""
WITH own AS (
    SELECT c.oid, c.relkind, c.relacl FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE {OWN}
)
SELECT (SELECT count(*) FROM pg_catalog.pg_constraint WHERE conrelid IN (SELECT oid FROM own)),
    (SELECT count(*) FROM own WHERE relkind IN ('i', 'I')),
    (SELECT count(*) FROM own, pg_catalog.aclexplode(relacl)),
    (SELECT count(*) FROM pg_catalog.pg_policy WHERE polrelid IN (SELECT oid FROM own)),
    (SELECT count(*) FROM pg_catalog.pg_trigger WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM own))
"""
KINDS = ("constraints", "indexes", "grants", "policies", "triggers")
# A row's text must not depend on who asks.
SESSION = """
SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex';
SET extra_float_digits = 1; SET row_security = off
"""
# Those that PostgreSQL adds or moves when it reads its own text again: ANY ((ARRAY['a'::varchar])::text[]).
RESHAPED = re.compile(r"[()\s]|::(character varying|text)|\[\]")
SAID = 20


def rows(cursor: Any) -> dict[str, int]:
    """Return how many rows each table has, as SCHEMA.TABLE."""
    cursor.execute(TABLES, {"schema": None})
    found = {}
    for schema, table in cursor.fetchall():
        cursor.execute(sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, table)))
        (found[f"{schema}.{table}"],) = cursor.fetchone()
    return found


def describe(cursor: Any, schema: str | None) -> dict[str, Any]:
    """Return tables with rows and digests, sequences with their values, and how many there are of the other kinds."""
    cursor.execute(SESSION)
    cursor.execute(TABLES, {"schema": schema})
    tables, sequences = {}, {}
    for name in cursor.fetchall():
        # The sum does not depend on the order of the rows.
        query = (
            "SELECT count(*), coalesce(sum(hashtextextended(auditdb_row::text, 0)::numeric), 0)::text FROM ONLY {} {}"
        )
        cursor.execute(sql.SQL(query).format(sql.Identifier(*name), sql.Identifier("auditdb_row")))
        count, digest = cursor.fetchone()
        tables[".".join(name)] = {"rows": count, "digest": digest}
    cursor.execute(SEQUENCES, {"schema": schema})
    for name in cursor.fetchall():
        cursor.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(*name)))
        sequences[".".join(name)] = list(cursor.fetchone())
    cursor.execute(COUNTS, {"schema": schema})
    return {"tables": tables, "sequences": sequences, **dict(zip(KINDS, cursor.fetchone(), strict=True))}


def definition(settings: Configuration, database: str, schema: str | None) -> list[str]:
    """Return the definition of a database, or of one of its schemas, line by line, as pg_dump writes it."""
    what = ["--create"] if schema is None else [f"--schema={pattern(schema)}"]
    argv = [str(settings.bin / "pg_dump"), *Server(settings).options, "--schema-only", *what, dbname(database)]
    return run(argv).splitlines()


def pattern(name: str) -> str:
    """Return the name as the pattern of pg_dump that fits nothing else."""
    return '"' + name.replace('"', '""') + '"'


def dbname(database: str) -> str:
    """Return the option that names the database, whatever characters its name has."""
    quoted = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"--dbname=dbname='{quoted}'"


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return what is not as expected, one line each."""
    told = []
    for kind in sorted(expected.keys() | found.keys()):
        one, other = expected.get(kind), found.get(kind)
        if isinstance(one, dict) and isinstance(other, dict):
            told += [
                f"{kind} {name}: {one.get(name)} expected, {other.get(name)} found"
                for name in sorted(one.keys() | other.keys())
                if one.get(name) != other.get(name)
            ]
        elif one != other:
            told.append(f"{kind}: {one} expected, {other} found")
    return told


def redefined(expected: Sequence[str], found: Sequence[str]) -> list[str]:
    """Return the lines of a unified diff of two definitions, without what means the same."""
    one, other = _plain(expected), _plain(found)
    return [
        each for each in difflib.unified_diff(one, other, lineterm="", n=0) if not each.startswith(("---", "+++", "@@"))
    ][:SAID]


def _plain(lines: Iterable[str]) -> list[str]:
    # \restrict has a random word; comments of pg_dump name versions only.
    kept = (each for each in lines if not each.startswith(("\\restrict", "\\unrestrict", "--")))
    return [plain for each in kept if (plain := RESHAPED.sub("", each))]
