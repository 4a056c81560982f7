# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carry out what follows from a look at one table: end detachings, create partitions, let others leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, with_lock_retries
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_carry import (
    Carry,
    read_carries,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import (
    Table,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_history import (
    Departure,
    archive,
    drop,
    drop_statements,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_indexes import repair
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_look import Found, after, look_for_departures
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import (
    Plan,
    Range,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import instant
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import (
    Hold,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_statements import (
    chunks,
    create_statements,
    finalize_statements,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_tablespace import move

CHECK_VIOLATION = "23514"
FOREIGN_KEY_VIOLATION = "23503"


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


def carry(session: Session, options: Mapping[str, Any], carries: Sequence[Carry]) -> None:
    """Give partitions what they lack, each in a transaction of its own."""
    for each in carries:
        _in_transaction(session, options, each.statements)


def _in_transaction(session: Session, options: Mapping[str, Any], texts: Sequence[Any]) -> None:
    def work() -> None:
        with session.transaction():
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
            session.execute(";\n".join(session.render(each) for each in texts))

    with_lock_retries(work, attempts=options["lock_attempts"])


def let_leave(session: Session, options: Mapping[str, Any], found: Found) -> None:
    """Let partitions leave, each in a transaction of its own."""
    for texts in found.going:
        _in_transaction(session, options, texts)


def statements(session: Session, found: Found) -> list[str]:
    """Return the SQL of all that is to be done, in order."""
    ends = finalize_statements(found.table, found.pending)
    makes = [each for new in found.planned.create for each in create_statements(found.table, new)]
    goes = [each for texts in found.going for each in texts]
    carries = [text for each in found.carries for text in each.statements]
    repairs = [each.statement for each in found.repairs]
    moves = [text for each in found.moves for text in each.statements]
    return [session.render(each) for each in [*ends, *makes, *carries, *goes, *repairs, *moves, *found.analyze]]


def archivings(session: Session, options: Mapping[str, Any], found: Found) -> list[str]:
    """Return what is to be done with partitions once they have left: exports as comments, and the SQL."""
    texts = ends(session, options, found.departures, found.holds)
    if options["retention_action"] == "archive":
        for leaves in found.leave:
            kept = options["retention_schema"]
            end = "it stays there" if kept else "then drop it"
            texts.append(f"-- archive {kept or leaves.schema}.{leaves.name} in {options['archive_directory']}, {end}")
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
        if each.partition.name not in held and not each.stays:
            texts += [session.render(text) for text in drop_statements(each, options["history"])]
    return texts


def carry_out(session: Session, options: Mapping[str, Any], found: Found) -> list[dict[str, Any]]:
    """Do it: first what lets rows in, then what lets them go. Return the archives."""
    finalize(session, options, found)
    create(session, options, found.table, found.planned)
    carry(session, options, found.carries)
    if found.planned.create:  # an index that a new partition is replicated by has a name only now
        carry(session, options, read_carries(session, after(found), options, instant(found.table, options["now"])))
    let_leave(session, options, found)
    repair(session, options, found.repairs)
    move(session, options, found.moves)
    for text in found.analyze:
        session.execute(text)
    return end_departures(session, options, found.table)


def end_departures(session: Session, options: Mapping[str, Any], table: Table) -> list[dict[str, Any]]:
    """Archive what left to be archived, read the archives back, drop what is not held. Return the archives."""
    archives = []
    departures, holds = look_for_departures(session, options, table)
    held = {each.partition for each in holds}
    for each in departures:
        # One whose table somebody removed after it was archived has only its record completed.
        manifest = None if each.lost else archive(session, table, each, options)
        if each.partition.name not in held and not each.stays:
            drop(session, each, manifest, options)
        if manifest:
            archives.append(
                {
                    "partition": each.partition.name,
                    "archive": each.archive,
                    "rows": manifest.seal.rows,
                    "sha256": manifest.seal.sha256,
                    "manifest_sha256": manifest.sha256,
                    "dropped": each.partition.name not in held and not each.stays,
                }
            )
    return archives
