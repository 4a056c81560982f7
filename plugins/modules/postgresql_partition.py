#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_partition
short_description: Keep a table's partitions ahead of time
version_added: "0.1.0"
description:
  - Declares the partitions of a table that is partitioned by RANGE on a column of time, from a start to some intervals
    ahead of now.
  - A partition is known by its bounds and not by its name, so one that somebody made under another name counts, and an
    unrelated table that has a partition's name is an error and never taken for it.
  - Times that lie between existing partitions and belong to none are covered too, from O(start) on.
  - Bounds are in UTC, whatever the time zone of the server, the role or the client.
  - On a table that has partitions, new ones are made beside it and attached, so that readers and writers go on. Rights
    that default privileges would give on a new partition are revoked; access goes through the partitioned table.
options:
  table:
    description: The partitioned table, with its schema.
    type: str
    required: true
  interval:
    description: Length of a partition. Weeks begin on Monday.
    type: str
    choices: [hour, day, week, month, quarter, year]
    default: month
  premake:
    description: How many intervals after the current one have a partition.
    type: int
    default: 6
  start:
    description:
      - Earliest instant that has a partition, as an ISO 8601 date or timestamp. Nothing is created for times before it.
      - When not given, the current interval is covered and, if there are older partitions, what lies between them and
        now.
    type: str
  now:
    description: The current instant, for tests. The server's clock when not given.
    type: str
  lock_timeout:
    description: How long a statement may wait for a lock, as PostgreSQL writes durations.
    type: str
    default: 2s
  lock_attempts:
    description: How often a batch that lost a lock is tried, with growing, jittered pauses.
    type: int
    default: 10
  wait:
    description: Seconds to wait for another run to end.
    type: float
    default: 60
  state:
    description: V(present) creates what is lacking.
    type: str
    choices: [present]
    default: present
extends_documentation_fragment:
  - auditdb.postgresql.connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
requirements:
  - tenacity (Debian package C(python3-tenacity))
notes:
  - A table with foreign keys or a default partition gets each partition in a transaction of its own, because attaching
    locks the tables at the other end, or the default partition, until the transaction ends.
  - A partition whose concurrent detaching was interrupted is reported with a warning, and nothing is put in its place.
  - A standby is left alone; RV(skipped_reason) says so.
seealso:
  - module: auditdb.postgresql.postgresql_partition_info
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: Have partitions for six months ahead
  auditdb.postgresql.postgresql_partition:
    login_db: audit_db
    table: audit.audit_log
    interval: month
    premake: 6
    session_role: audit_owner

- name: Make room for events since 2024
  auditdb.postgresql.postgresql_partition:
    login_db: audit_db
    table: audit.audit_log
    start: "2024-01-01"
    session_role: audit_owner
"""

RETURN = r"""
created:
  description: Partitions that were created, in check mode those that would be.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the partition.
      type: str
    from:
      description: First instant that it holds, ISO 8601 in UTC.
      type: str
    to:
      description: First instant that it does not hold.
      type: str
covered_until:
  description: Instant up to which every time from now on has a partition, after this run.
  returned: success
  type: str
headroom:
  description: Whole intervals after the current one that are covered without a gap, after this run; at most 5000.
  returned: success
  type: int
partitions:
  description: Number of partitions after this run, the default partition included.
  returned: success
  type: int
gaps:
  description: Ranges between the partitions that none covers after this run, such as those before O(start).
  returned: success
  type: list
  elements: dict
misnamed:
  description: Partitions whose name is not the one of their bounds, as C(name) and C(expected).
  returned: success
  type: list
  elements: dict
detach_pending:
  description: Partitions whose concurrent detaching was interrupted; they refuse rows until it is finalized.
  returned: success
  type: list
  elements: str
default_partition:
  description: Name of the default partition; null where there is none.
  returned: success
  type: str
skipped_reason:
  description: Why nothing was done.
  returned: on a standby
  type: str
queries:
  description: SQL that creates what is lacking.
  returned: success
  type: list
  elements: str
executed_queries:
  description: SQL that was executed, one entry a transaction.
  returned: always
  type: list
  elements: str
