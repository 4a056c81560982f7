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
  - Times that lie between existing partitions and belong to none are covered too.
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
    choices: [day, week, month, quarter, year]
    default: month
  premake:
    description: How many intervals after the current one have a partition.
    type: int
    default: 6
  start:
    description: Earliest instant that has a partition, as an ISO 8601 date or timestamp. Now when not given.
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
  description: Instant up to which every time from now on has a partition.
  returned: success
  type: str
headroom:
  description: Whole intervals after the current one that are covered without a gap.
  returned: success
  type: int
partitions:
  description: Number of partitions afterwards.
  returned: success
  type: int
gaps:
  description: Ranges between the partitions that none covered.
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
  description: SQL that was executed.
  returned: always
  type: list
  elements: str
"""

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
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table, read_table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import INTERVALS, parse_instant
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import (
    Declaration,
    Plan,
    plan,
    refuse_taken_names,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import describe
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_statements import chunks, create_statements


def declaration(options: dict[str, Any]) -> Declaration:
    """Return the checked declaration."""
    if options["premake"] < 0:
        raise PostgresqlError(f"premake: {options['premake']} is negative", remedy="give 0 or more intervals")
    start = parse_instant(options["start"], "start") if options["start"] else None
    return Declaration(options["interval"], options["premake"], start)


def look(session: Session, options: dict[str, Any], wanted: Declaration) -> tuple[Table, Plan]:
    """Return the table as it is and what it lacks."""
    table = read_table(session, options["table"])
    now = parse_instant(options["now"], "now") if options["now"] else table.now
    planned = plan(table.name, table.partitions, wanted, now)
    refuse_taken_names(planned.create, table.taken, table.schema)
    return table, planned


def create(session: Session, options: dict[str, Any], table: Table, planned: Plan) -> None:
    """Create what is lacking, one transaction a chunk."""
    for chunk in chunks(table, planned.create):
        statements = [session.render(each) for new in chunk for each in create_statements(table, new)]

        def work(batch: list[str] = statements) -> None:
            with session.transaction():
                session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
                session.execute(";\n".join(batch))  # one round trip for the whole chunk

        with_lock_retries(work, attempts=options["lock_attempts"])


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    options = module.params
    wanted = declaration(options)
    table, planned = look(session, options, wanted)
    skipped = {"skipped_reason": "this server is a standby"} if table.standby else {}
    if planned.create and not module.check_mode and not skipped:
        with advisory_lock(session, f"partitions of {table.label}", options["wait"]):
            table, planned = look(session, options, wanted)  # what another run did while this one waited
            create(session, options, table, planned)
    statements = [session.render(each) for new in planned.create for each in create_statements(table, new)]
    queries = [] if skipped else statements
    made = [] if skipped else planned.create
    after = planned
    if made and not module.check_mode:
        after = look(session, options, wanted)[1]
    return {
        **describe(after, table),
        **skipped,
        "changed": bool(made),
        "created": [{"name": new.name, "from": new.lower.isoformat(), "to": new.upper.isoformat()} for new in made],
        "partitions": len(table.partitions) + (0 if module.check_mode else len(made)),
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
