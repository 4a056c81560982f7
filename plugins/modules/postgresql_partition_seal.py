#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_partition_seal
short_description: Seal closed partitions, and find rows that changed since
version_added: "0.1.0"
description:
  - Keeps, for each partition whose range has ended, a SHA-256 over its ordered rows and over each range of them.
  - Verifying reads the rows again. A row that was changed, removed or put between is found, and the range it lies in is
    named. Rows that were added since with later numbers are told apart; the partition gets another seal.
options:
  tables:
    description: The partitioned tables.
    type: list
    elements: dict
    required: true
    suboptions:
      table:
        description: The partitioned table, with its schema.
        type: str
        required: true
      after:
        description: How long after its end a partition is sealed, so that events that are a little late are in.
        type: str
        default: 7 days
      omit:
        description: Columns that a seal leaves out, for they change, such as C(archived_at).
        type: list
        elements: str
        default: []
      verification_log:
        description:
          - Table that takes a row for each verification, with C(audit_log_id) and C(audit_log_timestamp) from the
            primary key of the table, C(verification_status), C(verification_details) and C(verified_by).
        type: str
  seals:
    description:
      - Table that keeps the seals. Its columns are those of C(audit.partition_seal), which role
        P(auditdb.postgresql.audit_schema#role) makes.
    type: str
    required: true
  history:
    description:
      - Table of departures, as in M(auditdb.postgresql.postgresql_partition). A sealed partition that is gone without
        being in it is reported as missing. Not looked for when not given.
    type: str
  state:
    description:
      - V(present) seals the closed partitions that have no seal. What has one is not read.
      - V(verified) reads all that have one, and fails where rows changed or a partition is missing.
    type: str
    choices: [present, verified]
    default: present
  block_rows:
    description: Rows of a range.
    type: int
    default: 10000
  now:
    description: The current instant, for tests. The server's clock when not given.
    type: str
  wait:
    description: Seconds to wait for another run to end.
    type: float
    default: 60
extends_documentation_fragment:
  - auditdb.postgresql.connection
attributes:
  check_mode:
    description: Seals nothing and writes nothing down. Verification reads and compares all the same.
    support: full
  diff_mode:
    support: full
requirements:
  - tenacity (Debian package C(python3-tenacity))
notes:
  - Rows are ordered by the primary key, so that late rows come last where its first column is a growing number.
  - Whoever may write both the rows and the seals can forge both. Keep the seals elsewhere, too;
    P(auditdb.postgresql.audit_maintenance#role) puts them into its evidence.
seealso:
  - module: auditdb.postgresql.postgresql_partition
  - module: auditdb.postgresql.postgresql_partition_archive
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: Seal the months that have ended
  auditdb.postgresql.postgresql_partition_seal:
    login_db: audit_db
    seals: audit.partition_seal
    tables:
      - table: audit.audit_log
        omit: [archived_at]
    session_role: audit_owner

- name: Find rows that changed since
  auditdb.postgresql.postgresql_partition_seal:
    login_db: audit_db
    seals: audit.partition_seal
    history: audit.partition_history
    tables:
      - table: audit.audit_log
        omit: [archived_at]
        verification_log: audit.audit_integrity_log
    state: verified
    session_role: audit_owner
"""

RETURN = r"""
sealed:
  description: Seals that were added, in check mode the partitions that would be sealed.
  returned: success
  type: list
  elements: dict
  contains:
    table:
      description: The partitioned table.
      type: str
    partition:
      description: Name of the partition.
      type: str
    rows:
      description: Number of its rows; not in check mode.
      type: int
    sha256:
      description: Digest of its rows; not in check mode.
      type: str
    follows:
      description: Whether there was a seal before, and late rows since; not in check mode.
      type: bool
verified:
  description: What became of each sealed partition.
  returned: when O(state=verified), also with a failure
  type: list
  elements: dict
  contains:
    table:
      description: The partitioned table.
      type: str
    partition:
      description: Name of the partition.
      type: str
    status:
      description: >-
        V(intact), V(late) (rows were added), V(purged) (M(auditdb.postgresql.postgresql_partition_purge) was stopped
        before it sealed again), V(changed), or V(missing).
      type: str
    rows:
      description: Number of its rows.
      type: int
    late_rows:
      description: Rows that were added since.
      type: int
    differences:
      description: What differs; V(first_block) names the first range of rows that does.
      type: dict
    explanation:
      description: The same as a sentence.
      type: str
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
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.seal_run import Work, prepare, seal_closed, verify_all


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    options = module.params
    if options["block_rows"] < 1:
        raise PostgresqlError(f"block_rows: {options['block_rows']} is less than 1", remedy="give 1 or more")
    works: list[Work] = prepare(session, options)
    standby = session.in_recovery()
    write = not module.check_mode and not standby
    with advisory_lock(session, f"seals in {options['seals']}", options["wait"]):
        if options["state"] == "verified":
            verified, sealed = verify_all(session, works, options, write)
            broken = [each for each in verified if each["status"] in ("changed", "missing")]
            if broken:
                raise PostgresqlError(
                    "sealed rows are not what they were: "
                    + "; ".join(f"{each['partition']}: {each['explanation']}" for each in broken),
                    remedy="keep what is there, and compare the named rows with a backup or an archive",
                    verified=verified,
                )
        else:
            verified = None
            sealed = [] if standby else seal_closed(session, works, options, write)
    text = "".join(f"seal {each['table']}: {each['partition']}\n" for each in sealed)
    return {
        **({"verified": verified} if verified is not None else {}),
        **({"skipped_reason": "this server is a standby"} if standby else {}),
        "changed": bool(session.executed or sealed),
        "sealed": sealed,
        "executed_queries": session.executed,
        "diff": {"before_header": "seals", "after_header": "seals", "before": "", "after": text},
    }


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
                    "after": {"type": "str", "default": "7 days"},
                    "omit": {"type": "list", "elements": "str", "default": []},
                    "verification_log": {"type": "str"},
                },
            },
            "seals": {"type": "str", "required": True},
            "history": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "verified"], "default": "present"},
            "block_rows": {"type": "int", "default": 10000},
            "now": {"type": "str"},
            "wait": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
