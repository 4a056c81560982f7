#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_migration_info
short_description: Compare a ledger of migrations with its files
version_added: "0.1.0"
description:
  - Reports what is applied, pending, edited, missing and half applied. Drift is reported, not an error.
  - Works on a standby.
options:
  path:
    description:
      - Directory of the migrations on the control node; a relative one is looked for in the role's C(files) as other
        actions do.
      - C(NNNN_description.sql) applies, C(NNNN_description.down.sql) reverts and C(NNNN_description.verify.sql)
        verifies; the last two are optional.
      - "The line C(-- migrate: no-transaction) marks a migration whose statements run one by one, in no transaction."
      - A verification raises an error, or one of its statements returns a single false or null, when the migration did
        not do what it should. It runs read-only, before the migration is committed.
      - A way back is one transaction, always.
    type: path
  format:
    description:
      - V(numbered) as described at O(path), V(drizzle) a folder of drizzle-kit with C(meta/_journal.json), or V(auto)
        to tell by the journal.
    type: str
    choices: [auto, numbered, drizzle]
    default: auto
  schema:
    description: Schema of the ledger; nothing is applied when it does not exist.
    type: str
    default: public
  table:
    description: Name of the ledger's table; the event log's is this with C(_event) added.
    type: str
    default: schema_migrations
  migrations:
    description: What the action plugin read from O(path). Not for playbooks.
    type: list
    elements: dict
extends_documentation_fragment:
  - auditdb.postgresql.connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: auditdb.postgresql.postgresql_migration
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: See where the database stands
  auditdb.postgresql.postgresql_migration_info:
    login_db: audit_db
    path: migrations
    schema: audit
  register: migrations
"""

RETURN = r"""
current_version:
  description: Newest version in force; null when none is.
  returned: success
  type: str
applied:
  description: Versions in force.
  returned: success
  type: list
  elements: str
pending:
  description: Files that are not applied.
  returned: success
  type: list
  elements: str
mismatched:
  description: Files that were edited after they were applied.
  returned: success
  type: list
  elements: dict
  contains:
    file:
      description: Name of the file.
      type: str
    ledger:
      description: SHA-256 in the ledger.
      type: str
    found:
      description: SHA-256 of the file.
      type: str
missing:
  description: Applied migrations that have no file; always empty without O(path).
  returned: success
  type: list
  elements: str
unfinished:
  description: Migrations that are half applied.
  returned: success
  type: list
  elements: dict
  contains:
    version:
      description: Version.
      type: str
    statement:
      description: Number of the statement that stopped; null when only the verification is left.
      type: int
    error:
      description: Its error.
      type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    CONNECTION_ARGUMENTS,
    Session,
    run_module,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_ledger import Ledger
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_plan import IN_FORCE, File, compare


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    options = module.params
    files = [File.of(values) for values in options["migrations"] or []]
    entries = Ledger(session, options["schema"], options["table"]).read(schema_required=False)
    comparison = compare(files, entries)
    return {
        "changed": False,
        "current_version": comparison.current,
        "applied": [entry.version for entry in entries if entry.state in IN_FORCE],
        "pending": [file.file for file in comparison.pending],
        "mismatched": [
            {"file": file.file, "ledger": entry.checksum, "found": file.checksum}
            for file, entry in comparison.mismatched
        ],
        "missing": [f"{entry.version}_{entry.name}" for entry in comparison.missing] if options["path"] else [],
        "unfinished": [
            {"version": entry.version, "statement": entry.failed_statement, "error": entry.error}
            for _file, entry in comparison.failed
        ],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "path": {"type": "path"},
            "format": {"type": "str", "choices": ["auto", "numbered", "drizzle"], "default": "auto"},
            "schema": {"type": "str", "default": "public"},
            "table": {"type": "str", "default": "schema_migrations"},
            "migrations": {"type": "list", "elements": "dict"},
        },
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
