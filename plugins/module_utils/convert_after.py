# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What remains once the table is partitioned: its next partitions, its statistics; and how all steps are taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils import partition_run
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject, quoted, read_subject
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_obstacles import STAYS
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_plan import Origin, names, read_origin
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_progress import Progress
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_split import split_steps, undo_split
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_statements import analyze, drop_index
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_steps import Found, Step, Tell, alone
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_carry import EVERYTHING, with_new
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import instant_of
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_look import look as look_at_table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Declaration

# Of all that postgresql_partition does with a table, only what is lacking is created here.
NOTHING: dict[str, Any] = {"holds": None, "history": None, "archive_directory": None, "analyze": False}
NOTHING |= {"carry": [], "storage_parameters": None, "closed_storage_parameters": None, "repair_indexes": False}
NOTHING |= {"tablespace": None, "old_tablespace": None, "retention_schema": None}


def read_legacy(session: Session, subject: Subject) -> tuple[Subject, Origin] | None:
    """Return the partition that was the table, and what the table was; None where it was not converted by this."""
    legacy = read_subject(session, quoted(session, subject.schema, names(subject.name).legacy))
    before = read_origin(legacy.comment) if legacy and legacy.partition else None
    return (legacy, before) if legacy and before else None


def look_at_partitioned(session: Session, options: Mapping[str, Any], subject: Subject, wanted: Declaration) -> Found:
    """Return what a table that is partitioned lacks: all that an interrupted run had still to do."""
    settings = {**options, "table": quoted(session, subject.schema, subject.name)}
    settings |= NOTHING
    lacking = look_at_table(session, settings, wanted, None)
    lacking = replace(lacking, table=with_new(session, lacking.table, EVERYTHING, lacking.table.now))
    if lacking.table.key != options["key"]:
        raise PostgresqlError(
            f"key: {subject.label} is partitioned by {lacking.table.key} already",
            remedy=f"give key: {lacking.table.key}",
        )
    converted = read_legacy(session, subject)
    steps = []
    if converted and converted[0].index(names(subject.name).back):
        text = drop_index(subject.schema, names(subject.name).back)
        steps.append(alone(session, "drop index", text))
    queries = partition_run.statements(session, lacking)
    if queries:

        def work(_tell: Tell) -> None:
            partition_run.carry_out(session, settings, lacking)

        steps.append(Step("create partitions", queries, work))
    if converted and subject.rows < 0:
        steps.append(alone(session, "analyze", analyze(subject)))
    boundary = instant_of(converted[1].boundary) if converted else None
    create = lacking.planned.create
    said = []
    if converted and boundary and options["split"]:
        parts, pieces = split_steps(session, options, subject, converted[0], boundary)
        steps, create = steps + parts, [*create, *pieces]
        said.append(f"{converted[0].label} {STAYS}")
    elif converted and undo_split(session, options, subject, converted[0]):
        said.append(f"{converted[0].label} was not split to the end, and its changes are noted: go on with split: true")
    return Found(subject, boundary, steps, create, said)


def take(session: Session, look: Callable[[], Found], progress: Progress) -> list[dict[str, Any]]:
    """Take steps until none is left; return their names and how long each took."""
    taken: list[dict[str, Any]] = []
    before: list[str] = []
    while (found := look()).steps:
        if found.queries == before:
            raise PostgresqlError(f"{found.subject.label} is as it was after: {before}", remedy="report this")
        before = found.queries
        for step in found.steps:
            with progress.of(step.name) as tell:
                begun = time.monotonic()
                away = step.work(tell)
                taken.append({"step": step.name, "seconds": round(time.monotonic() - begun, 3)})
            if away is not None:
                taken[-1]["locked_seconds"] = round(away, 3)
    return taken
