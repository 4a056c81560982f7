#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_partition_info
short_description: Compare tables' partitions with their declarations
version_added: "0.1.0"
description:
  - Reports the partitions of tables that are partitioned by RANGE on a column of time, and what is lacking.
  - A table that does not exist or is not partitioned is reported, not an error. Works on a standby.
options:
  tables:
    description: The tables and what is declared for them.
    type: list
    elements: dict
    required: true
    suboptions:
      table:
        description: The partitioned table, with its schema.
        type: str
        required: true
      interval:
        description: Length of a partition.
        type: str
        choices: [day, week, month, quarter, year]
        default: month
      premake:
        description: How many intervals after the current one have a partition.
        type: int
        default: 6
      start:
        description: Earliest instant that has a partition, as an ISO 8601 date or timestamp.
        type: str
  now:
    description: The current instant, for tests. The server's clock when not given.
    type: str
extends_documentation_fragment:
  - auditdb.postgresql.connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: auditdb.postgresql.postgresql_partition
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: See how far ahead the partitions reach
  auditdb.postgresql.postgresql_partition_info:
    login_db: audit_db
    tables:
      - table: audit.audit_log
        interval: month
        premake: 6
  register: partitions
"""

RETURN = r"""
tables:
  description: One entry a table, in the order of the option.
  returned: success
  type: list
  elements: dict
  contains:
    table:
      description: The table.
      type: str
    partitions:
      description: Its partitions; C(rows_estimate) is -1 where it was never analysed.
      type: list
      elements: dict
    missing:
      description: Partitions that the declaration calls for.
      type: list
      elements: dict
    gaps:
      description: Ranges between the partitions that none covers.
      type: list
      elements: dict
    misnamed:
      description: Partitions whose name is not the one of their bounds.
      type: list
      elements: dict
    covered_until:
      description: Instant up to which every time from now on has a partition.
      type: str
    headroom:
      description: Whole intervals after the current one that are covered without a gap.
      type: int
    problem:
      description: Why nothing can be said of the table; null otherwise.
      type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    CONNECTION_ARGUMENTS,
    Session,
    run_module,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import read_table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import INTERVALS, parse_instant
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Declaration, plan
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import describe, ranges

STRUCTURAL = ("42P01", "42P17")


def report(session: Session, wanted: dict[str, Any], now: str | None) -> dict[str, Any]:
    """Return the report of one table."""
    start = parse_instant(wanted["start"], "start") if wanted["start"] else None
    declaration = Declaration(wanted["interval"], wanted["premake"], start)
    try:
        table = read_table(session, wanted["table"])
    except PostgresqlError as error:
        if error.sqlstate not in STRUCTURAL:
            raise
        return {"table": wanted["table"], "problem": error.as_failure()["msg"], "partitions": [], "missing": []}
    planned = plan(table.name, table.partitions, declaration, parse_instant(now, "now") if now else table.now)
    return {
        "table": table.label,
        "problem": None,
        "partitions": [
            {
                "name": each.name,
                "from": each.lower.isoformat(),
                "to": each.upper.isoformat(),
                "default": each.default,
                "rows_estimate": table.rows[each.name],
            }
            for each in sorted(table.partitions, key=lambda each: each.lower)
        ],
        "missing": ranges(planned.create),
        **describe(planned, table),
    }


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    options = module.params
    return {"changed": False, "tables": [report(session, each, options["now"]) for each in options["tables"]]}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "tables": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "table": {"type": "str", "required": True},
                    "interval": {"type": "str", "choices": list(INTERVALS), "default": "month"},
                    "premake": {"type": "int", "default": 6},
                    "start": {"type": "str"},
                },
            },
            "now": {"type": "str"},
        },
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
