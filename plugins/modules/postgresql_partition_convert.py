#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_partition_convert
short_description: Make a plain table with rows a partitioned one, while others write
version_added: "0.1.0"
description:
  - Makes a plain table one that is partitioned by RANGE on a column of time. The old table becomes its first partition,
    named C(TABLE_legacy), which holds all times before a boundary. Rows are neither copied nor moved.
  - What takes time (an index for the primary key, a check of all rows) is prepared while everybody reads and writes.
    One short transaction, in which the table is locked, does the rest.
  - The primary key gets the partition key as its last column. Defaults, identity and sequences, checks, foreign keys,
    indexes, extended statistics, triggers, row security, rights, owner, comments, publications and views are carried
    over, and no id is used twice.
  - What cannot be carried over is refused before anything changes, all of it at once, each with its remedy.
  - A run that was killed at any moment leaves a table that works. The next run goes on; O(state=reverted) goes back.
options:
  table:
    description: The table, with its schema.
    type: str
    required: true
  key:
    description: Its column of time, of type C(timestamptz), C(timestamp) or C(date).
    type: str
    required: true
  interval:
    description: Length of the partitions after the first. Weeks begin on Monday.
    type: str
    choices: [hour, day, week, month, quarter, year]
    default: month
  premake:
    description: How many intervals after the current one have a partition.
    type: int
    default: 6
  names:
    description:
      - Names of partitions to come, as a template with C({table}), C({from:...}) and C({to:...}), the first instant and
        the one after the last, in UTC and formatted as by strftime (C(%Y), C(%m), C(%d), C(%H), C(%G), C(%V), C(%j),
        C(%u)), and C({quarter}), e.g. C({table}_p{from:%Y%m%d}). One that gives two intervals one name is refused.
      - Called after their interval when not given, e.g. C(log_2026_11). Partitions are known by their bounds, and are
        never renamed.
    type: str
  default_partition:
    description:
      - Whether the table gets a default partition, for rows of any time, as in
        M(auditdb.postgresql.postgresql_partition).
      - No row is refused for its time then, whenever it comes. From the check of the rows to the swap, new rows from
        the boundary or later are put aside, where nobody reads them, and rows that are there move aside as well; the
        swap puts them into the table. Their triggers for each row before INSERT fire again then.
    type: bool
    default: false
  room:
    description:
      - How far the boundary is ahead of now at least, e.g. C(7 days) or C(12 hours). It is the first beginning of an
        interval from then on, and later where rows of the next O(premake) intervals are there already.
      - From the check of the rows to the swap, rows from the boundary or later are refused without
        O(default_partition), also where a run was killed in between. Give more than a conversion may take.
      - An UPDATE that sets a row's time beyond the boundary is refused meanwhile in any case.
    type: str
    default: 7 days
  split:
    description:
      - Whether the first partition is then split into partitions of one interval, and C(TABLE_earlier) for all times
        before the oldest row. Its rows are copied beside it in batches while others read and write, and what changes
        meanwhile is copied again. In one short transaction the new partitions take its place, so that readers see each
        row once at any time.
      - The old table stays beside them as C(TABLE_legacy), detached, until somebody drops it. There is no way back
        then.
      - Needs a primary key, and room for a second copy of the rows. A run that was killed is gone on with.
    type: bool
    default: false
  batch_rows:
    description:
      - About how many rows O(split) copies in one transaction, and how many that changed last it may copy while the
        table is locked.
      - How many rows of other partitions the way back may move while the table is locked, and how many rows from
        beyond the boundary a swap may.
    type: int
    default: 10000
  progress:
    description:
      - Table that gets a row for each step, for others to look at while it is taken, with C(table_name), C(step),
        C(message), C(rows_done), C(rows_expected), C(rows_per_second), C(seconds_left), C(started_at), C(updated_at)
        and C(ended_at). It is created where it does not exist, in the schema of O(table) unless it has one.
      - How far an index is, C(pg_stat_progress_create_index) tells.
    type: str
  now:
    description: The current instant, for tests. The server's clock when not given.
    type: str
  lock_timeout:
    description:
      - How long a statement may wait for a lock, as PostgreSQL writes durations. Others wait behind it.
      - As long as it is shorter than the server's C(deadlock_timeout) (1 s by default), this module gives up before
        PostgreSQL would end one of two that wait for each other.
    type: str
    default: 500ms
  lock_attempts:
    description: How often a transaction that lost a lock is tried, with growing, jittered pauses.
    type: int
    default: 10
  wait:
    description: Seconds to wait for another run to end.
    type: float
    default: 60
  state:
    description:
      - V(present) makes the table a partitioned one. One that is partitioned by O(key) already gets the partitions it
        lacks.
      - V(reverted) makes it the plain table that it was, as long as its first partition is there. Rows of the other
        partitions move back; where there are more than O(batch_rows), nothing happens. What an interrupted conversion
        prepared is removed.
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
  - Refused are incoming foreign keys, materialized views, functions, policies and columns of other tables that are
    bound to the table or its row type, rules, unique indexes without O(key), exclusion constraints, deferrable keys,
    checks that are not valid or NO INHERIT, inheritance, unlogged tables, replica identities that are an index,
    subscriptions, and publications without C(publish_via_partition_root). Functions whose text only names the table
    find the new one.
  - The old primary key alone is no longer kept unique, so C(ON CONFLICT (id)) has to become C(ON CONFLICT (id, key)).
    Numbers from a sequence stay unique.
  - Row triggers see the name of a partition in C(TG_TABLE_NAME). Rights on the first partition itself are revoked.
    Storage parameters stay with it alone.
  - Building the index waits for transactions that began before. A session that is idle in a transaction keeps it from
    ending, and nobody else.
  - A standby is left alone; RV(skipped_reason) says so.
