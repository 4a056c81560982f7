# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Split the old table into partitions of one interval, in the background: copy, catch up, and exchange at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, with_lock_retries
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject, quoted
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_copy import (
    State,
    catch_up,
    catch_up_once,
    compare,
    copy_of,
    noted,
    read_state,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_dress import locks
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_obstacles import Obstacle, refuse
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_split_statements import PARTS, Splitting
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_statements import analyze
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_steps import Step, Tell, alone, together
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_carry import EVERYTHING, with_new
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import KINDS, TAKEN, read_table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import (
    EARLIEST,
    floor,
    instant_of,
    intervals,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_names import NAME_BYTES
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import (
    MOST_AT_ONCE,
    Range,
    partition_name,
)


def split_steps(
    session: Session, options: Mapping[str, Any], subject: Subject, legacy: Subject, upper: datetime
) -> tuple[list[Step], list[Range]]:
    """Return what is still to be done, and the partitions that take the place of the old table."""
    writes = Splitting(subject, legacy, options["key"], session.connection)
    if read_state(session, writes):
        ours = read_table(session, quoted(session, subject.schema, writes.names["staging"])).partitions
        create = [Range(each.name, each.lower, each.upper) for each in sorted(ours, key=lambda each: each.lower)]
        steps = []
    else:
        create = plan_split(session, options, subject, legacy, upper)
        refuse(subject, split_obstacles(session, subject, legacy, create))
        steps = [prepare_step(session, options, writes, create)]
    steps += [
        Step(
            "copy",
            [f"-- copy {legacy.label} in batches of {options['batch_rows']} rows"],
            copy_of(session, options, writes),
        ),
        exchange_step(session, options, writes, create),
        alone(session, "analyze", analyze(subject)),
    ]
    return steps, create


def plan_split(
    session: Session, options: Mapping[str, Any], subject: Subject, legacy: Subject, upper: datetime
) -> list[Range]:
    """Return one range for each interval that has rows or lies between, and one for all times before."""
    writes = Splitting(subject, legacy, options["key"], session.connection)
    query = writes.text("SELECT min({key})::text AS oldest FROM ONLY {legacy} WHERE pg_catalog.isfinite({key})")
    oldest = session.query(query)[0]["oldest"]
    interval = options["interval"]
    early = oldest is not None and oldest.endswith("BC")
    begin = floor(instant_of(oldest), interval) if oldest and not early else upper
    cells = []
    for cell in intervals(min(begin, floor(upper, interval)), upper, interval):
        cells.append(cell)
        if len(cells) > MOST_AT_ONCE:
            raise PostgresqlError(
                f"more than {MOST_AT_ONCE} partitions of {subject.label} would be created at once",
                remedy="take a longer interval, or correct the rows that are from long ago",
            )
    ranges = [
        Range(
            partition_name(subject.name, (low, min(high, upper)), (low, high), interval, options["names"]),
            low,
            min(high, upper),
        )
        for low, high in cells
    ]
    return [Range(f"{subject.name}_earlier", EARLIEST, ranges[0].lower if ranges else upper), *ranges]


def split_obstacles(session: Session, subject: Subject, legacy: Subject, create: list[Range]) -> list[Obstacle]:
    """Return all that keeps the old table from being split."""
    found = []
    if legacy.primary_key is None:
        found.append(Obstacle("rows cannot be told apart without a primary key", "add one, with the key in it"))
    for each in subject.publications:
        if not each["listed"]:
            found.append(
                Obstacle(
                    f"publication {each['name']} would publish the copies, too",
                    f"name the tables in publication {each['name']}",
                )
            )
    needed = [each.name for each in create] + [f"{subject.name}{end}" for end in PARTS.values()]
    found += [
        Obstacle(f"the name {each} is longer than {NAME_BYTES} bytes", "give the table a shorter name")
        for each in needed
        if len(each.encode("utf-8")) > NAME_BYTES
    ]
    rows = session.query(TAKEN, {"schema": subject.schema, "table": subject.name, "names": needed})
    found += [
        Obstacle(f"the name {row['name']} is needed, and is that of {KINDS.get(row['kind'], 'another relation')}",
                 f"rename {row['name']}")
        for row in rows
    ]  # fmt: skip
    # Detaching and attaching lock each partition, its indexes, its TOAST table and that one's index.
    most = subject.lock_slots // 2 // (3 + len(subject.indexes))
    if len(create) > most:
        found.append(
            Obstacle(
                f"{len(create)} partitions would be exchanged at once, with locks for {most}",
                "take a longer interval, or raise max_locks_per_transaction",
            )
        )
    return found


def prepare_step(session: Session, options: Mapping[str, Any], writes: Splitting, create: list[Range]) -> Step:
    """Return the step after which changes are noted. Where copying begins is set once everybody's are."""
    return together(session, options, "prepare split", writes.prepare(create, State(0, 0).text()))


def exchange_step(session: Session, options: Mapping[str, Any], writes: Splitting, create: list[Range]) -> Step:
    """Return the one transaction in which the new partitions take the place of the old table."""
    first = [session.render(each) for each in locks(writes.subject)]
    table = read_table(session, quoted(session, writes.subject.schema, writes.subject.name))
    table = with_new(session, table, EVERYTHING, table.now)
    then = [session.render(each) for each in writes.exchange(create, table)]

    def once() -> float:
        with session.transaction():
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
            session.execute(";\n".join(first))
            begun = time.monotonic()
            rows = noted(session, writes)
            if rows > options["batch_rows"]:
                raise PostgresqlError(
                    f"{rows} changes came while rows were copied, more than are copied under a lock",
                    remedy="run this again when less is written, or raise batch_rows",
                    changes=rows,
                )
            catch_up_once(session, writes, max(1, rows))
            session.execute(";\n".join(then))
        return time.monotonic() - begun

    def work(_tell: Tell) -> float:
        catch_up(session, options, writes)
        compare(session, writes)
        for left in reversed(range(options["lock_attempts"])):
            try:
                return with_lock_retries(once, attempts=options["lock_attempts"])
            except PostgresqlError as error:
                if "changes" not in error.details or not left:
                    raise
            catch_up(session, options, writes)
        raise PostgresqlError(f"{writes.legacy.label} was not exchanged")  # never: the last attempt raises

    return Step("exchange", [*first, *then], work)


def undo_split(session: Session, options: Mapping[str, Any], subject: Subject, legacy: Subject) -> list[Step]:
    """Return what removes a copy that was not exchanged."""
    writes = Splitting(subject, legacy, options["key"], session.connection)
    if read_state(session, writes) is None:
        return []
    return [together(session, options, "drop copy", writes.undo())]
