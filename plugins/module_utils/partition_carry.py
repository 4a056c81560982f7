# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carry to each partition what PostgreSQL does not pass on, and close the partitions to all but their owner."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Row, Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import PassedOn, Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_drift import DRIFT, NEW
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Range

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

COMMANDS = {"*": "ALL", "r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}
STORAGE = {"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}
COMPRESSION = {"p": "pglz", "l": "lz4", "": "default"}
ENABLED = {"O": "ENABLE", "D": "DISABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}
REPLICA_IDENTITY = {"d": "DEFAULT", "f": "FULL", "n": "NOTHING"}

SIMPLE: dict[str, Callable[[Any], str]] = {
    "row_security": lambda wanted: f"ALTER TABLE {{}} {'ENABLE' if wanted else 'DISABLE'} ROW LEVEL SECURITY",
    "forced_row_security": lambda wanted: f"ALTER TABLE {{}} {'FORCE' if wanted else 'NO FORCE'} ROW LEVEL SECURITY",
    "replica_identity": lambda wanted: f"ALTER TABLE {{}} REPLICA IDENTITY {REPLICA_IDENTITY[wanted]}",
}

ASPECTS = {
    "access": ("access",),
    "columns": ("column",),
    "comments": ("comment",),
    "owner": ("owner",),
    "replica_identity": ("replica_identity", "replica_index"),
    "row_security": ("row_security", "forced_row_security", "policies"),
    "triggers": ("trigger",),
}

EVERYTHING = {"carry": list(ASPECTS), "storage_parameters": None, "closed_storage_parameters": None}


@dataclass(frozen=True)
class Carry:
    """What one partition lacks, and the statements that give it that."""

    schema: str
    partition: str
    what: list[str]
    statements: list[Any]


def carried(options: Mapping[str, Any]) -> set[str]:
    """Return the kinds of differences that option ``carry`` is about; declared storage parameters always are."""
    return {"storage", *(kind for aspect in options["carry"] for kind in ASPECTS[aspect])}


def read_carries(session: Session, table: Table, options: Mapping[str, Any], now: datetime) -> list[Carry]:
    """Return what the partitions lack: one query, whatever their number."""
    label = sql.Identifier(table.schema, table.name).as_string(session.connection)
    storing = bool(options["storage_parameters"] or options["closed_storage_parameters"])
    kinds = carried(options)
    by_partition: dict[tuple[str, str], list[Row]] = {}
    for row in session.query(DRIFT, {"table": label, "storage": storing}):
        if row["what"] in kinds:
            by_partition.setdefault((row["schema"], row["name"]), []).append(row)
    closed = {each.name for each in table.partitions if not each.default and each.upper <= now}
    carries = []
    for (schema, name), differences in by_partition.items():
        wanted = storage(options, closed=name in closed)
        texts: list[Any] = []
        what: list[str] = []
        for each in differences:
            aim = wanted if each["what"] == "storage" else each["wanted"]
            some = statements(sql.Identifier(schema, name), each["what"], each["is"], aim)
            if some:
                texts += some
                what.append(each["what"])
        if texts:
            carries.append(Carry(schema, name, list(dict.fromkeys(what)), texts))
    return carries


def with_new(session: Session, table: Table, options: Mapping[str, Any], now: datetime) -> Table:
    """Return the table with what its new partitions are to be given."""
    label = sql.Identifier(table.schema, table.name).as_string(session.connection)
    kinds = carried(options)
    rows = [(row["what"], row["is"], row["wanted"]) for row in session.query(NEW, (label,)) if row["what"] in kinds]
    open_, closed = storage(options, closed=False), storage(options, closed=True)
    return replace(table, passed_on=PassedOn(rows, open_, closed, now))


def new_statements(table: Table, new: Range, partition: Any, *, like: bool) -> list[Any]:
    """Return what gives a new partition what PostgreSQL does not; ``like`` where it was made by LIKE."""
    if table.passed_on is None or new.detached:  # one that was a partition before has something already
        return []
    passed = table.passed_on
    rows = [row for row in passed.rows if not (like and row[0] == "comment")]
    wanted = passed.closed if not new.default and new.upper <= passed.now else passed.storage
    return [
        *(text for what, has, aim in rows for text in statements(partition, what, has, aim)),
        *statements(partition, "storage", [], wanted),
    ]


def storage(options: Mapping[str, Any], *, closed: bool) -> dict[str, str]:
    """Return the declared storage parameters of a partition, as the catalog writes them."""
    wanted = dict(options.get("storage_parameters") or {})
    if closed:
        wanted |= options.get("closed_storage_parameters") or {}
    return {name: _value(value) for name, value in wanted.items()}


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def statements(partition: Any, what: str, has: Any, wanted: Any) -> list[Any]:
    """Return the SQL for one difference."""
    return [sql.SQL(text).format(partition, *values) for text, *values in _changes(what, has, wanted)]


def _changes(what: str, has: Any, wanted: Any) -> list[tuple[Any, ...]]:
    """Return templates, in which the partition comes first, each with the rest of its values."""
    if what in SIMPLE:
        return [(SIMPLE[what](wanted),)]
    named: dict[str, Callable[[], tuple[Any, ...]]] = {
        "owner": lambda: ("ALTER TABLE {} OWNER TO {}", sql.Identifier(wanted)),
        "access": lambda: ("REVOKE ALL ON TABLE {} FROM {}", _roles(has)),
        "replica_index": lambda: ("ALTER TABLE {} REPLICA IDENTITY USING INDEX {}", sql.Identifier(wanted)),
        "trigger": lambda: (
            f"ALTER TABLE {{}} {ENABLED[wanted['enabled']]} TRIGGER {{}}",
            sql.Identifier(wanted["name"]),
        ),
        "comment": lambda: (
            "COMMENT ON COLUMN {}.{} IS {}",
            sql.Identifier(wanted["name"]),
            sql.Literal(wanted["comment"]),
        ),
    }
    if what in named:
        return [named[what]()]
    several: dict[str, Callable[[Any, Any], list[tuple[Any, ...]]]] = {
        "policies": _policies,
        "storage": _storage,
        "column": _column,
    }
    return several[what](has, wanted)


def _policies(has: Sequence[Row], wanted: Sequence[Row]) -> list[tuple[Any, ...]]:
    changes: list[tuple[Any, ...]] = [
        ("DROP POLICY {1} ON {0}", sql.Identifier(each["name"])) for each in has if each not in wanted
    ]
    for each in wanted:
        if each in has:
            continue
        kind = "PERMISSIVE" if each["permissive"] else "RESTRICTIVE"
        text = f"CREATE POLICY {{1}} ON {{0}} AS {kind} FOR {COMMANDS[each['command']]} TO {{2}}{{3}}{{4}}"
        condition = f" USING ({each['condition']})" if each["condition"] else ""
        checked = f" WITH CHECK ({each['checked']})" if each["checked"] else ""
        changes.append(
            (text, sql.Identifier(each["name"]), _roles(each["roles"]), sql.SQL(condition), sql.SQL(checked))
        )
    return changes


def _storage(has: Sequence[str], wanted: Mapping[str, str]) -> list[tuple[Any, ...]]:
    """Return what sets the declared parameters; others are left alone."""
    found = dict(each.split("=", 1) for each in has)
    lacking = {
        name: value
        for name, value in wanted.items()
        if found.get(name) != value and not ("toast" in found and name.startswith("toast."))
    }
    if not lacking:
        return []
    # A name such as toast.autovacuum_enabled is two identifiers.
    parts = [
        sql.SQL("{} = {}").format(sql.SQL(".").join(map(sql.Identifier, name.split("."))), sql.Literal(value))
        for name, value in lacking.items()
    ]
    return [("ALTER TABLE {} SET ({})", sql.SQL(", ").join(parts))]


def _column(_has: Any, wanted: Row) -> list[tuple[Any, ...]]:
    name = sql.Identifier(wanted["name"])
    changes: list[tuple[Any, ...]] = []
    if wanted["statistics"] is not None:
        changes.append(("ALTER TABLE {} ALTER {} SET STATISTICS {}", name, sql.Literal(wanted["statistics"])))
    if wanted["storage"]:
        changes.append((f"ALTER TABLE {{}} ALTER {{}} SET STORAGE {STORAGE[wanted['storage']]}", name))
    if wanted["compression"] is not None:
        changes.append((f"ALTER TABLE {{}} ALTER {{}} SET COMPRESSION {COMPRESSION[wanted['compression']]}", name))
    if wanted["unset"]:
        options = sql.SQL(", ").join(map(sql.Identifier, wanted["unset"]))
        changes.append(("ALTER TABLE {} ALTER {} RESET ({})", name, options))
    if wanted["options"]:
        pairs = [option.split("=", 1) for option in wanted["options"]]
        values = [sql.SQL("{} = {}").format(sql.Identifier(key), sql.Literal(value)) for key, value in pairs]
        changes.append(("ALTER TABLE {} ALTER {} SET ({})", name, sql.SQL(", ").join(values)))
    return changes


def _roles(names: Sequence[str | None]) -> Any:
    return sql.SQL(", ").join(sql.SQL("PUBLIC") if name is None else sql.Identifier(name) for name in names)
