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
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import parse_instant
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_names import check_template
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Declaration, Plan, Range, plan
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import Retention


def declaration(options: Mapping[str, Any]) -> Declaration:
    """Return the checked declaration."""
    if options["premake"] < 0:
        raise PostgresqlError(f"premake: {options['premake']} is negative", remedy="give 0 or more intervals")
    start = parse_instant(options["start"], "start") if options["start"] else None
    return Declaration(
        options["interval"], options["premake"], start, bool(options["default_partition"]), names=options["names"]
    )


def instant(table: Table, now: str | None) -> datetime:
    """Return the instant that is taken for now: the server's where none is given."""
    return parse_instant(now, "now") if now else table.now


def plan_table(table: Table, wanted: Declaration, now: str | None, stay: Retention | None = None) -> Plan:
    """Return the plan for a table as it is. What ``stay`` lets leave is not made again."""
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


def ranges(parts: Sequence[Range]) -> list[dict[str, Any]]:
    """Return ranges as data; those that partitions are for with name and rows. A default partition has no bounds."""
    return [
        {
            **({"name": part.name, "default_rows": part.rows} if part.name else {}),
            "from": None if part.default else part.lower.isoformat(),
            "to": None if part.default else part.upper.isoformat(),
        }
        for part in parts
    ]


def describe(planned: Plan, table: Table) -> dict[str, Any]:
    """Return how well the table is covered, and what is odd about its partitions."""
    return {
        "covered_until": planned.covered_until.isoformat() if planned.covered_until else None,
        "headroom": planned.headroom,
        "gaps": ranges(planned.gaps),
        "misnamed": [{"name": name, "expected": expected} for name, expected in planned.misnamed],
        "detach_pending": [each.name for each in table.partitions if each.detach_pending],
        "default_partition": table.default.name if table.default else None,
    }
