# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Convert a table step by step, each of which a killed run may have left behind; or go back."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, with_lock_retries
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import (
    Attached,
    read_attached,
    refusals,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_statements import (
    KEY_WAS,
    RANGE_CHECK,
    Names,
    bound,
    key_index,
    no_longer_aside,
    revert,
    set_aside,
    swap,
    take_back,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import (
    floor,
    following,
    parse_bound,
    parse_instant,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import Period

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

BATCH_ROWS = 10_000
CHECKED = re.compile(r"< (?P<upper>'[^']+')")
LEGACY = """
SELECT x.relname AS index, y.relname AS of_partition
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
JOIN pg_catalog.pg_inherits h ON h.inhparent = i.indexrelid
JOIN pg_catalog.pg_class y ON y.oid = h.inhrelid
JOIN pg_catalog.pg_index c ON c.indexrelid = y.oid AND c.indrelid = pg_catalog.to_regclass(%(legacy)s)
WHERE i.indrelid = pg_catalog.to_regclass(%(table)s)
"""


@dataclass
class Step:
    """One step: what it is called, its statements, and how they are run."""

    name: str
    statements: list[Any]
    run: Callable[[], None]
    seconds: float | None = None


@dataclass
class Conversion:
    """What there is, and the steps that are left."""

    names: Names
    found: Attached
    upper: datetime | None
    steps: list[Step] = field(default_factory=list)
    locked_seconds: float | None = None


def look(session: Session, options: Mapping[str, Any], names: Names) -> Conversion:
    """Return the steps that are left until the table is as wanted; raise where it cannot be."""
    found = read_attached(session, names.schema, names.table)
    if found is None:
        raise PostgresqlError(f"table: '{options['table']}' does not exist", sqlstate="42P01")
    if found.shape["kind"] not in ("r", "p"):
        raise PostgresqlError(f"table: '{found.label}' is not a table", sqlstate="42809")
    legacy = read_attached(session, names.schema, names.legacy)
    converted = found.shape["kind"] == "p"
    if options["state"] == "reverted":
        back = Conversion(names, found, None)
        if found.shape["standby"]:
            return back
        back.steps = _steps_back(session, options, back, legacy) if converted else _steps_undo(session, options, back)
        return back
    if converted or found.shape["standby"]:
        return Conversion(names, found, None)
    _refuse(session, options, names, found, legacy)
    upper = _upper(options, found)
    conversion = Conversion(names, found, upper)
    conversion.steps = _steps(session, options, conversion)
    return conversion


def _refuse(
    session: Session, options: Mapping[str, Any], names: Names, found: Attached, legacy: Attached | None
) -> None:
    wrong = refusals(found, options["key"], (RANGE_CHECK, names.key))
    if legacy is not None:
        wrong.append((f"there is a table {legacy.label} already", "rename it"))
    if not wrong and not options["default_partition"]:
        upper = bound(_upper(options, found), _type(found, options["key"]))
        statement = sql.SQL("SELECT count(*) AS rows FROM {} WHERE {} >= {}").format(
            names.identifier(names.table), sql.Identifier(options["key"]), upper
        )
        late = session.query(statement)[0]["rows"]
        if late:
            wrong.append((f"{late} rows are from {_upper(options, found)} or later", "give default_partition: true"))
    if wrong:
        raise PostgresqlError(
            f"{found.label} cannot be converted: " + "; ".join(what for what, _remedy in wrong),
            remedy="; ".join(f"{what}: {remedy}" for what, remedy in wrong),
            refused=[{"reason": what, "remedy": remedy} for what, remedy in wrong],
        )


def _type(found: Attached, key: str) -> str:
    column = found.column(key)
    return str(column["type"]) if column else ""


def _check(found: Attached) -> Any:
    return next((each for each in found.constraints if each["name"] == RANGE_CHECK), None)


def _upper(options: Mapping[str, Any], found: Attached) -> datetime:
    """Return up to when the old table holds rows: a boundary that is no nearer than ``room``.

    The one that a run before this chose, as long as there is half of that room left.
    """
    now = parse_instant(options["now"], "now") if options["now"] else found.now
    room: Period = options["room"]
    check = _check(found)
    if check:
        chosen = CHECKED.search(check["definition"])
        if chosen and now + (now - room.before(now)) / 2 < (upper := parse_bound(chosen["upper"])):
            return upper
    upper = following(floor(now, options["interval"]), options["interval"])
    while room.before(upper) < now:
        upper = following(upper, options["interval"])
    return upper


def _steps(session: Session, options: Mapping[str, Any], conversion: Conversion) -> list[Step]:
    names, found, key = conversion.names, conversion.found, options["key"]
    assert_upper = bound(conversion.upper or found.now, _type(found, key))
    table = names.identifier(names.table)
    check, primary = _check(found), found.primary_key
    stale = check and not _holds(check, conversion)
    triggered = any(each["name"] == names.trigger for each in found.triggers)
    steps = []

    def together(name: str, texts: list[Any]) -> None:
        steps.append(Step(name, texts, lambda: _together(session, options, texts)))

    def alone(name: str, texts: list[Any]) -> None:
        steps.append(Step(name, texts, lambda: _alone(session, options, texts)))

    if options["default_partition"] and (not triggered or stale):
        together("set absurd times aside", set_aside(names, found, key, assert_upper))
    if stale:
        together(
            "drop the old check",
            [sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, sql.Identifier(RANGE_CHECK))],
        )
    if not check or stale:
        if options["default_partition"]:
            move = _move_aside(names, found, key, assert_upper)
            steps.append(Step("move absurd times aside", [move], lambda: _until_none(session, move)))
        together(
            "check the range",
            [
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK ({} < {}) NOT VALID").format(
                    table, sql.Identifier(RANGE_CHECK), sql.Identifier(key), assert_upper
                )
            ],
        )
    if not check or stale or not check["valid"]:
        alone(
            "validate the check",
            [sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table, sql.Identifier(RANGE_CHECK))],
        )
    if primary and key not in primary["columns"]:
        built = next((each for each in found.indexes if each["name"] == names.key), None)
        if not built or not built["valid"]:
            drop = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(names.identifier(names.key))
            build = key_index(names, names.table, [*primary["columns"], key])
            alone("build the key", [drop, build] if built else [build])
    texts = _swap_texts(session, conversion, options)
    steps.append(Step("swap", texts, lambda: _swap(session, options, conversion)))
    return steps


