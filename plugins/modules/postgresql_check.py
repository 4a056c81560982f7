#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_check
short_description: Check a database, and try what it must refuse
version_added: "0.1.0"
description:
  - Runs all given checks and reports each; none stops the others, and none changes anything.
  - A query looks for what is wrong and holds when it returns no row. It runs read-only.
  - A statement is really tried, as the role it is about, and must be refused, or accepted. It is always rolled back.
options:
  checks:
    description: The checks, in order.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What holds when the check passes.
        type: str
        required: true
      group:
        description: Heading under which the check is reported.
        type: str
        default: ''
      query:
        description: SQL whose rows are findings.
        type: str
      statements:
        description:
          - SQL that is tried, each in a transaction of its own.
          - Let it touch no row (C(WHERE false)), for a refusal is decided before rows are.
        type: list
        elements: str
      refused:
        description: SQLSTATEs, one of which each statement must fail with.
        type: list
        elements: str
      accepted:
        description: Whether each statement must succeed.
        type: bool
        default: false
      role:
        description: Role as which the check runs; by a login of its own where O(role_logins) has its password.
        type: str
      parameters:
        description: Values for C(%(name)s) in the SQL. Where there are any, a percent sign is written twice.
        type: dict
      remedy:
        description: What to do when the check fails.
        type: str
        default: ''
  role_logins:
    description: How the roles of the checks log in.
    type: dict
    default: {}
    suboptions:
      passwords:
        description: Passwords by role. A role that is not among them is taken on with C(SET ROLE).
        type: dict
      login_host:
        description: Host to log in to.
        type: str
      login_port:
        description: Port to log in to.
        type: int
      ssl_mode:
        description: How the connection is encrypted and the server verified.
        type: str
      ca_cert:
        description: File of the trusted certificate authority.
        type: str
  statement_timeout:
    description: How long a check may take, as PostgreSQL writes durations.
    type: str
    default: 10s
  lock_timeout:
    description: How long a check may wait for a lock, as PostgreSQL writes durations.
    type: str
    default: 1s
extends_documentation_fragment:
  - auditdb.postgresql.connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: Prove that the application cannot rewrite history
  auditdb.postgresql.postgresql_check:
    login_db: audit_db
    checks:
      - name: the writer cannot delete events
        role: audit_writer
        statements: [DELETE FROM audit.audit_log WHERE false]
        refused: ["42501"]
        remedy: run playbooks/site.yml
      - name: no setting waits for a restart
        query: SELECT name FROM pg_settings WHERE pending_restart
        remedy: restart the server
"""

RETURN = r"""
results:
  description: One entry a check, in order.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the check.
      type: str
    group:
      description: Its heading.
      type: str
    status:
      description: V(ok), V(failed), or V(unknown) when the login may not look.
      type: str
    findings:
      description: What is wrong.
      type: list
      elements: str
    remedy:
      description: What to do.
      type: str
    duration_ms:
      description: Milliseconds that the check took.
      type: int
summary:
  description: Number of checks by status.
  returned: success
  type: dict
"""

from collections import Counter
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils.check_plan import validate
from ansible_collections.auditdb.postgresql.plugins.module_utils.check_run import Checker
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    CONNECTION_ARGUMENTS,
    Session,
    run_module,
)


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    options = module.params
    validate(options["checks"])
    role_logins = {name: value for name, value in options["role_logins"].items() if value is not None}
    timeouts = {name: options[name] for name in ("statement_timeout", "lock_timeout")}
    checker = Checker(options, role_logins, timeouts)
    try:
        results = [checker.run(check) for check in options["checks"]]
    finally:
        checker.close()
    return {"changed": False, "results": results, "summary": dict(Counter(result["status"] for result in results))}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "checks": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "group": {"type": "str", "default": ""},
                    "query": {"type": "str"},
                    "statements": {"type": "list", "elements": "str"},
                    "refused": {"type": "list", "elements": "str"},
                    "accepted": {"type": "bool", "default": False},
                    "role": {"type": "str"},
                    "parameters": {"type": "dict"},
                    "remedy": {"type": "str", "default": ""},
                },
            },
            "role_logins": {
                "type": "dict",
                "default": {},
                "options": {
                    "passwords": {"type": "dict", "no_log": True},
                    "login_host": {"type": "str"},
                    "login_port": {"type": "int"},
                    "ssl_mode": {"type": "str"},
                    "ca_cert": {"type": "str"},
                },
            },
            "statement_timeout": {"type": "str", "default": "10s"},
            "lock_timeout": {"type": "str", "default": "1s"},
        },
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
