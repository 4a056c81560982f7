#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_partition_convert
short_description: Make a table with data a partitioned one while the application writes
version_added: "0.1.0"
description:
  - The table becomes a partition, C(NAME_legacy), of a new table that takes its name. No row is copied. It is held in
    an exclusive lock for the moment of the swap alone; what takes time is done before, with nobody locked out.
  - The primary key is kept, with the column of time added to it, as PostgreSQL demands of partitioned tables. Numbers
    go on where they were. Indexes, constraints, outgoing foreign keys, triggers, rights, row security, comments,
    publications, replica identity, the identity or the serial's sequence, and views are carried over.
  - What cannot be carried over is refused before anything changes, all of it at once, each with its remedy.
  - Whatever a killed run leaves, the table is usable, and the next run goes on; V(reverted) undoes it.
options:
  table:
    description: The table, with its schema.
    type: str
    required: true
  key:
    description: The column of time that it is partitioned by.
    type: str
    required: true
  interval:
    description: Length of the partitions to come.
    type: str
    choices: [hour, day, week, month, quarter, year]
    default: month
  premake:
    description: How many intervals after the current one get a partition.
    type: int
    default: 6
  default_partition:
    description:
      - Whether the table gets a default partition, for rows of any time. Rows beyond the partition of the old table
        are put aside while the conversion goes on, and are in the default partition after it.
      - Without it, a table with such rows is refused, and new ones are while the conversion goes on.
    type: bool
    default: false
  room:
    description:
      - How far ahead the old table must reach at least. It ends at the first boundary of an interval that is no nearer.
    type: str
    default: 1 day
  most_rows:
    description: How many rows of other partitions V(reverted) may move back, which it does under the exclusive lock.
    type: int
    default: 100000
  now:
    description: The current instant, for tests. The server's clock when not given.
    type: str
  lock_timeout:
    description: How long a statement may wait for a lock, as PostgreSQL writes it.
    type: str
    default: 2s
  lock_attempts:
    description: How often a transaction is tried that did not get its locks, with growing, jittered pauses.
    type: int
    default: 10
  wait:
    description: Seconds to wait for another run to end.
    type: float
    default: 60
  progress:
    description:
      - File that gets a line of JSON as each step begins and ends, with C(table), C(step), C(number), C(of), C(at) and
        C(seconds). C(pg_stat_progress_create_index) shows how far the index is.
    type: path
  state:
    description:
      - V(present) converts. A table that is partitioned already is left alone.
      - V(reverted) makes the old table the table again, with the rows of the other partitions, or removes what a
        conversion that was not completed has left.
    type: str
    choices: [present, reverted]
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
  - Uniqueness of the old key alone is no more enforced over all partitions; PostgreSQL has no such index.
  - Plans that other sessions prepared are made again by PostgreSQL, and find the new table.
  - The method, and what others take for it, is measured in the project's C(docs/benchmarks.md).
seealso:
  - module: auditdb.postgresql.postgresql_partition
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: Partition the log by month
  auditdb.postgresql.postgresql_partition_convert:
    login_db: audit_db
    table: audit.audit_log
    key: timestamp
    interval: month
    default_partition: true
    session_role: audit_owner
"""

RETURN = r"""
steps:
  description: The steps that were taken, in check mode those that would be.
  returned: always
  type: list
  elements: dict
  contains:
    step:
      description: What it does.
      type: str
    seconds:
      description: How long it took; null in check mode.
      type: float
locked_seconds:
  description: How long the table was in an exclusive lock, from getting it to the commit; null where it was not.
  returned: always
  type: float
legacy:
  description: Name of the partition that holds the old rows.
  returned: always
  type: str
legacy_until:
  description: Up to when it holds rows, ISO 8601; null where nothing was converted.
  returned: always
  type: str
queries:
  description: SQL of all steps.
  returned: always
  type: list
  elements: str
