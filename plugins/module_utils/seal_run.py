# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Seal what is closed, verify what is sealed: over all partitions of the declared tables."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table, read_table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import bound_literal
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import instant
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import period
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_seal import SealOptions, seal
from ansible_collections.auditdb.postgresql.plugins.module_utils.seal_store import (
    Kept,
    Range,
    add_seal,
    closed,
    identifier,
    newest_seals,
    primary_key,
    record,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.seal_verify import verify

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

DEPARTED = """
SELECT EXISTS (SELECT FROM {history}
    WHERE table_name = %s AND time_from = %s AND time_to = %s AND part_of IS NULL) AS recorded
"""


# A run of postgresql_partition_purge that was stopped before it sealed again.
PURGED = """
SELECT EXISTS (SELECT FROM {history} WHERE table_name = %s AND part_of = %s
    AND left_at > (SELECT sealed_at FROM {seals} WHERE id = %s)) AS purged
"""


@dataclass(frozen=True)
class Work:
    """One table, its closed partitions, and the seals that it has."""

    table: Table
    closed: list[Partition]
    seals: dict[Range, Kept]
    options: SealOptions
    log: str | None


def prepare(session: Session, options: Mapping[str, Any]) -> list[Work]:
    """Return what there is to do; raise where a declaration is wrong, before anything is read or written."""
    works = []
    for each in options["tables"]:
        table = read_table(session, each["table"])
        order_by = primary_key(session, table)
        wrong = [name for name in each["omit"] if name not in table.columns or name in (*order_by, table.key)]
        if wrong:
            raise PostgresqlError(
                f"omit: {', '.join(wrong)} cannot be left out of a seal of {table.label}",
                remedy="name columns of the table that are not in its primary key",
            )
        columns = tuple(name for name in table.columns if name not in each["omit"]) if each["omit"] else None
        works.append(
            Work(
                table,
                closed(table.partitions, period(each["after"], "after"), instant(table, options["now"])),
                newest_seals(session, table, options["seals"]),
                SealOptions(table.key, order_by, options["block_rows"], columns),
                each["verification_log"],
            )
        )
    return works


def seal_closed(
    session: Session, works: Sequence[Work], options: Mapping[str, Any], write: bool
) -> list[dict[str, Any]]:
    """Seal each closed partition that has no seal. A killed run has sealed those before."""
    sealed = []
    for work in works:
        for part in work.closed:
            if (part.lower, part.upper) in work.seals:
                continue
            if write:
                new = seal(session, (part.schema, part.name), work.options)
                sealed.append(add_seal(session, work.table, part, new, (options["seals"], None)))
            else:
                sealed.append({"table": work.table.label, "partition": part.name})
    return sealed


def verify_all(
    session: Session, works: Sequence[Work], options: Mapping[str, Any], write: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what became of each sealed partition, and the seals that were added for late rows."""
    verified: list[dict[str, Any]] = []
    sealed = []
    for work in works:
        attached = {(each.lower, each.upper): each for each in work.table.partitions if not each.default}
        for bounds, kept in work.seals.items():
            part = attached.get(bounds)
            about = {"table": work.table.label, "partition": part.name if part else kept.name}
            if part is None:
                if options["history"] and not departed(session, work.table, bounds, options["history"]):
                    gone = "it has a seal, is no partition of the table, and never left it by this collection"
                    verified.append(
                        {**about, "status": "missing", "rows": None, "late_rows": 0, "differences": None}
                        | {"explanation": gone}
                    )
                continue
            if options["history"] and purged(session, work.table, part, kept.number, options):
                half = "expired rows were being taken out; the next run of postgresql_partition_purge seals it again"
                verified.append(
                    {**about, "status": "purged", "rows": None, "late_rows": 0, "differences": None}
                    | {"explanation": half}
                )
                continue
            verdict = verify(session, part, kept.seal)
            verified.append({**about, **verdict.as_dict()})
            if write and work.log:
                record(session, part, kept.seal, work.log, verdict.as_dict())
            if verdict.status == "late":
                if write:
                    keep = (options["seals"], kept.number)
                    sealed.append(add_seal(session, work.table, part, verdict.now, keep))
                else:
                    sealed.append(about)
    return verified, sealed


def departed(session: Session, table: Table, bounds: Range, history: str) -> bool:
    """Return whether the partition of this range left by way of this collection."""
    arguments = (table.label, *(bound_literal(at, "timestamp with time zone") for at in bounds))
    statement = sql.SQL(DEPARTED).format(history=identifier(history))
    return bool(session.query(statement, arguments)[0]["recorded"])


def purged(session: Session, table: Table, part: Partition, seal_number: int, options: Mapping[str, Any]) -> bool:
    """Return whether rows were taken out of the partition since it was sealed."""
    statement = sql.SQL(PURGED).format(history=identifier(options["history"]), seals=identifier(options["seals"]))
    return bool(session.query(statement, (table.label, part.name, seal_number))[0]["purged"])
