# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy closed partitions, which stay, into archives once the first policy asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, with_lock_retries
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_archive import archive_name, find_manifest
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table, read_table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_history import (
    Departure,
    archive,
    record,
    table_of,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import (
    EARLIEST,
    bound_literal,
    intervals,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import instant

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

ACTION = "copy"
AFTER = """
SELECT min(archive_after_days) AS days FROM {policies}
WHERE is_active::text IN ('true', 't') AND archive_after_days IS NOT NULL
"""
COPIES = """
SELECT id AS number, partition_schema AS schema, partition_name AS name, time_from AS lower, time_to AS upper,
    archived_at IS NOT NULL AS complete
FROM {history} WHERE table_name = %s AND action = 'copy' ORDER BY id
"""


@dataclass(frozen=True)
class Copy:
    """A copy that was made or begun, as the history has it."""

    number: int
    schema: str
    name: str
    lower: datetime
    upper: datetime
    complete: bool

    @property
    def bounds(self) -> tuple[datetime, datetime]:
        """Return the range of time."""
        return self.lower, self.upper


@dataclass(frozen=True)
class Found:
    """What there is to do."""

    table: Table
    due: list[Partition]
    """Oldest first."""
    begun: dict[str, Copy]
    """Copies that a killed run began, by the partition's name."""
    after_days: int | None
    waiting: int
    """Partitions that are due as well, and are left to the next runs."""
    copies: int
    """Copies that are complete."""


def due(
    partitions: Iterable[Partition], complete: Sequence[tuple[datetime, datetime]], days: int | None, now: datetime
) -> list[Partition]:
    """Return the partitions that have ended ``days`` ago and have no complete copy, oldest first.

    Days count from the end of a partition, as those of retention do. It is copied as a whole once the first of its
    classes asks for it: a copy that comes earlier than another class asks for takes nothing away.
    """
    if days is None:
        return []
    done = set(complete)
    return sorted(
        (
            each
            for each in partitions
            if not each.default
            and not each.detach_pending
            and each.lower > EARLIEST
            and each.upper <= now
            and now - each.upper >= timedelta(days=days)
            and (each.lower, each.upper) not in done
        ),
        key=lambda each: each.lower,
    )


def look(session: Session, options: Mapping[str, Any]) -> Found:
    """Return which partitions are to be copied now."""
    table = read_table(session, options["table"])
    days = session.query(sql.SQL(AFTER).format(policies=table_of(options["policies"])))[0]["days"]
    copies = read_copies(session, table, options["history"])
    complete = [each.bounds for each in copies if each.complete]
    found = due(table.partitions, complete, days, instant(table, options["now"]))
    if table.standby:
        found = []
    now = found[: options["max_copies"]]
    named = {each.name: (each.lower, each.upper) for each in now}
    begun = {each.name: each for each in copies if not each.complete and named.get(each.name) == each.bounds}
    return Found(table, now, begun, days, len(found) - len(now), len(complete))


def marks(table: Table, each: Partition, function: str) -> list[Any]:
    """Return the calls that stamp the rows, each in a transaction of its own: one a day, to bound them."""
    days = [(max(low, each.lower), min(high, each.upper)) for low, high in intervals(each.lower, each.upper, "day")]
    return [
        sql.SQL("SELECT {}({}, {})").format(
            table_of(function), *(sql.Literal(bound_literal(at, table.key_type)) for at in span)
        )
        for span in days
    ]


def statements(session: Session, found: Found, options: Mapping[str, Any]) -> list[str]:
    """Return what is to be done: exports as comments, and the SQL."""
    texts = []
    for each in found.due:
        if each.name not in found.begun:
            texts.append(session.render(record(found.table.label, each, ACTION, options["history"])))
        if options["mark"]:
            texts += [session.render(text) for text in marks(found.table, each, options["mark"])]
        texts.append(f"-- archive {each.schema}.{each.name} in {options['archive_directory']}; it stays")
    return texts


def carry_out(session: Session, found: Found, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Copy them, and read each copy back before it counts. Return the archives."""
    archives = []
    for each in found.due:
        if each.name not in found.begun:
            session.execute(record(found.table.label, each, ACTION, options["history"]))
        begun = look_for_begun(session, found.table, each, options["history"])
        # Before the copy, so that it holds the stamps; an event that comes after them is in the copy without one, and
        # never the other way round. Until the copy was read back, its record is incomplete, and the next run goes on.
        if options["mark"] and find_manifest(Path(options["archive_directory"]), begun.archive) is None:
            for text in marks(found.table, each, options["mark"]):
                _alone(session, options, text)
        try:
            manifest = archive(session, found.table, begun, options)
        except PostgresqlError as error:
            if "differences" in error.details:
                error.remedy = f"no run has counted archive {begun.archive} yet: remove its files, and run this again"
            raise
        archives.append(
            {
                "partition": each.name,
                "archive": begun.archive,
                "rows": manifest.seal.rows,
                "sha256": manifest.seal.sha256,
                "manifest_sha256": manifest.sha256,
            }
        )
    return archives


def read_copies(session: Session, table: Table, history: str) -> list[Copy]:
    """Return the copies of the table's partitions, in the order in which they were begun."""
    query = sql.SQL(COPIES).format(history=table_of(history))
    return [Copy(**row) for row in session.query(query, (table.label,))]


def look_for_begun(session: Session, table: Table, each: Partition, history: str) -> Departure:
    """Return the record of a copy that was begun. Its archive is another than that of an earlier one of the name."""
    copies = [one for one in read_copies(session, table, history) if (one.schema, one.name) == (each.schema, each.name)]
    begun = [one for one in copies if not one.complete and one.bounds == (each.lower, each.upper)]
    before = sum(one.complete for one in copies)
    name = f"{archive_name((each.schema, each.name))}.stays" + (f".{before + 1}" if before else "")
    return Departure(begun[-1].number, each, name, None, False)


def _alone(session: Session, options: Mapping[str, Any], text: Any) -> None:
    def work() -> None:
        with session.transaction():
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
            session.execute(text)

    with_lock_retries(work, attempts=options["lock_attempts"])
