#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_partition_purge
short_description: Take expired rows out of partitions that stay, by policy and class
version_added: "0.1.0"
description:
  - A partition holds rows of several classes. Those whose policy lets them go earlier than the partition are taken out
    in bounded batches, together with the rows of other tables that refer to them.
  - They go into a table aside, which is archived, read back and only then dropped, as
    M(auditdb.postgresql.postgresql_partition) does it with whole partitions. Rows whose policy also gives
    C(delete_after_days) are deleted for good once that is over, without an archive.
  - A row's time counts from the end of its partition, so that no row goes early, and a partition is purged once for
    each length of time. Rows that name no active policy, or are of a class without one, stay.
  - A row whose class is not the one that its policy is for stays for the longer of both times.
  - What a legal hold keeps stays, row by row. A sealed partition whose rows changed since is refused; one that was
    purged is sealed again, and the seal names the one before.
options:
  table:
    description: The partitioned table, with its schema.
    type: str
    required: true
  policies:
    description:
      - Table of policies, with the columns C(id), C(policy_name), C(data_classification), C(retention_days),
        C(delete_after_days) and C(is_active), as C(audit.audit_retention_policy) has them.
    type: str
    required: true
  policy_column:
    description: Column of O(table) that names the policy.
    type: str
    default: retention_policy
  classification_column:
    description: Column of O(table) that holds the class.
    type: str
    default: data_classification
  history:
    description:
      - Table of departures, as in M(auditdb.postgresql.postgresql_partition). A row is written before the first rows
        leave, so that a run that was killed leaves a trace, and the next one goes on.
    type: str
    required: true
  archive_directory:
    description:
      - Directory of archives on the host that the module runs on. Without it, what was taken out stays in its table
        aside until a run of this module or of M(auditdb.postgresql.postgresql_partition) has one.
    type: path
  holds:
    description:
      - Table of legal holds, as in M(auditdb.postgresql.postgresql_partition). No rows are held when not given.
    type: str
  seals:
    description: Table of seals, as in M(auditdb.postgresql.postgresql_partition_seal). None when not given.
    type: str
  batch_rows:
    description: Rows that leave in one transaction.
    type: int
    default: 10000
  max_leaving:
    description: How many partitions may be purged in one run. With more, nothing leaves.
    type: int
    default: 3
  clock_lead:
    description: How far now may be ahead of the newest row, e.g. C(60 days). Beyond, nothing leaves.
    type: str
    default: 60 days
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
extends_documentation_fragment:
  - auditdb.postgresql.connection
attributes:
  check_mode:
    description: Counts what would leave.
    support: full
  diff_mode:
    support: full
requirements:
  - tenacity (Debian package C(python3-tenacity))
  - zstandard (Debian package C(python3-zstandard)) with O(archive_directory)
notes:
  - Until a killed run was completed, M(auditdb.postgresql.postgresql_partition_seal) reports the partition as purged,
    and cannot tell whether other rows changed meanwhile.
  - Seals of a table that refers to the purged one are not made again; seal the purged one alone.
seealso:
  - module: auditdb.postgresql.postgresql_partition
  - module: auditdb.postgresql.postgresql_partition_seal
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: Take out what its policy lets go
  auditdb.postgresql.postgresql_partition_purge:
    login_db: audit_db
    table: audit.audit_log
    policies: audit.audit_retention_policy
    holds: audit.legal_hold
    history: audit.partition_history
    seals: audit.partition_seal
    archive_directory: /var/lib/postgresql/archive
    session_role: audit_owner
"""

RETURN = r"""
purged:
  description: What left, in check mode what would leave; one entry a partition and action.
  returned: always
  type: list
  elements: dict
  contains:
    partition:
      description: The partition, which stays.
      type: str
    table:
      description: Table that the rows went into; null where they were deleted for good.
      type: str
    action:
      description: V(archive) or V(drop).
      type: str
    rows:
      description: Number of rows, counted before the first left.
      type: int
    classes:
      description: The same by C(policy) and C(classification).
      type: list
      elements: dict
archived:
  description: Archives that were made, as in M(auditdb.postgresql.postgresql_partition).
  returned: always
  type: list
  elements: dict
queries:
  description: SQL that brings this about, of which a batch is repeated as often as it finds rows.
  returned: always
  type: list
  elements: str
executed_queries:
  description: SQL that was executed; repeated batches once.
  returned: always
  type: list
  elements: str
"""

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
from ansible_collections.auditdb.postgresql.plugins.module_utils.purge_look import look
from ansible_collections.auditdb.postgresql.plugins.module_utils.purge_run import (
    archive_taken,
    carry_out,
    statements,
    waiting,
)


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    refuse_hidden_rows(session)
    options = module.params
    for name in ("batch_rows", "max_leaving", "lock_attempts"):
        if options[name] < 1:
            raise PostgresqlError(f"{name}: {options[name]} is less than 1", remedy="give 1 or more")
    if options["archive_directory"]:
        require_zstandard()
    found = look(session, options)
    queries = [*statements(session, found, options), *waiting(session, found.table, options)]
    archived: list[dict[str, Any]] = []
    if not module.check_mode and not found.table.standby:
        with advisory_lock(session, f"partitions of {found.table.label}", options["wait"]):
            found = look(session, options)  # what another run did while this one waited
            queries = [*statements(session, found, options), *waiting(session, found.table, options)]
            carry_out(session, found, options)
            archived = archive_taken(session, found.table, options)
    queries += [f"-- seal {each.schema}.{each.name} again" for each in found.unsealed]
    return {
        **({"skipped_reason": "this server is a standby"} if found.table.standby else {}),
        "changed": bool(queries),
        "purged": [each.as_dict() for each in found.purges],
        "archived": archived,
        "queries": queries,
        "executed_queries": session.executed,
        "diff": sql_diff(queries, f"rows of {found.table.label}"),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "table": {"type": "str", "required": True},
            "policies": {"type": "str", "required": True},
            "policy_column": {"type": "str", "default": "retention_policy"},
            "classification_column": {"type": "str", "default": "data_classification"},
            "history": {"type": "str", "required": True},
            "archive_directory": {"type": "path"},
            "holds": {"type": "str"},
            "seals": {"type": "str"},
            "batch_rows": {"type": "int", "default": 10000},
            "max_leaving": {"type": "int", "default": 3},
            "clock_lead": {"type": "str", "default": "60 days"},
            "now": {"type": "str"},
            "lock_timeout": {"type": "str", "default": "2s"},
            "lock_attempts": {"type": "int", "default": 10},
            "wait": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
