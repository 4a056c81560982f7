# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at one table, then carry out what follows: end detachings, create partitions, let others leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, with_lock_retries
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import (
    Table,
    read_table,
    refuse_taken_names,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_default import Stray, look_into_default
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_history import (
    Departure,
    archive,
    drop,
    drop_statements,
    refuse_lost,
    unfinished,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_leave import (
    leave_statements,
    newest_row,
    read_holds,
    refuse_referenced,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import (
    Declaration,
    Partition,
    Plan,
    Range,
    attach_again,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import instant, plan_table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import (
    Hold,
    Retention,
    expired,
    leaving,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_statements import (
    chunks,
    create_statements,
    finalize_statements,
)

CHECK_VIOLATION = "23514"
FOREIGN_KEY_VIOLATION = "23503"


@dataclass(frozen=True)
class Found:
    """What there is, and what follows from it."""

    table: Table
    """Without the partitions whose detaching was interrupted, unless the server is a standby."""
    pending: list[Partition]
    planned: Plan
    strays: list[Stray] | None
    leave: list[Partition]
    going: list[list[Any]]
    """The statements of each of their transactions."""
    departures: list[Departure]
    """Partitions that left before this run, and whose archive or removal is not complete."""
    holds: list[Hold]
    problem: PostgresqlError | None
    """Why none leaves; it is told at the end, for what is lacking is created all the same."""


def look(session: Session, options: Mapping[str, Any], wanted: Declaration, stay: Retention | None) -> Found:
    """Return the table as it is, what it lacks, what is astray in its default partition, and what is to leave."""
    table = read_table(session, options["table"])
    pending = [] if table.standby else [each for each in table.partitions if each.detach_pending]
    table = replace(table, partitions=[each for each in table.partitions if each not in pending])
    planned = plan_table(table, wanted, options["now"], stay)
    create = attach_again(planned.create, pending)
    refuse_taken_names(session, table, [new for new in create if not new.detached])
    create, strays = look_into_default(session, table, create)
    if table.standby:
        return Found(table, pending, replace(planned, create=[]), strays, [], [], [], [], None)
    leave, holds, problem = look_for_expired(session, options, table, stay)
    going = leave_statements(session, table, leave, stay.action, options["history"]) if stay else []
    departures, kept = look_for_departures(session, options, table)
    planned = replace(planned, create=create)
    return Found(table, pending, planned, strays, leave, going, departures, [*holds, *kept], problem)


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
    except PostgresqlError as error:
        return [], holds, error
    return leave, holds, None


def finalize(session: Session, options: Mapping[str, Any], found: Found) -> None:
    """End interrupted detachings, each by itself: it waits for transactions that began before."""
    for statement in finalize_statements(found.table, found.pending):

        def work(text: Any = statement) -> None:
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, false)", (options["lock_timeout"],))
            session.execute(text)

        with_lock_retries(work, attempts=options["lock_attempts"])


def create(session: Session, options: Mapping[str, Any], table: Table, planned: Plan) -> None:
    """Create what is lacking, one transaction a chunk."""
    for chunk in chunks(table, planned.create):
        try:
            create_chunk(session, options, table, chunk)
        except PostgresqlError as error:
            if error.sqlstate != CHECK_VIOLATION or not table.default:
                raise
            # Rows of this range came into the default partition since it was looked into.
            create_chunk(session, options, table, [replace(new, rows=new.rows or 1) for new in chunk])


def create_chunk(session: Session, options: Mapping[str, Any], table: Table, chunk: Sequence[Range]) -> None:
    """Create these partitions in one transaction."""
    batch = [session.render(each) for new in chunk for each in create_statements(table, new)]

    def work() -> None:
        with session.transaction():
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
            session.execute(";\n".join(batch))  # one round trip for the whole chunk

    try:
        with_lock_retries(work, attempts=options["lock_attempts"])
    except PostgresqlError as error:
        if error.sqlstate == FOREIGN_KEY_VIOLATION and table.default:
            error.remedy = (
                f"rows of {table.default.schema}.{table.default.name} cannot move while others refer to them: drop the "
                f"foreign key to {table.label}, run this again, add the key NOT VALID and validate it"
            )
        raise


def let_leave(session: Session, options: Mapping[str, Any], found: Found) -> None:
    """Let partitions leave, each in a transaction of its own."""
    for texts in found.going:

        def work(batch: list[Any] = texts) -> None:
            with session.transaction():
                session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
                session.execute(";\n".join(session.render(each) for each in batch))

        with_lock_retries(work, attempts=options["lock_attempts"])


def statements(session: Session, found: Found) -> list[str]:
    """Return the SQL of all that is to be done, in order."""
    ends = finalize_statements(found.table, found.pending)
    makes = [each for new in found.planned.create for each in create_statements(found.table, new)]
    goes = [each for texts in found.going for each in texts]
    return [session.render(each) for each in [*ends, *makes, *goes]]


def archivings(session: Session, options: Mapping[str, Any], found: Found) -> list[str]:
    """Return what is to be done with partitions once they have left: exports as comments, and the SQL."""
    texts = ends(session, options, found.departures, found.holds)
    if options["retention_action"] == "archive":
        for leaves in found.leave:
            texts.append(f"-- archive {leaves.schema}.{leaves.name} in {options['archive_directory']}, then drop it")
    return texts


def ends(
    session: Session, options: Mapping[str, Any], departures: Sequence[Departure], holds: Sequence[Hold]
) -> list[str]:
    """Return what is to be done with what left before this run."""
    held = {each.partition for each in holds}
    texts = []
    for each in departures:
        if not each.manifest_sha256:
            texts.append(f"-- archive {each.partition.schema}.{each.partition.name} in {options['archive_directory']}")
        if each.partition.name not in held:
            texts += [session.render(text) for text in drop_statements(each, options["history"])]
    return texts


def carry_out(session: Session, options: Mapping[str, Any], found: Found) -> list[dict[str, Any]]:
    """Do it: first what lets rows in, then what lets them go. Return the archives."""
    finalize(session, options, found)
    create(session, options, found.table, found.planned)
    let_leave(session, options, found)
    return end_departures(session, options, found.table)


def end_departures(session: Session, options: Mapping[str, Any], table: Table) -> list[dict[str, Any]]:
    """Archive what left to be archived, read the archives back, drop what is not held. Return the archives."""
    archives = []
    departures, holds = look_for_departures(session, options, table)
    held = {each.partition for each in holds}
    for each in departures:
        # One whose table somebody removed after it was archived has only its record completed.
        manifest = None if each.lost else archive(session, table, each, options)
        if each.partition.name not in held:
            drop(session, each, manifest, options)
        if manifest:
            archives.append(
                {
                    "partition": each.partition.name,
                    "archive": each.archive,
                    "rows": manifest.seal.rows,
                    "sha256": manifest.seal.sha256,
                    "manifest_sha256": manifest.sha256,
                    "dropped": each.partition.name not in held,
                }
            )
    return archives


def after(found: Found) -> Table:
    """Return the table as it will be, without a look: check mode has nothing to look at."""
    made = [
        Partition(new.name, new.lower, new.upper, default=new.default, schema=found.table.schema)
        for new in found.planned.create
    ]
    stays = [each for each in found.table.partitions if each not in found.leave]
    return replace(found.table, partitions=[*stays, *made])
