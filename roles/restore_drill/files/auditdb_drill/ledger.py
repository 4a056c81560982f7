# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ledger: a row each second in the protected cluster, each with the hash of the one before it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

CREATE = """
CREATE SCHEMA IF NOT EXISTS restore_drill;
CREATE TABLE IF NOT EXISTS restore_drill.heartbeat (
    id bigint PRIMARY KEY,
    at timestamp with time zone NOT NULL,
    lsn pg_lsn NOT NULL,
    previous bytea NOT NULL,
    hash bytea NOT NULL
);
COMMENT ON TABLE restore_drill.heartbeat IS
    'A row each second; hash is the SHA-256 of id|microseconds since 1970|lsn|previous hash, hexadecimal'
"""
# The database's clock and position, so that a target between two rows is a target of the database.
BEAT = """
WITH last AS (SELECT id, hash FROM restore_drill.heartbeat ORDER BY id DESC LIMIT 1),
    next AS (
        SELECT coalesce((SELECT id FROM last), 0) + 1 AS id, pg_catalog.clock_timestamp() AS at,
            pg_catalog.pg_current_wal_insert_lsn() AS lsn, coalesce((SELECT hash FROM last), '') AS previous
    )
INSERT INTO restore_drill.heartbeat (id, at, lsn, previous, hash)
SELECT id, at, lsn, previous, pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat_ws('|', id,
    (extract(epoch FROM at) * 1000000)::bigint, lsn, pg_catalog.encode(previous, 'hex')), 'UTF8'))
FROM next
RETURNING id, (extract(epoch FROM at) * 1000000)::bigint, pg_catalog.encode(hash, 'hex')
"""
FORGET = """
DELETE FROM restore_drill.heartbeat
WHERE at < pg_catalog.now() - pg_catalog.make_interval(days => %s)
    AND id < (SELECT max(id) FROM restore_drill.heartbeat)
"""
READ = """
SELECT id, (extract(epoch FROM at) * 1000000)::bigint, lsn::text, pg_catalog.encode(previous, 'hex'),
    pg_catalog.encode(hash, 'hex')
FROM restore_drill.heartbeat ORDER BY id
"""
EXISTS = "SELECT pg_catalog.to_regclass('restore_drill.heartbeat') IS NOT NULL"


@dataclass(frozen=True)
class Row:
    """A row of the ledger."""

    id: int
    at: int
    """Microseconds since 1970."""
    lsn: str
    previous: str
    """Hash of the row before, hexadecimal; empty in the first."""
    hash: str


def hash_of(row: Row) -> str:
    """Return the hash that the row must have, hexadecimal."""
    return hashlib.sha256(f"{row.id}|{row.at}|{row.lsn}|{row.previous}".encode()).hexdigest()


def broken(rows: Iterable[Row]) -> str | None:
    """Return where the chain breaks: a row that was changed, left out or put in; None where it is whole."""
    before: Row | None = None
    for row in rows:
        if row.hash != hash_of(row):
            return f"row {row.id} was changed"
        if before and (row.id, row.previous) != (before.id + 1, before.hash):
            return f"row {row.id} does not follow row {before.id}"
        before = row
    return None


def read(cursor: Any) -> list[Row]:
    """Return the ledger, the oldest row first; an empty one where there is none."""
    cursor.execute(EXISTS)
    if cursor.fetchone() == (False,):
        return []
    cursor.execute(READ)
    return [Row(*row) for row in cursor.fetchall()]
