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
  - A query looks for what is wrong, and holds when it returns no row. It runs read-only.
  - A statement is really tried, as the role it is about, and must be refused, or accepted. It is always rolled back.
  - A failed check does not fail the module. What follows from it is up to the playbook.
options:
  checks:
    description: The checks, in order.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What holds when the check passes. Each has a name of its own.
        type: str
        required: true
      group:
        description: Heading under which the check is reported.
        type: str
        default: ''
      query:
        description:
          - SQL whose rows are findings. C(search_path) is C(pg_catalog), so other schemas are named.
          - When the login may not look, the check is V(unknown), never V(ok).
        type: str
      statements:
        description:
          - SQL that is tried, each in a transaction of its own. Other schemas than C(pg_catalog) are named.
          - Let it touch no row (C(WHERE false)), for a refusal is decided before rows are.
        type: list
        elements: str
      certificate_days:
        description:
          - The certificate that the server shows to the role's login must be trusted, and last so many days more.
          - It is what clients see, so a renewed file that the server has not read yet does not count.
        type: int
      refused:
        description:
          - SQLSTATEs, one of which each statement must fail with. C(42501) is a lack of rights.
          - A statement that fails with another one proves nothing, so the check fails.
        type: list
        elements: str
      accepted:
        description: Whether each statement must succeed.
        type: bool
        default: false
      role:
        description:
          - Role as which the check runs; the login when not given.
          - By a login of its own where O(role_logins) has its password, otherwise by C(SET ROLE).
        type: str
      parameters:
        description:
          - Values for C(%(name)s) in the SQL; lists are arrays.
          - Where there are any, a percent sign is written twice.
        type: dict
      advisory:
        description: Whether the rows of the query only inform. They are reported, and the check holds all the same.
        type: bool
        default: false
      remedy:
        description: What to do when the check fails.
        type: str
        default: ''
  role_logins:
    description: How the roles of the checks log in. What is not given is as for the login of the module.
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
        choices: [allow, disable, prefer, require, verify-ca, verify-full]
      ca_cert:
        description: File of the trusted certificate authority.
        type: str
      connect_params:
        description: More libpq connection parameters, which take precedence.
        type: dict
  statement_timeout:
    description: How long a query or statement may take, as PostgreSQL writes durations.
    type: str
    default: 10s
  lock_timeout:
    description: How long it may wait for a lock, as PostgreSQL writes durations.
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
      - name: the certificate is valid for two weeks more
        role: audit_writer
        certificate_days: 14
        remedy: renew it, and reload the server
      - name: no setting waits for a restart
        query: SELECT name FROM pg_settings WHERE pending_restart
        remedy: restart the server
    role_logins:
      passwords: {audit_writer: "{{ vault_audit_writer }}"}
      login_host: db.example.com
      ssl_mode: verify-full
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
      description: What is wrong, or what is to be known.
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
  sample: {ok: 12, failed: 1, unknown: 0}
acted_as:
  description: How the module acted as each role, by V(login) of its own or by V(SET ROLE).
  returned: success
  type: dict
  sample: {audit_writer: login, audit_owner: SET ROLE}
server_version:
  description: Version of the server.
  returned: success
  type: str
  sample: 17.6 (Debian 17.6-0+deb13u1)
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils.check_plan import FAILED, OK, UNKNOWN, validate
from ansible_collections.auditdb.postgresql.plugins.module_utils.check_run import run_checks
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    CONNECTION_ARGUMENTS,
    Session,
    run_module,
)

CHECK_ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "group": {"type": "str", "default": ""},
    "query": {"type": "str"},
    "statements": {"type": "list", "elements": "str"},
    "certificate_days": {"type": "int"},
    "refused": {"type": "list", "elements": "str"},
    "accepted": {"type": "bool", "default": False},
    "role": {"type": "str"},
    "parameters": {"type": "dict"},
    "advisory": {"type": "bool", "default": False},
    "remedy": {"type": "str", "default": ""},
}
LOGIN_ARGUMENTS: dict[str, dict[str, Any]] = {
    "passwords": {"type": "dict", "no_log": True},
    "login_host": {"type": "str"},
    "login_port": {"type": "int"},
    "ssl_mode": {"type": "str", "choices": CONNECTION_ARGUMENTS["ssl_mode"]["choices"]},
    "ca_cert": {"type": "str"},
    "connect_params": {"type": "dict"},
}


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    options = module.params
    validate(options["checks"])
    version = session.query("SELECT pg_catalog.current_setting('server_version') AS version")[0]["version"]
    results, acted_as = run_checks(options["checks"], session, options)
    return {
        "changed": False,
        "results": results,
        "summary": {s: sum(result["status"] == s for result in results) for s in (OK, FAILED, UNKNOWN)},
        "acted_as": acted_as,
        "server_version": version,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "checks": {"type": "list", "elements": "dict", "required": True, "options": CHECK_ARGUMENTS},
            "role_logins": {"type": "dict", "default": {}, "options": LOGIN_ARGUMENTS},
            "statement_timeout": {"type": "str", "default": "10s"},
            "lock_timeout": {"type": "str", "default": "1s"},
        },
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
