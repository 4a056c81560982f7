# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What both modules do: check a declaration, plan, and tell how well a table is covered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import (
    INTERVALS,
    NUMBERS,
    parse_instant,
    place,
    shown,
    step,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_names import check_template
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Declaration, Plan, Range, plan
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import Retention


def declaration(options: Mapping[str, Any]) -> Declaration:
    """Return the checked declaration."""
    if options["premake"] < 0:
        raise PostgresqlError(f"premake: {options['premake']} is negative", remedy="give 0 or more intervals")
    if options["interval"] not in INTERVALS and not (options["interval"].isdigit() and int(options["interval"])):
        raise PostgresqlError(
            f"interval: '{options['interval']}' is neither {', '.join(INTERVALS)} nor a number",
            remedy="write e.g. month, or 1000000 where the key is a number",
        )
    start = _given(options["start"], "start", bool(step(options["interval"]))) if options["start"] else None
    return Declaration(
        options["interval"], options["premake"], start, bool(options["default_partition"]), names=options["names"]
    )


def _given(text: str, option: str, numeric: bool) -> datetime:
    """Return the instant, or that of the number, that an option gives."""
    if not numeric:
        return parse_instant(text, option)
    try:
        return place(int(text))
    except ValueError:
        raise PostgresqlError(f"{option}: '{text}' is not a number, as the key is", remedy="write e.g. 0") from None


def instant(table: Table, now: str | None) -> datetime:
    """Return what is taken for now: the server's clock, or the greatest number in use, where none is given."""
    if now:
        return _given(now, "now", table.reach is not None)
    return table.now if table.reach is None else table.reach


def plan_table(table: Table, wanted: Declaration, now: str | None, stay: Retention | None = None) -> Plan:
    """Return the plan for a table as it is. What ``stay`` lets leave is not made again."""
    _refuse_unfit(table, wanted, stay)
    at = instant(table, now)
    if stay:
        wanted = replace(wanted, earliest=stay.period.before(at))
    if table.key_type == "date" and wanted.interval == "hour":
        raise PostgresqlError(
            f"interval: hour is shorter than a date, the type of the partition key of '{table.label}'",
            remedy="take an interval of a day or longer",
        )
    check_template(wanted.names, table.name, wanted.interval)
    return plan(table.name, table.partitions, wanted, at)


def _refuse_unfit(table: Table, wanted: Declaration, stay: Retention | None) -> None:
    """Raise where a length of time is declared for numbers, or the other way round."""
    numeric = table.key_type in NUMBERS
    if numeric != bool(step(wanted.interval)):
        remedy = "write how many numbers a partition holds, e.g. 1000000" if numeric else "write e.g. month"
        raise PostgresqlError(
            f"interval: '{wanted.interval}' does not fit {table.key_type}, the type of the partition key of "
            f"'{table.label}'",
            remedy=remedy,
        )
    if numeric and stay:
        raise PostgresqlError(
            f"retention: the partition key of '{table.label}' is a number, which tells no age",
            remedy="give retention_action: keep",
        )


def ranges(parts: Sequence[Range], key_type: str = "") -> list[dict[str, Any]]:
    """Return ranges as data; those that partitions are for with name and rows. A default partition has no bounds."""
    return [
        {
            **({"name": part.name, "default_rows": part.rows} if part.name else {}),
            "from": None if part.default else shown(part.lower, key_type),
            "to": None if part.default else shown(part.upper, key_type),
        }
        for part in parts
    ]


def describe(planned: Plan, table: Table) -> dict[str, Any]:
    """Return how well the table is covered, and what is odd about its partitions."""
    return {
        "covered_until": shown(planned.covered_until, table.key_type) if planned.covered_until else None,
        "headroom": planned.headroom,
        "gaps": ranges(planned.gaps, table.key_type),
        "misnamed": [{"name": name, "expected": expected} for name, expected in planned.misnamed],
        "detach_pending": [each.name for each in table.partitions if each.detach_pending],
        "default_partition": table.default.name if table.default else None,
    }
