# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a table, then take the steps that lead to a partitioned one. Each leaves a table that works."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils import convert_aside
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, with_lock_retries
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject, quoted, read_subject
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_dress import locks
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_obstacles import (
    Obstacle,
    obstacles,
    of_key,
    refuse,
    warnings,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_plan import (
    CHECK,
    Origin,
    check_serves,
    check_upper,
    choose_boundary,
    index_serves,
    is_aside,
    legacy_name,
    names,
    origin,
    partitioned,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_statements import (
    add_check,
    analyze,
    build_index,
    drop_check,
    drop_index,
    kept_indexes,
    swap,
    validate_check,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_steps import Found, Step, alone, locked
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_carry import EVERYTHING, with_new
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import KINDS, TAKEN
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import instant_of, parse_instant
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Declaration, Range
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import plan_table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import Period
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_statements import create_statements

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql


def look_at_plain(
    session: Session, options: Mapping[str, Any], subject: Subject, wanted: Declaration, room: Period
) -> Found:
    """Return what makes the plain table a partitioned one; raise where it cannot be, naming everything at once."""
    key = options["key"]
    problems = obstacles(subject, key)
    boundary = None
    if subject.kind == "r" and subject.owned and not list(of_key(subject, key)):
        try:
            boundary = find_boundary(session, options, subject, room)
        except PostgresqlError as error:
            if error.sqlstate:
                raise
            problems.append(Obstacle(error.message, error.remedy))
    if boundary is None:
        refuse(subject, [*problems, *taken(session, subject, origin(subject, key, subject.now), [])])
        raise PostgresqlError(f"table: there is no place to cut {subject.label}")  # never: each reason is an obstacle
    table = partitioned(subject, key, boundary, default=options["default_partition"])
    planned = plan_table(table, wanted, options["now"])
    made = [Range(each.name, each.lower, each.upper, default=True) for each in table.partitions if each.default]
    problems += convert_aside.obstacles(session, options, subject, boundary)
    problems += taken(session, subject, origin(subject, key, boundary), [*made, *planned.create])
    refuse(subject, problems)
    table = with_new(session, table, EVERYTHING, table.now)
    steps = [
        *index_steps(session, subject, key),
        *check_steps(session, options, subject, boundary),
        swap_step(session, options, subject, boundary),
    ]
    creates = [session.render(each) for new in planned.create for each in create_statements(table, new)]
    later = [("create partitions", creates)] if creates else []
    later.append(("analyze", [session.render(analyze(subject))]))
    if options["split"]:
        later.append(("split", [f"-- split {subject.label} into partitions of one {options['interval']}"]))
    said = warnings(subject, key, bool(options["split"]))
    return Found(subject, boundary, steps, [*made, *planned.create], said, later)


def find_boundary(session: Session, options: Mapping[str, Any], subject: Subject, room: Period) -> datetime:
    """Return where the table is cut. Rows are looked at where no earlier run's check has looked at them."""
    key = options["key"]
    now = parse_instant(options["now"], "now") if options["now"] else subject.now
    check = subject.constraint(CHECK)
    upper = check_upper(check, key)
    if check and upper and check["valid"] and upper > now:
        return upper
    latest = newest(session, subject, key, aside=options["default_partition"])
    boundary = choose_boundary(now, latest, options, room, upper)
    return upper if upper and check_serves(check, key, boundary, now) else boundary


def newest(session: Session, subject: Subject, key: str, *, aside: bool) -> datetime | None:
    """Return the time of the newest row; raise where rows have no time, or one without end that is not put aside."""
    table = sql.Identifier(subject.schema, subject.name)
    column = subject.column(key)
    nulls = sql.SQL("EXISTS (SELECT FROM {} WHERE {} IS NULL)" if column and not column["not_null"] else "false")
    row = session.query(
        sql.SQL("SELECT " + "max({key})::text AS newest, {nulls} AS nulls FROM {table}").format(
            key=sql.Identifier(key), table=table, nulls=nulls.format(table, sql.Identifier(key))
        )
    )[0]
    if row["nulls"]:
        raise PostgresqlError(f"rows have no {key}", remedy=f"give them one: UPDATE ... WHERE {key} IS NULL")
    if aside:
        return None
    if row["newest"] == "infinity":
        raise PostgresqlError(f"rows have infinity as {key}", remedy="give them a time that comes")
    return instant_of(row["newest"]) if row["newest"] and not row["newest"].endswith(("BC", "-infinity")) else None


def taken(session: Session, subject: Subject, before: Origin, create: Sequence[Range]) -> list[Obstacle]:
    """Return the names that will be needed and that something else has."""
    mine = names(subject.name)
    needed = {mine.legacy, mine.index, *(each.name for each in create)}
    needed |= {legacy_name(each["name"], subject.name) for each in kept_indexes(subject, before)}
    needed |= {legacy_name(each["name"], subject.name) for each in [*subject.statistics, *subject.sequences]}
    if any(each.default for each in create) and not is_aside(subject):
        needed.add(mine.aside)
    if subject.index(mine.index):  # built by an earlier run
        needed -= {mine.index}
    rows = session.query(TAKEN, {"schema": subject.schema, "table": subject.name, "names": sorted(needed)})
    return [
        Obstacle(
            f"the name {row['name']} is needed, and is that of {KINDS.get(row['kind'], 'another relation')}",
            f"rename {row['name']}",
        )
        for row in rows
    ]


def index_steps(session: Session, subject: Subject, key: str) -> list[Step]:
    """Return what builds the index of the new primary key, anew where an earlier run was interrupted in it."""
    mine = names(subject.name)
    primary = subject.primary_key
    if primary is None or key in primary["columns"]:
        return []
    columns = [*primary["columns"], key]
    built = subject.index(mine.index)
    if index_serves(built, columns):
        return []
    steps = [alone(session, "drop index", drop_index(subject.schema, mine.index))] if built else []
    text = build_index(subject.schema, subject.name, mine.index, columns, primary["included"])
    return [*steps, alone(session, "build index", text)]


def check_steps(session: Session, options: Mapping[str, Any], subject: Subject, boundary: datetime) -> list[Step]:
    """Return what makes the check that spares the reading of the rows while the table is locked.

    Last of all that is prepared, for rows from the boundary on are refused as long as it is there, or put aside.
    """
    check = subject.constraint(CHECK)
    steps: list[Step] = []
    serves = check is not None and check_upper(check, options["key"]) == boundary
    if options["default_partition"] and not (serves and is_aside(subject)):
        steps += convert_aside.prepare_steps(session, options, subject, boundary)
    if check and not serves:
        steps.append(locked(session, options, "drop check", drop_check(subject.schema, subject.name)))
    if not serves:
        steps.append(locked(session, options, "add check", add_check(subject, options["key"], boundary)))
    if not (serves and check and check["valid"]):
        steps.append(alone(session, "validate check", validate_check(subject)))
    return steps


def swap_step(session: Session, options: Mapping[str, Any], subject: Subject, boundary: datetime) -> Step:
    """Return the one transaction in which the table is locked for everybody."""
    key = options["key"]
    name = quoted(session, subject.schema, subject.name)
    first = [session.render(each) for each in locks(subject)]
    aside = bool(options["default_partition"])

    def once() -> float:
        with session.transaction():
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
            session.execute(";\n".join(first))
            begun = time.monotonic()
            now = read_subject(session, name)  # what others granted, made or dropped until the lock
            if now is None or now.oid != subject.oid:
                raise PostgresqlError(f"{subject.label} was replaced meanwhile", remedy="run this again")
            refuse(now, [*obstacles(now, key), *unprepared(now, key, boundary, aside=aside)])
            before = origin(now, key, boundary)
            session.execute(";\n".join(session.render(each) for each in swap(now, before, aside=aside)))
            refuse_built(session, now, before)
        return time.monotonic() - begun

    texts = swap(subject, origin(subject, key, boundary), aside=aside)
    queries = [*first, *(session.render(each) for each in texts)]
    return Step("swap", queries, lambda _tell: with_lock_retries(once, attempts=options["lock_attempts"]))


def unprepared(subject: Subject, key: str, boundary: datetime, *, aside: bool) -> list[Obstacle]:
    """Return what was prepared and is gone: without it, the table would be locked for as long as it is read."""
    check = subject.constraint(CHECK)
    missing = []
    if check is None or not check["valid"] or check_upper(check, key) != boundary:
        missing.append(Obstacle(f"constraint {CHECK} was changed meanwhile", "run this again"))
    if is_aside(subject) != aside:
        missing.append(Obstacle("what puts rows aside was changed meanwhile", "run this again"))
    primary, built = subject.primary_key, subject.index(names(subject.name).index)
    if primary and key not in primary["columns"] and not index_serves(built, [*primary["columns"], key]):
        missing.append(Obstacle("the index of the new primary key was changed meanwhile", "run this again"))
    return missing


def refuse_built(session: Session, subject: Subject, before: Origin) -> None:
    """Raise, and so undo the swap, where it had to build indexes because those of the old table did not match."""
    wanted = len(kept_indexes(subject, before)) + (before.key_name is not None)
    count = session.query("SELECT count(*) AS n FROM pg_catalog.pg_index WHERE indrelid = %s", (subject.oid,))[0]["n"]
    if count != wanted:
        raise PostgresqlError(
            f"indexes of {subject.label} do not match those of a partitioned table: {count} instead of {wanted}",
            remedy="compare the indexes, and make those that differ anew",
        )
