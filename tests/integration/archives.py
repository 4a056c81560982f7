"""A table with awkward values, its digest by the document's words, and runs of postgresql_partition_archive."""

from __future__ import annotations

import hashlib
import json

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import connect

MODULE = "postgresql_partition_archive"

AWKWARD = r"""
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), gone int,
    t text COLLATE "C", b boolean, c char(4), n numeric, f float8, j jsonb, y bytea, a text[], d interval, i inet,
    m mood, naive timestamp, day date, doubled numeric GENERATED ALWAYS AS (n * 2) STORED,
    CONSTRAINT known CHECK (t <> 'forbidden'), UNIQUE (at, id)
);
ALTER TABLE log DROP COLUMN gone;
COMMENT ON TABLE log IS 'it''s a log';
COMMENT ON COLUMN log.t IS '100% text {}';
COMMENT ON CONSTRAINT known ON log IS 'a rule';
INSERT INTO log (at, t, b, c, n, f, j, y, a, d, i, m, naive, day) VALUES
  ('2026-10-25 02:30+02', E'Ol\u00e1 \\N \\. \t\r\n"\x01\x7f', true, 'ab', 'NaN', 'Infinity',
   '{"b": 1.00, "a": [1, "\\"]}', '\x00ff5c', ARRAY['x,"y"', NULL, 'NULL', '\'], '1 mon 2 days 03:04:05.6', '10.0.0.1',
   'glad', 'infinity', '-infinity'),
  ('-infinity', '', false, '', 0.10, 0.1, 'null', '', '{}', '0', '::1/64', 'sad', '2026-01-01 00:00:00.000001',
   '0044-03-15 BC'),
  ('infinity', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
"""
# What PostgreSQL's manual says of each type's output, in the order of the columns' names:
# a, at, b, c, d, day, doubled, f, i, id, j, m, n, naive, t, y.
AWKWARD_ROWS = [
    ["{}", "-infinity", "f", "    ", "PT0S", "0044-03-15 BC", "0.20", "0.1", "::1/64", "2", "null", "sad", "0.10"]
    + ["2026-01-01 00:00:00.000001", "", "\\x"],
    ['{"x,\\"y\\"",NULL,"NULL","\\\\"}', "2026-10-25 00:30:00+00", "t", "ab  ", "P1M2DT3H4M5.6S", "-infinity", "NaN"]
    + ["Infinity", "10.0.0.1", "1", '{"a": [1, "\\\\"], "b": 1.00}', "glad", "NaN", "infinity"]
    + ['Olá \\N \\. \t\r\n"\x01\x7f', "\\x00ff5c"],
    [None, "infinity"] + [None] * 7 + ["3"] + [None] * 6,
]


def plain(rows):
    """The digest as docs/decisions/what-a-seal-covers.md defines it, without this project's code."""
    lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.fixture
def log(database):
    database.query(AWKWARD)
    return database


@pytest.fixture
def numbers(database):
    database.query(
        "CREATE TABLE log (id int PRIMARY KEY, at timestamptz, t text);"
        "INSERT INTO log SELECT n, timestamptz '2026-10-01Z' + n * interval '1 min', 'row ' || n "
        "FROM generate_series(1, 1000) AS n"
    )
    return database


@pytest.fixture
def session(database):
    session = connect(database.login)
    yield session
    session.connection.close()


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "archive"


def present(database, directory, check=False, **options):
    options = {"table": "public.log", "key": "at", "order_by": ["at", "id"], "block_rows": 100, **options}
    return database.module(MODULE, check, directory=str(directory), **options)


def refused(database, directory, **options):
    options = {"table": "public.log", "key": "at", "order_by": ["at", "id"], "block_rows": 100, **options}
    return database.failure(MODULE, directory=str(directory), **options)


def files(directory):
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


BOTH = ["public.log.copy.zst", "public.log.manifest.json"]