def _move_aside(names: Names, found: Attached, key: str, upper: Any) -> Any:
    """Return the statement that moves a batch of the rows that are beyond the range."""
    return sql.SQL(
        "WITH gone AS (DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE {key} >= {upper} "
        "LIMIT {most})) RETURNING {columns}) INSERT INTO {aside} ({columns}) SELECT {columns} FROM gone"
    ).format(
        table=names.identifier(names.table),
        key=sql.Identifier(key),
        upper=upper,
        most=sql.Literal(BATCH_ROWS),
        columns=sql.SQL(", ").join(map(sql.Identifier, found.columns)),
        aside=names.identifier(names.aside),
    )


def _holds(check: Any, conversion: Conversion) -> bool:
    chosen = CHECKED.search(check["definition"])
    return bool(chosen) and parse_bound(chosen["upper"]) == conversion.upper  # type: ignore[index]


def _swap_texts(session: Session, conversion: Conversion, options: Mapping[str, Any]) -> list[Any]:
    found = conversion.found
    upper = bound(conversion.upper or found.now, _type(found, options["key"]))
    return swap(
        conversion.names, _without_helpers(found, conversion.names), options["key"], upper,
        aside=options["default_partition"], restart=_next_value(session, found),
    )  # fmt: skip


def _without_helpers(found: Attached, names: Names) -> Attached:
    return replace(found, triggers=[each for each in found.triggers if each["name"] != names.trigger])


def _next_value(session: Session, found: Attached) -> int | None:
    """Return the next value of the identity's sequence."""
    if not found.identity or not found.sequence:
        return None
    row = session.query(sql.SQL("SELECT last_value, is_called FROM {}").format(sql.SQL(found.identity["sequence"])))[0]
    return int(row["last_value"]) + (int(found.sequence["increment"]) if row["is_called"] else 0)


def _swap(session: Session, options: Mapping[str, Any], conversion: Conversion) -> None:
    """Swap the tables in one short transaction; what hangs on the table is read again under its lock."""
    names = conversion.names

    def work() -> None:
        with session.transaction():
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
            session.query(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names.identifier(names.table)))
            begun = time.monotonic()
            found = read_attached(session, names.schema, names.table)
            if found is None or refusals(found, options["key"], (RANGE_CHECK, names.key)):
                raise PostgresqlError(f"{options['table']} changed meanwhile", remedy="run this again")
            texts = _swap_texts(session, replace(conversion, found=found), options)
            session.execute(";\n".join(session.render(each) for each in texts))
        conversion.locked_seconds = round(time.monotonic() - begun, 4)

    with_lock_retries(work, attempts=options["lock_attempts"])