seealso:
  - module: auditdb.postgresql.postgresql_partition
  - module: auditdb.postgresql.postgresql_partition_info
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: See what would be done, and what is in the way
  auditdb.postgresql.postgresql_partition_convert:
    login_db: audit_db
    table: audit.audit_log
    key: timestamp
    session_role: audit_owner
  check_mode: true
  diff: true

- name: Partition the table by month from the next month on
  auditdb.postgresql.postgresql_partition_convert:
    login_db: audit_db
    table: audit.audit_log
    key: timestamp
    interval: month
    premake: 6
    progress: audit.partition_progress
    session_role: audit_owner

- name: Split the rows of the past into months as well
  auditdb.postgresql.postgresql_partition_convert:
    login_db: audit_db
    table: audit.audit_log
    key: timestamp
    split: true
    session_role: audit_owner

- name: Go back to the plain table
  auditdb.postgresql.postgresql_partition_convert:
    login_db: audit_db
    table: audit.audit_log
    key: timestamp
    state: reverted
    session_role: audit_owner
"""

RETURN = r"""
legacy:
  description: Name of the partition that is the old table; null where there is none, as after O(split).
  returned: success
  type: str
boundary:
  description: First instant that it does not hold, ISO 8601 in UTC; null where there is none.
  returned: success
  type: str
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
      description: First instant that it does not hold; both are null for the default partition.
      type: str
    default_rows:
      description: Rows that moved there from the default partition.
      type: int
steps:
  description: What was done, in order; in check mode what would be.
  returned: success
  type: list
  elements: dict
  contains:
    step:
      description: Name of the step, such as V(build index) or V(swap).
      type: str
    seconds:
      description: How long it took, with waiting and every attempt; not in check mode.
      type: float
    locked_seconds:
      description:
        - How long the table was locked for everybody, at most; from when the lock was had to the end of the commit.
          That is longer than others wait, for PostgreSQL deletes the file of the old primary key after it released the
          lock. Only of a swap.
      type: float
locked_seconds:
  description: The longest of them.
  returned: success
  type: float
obstacles:
  description: All that keeps the table from being converted, or from going back.
  returned: on failure, where it is refused
  type: list
  elements: dict
  contains:
    what:
      description: What it is.
      type: str
    remedy:
      description: What can be done about it.
      type: str
skipped_reason:
  description: Why nothing was done.
  returned: on a standby
  type: str
queries:
  description: SQL that leads to what is declared. Rows for O(progress) are not among it.
  returned: success
  type: list
  elements: str
executed_queries:
  description: SQL that was executed, one entry a transaction or round trip.
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
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_after import look_at_partitioned, take
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_back import look_back
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import quoted, read_subject, resolve
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_plan import check_options, names
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_progress import Progress
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_run import look_at_plain
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_steps import Found
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import INTERVALS
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import declaration, ranges
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import period


def look(session: Session, options: dict[str, Any], name: str) -> Found:
    """Return what there is under the name, and the steps that lead from there to what is declared."""
    subject = read_subject(session, name)
    if subject is None:
        raise PostgresqlError(f"table: '{options['table']}' does not exist", sqlstate="42P01")
    wanted = declaration({**options, "start": None})
    if options["state"] == "reverted":
        return look_back(session, options, subject)
    if subject.kind == "p":
        return look_at_partitioned(session, options, subject, wanted)
    return look_at_plain(session, options, subject, wanted, period(options["room"], "room"))


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    options = module.params
    check_options(options)
    name = resolve(session, options["table"])
    if name is None:
        raise PostgresqlError(f"table: '{options['table']}' does not exist", sqlstate="42P01")
    full = quoted(session, *name)
    found = look(session, options, full)
    standby = found.subject.standby
    steps = [{"step": each} for each in found.names]
    if found.steps and not standby and not module.check_mode:
        with advisory_lock(session, f"partitions of {found.subject.label}", options["wait"]):
            found = look(session, options, full)  # what another run did while this one waited
            progress = Progress(session, found.subject, options["progress"])
            steps = take(session, lambda: look(session, options, full), progress)
    for warning in found.warnings:
        module.warn(warning)
    queries = [] if standby else found.queries
    return {
        **({"skipped_reason": "this server is a standby"} if standby else {}),
        "changed": bool(queries),
        "legacy": names(found.subject.name).legacy if found.boundary else None,
        "boundary": found.boundary.isoformat() if found.boundary else None,
        "created": [] if standby else ranges(found.create),
        "steps": [] if standby else steps,
        "locked_seconds": max((each.get("locked_seconds", 0.0) for each in steps), default=0.0),
        "queries": queries,
        "executed_queries": session.executed,
        "diff": sql_diff(queries, f"definition of {found.subject.label}"),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "table": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": False},
            "interval": {"type": "str", "choices": list(INTERVALS), "default": "month"},
            "premake": {"type": "int", "default": 6},
            "names": {"type": "str"},
            "default_partition": {"type": "bool", "default": False},
            "room": {"type": "str", "default": "7 days"},
            "split": {"type": "bool", "default": False},
            "batch_rows": {"type": "int", "default": 10000},
            "progress": {"type": "str"},
            "now": {"type": "str"},
            "lock_timeout": {"type": "str", "default": "500ms"},
            "lock_attempts": {"type": "int", "default": 10},
            "wait": {"type": "float", "default": 60},
            "state": {"type": "str", "choices": ["present", "reverted"], "default": "present"},
        },
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
