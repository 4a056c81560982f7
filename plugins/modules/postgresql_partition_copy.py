#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_partition_copy
short_description: Copy closed partitions, which stay, into archives by policy
version_added: "0.1.0"
description:
  - A policy asks for events in the archive (C(archive_after_days)) long before they may leave the table. Each partition
    that has ended so long ago is exported with a seal, and read back; its rows stay where they are.
  - Days count from the end of a partition, as those of retention do. A partition holds rows of several policies; it is
    copied as a whole, once the first of them asks for it.
  - A copy counts when it was read back. A run that was killed leaves an incomplete record, and the next one goes on.
options:
  table:
    description: The partitioned table, with its schema.
    type: str
    required: true
  policies:
    description:
      - Table of policies, with the columns C(archive_after_days) and C(is_active), as C(audit.audit_retention_policy)
        has them. Where no active policy names days, nothing is copied.
    type: str
    required: true
  history:
    description:
      - Table of departures, as in M(auditdb.postgresql.postgresql_partition), in which a copy has the action C(copy).
    type: str
    required: true
  archive_directory:
    description: Directory of archives on the host that the module runs on. It is made with mode 0750.
    type: path
    required: true
  mark:
    description:
      - Function that stamps the rows of a range which have no stamp yet, such as C(audit.mark_archived). It is called
        with the first instant and the one after the last, day by day, before the partition is copied.
      - Stamping writes each row of the partition once more.
      - No rows are stamped when not given.
    type: str
  max_copies:
    description: How many partitions are copied in one run, oldest first. The others are left to the next ones.
    type: int
    default: 12
  now:
    description: The current instant, for tests. The server's clock when not given.
    type: str
  lock_timeout:
    description: How long stamping may wait for a lock, as PostgreSQL writes it.
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
    support: full
  diff_mode:
    support: full
requirements:
  - tenacity (Debian package C(python3-tenacity))
  - zstandard (Debian package C(python3-zstandard))
notes:
  - An event that comes into a partition after it was copied is not in the copy. It has no stamp, a seal finds it
    (M(auditdb.postgresql.postgresql_partition_seal)), and it is in the archive once the partition leaves.
  - A copy holds rows that M(auditdb.postgresql.postgresql_partition_purge) takes out of the table later. Archives are
    files, and are the operator's to delete.
  - A standby is left alone; RV(skipped_reason) says so.
seealso:
  - module: auditdb.postgresql.postgresql_partition_archive
  - module: auditdb.postgresql.postgresql_partition_purge
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: Put into the archive what its policy wants there
  auditdb.postgresql.postgresql_partition_copy:
    login_db: audit_db
    table: audit.audit_log
    policies: audit.audit_retention_policy
    history: audit.partition_history
    archive_directory: /var/lib/postgresql/archive
    mark: audit.mark_archived
    session_role: audit_owner
"""

RETURN = r"""
copied:
  description: Archives that were made, in check mode the partitions that would be copied, with nulls for the rest.
  returned: always
  type: list
  elements: dict
  contains:
    partition:
      description: The partition, which stays.
      type: str
    archive:
      description: Name of the archive.
      type: str
    rows:
      description: Number of rows.
      type: int
    sha256:
      description: Seal of the rows.
      type: str
    manifest_sha256:
      description: SHA-256 of the manifest, to be kept elsewhere.
      type: str
after_days:
  description: After how many days the first policy asks for a copy; null where none does.
  returned: always
  type: int
copies:
  description: How many copies of the table's partitions are complete, with those of this run.
  returned: always
  type: int
waiting:
  description: How many partitions are due as well, and left to the next runs.
  returned: always
  type: int
skipped_reason:
  description: Why nothing was done.
  returned: on a standby
  type: str
queries:
  description: SQL that brings this about, and exports as comments.
  returned: always
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
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_copy import carry_out, look, statements

NOTHING = {"archive": None, "rows": None, "sha256": None, "manifest_sha256": None}


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    refuse_hidden_rows(session)
    options = module.params
    for name in ("max_copies", "lock_attempts"):
        if options[name] < 1:
            raise PostgresqlError(f"{name}: {options[name]} is less than 1", remedy="give 1 or more")
    require_zstandard()
    found = look(session, options)
    queries = statements(session, found, options)
    copied: list[dict[str, Any]] = [{"partition": each.name, **NOTHING} for each in found.due]
    if found.due and not module.check_mode:
        with advisory_lock(session, f"partitions of {found.table.label}", options["wait"]):
            found = look(session, options)  # what another run did while this one waited
            queries = statements(session, found, options)
            copied = carry_out(session, found, options)
    return {
        **({"skipped_reason": "this server is a standby"} if found.table.standby else {}),
        "changed": bool(found.due),
        "copied": copied,
        "after_days": found.after_days,
        "copies": found.copies + (0 if module.check_mode else len(copied)),
        "waiting": found.waiting,
        "queries": queries,
        "executed_queries": session.executed,
        "diff": sql_diff(queries, f"archives of {found.table.label}"),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "table": {"type": "str", "required": True},
            "policies": {"type": "str", "required": True},
            "history": {"type": "str", "required": True},
            "archive_directory": {"type": "path", "required": True},
            "mark": {"type": "str"},
            "max_copies": {"type": "int", "default": 12},
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
