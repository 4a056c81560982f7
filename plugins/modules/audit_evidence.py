#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_evidence
short_description: Keep the outcome of checks as canonical JSON on the control node
version_added: "0.1.0"
description:
  - Adds a file C(NAME-TIME.json) with the content as canonical JSON (sorted keys, no white space, UTF-8), completed
    with the number of results by status and a verdict.
  - A file is never overwritten. Everything happens on the control node; no host is connected to.
options:
  directory:
    description: Directory on the control node, made when it is missing.
    type: path
    required: true
  name:
    description: What the evidence is about, as the beginning of the file's name.
    type: str
    required: true
  content:
    description: The evidence. C(results) is a list of rows that have a C(status).
    type: dict
    required: true
  signing_key:
    description:
      - SSH key without passphrase on the control node. The file then names the newest one with the same O(name)
        and its SHA-256 as C(previous), and is signed as C(FILE.sig) (C(ssh-keygen -Y sign), namespace
        C(auditdb-evidence)).
      - M(auditdb.postgresql.audit_evidence_info) verifies them.
    type: path
attributes:
  check_mode:
    description: Writes nothing in check mode, and returns what it would write.
    support: full
  diff_mode:
    description: Shows no diff.
    support: none
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: Keep the outcome of a check
  auditdb.postgresql.audit_evidence:
    directory: "{{ inventory_dir }}/.state/evidence/mine"
    name: "{{ inventory_hostname }}"
    content:
      at: "{{ now(utc=true, fmt='%Y-%m-%dT%H:%M:%SZ') }}"
      results: "{{ checks.results }}"
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
sha256:
  description: SHA-256 of the file.
  returned: success
  type: str
content:
  description: The completed evidence.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "content": {"type": "dict", "required": True},
            "signing_key": {"type": "path"},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg="This module works on the control node, through its action plugin")


if __name__ == "__main__":
    main()