executed_queries:
  description: SQL that was executed, one entry a transaction.
  returned: always
  type: list
  elements: str
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    CONNECTION_ARGUMENTS,
    Session,
    advisory_lock,
    refuse_hidden_rows,
    run_module,
    sql_diff,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import split_name
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_run import Conversion, Step, carry_out, look
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_statements import Names
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_carry import ASPECTS, with_new
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table, read_tables
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import INTERVALS
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Plan
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import declaration, plan_table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import period
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_run import create
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_statements import create_statements


def ahead(session: Session, options: dict[str, Any], names: Names) -> tuple[Table, Plan] | None:
    """Return what lacks after the old table's partition; None where the table was not converted by this module."""
    table = read_tables(session, [options["table"]])[0]
    if not isinstance(table, Table) or table.standby or options["state"] == "reverted":
        return None
    if not any(each.name == names.legacy for each in table.partitions):
        return None
    everything = {"carry": list(ASPECTS), "storage_parameters": None, "closed_storage_parameters": None}
    table = with_new(session, table, everything, table.now)
    return table, plan_table(table, declaration({**options, "start": None}), options["now"])


def teller(options: dict[str, Any], conversion: Conversion) -> Any:
    """Return what writes each step's beginning and end into the file of option ``progress``."""

    def tell(step: Step) -> None:
        if not options["progress"]:
            return
        line = {
            "table": conversion.found.label,
            "step": step.name,
            "number": conversion.steps.index(step) + 1,
            "of": len(conversion.steps),
            "at": datetime.now(UTC).isoformat(),
            "seconds": step.seconds,
        }
        with Path(options["progress"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    return tell


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    refuse_hidden_rows(session)
    options = {**module.params, "room": period(module.params["room"], "room")}
    for name in ("lock_attempts", "most_rows"):
        if options[name] < 1:
            raise PostgresqlError(f"{name}: {options[name]} is less than 1", remedy="give 1 or more")
    names = Names(*split_name(session, options["table"]))
    conversion = look(session, options, names)
    queries = render(session, conversion, ahead(session, options, names))
    if queries and not module.check_mode:
        with advisory_lock(session, f"partitions of {conversion.found.label}", options["wait"]):
            conversion = look(session, options, names)  # what another run did while this one waited
            queries = render(session, conversion, ahead(session, options, names))
            carry_out(conversion, teller(options, conversion))
            made = ahead(session, options, names)
            if made:  # takes no lock that anybody notices
                create(session, options, *made)
    standby = conversion.found.shape["standby"]
    return {
        **({"skipped_reason": "this server is a standby"} if standby else {}),
        "changed": bool(queries),
        "steps": [{"step": each.name, "seconds": each.seconds} for each in conversion.steps],
        "locked_seconds": conversion.locked_seconds,
        "legacy": f"{names.schema}.{names.legacy}",
        "legacy_until": conversion.upper.isoformat() if conversion.upper else None,
        "queries": queries,
        "executed_queries": session.executed,
        "diff": sql_diff(queries, f"{conversion.found.label}"),
    }


def render(session: Session, conversion: Conversion, made: tuple[Table, Plan] | None) -> list[str]:
    """Return the SQL of all steps, and of partitions that a killed run did not get to."""
    texts = [text for step in conversion.steps for text in step.statements]
    if made:
        texts += [text for new in made[1].create for text in create_statements(made[0], new)]
    return [session.render(text) for text in texts]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "table": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": False},
            "interval": {"type": "str", "choices": list(INTERVALS), "default": "month"},
            "premake": {"type": "int", "default": 6},
            "default_partition": {"type": "bool", "default": False},
            "room": {"type": "str", "default": "1 day"},
            "most_rows": {"type": "int", "default": 100000},
            "now": {"type": "str"},
            "lock_timeout": {"type": "str", "default": "2s"},
            "lock_attempts": {"type": "int", "default": 10},
            "wait": {"type": "float", "default": 60},
            "progress": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "reverted"], "default": "present"},
        },
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
