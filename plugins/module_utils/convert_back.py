# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way back: a converted table becomes the plain one that it was, with every row."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, with_lock_retries
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_after import read_legacy
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_aside import forget, put_back
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_back_statements import (
    detach,
    move,
    replace,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject, quoted, read_subject
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_dress import locks
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_obstacles import (
    Obstacle,
    of_dependents,
    of_key_dependents,
    of_rights,
    refuse,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_plan import (
    CHECK,
    Origin,
    check_upper,
    index_serves,
    is_aside,
    names,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_split import undo_split
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_statements import (
    build_index,
    drop_check,
    drop_index,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_steps import Found, Step, alone, together
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import instant_of

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

# The partitions that hold rows, at any depth, without the old table.
LEAVES = """
SELECT n.nspname AS schema, c.relname AS name FROM pg_catalog.pg_partition_tree(%s) AS t
JOIN pg_catalog.pg_class c ON c.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.isleaf AND c.oid NOT IN (%s, %s) ORDER BY 1, 2
"""


def look_back(session: Session, options: Mapping[str, Any], subject: Subject) -> Found:
    """Return what makes it the plain table that it was."""
    if subject.kind == "r":
        return Found(subject, steps=undo_steps(session, options, subject))
    converted = read_legacy(session, subject)
    if converted is None:
        raise PostgresqlError(
            f"{subject.label} has no partition {names(subject.name).legacy} that was the table before",
            remedy="it was not converted by this module, or that partition has left: copy the rows to a new table",
        )
    legacy, before = converted[0], converted[1]
    refuse(subject, hindrances(session, options, subject, converted))
    steps = undo_split(session, options, subject, legacy)
    steps += [*key_steps(session, legacy, subject.name, before), back_step(session, options, subject)]
    return Found(subject, instant_of(before.boundary), steps)


def undo_steps(session: Session, options: Mapping[str, Any], subject: Subject) -> list[Step]:
    """Return what removes the preparations of a conversion that did not come to its end."""
    steps = []
    index = names(subject.name).index
    check = subject.constraint(CHECK)
    checked = [drop_check(subject.schema, subject.name)] if check and check_upper(check, options["key"]) else []
    if is_aside(subject):
        texts = [*locks(subject), *forget(subject), *checked, *put_back(subject)]
        steps.append(together(session, options, "put back", texts))
    elif checked:
        steps.append(together(session, options, "drop check", checked))
    if subject.index(index):
        steps.append(alone(session, "drop index", drop_index(subject.schema, index)))
    return steps


def hindrances(
    session: Session, options: Mapping[str, Any], subject: Subject, converted: tuple[Subject, Origin]
) -> list[Obstacle]:
    """Return all that keeps the table from going back."""
    legacy, before = converted
    found = [*of_rights(subject), *of_dependents(subject)]
    if before.key_name:
        found += of_key_dependents(subject)
    if not subject.owned:
        return found
    rows = rows_elsewhere(session, subject, legacy, options["batch_rows"])
    if rows > options["batch_rows"]:
        found.append(
            Obstacle(
                f"more than {options['batch_rows']} rows are in other partitions, and would move while the table is "
                "locked",
                "raise batch_rows, at some seconds of lock for a million",
            )
        )
    return found


def rows_elsewhere(session: Session, subject: Subject, legacy: Subject, most: int) -> int:
    """Return how many rows other partitions than the old table have; no more than one above ``most`` are counted."""
    count = 0
    for each in session.query(LEAVES, (subject.oid, subject.oid, legacy.oid)):
        table = sql.Identifier(each["schema"], each["name"])
        query = sql.SQL("SELECT count(*) AS n FROM (SELECT FROM {} LIMIT {}) AS t")
        count += session.query(query.format(table, sql.Literal(most + 1 - count)))[0]["n"]
        if count > most:
            break
    return count


def key_steps(session: Session, legacy: Subject, table: str, before: Origin) -> list[Step]:
    """Return what builds the index of the old primary key, while others write."""
    index = names(table).back
    built = legacy.index(index)
    if before.key_name is None or index_serves(built, list(before.key_columns)):
        return []
    steps = [alone(session, "drop index", drop_index(legacy.schema, index))] if built else []
    text = build_index(legacy.schema, legacy.name, index, before.key_columns, before.key_included)
    return [*steps, alone(session, "build index", text)]


def back_step(session: Session, options: Mapping[str, Any], subject: Subject) -> Step:
    """Return the one transaction in which the table is locked for everybody."""
    name = quoted(session, subject.schema, subject.name)

    def render(statements: list[Any]) -> list[str]:
        return [session.render(each) for each in statements]

    first = render(locks(subject))

    def once() -> float:
        with session.transaction():
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
            session.execute(";\n".join(first))  # the partitions, too
            begun = time.monotonic()
            now = read_subject(session, name)
            converted = read_legacy(session, now) if now else None
            if now is None or converted is None:
                raise PostgresqlError(f"{subject.label} was replaced meanwhile", remedy="run this again")
            legacy, before = converted[0], converted[1]
            refuse(now, [*hindrances(session, options, now, converted), *unprepared(legacy, now.name, before)])
            rows = rows_elsewhere(session, now, legacy, options["batch_rows"])
            session.execute(";\n".join(render(detach(now, legacy))))
            moved = session.execute(session.render(move(now, legacy)))
            if moved != rows:
                raise PostgresqlError(
                    f"{moved} of {rows} rows would come back to {now.label}",
                    remedy="log in as a superuser: row security or a rule hides the others",
                )
            session.execute(";\n".join(render(replace(now, legacy, before))))
        return time.monotonic() - begun

    legacy, before = read_legacy(session, subject) or (subject, None)
    texts = [*detach(subject, legacy), move(subject, legacy), *(replace(subject, legacy, before) if before else [])]
    work = once
    return Step(
        "swap back", [*first, *render(texts)], lambda _tell: with_lock_retries(work, attempts=options["lock_attempts"])
    )


def unprepared(legacy: Subject, table: str, before: Origin) -> list[Obstacle]:
    """Return what was prepared and is gone."""
    if before.key_name is None or index_serves(legacy.index(names(table).back), list(before.key_columns)):
        return []
    return [Obstacle("the index of the old primary key was changed meanwhile", "run this again")]
