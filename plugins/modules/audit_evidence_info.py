#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_evidence_info
short_description: Verify evidence on the control node
version_added: "0.1.0"
description:
  - Verifies the signature of each report that M(auditdb.postgresql.audit_evidence) has signed, and that each follows
    the one before it.
  - A report that was changed, removed, put in or put elsewhere is named. That the newest was removed shows only where
    its hash is kept elsewhere too.
  - Everything happens on the control node; no host is connected to. Nothing is changed.
options:
  directory:
    description: Directory on the control node with the reports.
    type: path
    required: true
  public_key:
    description: File with the public half of the key that signed them, C(ssh-ed25519 ...).
    type: path
    required: true
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: Shows no diff.
    support: none
seealso:
  - module: auditdb.postgresql.audit_evidence
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: Verify the evidence of the restore drills
  auditdb.postgresql.audit_evidence_info:
    directory: "{{ inventory_dir }}/.state/evidence/restore_drill"
    public_key: "{{ inventory_dir }}/.state/evidence/signing.key.pub"
  register: evidence
  failed_when: evidence.problems | length > 0
"""

RETURN = r"""
reports:
  description: The reports, those of a name together, the oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    file:
      description: Name of the file.
      type: str
    name:
      description: What it is about.
      type: str
    sha256:
      description: SHA-256 of the file.
      type: str
problems:
  description: What is wrong, each with the file's name. Empty where all is as it was signed.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "public_key": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg="This module works on the control node, through its action plugin")


if __name__ == "__main__":
    main()
