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
    description:
      - Length of a partition, V(hour), V(day), V(week), V(month), V(quarter) or V(year). Weeks begin on Monday.
      - Where the partition key is a number, such as an identity, how many numbers a partition holds, e.g. V(1000000).
        Now is then the greatest number in use, by the rows or the sequence. Numbers tell no age, so nothing leaves.
    type: str
    default: month
  premake:
    description: How many intervals after the current one have a partition.
    type: int
    default: 6
  start:
    description:
      - Earliest instant that has a partition, as an ISO 8601 date or timestamp, or a number where the key is one.
        Nothing is created for what is before it.
      - When not given, the current interval is covered and, if there are older partitions, what lies between them and
        now.
    type: str
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
      - Whether the table has a default partition, named C(TABLE_default), which takes the rows that no other one does,
        so that no row is refused for its time.
      - Its rows that belong to a new partition move there in the transaction that attaches it; nobody misses one at any
        time. Rows of other times stay, however many, and are reported.
      - A default partition that exists is never removed.
    type: bool
    default: false
  retention:
    description:
      - How long rows stay, e.g. C(90 days) or C(7 years). A partition may leave once its last instant is older.
      - What has left is not made again, also where O(start) reaches further back.
    type: str
  retention_action:
    description:
      - V(keep) lets nothing leave. V(detach) leaves the table beside the partitioned one, without its foreign keys.
      - V(archive) detaches it, writes it into O(archive_directory) with a seal, reads that back into the server,
        compares, and drops the table only then. A run that was killed on the way is gone on with by the next.
      - V(drop) removes it, for good.
    type: str
    choices: [keep, detach, archive, drop]
    default: keep
  archive_directory:
    description:
      - Where archives are written, on the host that runs the module. Required for O(retention_action=archive).
      - M(auditdb.postgresql.postgresql_partition_archive) verifies them, and makes them tables again.
    type: path
  history:
    description:
      - Table in which every departure is recorded, in the transaction in which a partition leaves. Required for
        O(retention_action=archive).
      - Its columns are those of C(audit.partition_history), which role P(auditdb.postgresql.audit_schema#role) makes.
    type: str
  retention_schema:
    description:
      - Schema that a partition moves to as it leaves, with O(retention_action) V(detach) or V(archive). It must exist.
      - With V(archive) the table then stays there, archived, and is not dropped.
    type: str
  keep_at_least:
    description: How many partitions stay whatever their age, counted from that of now backwards.
    type: int
    default: 2
  max_leaving:
    description: How many partitions may leave in one run. Where more would, none does, and the run fails.
    type: int
    default: 3
  clock_lead:
    description:
      - How far now may be ahead of the newest row. Beyond that none leaves, and the run fails, for a wrong clock would
        let everything leave.
    type: str
    default: 60 days
  carry:
    description:
      - What is carried from the table to its partitions and kept there, since PostgreSQL does not pass it on.
      - V(access) takes all rights on a partition from everybody but its owner, so that rows are reached by way of the
        table, its rights and its policies alone.
      - V(row_security) is whether policies hold, and the policies. V(columns) is statistics targets, storage,
        compression and C(n_distinct) of columns. V(triggers) is whether they are enabled. V(comments) are columns'.
    type: list
    elements: str
    choices: [access, columns, comments, owner, replica_identity, row_security, triggers]
    default: [access, columns, comments, owner, replica_identity, row_security, triggers]
  storage_parameters:
    description:
      - Storage parameters of every partition, such as C(autovacuum_vacuum_scale_factor). PostgreSQL has none for a
        partitioned table. Others that a partition has are left alone, also those that were declared once.
    type: dict
  closed_storage_parameters:
    description: Those of partitions whose range has ended, besides or instead of O(storage_parameters).
    type: dict
  analyze:
    description:
      - Whether the table itself is analyzed when it holds rows and was not analyzed since the current interval began.
        Autovacuum does so with partitions alone. It reads a sample of every partition, whose statistics are made, too.
    type: bool
    default: false
  repair_indexes:
    description:
      - Whether indexes of partitions that are invalid are rebuilt, and what a stopped C(REINDEX CONCURRENTLY) left is
        dropped. An index that is being built by another session is left alone.
      - Where an index of the table is invalid because partitions lack it, as after C(CREATE INDEX ... ON ONLY), it is
        built on each of them concurrently and attached. One that is the same by definition is adopted.
    type: bool
    default: true
  tablespace:
    description: Tablespace of partitions to come and their indexes. That of the table when not given.
    type: str
  old_tablespace:
    description:
      - Tablespace that partitions move to once they are old, with their indexes. They never move back.
      - Indexes are rebuilt there with nobody locked out. Then the rows are copied, and whoever reads or writes this
        partition waits until that is done, as long as it takes; a query that does not leave it out by its time waits,
        too. Twice the partition's size is written to the WAL.
    type: str
  old_after:
    description: How long after its end a partition is old, e.g. C(90 days).
    type: str
    default: 90 days
  max_moves:
    description: How many partitions move in one run, oldest first. The others are left to the next ones.
    type: int
    default: 1
  holds:
    description:
      - Table of legal holds. A partition under a hold never leaves.
      - Its columns are C(id), C(table_name) (the partitioned table or a partition; null for all), C(time_from),
        C(time_to), C(organization_id) (null for all), C(reason), C(owner) and C(released_at) (null while it holds).
      - A hold on an organization keeps the partitions that have rows of it in C(organization_id).
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
  - zstandard (Debian package C(python3-zstandard)), for O(retention_action=archive)
notes:
  - A table with foreign keys or a default partition gets each partition in a transaction of its own, because attaching
    locks the tables at the other end, or the default partition, until the transaction ends.
  - A partition whose concurrent detaching was interrupted refuses rows of its range. The detaching is ended first;
    where the range is declared all the same, the table is attached again.
  - Rows move out of a default partition by DELETE and INSERT, so its triggers for DELETE run, and rows that others
    refer to cannot move. At the end of each move the table is locked for as long as the default partition takes to be
    read.
  - Partitions with rows that others refer to are an error; in check mode a warning, for a run before this one would
    have let the referring rows leave.
  - A standby is left alone; RV(skipped_reason) says so.
seealso:
  - module: auditdb.postgresql.postgresql_partition_info
  - module: auditdb.postgresql.postgresql_partition_archive
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

- name: Let partitions leave after seven years, unless they are held
  auditdb.postgresql.postgresql_partition:
    login_db: audit_db
    table: audit.audit_log
    retention: 7 years
    retention_action: detach
    holds: audit.legal_hold
    session_role: audit_owner

- name: Let partitions leave into an archive that was read back
  auditdb.postgresql.postgresql_partition:
    login_db: audit_db
    table: audit.audit_log
    retention: 7 years
    retention_action: archive
    archive_directory: /var/lib/postgresql/archive
    history: audit.partition_history
    holds: audit.legal_hold
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
      description: First instant that it holds, ISO 8601 in UTC, or number.
      type: str
    to:
      description: First instant that it does not hold; both are null for the default partition.
      type: str
    default_rows:
      description: Rows that moved there from the default partition, as counted before.
      type: int
carried:
  description: Partitions that were given, or are to be given, what PostgreSQL had not passed on.
  returned: always
  type: list
  elements: dict
  contains:
    partition:
      description: Name of the partition.
      type: str
    what:
      description: What differed.
      type: list
      elements: str
repaired:
  description: Indexes of partitions that were repaired, or are to be.
  returned: always
  type: list
  elements: dict
  contains:
    partition:
      description: Name of the partition.
      type: str
    index:
      description: Name of its index.
      type: str
    what:
      description: V(dropped), V(rebuilt), V(built), V(adopted) or V(validated).
      type: str
moved:
  description: Partitions that moved to O(old_tablespace), in check mode those that would, oldest first.
  returned: always
  type: list
  elements: str
moves_waiting:
  description: How many more are to move, and are left to the next runs.
  returned: always
  type: int
left:
  description: Partitions that left, in check mode those that would, oldest first.
  returned: success
  type: list
  elements: dict
held:
  description:
    - Partitions that are old enough to leave and are under a hold, as C(partition), C(number), C(reason) and C(owner).
  returned: success
  type: list
  elements: dict
archived:
  description: Partitions that left, in this run or an earlier one, and were archived and read back in this one.
  returned: success
  type: list
  elements: dict
  contains:
    partition:
      description: Name of the partition.
      type: str
    archive:
      description: Name of the archive.
      type: str
    rows:
      description: Rows in it.
      type: int
    sha256:
      description: The seal of its rows.
      type: str
    manifest_sha256:
      description: SHA-256 of its manifest; keep it where the archive is not.
      type: str
    dropped:
      description: Whether the table was dropped; one that came under a hold meanwhile stays.
      type: bool
finalized:
  description: Partitions whose interrupted concurrent detaching was ended.
  returned: success
  type: list
  elements: str
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
  description: Partitions whose concurrent detaching is interrupted after this run; they refuse rows.
  returned: success
  type: list
  elements: str
default_partition:
  description: Name of the default partition; null where there is none.
  returned: success
  type: str
default_rows:
  description: Rows that stay in the default partition, for they belong to no declared range; null where the login may
    not look.
  returned: success
  type: int
default_ranges:
  description: Where these rows lie, before, between and after the ranges of new partitions.
  returned: success
  type: list
  elements: dict
  contains:
    rows:
      description: Number of rows.
      type: int
    first:
      description: Their earliest time.
      type: str
    last:
      description: Their latest time.
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
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_files import require_zstandard
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    CONNECTION_ARGUMENTS,
    Session,
    advisory_lock,
    refuse_hidden_rows,
    run_module,
    sql_diff,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_carry import ASPECTS
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_default import describe_strays
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_indexes import describe_repairs
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_look import after, look
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Range
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_report import (
    declaration,
    describe,
    plan_table,
    ranges,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import ACTIONS, retention
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_run import archivings, carry_out, statements


def check_limits(options: dict[str, Any]) -> None:
    """Raise where an option would only be found wrong once something is to be created."""
    if not re.fullmatch(r"\s*\d+(\.\d+)?\s*(us|ms|s|min|h|d)?\s*", options["lock_timeout"]):
        raise PostgresqlError(
            f"lock_timeout: '{options['lock_timeout']}' is not a duration", remedy="write e.g. 500ms or 2s"
        )
    if options["lock_attempts"] < 1:
        raise PostgresqlError(f"lock_attempts: {options['lock_attempts']} is less than 1", remedy="give 1 or more")
    if options["retention_action"] == "archive":
        require_zstandard()
        for name in ("archive_directory", "history"):
            if not options[name]:
                raise PostgresqlError(f"retention_action: archive without {name}", remedy=f"give {name}")


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    refuse_hidden_rows(session)
    options = module.params
    wanted = declaration(options)
    stay = retention(options)
    check_limits(options)
    found = look(session, options, wanted, stay)
    queries = statements(session, found) + archivings(session, options, found)
    archived: list[dict[str, Any]] = []
    if queries and not module.check_mode:
        with advisory_lock(session, f"partitions of {found.table.label}", options["wait"]):
            found = look(session, options, wanted, stay)  # what another run did while this one waited
            queries = statements(session, found) + archivings(session, options, found)
            archived = carry_out(session, options, found)
    if found.problem:
        if not (module.check_mode and found.problem.details.get("references")):
            raise found.problem
        # In check mode, the referring table has not let go of what it would have let go of by now.
        module.warn(f"nothing leaves unless what refers to it leaves first: {found.problem.message}")
    result = after(found)
    return {
        **describe(plan_table(result, wanted, options["now"], stay), result),
        **describe_strays(found.strays),
        **({"skipped_reason": "this server is a standby"} if result.standby else {}),
        "changed": bool(queries),
        "created": ranges(found.planned.create, found.table.key_type),
        "carried": [{"partition": each.partition, "what": each.what} for each in found.carries],
        "repaired": describe_repairs(found.repairs),
        "moved": [each.partition for each in found.moves],
        "moves_waiting": found.waiting,
        "left": ranges([Range(each.name, each.lower, each.upper) for each in found.leave]),
        "archived": archived,
        "held": [vars(each) for each in found.holds],
        "finalized": [each.name for each in found.pending],
        "partitions": len(result.partitions),
        "queries": queries,
        "executed_queries": session.executed,
        "diff": sql_diff(queries, f"partitions of {result.label}"),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "table": {"type": "str", "required": True},
            "interval": {"type": "str", "default": "month"},
            "premake": {"type": "int", "default": 6},
            "start": {"type": "str"},
            "names": {"type": "str"},
            "default_partition": {"type": "bool", "default": False},
            "retention": {"type": "str"},
            "retention_action": {"type": "str", "choices": list(ACTIONS), "default": "keep"},
            "retention_schema": {"type": "str"},
            "keep_at_least": {"type": "int", "default": 2},
            "max_leaving": {"type": "int", "default": 3},
            "clock_lead": {"type": "str", "default": "60 days"},
            "carry": {"type": "list", "elements": "str", "choices": list(ASPECTS), "default": list(ASPECTS)},
            "storage_parameters": {"type": "dict"},
            "closed_storage_parameters": {"type": "dict"},
            "analyze": {"type": "bool", "default": False},
            "repair_indexes": {"type": "bool", "default": True},
            "tablespace": {"type": "str"},
            "old_tablespace": {"type": "str"},
            "old_after": {"type": "str", "default": "90 days"},
            "max_moves": {"type": "int", "default": 1},
            "holds": {"type": "str"},
            "archive_directory": {"type": "path"},
            "history": {"type": "str"},
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
