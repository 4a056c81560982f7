# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether closed partitions have the rows that were sealed, by the code of module postgresql_partition_seal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, settle
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.seal_run import prepare, verify_all
from ansible_collections.auditdb.postgresql.plugins.module_utils.seal_store import identifier
from auditdb_backup.alone import Server
from psycopg2 import sql

from .checks import databases
from .rows import Row, row

THERE = "SELECT pg_catalog.to_regclass(%s) IS NOT NULL AS there"
SEALED = "SELECT DISTINCT table_name FROM {seals} ORDER BY table_name"
BROKEN = ("changed", "missing")
REMEDY = "see whether production has the same: playbooks/maintenance.yml with audit_maintenance_verify; keep the backup"
SHOWN = ("table", "partition", "status", "rows")


def look(group: str, server: Server, seals: str, history: str) -> tuple[list[Row], list[dict[str, Any]]]:
    """Return the row of each database that keeps seals, and what became of each sealed partition."""
    rows: list[Row] = []
    verified: list[dict[str, Any]] = []
    for database in databases(server):
        with contextlib.closing(server.connect(database)) as connection:
            session = Session(connection)
            settle(session, None)
            session.query("SET default_transaction_read_only = on")
            if not _there(session, seals):
                continue
            found: list[dict[str, Any]] = []
            findings: list[str] = []
            for table in _tables(session, seals):
                try:
                    found += _verified(session, table, seals, history if _there(session, history) else None)
                except PostgresqlError as error:
                    findings.append(f"{table}: it cannot be verified: {error.message}")
        findings += [f"{each['partition']}: {each['explanation']}" for each in found if each["status"] in BROKEN]
        rows.append(row(group, f"closed partitions are as they were sealed ({database})", findings, REMEDY))
        verified += [{"database": database, **{name: each[name] for name in SHOWN}} for each in found]
    return rows, verified


def _there(session: Session, table: str) -> bool:
    if not table:
        return False
    return bool(session.query(THERE, (identifier(table).as_string(session.connection),))[0]["there"])


def _tables(session: Session, seals: str) -> Iterator[str]:
    yield from (each["table_name"] for each in session.query(sql.SQL(SEALED).format(seals=identifier(seals))))


def _verified(session: Session, table: str, seals: str, history: str | None) -> list[dict[str, Any]]:
    """Return what became of the sealed partitions of a table. A seal says itself what it covers."""
    declared: dict[str, Any] = {"table": table, "after": "7 days", "omit": [], "verification_log": None}
    options = {"tables": [declared], "seals": seals, "history": history, "now": None, "block_rows": 10_000}
    return verify_all(session, prepare(session, options), options, write=False)[0]
