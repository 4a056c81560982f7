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
  - All tables are read in one query.
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
        description: Length of a partition, as in M(auditdb.postgresql.postgresql_partition).
        type: str
        default: month
      premake:
        description: How many intervals after the current one have a partition.
        type: int
        default: 6
      start:
        description: Earliest instant that has a partition, as an ISO 8601 date or timestamp.
        type: str
      names:
        description: Template for the names of partitions, as in M(auditdb.postgresql.postgresql_partition).
        type: str
      default_partition:
        description: Whether the table is to have a default partition.
        type: bool
        default: false
      retention:
        description: How long rows stay, e.g. C(7 years).
        type: str
      retention_action:
        description: What becomes of partitions that are older. Of those that may leave, none is missing.
        type: str
        choices: [keep, detach, archive, drop]
        default: keep
      keep_at_least:
        description: How many partitions stay whatever their age.
        type: int
        default: 2
      max_leaving:
        description: How many partitions may leave in one run of M(auditdb.postgresql.postgresql_partition).
        type: int
        default: 3
      clock_lead:
        description: How far now may be ahead of the newest row when partitions leave.
        type: str
        default: 60 days
      carry:
        description: Says nothing here, as those that follow. They are taken so that one declaration serves both.
        type: list
        elements: str
      repair_indexes:
        description: Says nothing here.
        type: bool
      storage_parameters:
        description: Says nothing here.
        type: dict
      closed_storage_parameters:
        description: Says nothing here.
        type: dict
      retention_schema:
        description: Says nothing here.
        type: str
      tablespace:
        description: Says nothing here.
        type: str
      old_tablespace:
        description: Says nothing here.
        type: str
      old_after:
        description: Says nothing here.
        type: str
      max_moves:
        description: Says nothing here.
        type: int
  details:
    description:
      - Whether each partition is returned with its age, indexes, statistics, holds and seal, and each table with
        recommendations and what left it. Implies O(sizes).
    type: bool
    default: false
  exact_rows:
    description: Whether rows are counted, which reads all partitions. Otherwise they are estimated.
    type: bool
    default: false
  class_column:
    description: Column by whose values the rows of each partition are counted, such as C(data_classification).
    type: str
  statements:
    description: Whether O(details) looks for statements in C(pg_stat_statements) that cannot prune partitions.
    type: bool
    default: false
  holds:
    description: Table of legal holds, as in M(auditdb.postgresql.postgresql_partition).
    type: str
  history:
    description: Table of departures, as in M(auditdb.postgresql.postgresql_partition).
    type: str
  seals:
    description: Table of seals, as in M(auditdb.postgresql.postgresql_partition_seal).
    type: str
  many_partitions:
    description: From how many partitions on a longer interval is recommended.
    type: int
    default: 500
  large_bytes:
    description: From which average size of a partition with rows on, in bytes, a shorter interval is recommended.
    type: int
    default: 10737418240
  only:
    description: Partitions are returned that are at least one of these; all when empty. Needs O(details).
    type: list
    elements: str
    choices:
      - closed
      - current
      - default
      - detach_pending
      - empty
      - expired
      - future
      - held
      - invalid_indexes
      - sealed
      - unsealed
    default: []
  sort:
    description: What partitions are ordered by, the least first; those of which it is not known come first.
    type: str
    choices: [from, name, rows, size, age]
    default: from
  descending:
    description: Whether the order is turned round.
    type: bool
    default: false
  sizes:
    description: Whether RV(tables[].partitions[].size_bytes) is returned, which looks at the files of every partition.
    type: bool
    default: false
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

- name: See the five largest months that have ended and are not sealed, and what is recommended
  auditdb.postgresql.postgresql_partition_info:
    login_db: audit_db
    tables:
      - table: audit.audit_log
    details: true
    statements: true
    seals: audit.partition_seal
    holds: audit.legal_hold
    history: audit.partition_history
    only: [unsealed]
    sort: size
    descending: true
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
      description: Its partitions, oldest first.
      type: list
      elements: dict
      contains:
        schema:
          description: Schema of the partition.
          type: str
        name:
          description: Name of the partition.
          type: str
        from:
          description: First instant that it holds, ISO 8601 in UTC, or number; the year 1 for C(MINVALUE).
          type: str
        to:
          description: First instant that it does not hold; the end of the year 9999 for C(MAXVALUE).
          type: str
        default:
          description: Whether it is the default partition.
          type: bool
        rows_estimate:
          description: Rows by the last analysis; -1 where there was none.
          type: int
        size_bytes:
          description: Bytes with indexes and TOAST; null without O(sizes).
          type: int
        rows:
          description: Exact number of rows; with O(exact_rows) or O(class_column).
          type: int
        classes:
          description: Rows by the values of O(class_column); null is C(none).
          type: dict
        states:
          description: What can be said of it, in the words of O(only). With O(details), as all that follow.
          type: list
          elements: str
        age_days:
          description: Days since its range ended; negative where it has not, null for the default partition.
          type: float
        heap_bytes:
          description: Bytes of its rows alone.
          type: int
        xid_age:
          description: Transactions since it was frozen.
          type: int
        dead_rows:
          description: Dead rows, by the statistics.
          type: int
        analyzed_at:
          description: When it was last analyzed, ISO 8601.
          type: str
        indexes:
          description: Number of indexes.
          type: int
        index_bytes:
          description: Bytes of the indexes.
          type: int
        invalid_indexes:
          description: Indexes that are invalid.
          type: list
          elements: str
        seal:
          description: Its newest seal, as C(sealed_at), C(rows) and C(sha256); null without one.
          type: dict
        held:
          description: The holds on it, as C(number), C(reason), C(owner) and C(organization), null for all.
          type: list
          elements: dict
        copy:
          description:
            - The archive that holds a copy of it, from O(history), as C(archive), C(rows), C(sha256) and
              C(archived_at); null without one.
          type: dict
    missing:
      description:
        - Partitions that the declaration calls for, as C(name), C(from), C(to) and C(default_rows), the rows that the
          default partition holds for it.
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
    expired:
      description: Partitions that are old enough to leave; what is held is among them.
      type: list
      elements: str
    detach_pending:
      description: Partitions whose concurrent detaching was interrupted; they refuse rows until it is finalized.
      type: list
      elements: str
    default_partition:
      description: Name of the default partition; null where there is none.
      type: str
    default_rows:
      description: Rows in the default partition that belong to no declared range; null where the login may not look.
      type: int
    default_ranges:
      description: Where these rows lie, as C(rows), C(first) and C(last).
      type: list
      elements: dict
    headroom_days:
      description: Days from now until RV(tables[].covered_until). With O(details), as all that follow.
      type: float
    recommendations:
      description: What a person should do, as C(about), C(reason), C(remedy) and C(partitions).
      type: list
      elements: dict
    departures:
      description: What left the table, from O(history), oldest first, with its archive.
      type: list
      elements: dict
    statements_problem:
      description: Why statements are not known, or not all; null where they are, or were not asked for.
      type: str
    problem:
      description: Why nothing can be said of the table, with the remedy; null otherwise.
      type: str
