# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at one table, and tell what follows from what is declared for it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_carry import (
    Carry,
    read_carries,
    with_new,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import (
    Table,
    read_table,
    refuse_taken_names,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_default import Stray, look_into_default
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_history import (
    Departure,
    refuse_lost,
    unfinished,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_indexes import Repair, read_repairs
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import floor, step
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_leave import (
    leave_statements,
    newest_row,
    read_holds,
    refuse_referenced,
    refuse_schema,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import (
    Declaration,
    Partition,
    Plan,
    attach_again,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import instant, plan_table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import (
    Hold,
    Retention,
    expired,
    leaving,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_tablespace import (
    Move,
    check_tablespaces,
    read_moves,
)

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

# Autovacuum analyzes partitions and never their table, so the planner guesses over all of them (PostgreSQL manual,
# 24.1.3). By the server's clock, not the declared one: so that it is done once an interval.
ANALYZED = """
SELECT (SELECT greatest(last_analyze, last_autoanalyze) FROM pg_catalog.pg_stat_all_tables WHERE relid = c.oid) AS at,
    EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = c.oid AND pg_catalog.pg_relation_size(inhrelid) > 0)
        AS filled
FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass(%s)
"""


@dataclass(frozen=True)
class Found:
    """What there is, and what follows from it."""

    table: Table
    """Without the partitions whose detaching was interrupted, unless the server is a standby."""
    pending: list[Partition]
    planned: Plan
    carries: list[Carry]
    """What PostgreSQL did not pass on to partitions that are there."""
    repairs: list[Repair]
    strays: list[Stray] | None
    leave: list[Partition]
    going: list[list[Any]]
    """The statements of each of their transactions."""
    departures: list[Departure]
    """Partitions that left before this run, and whose archive or removal is not complete."""
    holds: list[Hold]
    moves: list[Move]
    """Old partitions that are to be stored elsewhere."""
    waiting: int
    """How many more of those are left to the next runs."""
    analyze: list[Any]
    """The statement that analyzes the table, where that is due."""
    problem: PostgresqlError | None
    """Why none leaves; it is told at the end, for what is lacking is created all the same."""


def look(session: Session, options: Mapping[str, Any], wanted: Declaration, stay: Retention | None) -> Found:
    """Return the table as it is, what it lacks, what is astray in its default partition, and what is to leave."""
    table = read_table(session, options["table"], numbers=True)
    check_tablespaces(session, options)
    pending = [] if table.standby else [each for each in table.partitions if each.detach_pending]
    table = replace(table, partitions=[each for each in table.partitions if each not in pending])
    planned = plan_table(table, wanted, options["now"], stay)
    create = attach_again(planned.create, pending)
    refuse_taken_names(session, table, [new for new in create if not new.detached])
    create, strays = look_into_default(session, table, create)
    if table.standby:
        nothing: list[Any] = []
        return Found(
            table, pending, replace(planned, create=[]), nothing, nothing, strays, nothing, nothing, nothing, nothing,
            nothing, 0, nothing, None,
        )  # fmt: skip
    leave, holds, problem = look_for_expired(session, options, table, stay)
    going = leave_statements(session, table, leave, stay.action, options) if stay else []
    departures, kept = look_for_departures(session, options, table)
    planned = replace(planned, create=create)
    now = instant(table, options["now"])
    gone = {(each.schema, each.name) for each in leave}
    carries = [each for each in read_carries(session, table, options, now) if (each.schema, each.partition) not in gone]
    due = analyze_statements(session, table, wanted.interval) if options["analyze"] else []
    repairs = read_repairs(session, table, leave) if options["repair_indexes"] else []
    stays = replace(table, partitions=[each for each in table.partitions if each not in leave])
    moves, waiting = read_moves(session, stays, options, now)
    if create:
        table = with_new(session, table, options, now)
        table = replace(table, new_tablespace=options["tablespace"])
    return Found(
        table, pending, planned, carries, repairs, strays, leave, going, departures, [*holds, *kept], moves, waiting,
        due, problem,
    )  # fmt: skip


def analyze_statements(session: Session, table: Table, interval: str) -> list[Any]:
    """Return the statement that analyzes a table with rows that was not analyzed since the interval began."""
    name = sql.Identifier(table.schema, table.name)
    row = session.query(ANALYZED, (name.as_string(session.connection),))[0]
    if not row["filled"] or (row["at"] and row["at"] >= floor(table.now, "day" if step(interval) else interval)):
        return []
    return [sql.SQL("ANALYZE {}").format(name)]


def look_for_departures(
    session: Session, options: Mapping[str, Any], table: Table
) -> tuple[list[Departure], list[Hold]]:
    """Return what is left to be archived or dropped of partitions that left, and the holds that keep tables."""
    if not options["history"] or not options["archive_directory"]:
        return [], []
    departures = unfinished(session, table, options["history"])
    refuse_lost(departures)
    holds = read_holds(session, table, [each.partition for each in departures if not each.lost], options["holds"])
    held = {each.partition for each in holds}
    return [each for each in departures if not (each.manifest_sha256 and each.partition.name in held)], holds


def look_for_expired(
    session: Session, options: Mapping[str, Any], table: Table, stay: Retention | None
) -> tuple[list[Partition], list[Hold], PostgresqlError | None]:
    """Return the partitions that leave in this run, the holds that keep others, and why none leaves."""
    now = instant(table, options["now"])
    old = expired(table.partitions, stay, now) if stay else []
    if not stay or not old:
        return [], [], None
    holds = read_holds(session, table, old, options["holds"])
    try:
        leave = leaving(old, holds, stay, now, newest_row(session, table, now))
        refuse_referenced(session, table, leave)
        refuse_schema(session, leave, options)
    except PostgresqlError as error:
        return [], holds, error
    return leave, holds, None


def after(found: Found) -> Table:
    """Return the table as it will be, without a look: check mode has nothing to look at."""
    made = [
        Partition(new.name, new.lower, new.upper, default=new.default, schema=found.table.schema)
        for new in found.planned.create
    ]
    stays = [each for each in found.table.partitions if each not in found.leave]
    return replace(found.table, partitions=[*stays, *made])
