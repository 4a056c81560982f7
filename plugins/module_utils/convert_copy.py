# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy the old table batch by batch, and what changed since, until both are the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject, quoted, read_subject
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_plan import MARK
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_split_statements import Splitting
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_steps import Tell
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError

FILE = "SELECT pg_catalog.pg_relation_filenode(%s) AS file, pg_catalog.pg_relation_size(%s) / 8192 AS blocks"


@dataclass(frozen=True)
class State:
    """How far copying is, as the comment of the copy keeps it."""

    file: int
    """File of the old table; in a new one the rows are elsewhere, and all are copied again."""
    blocks: int
    """Blocks that it had once changes were noted. Rows of later ones are noted."""
    block: int = 0
    """First block that is not copied."""

    def text(self) -> str:
        """Return the comment."""
        return json.dumps({"made_by": MARK, **vars(self)})


def read_state(session: Session, writes: Splitting) -> State | None:
    """Return how far copying is; None where there is no copy of this module."""
    staging = read_subject(session, quoted(session, writes.subject.schema, writes.names["staging"]))
    try:
        kept = json.loads((staging.comment if staging and staging.kind == "p" else None) or "{}")
        return State(**kept) if kept.pop("made_by") == MARK else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def copy_of(session: Session, options: Mapping[str, Any], writes: Splitting) -> Callable[[Tell], None]:
    """Return the work that copies the old table, batch by batch, and what was noted meanwhile."""

    def work(tell: Tell) -> None:
        session.query("SET lock_timeout = 0; SET statement_timeout = 0")
        state = read_state(session, writes) or State(0, 0)
        step = blocks_of(options["batch_rows"], writes.legacy)
        while True:
            now = State(**session.query(FILE, (writes.legacy.oid, writes.legacy.oid))[0])
            if now.file != state.file:  # the first batch, or the table was written anew (VACUUM FULL, CLUSTER)
                state = now
            if state.block >= state.blocks:
                break
            end = min(state.block + step, state.blocks)
            after = State(state.file, state.blocks, end)
            with session.transaction():
                session.execute(writes.copy(state.block, end))
                same = session.query(FILE, (writes.legacy.oid, writes.legacy.oid))[0]["file"] == state.file
                session.execute(writes.remember((after if same else State(0, 0)).text()))
            state = after if same else State(0, 0)
            tell(rows_of(state.block, writes.legacy), rows_of(state.blocks, writes.legacy))
        session.execute(writes.text("ANALYZE {staging}"))  # or what changed would be looked up by reading whole tables

    return work


def blocks_of(rows: int, legacy: Subject) -> int:
    """Return how many blocks hold so many rows, about."""
    return max(1, round(rows * legacy.pages / legacy.rows)) if legacy.rows > 0 else max(1, rows // 50)


def rows_of(blocks: int, legacy: Subject) -> int:
    """Return how many rows so many blocks hold, about."""
    return round(blocks * legacy.rows / legacy.pages) if legacy.rows > 0 and legacy.pages else blocks * 50


def noted(session: Session, writes: Splitting) -> int:
    """Return how many changes are noted and not copied."""
    return int(session.query(writes.text("SELECT count(*) AS n FROM {log}"))[0]["n"])


def catch_up(session: Session, options: Mapping[str, Any], writes: Splitting) -> None:
    """Copy rows anew that changed, batch by batch, until few are left or as many come as go."""
    rows = noted(session, writes)
    while rows > 0:
        with session.transaction():
            # What is noted and what the rows are must be of one moment: a later change is noted for the next batch.
            session.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            catch_up_once(session, writes, max(1, options["batch_rows"]))
        before, rows = rows, noted(session, writes)
        if rows >= before or rows * 10 < options["batch_rows"]:
            break


def catch_up_once(session: Session, writes: Splitting, rows: int) -> None:
    """Copy anew, in the transaction that is open, the rows of so many changes."""
    first = session.query(writes.first_noted(rows))[0]
    if first["last"] is not None:
        session.execute(";\n".join(session.render(each) for each in writes.catch_up(**first)))


def compare(session: Session, writes: Splitting) -> None:
    """Raise where the copy has not as many rows as the old table, in one snapshot and without those that change."""
    counts = session.query(writes.compare())[0]
    if counts["legacy"] != counts["staging"]:
        raise PostgresqlError(
            f"{counts['staging']} of {counts['legacy']} rows of {writes.legacy.label} were copied",
            remedy="nothing was exchanged: remove the copy with state: reverted, or drop it, and report this",
        )
