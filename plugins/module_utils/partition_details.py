# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Add to the report of a table what was asked for beyond its bounds, and choose what of it is returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_advice import Limits, advise
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_insight import (
    Insight,
    count_rows,
    read_insight,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import EARLIEST, LATEST
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_leave import holds_on
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import instant

DAY = timedelta(days=1)
COPY = "copy"
"""The action of a row of the history that tells of a partition that stays."""
SEALED_AFTER = timedelta(days=7)
"""The default of postgresql_partition_seal's ``after``."""
STATES = (
    "closed",
    "current",
    "default",
    "detach_pending",
    "empty",
    "expired",
    "future",
    "held",
    "invalid_indexes",
    "sealed",
    "unsealed",
)
ORDERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "from": lambda each: _order(each["from"]),
    "name": lambda each: each["name"],
    "rows": lambda each: each.get("rows", each["rows_estimate"]),
    "size": lambda each: each["size_bytes"] or 0,
    "age": lambda each: _order(EARLIEST.isoformat() if each["default"] else each["to"]),
}


def _order(bound: str | int) -> tuple[int, int, str]:
    """Return what bounds are sorted by: MINVALUE, then numbers, or times and MAXVALUE."""
    if isinstance(bound, int):
        return 1, bound, ""
    return (0 if bound == EARLIEST.isoformat() else 2), 0, bound


def add_counts(session: Session, table: Table, report: dict[str, Any], column: str | None) -> None:
    """Add the exact number of rows to each partition, by class where a column is given."""
    counts = count_rows(session, table, column)
    for each in report["partitions"]:
        each["rows"] = sum(counts[each["name"]].values())
        if column:
            each["classes"] = {name or "none": rows for name, rows in counts[each["name"]].items()}


def add_details(session: Session, table: Table, report: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Add indexes, statistics, seals and holds to each partition; recommendations and departures to the table."""
    now = instant(table, options["now"])
    known = read_insight(session, table, options)
    by_name = {each.name: each for each in table.partitions}
    holds: dict[str, list[dict[str, Any]]] = {}
    for hold, organization in holds_on(session, table, table.partitions, options["holds"]):
        about = {"number": hold.number, "reason": hold.reason, "owner": hold.owner, "organization": organization}
        holds.setdefault(hold.partition, []).append(about)
    # The newest that is complete; a record without an archive is one that a run has not come to the end of.
    copies = {
        (row["from"], row["to"]): {name: row[name] for name in ("archive", "rows", "sha256")}
        | {"archived_at": _text(row["archived_at"])}
        for row in known.departures
        if row["action"] == COPY and row["archived_at"]
    }
    for each in report["partitions"]:
        part = by_name[each["name"]]
        each.update(known.parts[part.name])
        each["analyzed_at"] = _text(each["analyzed_at"])
        ageless = part.default or part.upper >= LATEST or table.reach is not None
        each["age_days"] = None if ageless else (now - part.upper) / DAY
        seal = known.seals.get((part.lower, part.upper))
        each["seal"] = {**seal, "sealed_at": _text(seal["sealed_at"])} if seal else None
        each["held"] = holds.get(part.name, [])
        each["copy"] = copies.get((part.lower, part.upper))
        each["states"] = _states(
            part, each, now, bool(options["seals"]) and table.reach is None, part.name in report["expired"]
        )
    report["schema"], report["key"] = table.schema, table.key
    report["headroom_days"] = _days_until(report["covered_until"], now) if table.reach is None else None
    limits = Limits(options["many_partitions"], options["large_bytes"])
    report["recommendations"] = [each.as_dict() for each in advise(report, known, limits, table.lock_slots)]
    report["departures"] = _departures(known)
    report["statements_problem"] = known.statements_problem


def _states(part: Partition, each: Mapping[str, Any], now: datetime, sealing: bool, old: bool) -> list[str]:
    said = {
        "default": part.default,
        "closed": not part.default and part.upper <= now,
        "current": not part.default and part.lower <= now < part.upper,
        "future": not part.default and part.lower > now,
        # Not by the estimate, which may be old: a person drops what is said to be empty.
        "empty": each["rows"] == 0 if "rows" in each else each["heap_bytes"] == 0,
        "invalid_indexes": bool(each["invalid_indexes"]),
        "detach_pending": part.detach_pending,
        "held": bool(each["held"]),
        "sealed": each["seal"] is not None,
        "unsealed": sealing and not part.default and each["seal"] is None and part.upper + SEALED_AFTER <= now,
        "expired": old,
    }
    return [name for name in STATES if said[name]]


def _days_until(covered_until: str | None, now: datetime) -> float | None:
    return (datetime.fromisoformat(covered_until) - now) / DAY if covered_until else None


def _departures(known: Insight) -> list[dict[str, Any]]:
    return [
        {name: _text(value) if isinstance(value, datetime) else value for name, value in row.items()}
        for row in known.departures
        if row["action"] != COPY
    ]


def _text(value: datetime | None) -> str | None:
    return value.isoformat() if value else None


def chosen(partitions: list[dict[str, Any]], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the partitions that options ``only``, ``sort`` and ``descending`` ask for."""
    only = set(options["only"])
    kept = [each for each in partitions if not only or only & set(each["states"])]
    return sorted(kept, key=ORDERS[options["sort"]], reverse=options["descending"])