def _steps_undo(session: Session, options: Mapping[str, Any], back: Conversion) -> list[Step]:
    """Return what removes the traces of a conversion that was not completed."""
    names, found = back.names, back.found
    texts: list[Any] = []
    if any(each["name"] == names.trigger for each in found.triggers):
        texts += no_longer_aside(names)
    if _check(found):
        table = names.identifier(names.table)
        texts.append(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, sql.Identifier(RANGE_CHECK)))
    if read_attached(session, names.schema, names.aside):
        texts += take_back(names, found)
    steps = [Step("undo", texts, lambda: _together(session, options, texts))] if texts else []
    if any(each["name"] == names.key for each in found.indexes):
        drop = [sql.SQL("DROP INDEX CONCURRENTLY {}").format(names.identifier(names.key))]
        steps.append(Step("drop the key", drop, lambda: _alone(session, options, drop)))
    return steps


def _steps_back(session: Session, options: Mapping[str, Any], back: Conversion, legacy: Attached | None) -> list[Step]:
    """Return what makes the legacy partition the table again."""
    names, found = back.names, back.found
    if legacy is None or not legacy.shape["partition"]:
        raise PostgresqlError(
            f"{found.label} has no partition {names.legacy}", remedy="it was not converted by this module: leave it"
        )
    if found.incoming:
        refer = ", ".join(f"{each['referencing']} ({each['name']})" for each in found.incoming)
        raise PostgresqlError(f"tables refer to {found.label}: {refer}", remedy="drop these keys")
    parent, child = names.identifier(names.table), names.identifier(names.legacy)
    rows = session.query(
        sql.SQL("SELECT count(*) AS rows FROM {} WHERE tableoid <> {}::regclass").format(
            parent, sql.Literal(child.as_string(session.connection))
        )
    )[0]["rows"]
    if rows > options["most_rows"]:
        raise PostgresqlError(
            f"{rows} rows are in other partitions of {found.label}, and would move under a lock",
            remedy=f"give most_rows: {rows}, if that may take as long as it takes",
        )
    was = _key_was(legacy)
    steps = []
    if was and not any(each["name"] == names.key and each["valid"] for each in legacy.indexes):
        texts = [
            sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(names.identifier(names.key)),
            key_index(names, names.legacy, was),
        ]
        steps.append(Step("build the key", texts, lambda: _alone(session, options, texts)))
    shown = _revert_texts(session, back, was)
    steps.append(Step("swap back", shown, lambda: _swap_back(session, options, back, was)))
    return steps


def _key_was(legacy: Attached) -> list[str] | None:
    primary = legacy.primary_key
    said = (primary or {}).get("comment") or ""
    return said.removeprefix(KEY_WAS).split(",") if said.startswith(KEY_WAS) else None


def _revert_texts(session: Session, back: Conversion, was: list[str] | None) -> list[Any]:
    names = back.names
    values = {
        "table": names.identifier(names.table).as_string(session.connection),
        "legacy": names.identifier(names.legacy).as_string(session.connection),
    }
    indexes = {row["index"]: row["of_partition"] for row in session.query(LEGACY, values)}
    return revert(names, back.found, indexes, was, _next_value(session, back.found))


def _swap_back(session: Session, options: Mapping[str, Any], back: Conversion, was: list[str] | None) -> None:
    names = back.names

    def work() -> None:
        with session.transaction():
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
            session.query(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names.identifier(names.table)))
            begun = time.monotonic()
            found = read_attached(session, names.schema, names.table)
            texts = _revert_texts(session, replace(back, found=found or back.found), was)
            session.execute(";\n".join(session.render(each) for each in texts))
        back.locked_seconds = round(time.monotonic() - begun, 4)

    with_lock_retries(work, attempts=options["lock_attempts"])


def _together(session: Session, options: Mapping[str, Any], texts: list[Any]) -> None:
    def work() -> None:
        with session.transaction():
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
            session.execute(";\n".join(session.render(each) for each in texts))

    with_lock_retries(work, attempts=options["lock_attempts"])


def _alone(session: Session, options: Mapping[str, Any], texts: list[Any]) -> None:
    """Run statements outside a transaction. They wait for others, and lock out nobody."""
    for text in texts:
        session.execute(text)


def _until_none(session: Session, text: Any) -> None:
    while session.execute(text):
        pass


def carry_out(conversion: Conversion, tell: Callable[[Step], None]) -> None:
    """Take each step; ``tell`` is called before and after, with ``seconds`` then."""
    for step in conversion.steps:
        tell(step)
        begun = time.monotonic()
        step.run()
        step.seconds = round(time.monotonic() - begun, 3)
        tell(step)