"""

import re
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    CONNECTION_ARGUMENTS,
    Session,
    advisory_lock,
    run_module,
    sql_diff,
    with_lock_retries,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import (
    Table,
    read_table,
    refuse_taken_names,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import INTERVALS
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Declaration, Partition, Plan
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import (
    declaration,
    describe,
    plan_table,
    ranges,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_statements import chunks, create_statements

CHECK_VIOLATION = "23514"


def check_limits(options: dict[str, Any]) -> None:
    """Raise where an option would only be found wrong once something is to be created."""
    if not re.fullmatch(r"\s*\d+(\.\d+)?\s*(us|ms|s|min|h|d)?\s*", options["lock_timeout"]):
        raise PostgresqlError(
            f"lock_timeout: '{options['lock_timeout']}' is not a duration", remedy="write e.g. 500ms or 2s"
        )
    if options["lock_attempts"] < 1:
        raise PostgresqlError(f"lock_attempts: {options['lock_attempts']} is less than 1", remedy="give 1 or more")


def look(session: Session, options: dict[str, Any], wanted: Declaration) -> tuple[Table, Plan]:
    """Return the table as it is and what it lacks."""
    table = read_table(session, options["table"])
    planned = plan_table(table, wanted, options["now"])
    refuse_taken_names(session, table, planned.create)
    return table, planned


def create(session: Session, options: dict[str, Any], table: Table, planned: Plan) -> None:
    """Create what is lacking, one transaction a chunk."""
    for chunk in chunks(table, planned.create):
        statements = [session.render(each) for new in chunk for each in create_statements(table, new)]

        def work(batch: list[str] = statements) -> None:
            with session.transaction():
                session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
                session.execute(";\n".join(batch))  # one round trip for the whole chunk

        try:
            with_lock_retries(work, attempts=options["lock_attempts"])
        except PostgresqlError as error:
            if error.sqlstate == CHECK_VIOLATION and table.default_partition:
                error.remedy = f"move the rows of this range out of the default partition {table.default_partition}"
            raise


def after(table: Table, planned: Plan) -> Table:
    """Return the table with what is lacking, without a look: check mode has nothing to look at."""
    made = [Partition(new.name, new.lower, new.upper, schema=table.schema) for new in planned.create]
    return replace(table, partitions=[*table.partitions, *made])


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    options = module.params
    wanted = declaration(options)
    check_limits(options)
    table, planned = look(session, options, wanted)
    skipped = {}
    if table.standby:
        skipped = {"skipped_reason": "this server is a standby"}
        planned = replace(planned, create=[])
    elif planned.create and not module.check_mode:
        with advisory_lock(session, f"partitions of {table.label}", options["wait"]):
            table, planned = look(session, options, wanted)  # what another run did while this one waited
            create(session, options, table, planned)
    for each in table.partitions:
        if each.detach_pending:
            module.warn(
                f"the detaching of {each.schema}.{each.name} was interrupted: {table.label} refuses rows from "
                f"{each.lower.isoformat()} to {each.upper.isoformat()} until it is finalized (ALTER TABLE ... DETACH "
                "PARTITION ... FINALIZE)"
            )
    queries = [session.render(each) for new in planned.create for each in create_statements(table, new)]
    result = after(table, planned)
    return {
        **describe(plan_table(result, wanted, options["now"]), result),
        **skipped,
        "changed": bool(planned.create),
        "created": ranges(planned.create),
        "partitions": len(result.partitions),
        "queries": queries,
        "executed_queries": session.executed,
        "diff": sql_diff(queries, f"partitions of {table.label}"),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "table": {"type": "str", "required": True},
            "interval": {"type": "str", "choices": list(INTERVALS), "default": "month"},
            "premake": {"type": "int", "default": 6},
            "start": {"type": "str"},
            "now": {"type": "str"},
            "lock_timeout": {"type": "str", "default": "2s"},
            "lock_attempts": {"type": "int", "default": 10},
            "wait": {"type": "float", "default": 60},
            "state": {"type": "str", "choices": ["present"], "default": "present"},
        },
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