problems:
  description: The tables of which nothing can be said, as C(table), C(problem), C(remedy) and C(sqlstate).
  returned: success
  type: list
  elements: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    CONNECTION_ARGUMENTS,
    Session,
    run_module,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table, read_tables
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_default import (
    describe_strays,
    look_into_default,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_details import (
    ORDERS,
    STATES,
    add_counts,
    add_details,
    chosen,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import shown
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Declaration
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import (
    declaration,
    describe,
    instant,
    plan_table,
    ranges,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import (
    ACTIONS,
    Retention,
    expired,
    retention,
)


def report(
    session: Session, table: Table, wanted: Declaration, stay: Retention | None, options: dict[str, Any]
) -> dict[str, Any]:
    """Return the report of one table."""
    now = options["now"]
    planned = plan_table(table, wanted, now, stay)
    missing, strays = look_into_default(session, table, planned.create)
    found = {
        "table": table.label,
        "problem": None,
        "partitions": [
            {
                "schema": each.schema,
                "name": each.name,
                "from": shown(each.lower, table.key_type),
                "to": shown(each.upper, table.key_type),
                "default": each.default,
                "rows_estimate": each.rows,
                "size_bytes": each.size,
            }
            for each in sorted(table.partitions, key=lambda each: each.lower)
        ],
        "missing": ranges(missing, table.key_type),
        "expired": [each.name for each in expired(table.partitions, stay, instant(table, now))] if stay else [],
        **describe(planned, table),
        **describe_strays(strays),
    }
    if options["exact_rows"] or options["class_column"]:
        add_counts(session, table, found, options["class_column"])
    if options["details"]:
        add_details(session, table, found, options)
    found["partitions"] = chosen(found["partitions"], options)
    return found


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    options = module.params
    if options["only"] and not options["details"]:
        raise PostgresqlError("only: without details nothing is known to choose by", remedy="add details: true")
    wanted = [(declaration(each), retention(each)) for each in options["tables"]]
    names = [each["table"] for each in options["tables"]]
    tables: list[dict[str, Any]] = []
    problems = []
    for name, each, found in zip(
        names,
        wanted,
        read_tables(session, names, sizes=options["sizes"] or options["details"], numbers=True),
        strict=True,
    ):
        try:
            if isinstance(found, PostgresqlError):
                raise found
            tables.append(report(session, found, *each, options))
        except PostgresqlError as error:
            why = error.as_failure()
            tables.append({"table": name, "problem": why["msg"], "partitions": [], "missing": []})
            problems.append(
                {"table": name, "problem": error.message, "remedy": why["remedy"], "sqlstate": why["sqlstate"]}
            )
    return {"changed": False, "tables": tables, "problems": problems}


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
                    "interval": {"type": "str", "default": "month"},
                    "premake": {"type": "int", "default": 6},
                    "start": {"type": "str"},
                    "names": {"type": "str"},
                    "default_partition": {"type": "bool", "default": False},
                    "retention": {"type": "str"},
                    "retention_action": {"type": "str", "choices": list(ACTIONS), "default": "keep"},
                    "keep_at_least": {"type": "int", "default": 2},
                    "max_leaving": {"type": "int", "default": 3},
                    "clock_lead": {"type": "str", "default": "60 days"},
                    "carry": {"type": "list", "elements": "str"},
                    "repair_indexes": {"type": "bool"},
                    "storage_parameters": {"type": "dict"},
                    "closed_storage_parameters": {"type": "dict"},
                    "retention_schema": {"type": "str"},
                    "tablespace": {"type": "str"},
                    "old_tablespace": {"type": "str"},
                    "old_after": {"type": "str"},
                    "max_moves": {"type": "int"},
                },
            },
            "details": {"type": "bool", "default": False},
            "exact_rows": {"type": "bool", "default": False},
            "class_column": {"type": "str"},
            "statements": {"type": "bool", "default": False},
            "holds": {"type": "str"},
            "history": {"type": "str"},
            "seals": {"type": "str"},
            "many_partitions": {"type": "int", "default": 500},
            "large_bytes": {"type": "int", "default": 10737418240},
            "only": {"type": "list", "elements": "str", "choices": list(STATES), "default": []},
            "sort": {"type": "str", "choices": list(ORDERS), "default": "from"},
            "descending": {"type": "bool", "default": False},
            "sizes": {"type": "bool", "default": False},
            "now": {"type": "str"},
        },
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
