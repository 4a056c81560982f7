#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_backup_info
short_description: Read the backups of a cluster, and how well they are
version_added: "0.1.0"
description:
  - Tells what role P(auditdb.postgresql.postgresql_backup#role) has kept of a cluster, as its program C(auditdb-backup)
    knows it, without a key and without changing anything.
  - Whatever is wrong is among RV(problems), each with its remedy; that does not fail the module.
options:
  cluster:
    description: Name of the cluster in Debian's sense, as C(pg_lsclusters) shows it.
    type: str
    default: main
  program:
    description: The program.
    type: path
    default: /usr/local/bin/auditdb-backup
  configuration:
    description: Its configuration. That of O(cluster) when not given.
    type: path
  missing:
    description: Whether the module fails where no backups are set up, or returns RV(installed) alone.
    type: str
    choices: [fail, report]
    default: fail
attributes:
  check_mode:
    support: full
    description: It changes nothing in any case.
  diff_mode:
    support: none
    description: It changes nothing.
notes:
  - Run it as the user who owns the repository, C(postgres).
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: Read the backups
  auditdb.postgresql.postgresql_backup_info:
    cluster: main
  become: true
  become_user: postgres
  register: backups

- name: Say what is wrong
  ansible.builtin.assert:
    that: backups.problems | length == 0
    fail_msg: "{{ backups.problems | join('; ') }}"
"""

RETURN = r"""
installed:
  description: Whether backups are set up. Where they are not, nothing else is returned.
  returned: success
  type: bool
problems:
  description: What is wrong, each with its remedy; a job that is late, failed or never ran is among them.
  returned: success
  type: list
  elements: str
rpo:
  description: Seconds of commits that would be lost if the server's disks were gone now; null where that is not known.
  returned: success
  type: int
notices:
  description:
    - Notices of the newest physical backup, such as why it was taken of the primary and not of a standby. They are
      no problems.
  returned: success
  type: list
  elements: str
newest_backup:
  description: Id of the newest physical backup; null without one.
  returned: success
  type: str
newest_backup_age:
  description: Seconds since it was complete.
  returned: success
  type: int
backups:
  description: All backups, the oldest first. One that cannot be read has C(id) and C(damaged) alone.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The backup's id.
      type: str
    kind:
      description: V(full), V(incremental) or V(logical).
      type: str
    chain:
      description: The full backup that it rests on.
      type: str
    parent:
      description: The backup that it is incremental to; null where it is to none.
      type: str
    bytes:
      description: Size of its files.
      type: int
    started_at:
      description: When it began, ISO 8601 in UTC.
      type: str
    finished_at:
      description: When it was complete. From then on targets can be restored from it.
      type: str
    timeline:
      description: The timeline that it is of.
      type: int
    start_lsn:
      description: Where the WAL that it needs begins.
      type: str
    stop_lsn:
      description: Where it is consistent.
      type: str
    source:
      description: The server that it was taken of, such as C(standby db2); empty where that was not noted.
      type: str
    notices:
      description: Why standbys that were to be taken instead were not.
      type: list
      elements: str
    verified_at:
      description: When it was last read again without a finding; null where it was not.
      type: str
    restored_at:
      description: When a restore last proved it; null where none did.
      type: str
    damaged:
      description: What was found wrong with it; empty where nothing was.
      type: str
chains:
  description: Full backups with what rests on them, the oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Id of the full backup.
      type: str
    backups:
      description: Ids of its members, the full one first.
      type: list
      elements: str
    bytes:
      description: Size of them all.
      type: int
    verified:
      description: Whether each of them was read again without a finding.
      type: bool
    proven:
      description: Whether a restore has proven one of them.
      type: bool
    damaged:
      description: Whether one of them was found damaged.
      type: bool
wal:
  description: What is archived, as C(oldest), C(newest), C(segments) and C(missing).
  returned: success
  type: dict
jobs:
  description:
    - What ran when, by name, as C(succeeded_at), C(failed_at), C(error), C(started_at), C(age) in seconds and
      C(milliseconds).
  returned: success
  type: dict
bytes:
  description: Size of all backups.
  returned: success
  type: int
engine:
  description: The engine that takes them.
  returned: success
  type: str
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils.backup_report import chains, shown

PROBLEMS = 3
"""The exit code that says that the program answered, and what it says is not good."""


STATUS = ("bytes", "engine", "jobs", "newest_backup", "newest_backup_age", "notices", "problems", "rpo", "wal")


def ask(module: AnsibleModule, *words: str) -> Any:
    """Return what the program answers, as data; fail where it does not."""
    options = module.params
    configuration = options["configuration"] or f"/etc/auditdb-backup/{options['cluster']}.json"
    argv = [options["program"], "--config", configuration, *words, "--json"]
    code, output, errors = module.run_command(argv, handle_exceptions=False)
    if code not in (0, PROBLEMS):
        module.fail_json(
            msg=f"{' '.join(argv)} ended with exit code {code}: {errors.strip() or output.strip()}",
            remedy="run the role postgresql_backup, and this as the user postgres",
        )
    return json.loads(output)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "cluster": {"type": "str", "default": "main"},
            "program": {"type": "path", "default": "/usr/local/bin/auditdb-backup"},
            "configuration": {"type": "path"},
            "missing": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
        },
        supports_check_mode=True,
    )
    if module.params["missing"] == "report" and not Path(module.params["program"]).exists():
        module.exit_json(changed=False, installed=False)
    try:
        status, found = ask(module, "status"), ask(module, "list")
    except OSError as error:
        module.fail_json(
            msg=f"program: {module.params['program']}: {error.strerror}", remedy="run the role postgresql_backup"
        )
    backups = [shown(each) for each in found]
    told = {name: status[name] for name in STATUS}
    module.exit_json(changed=False, backups=backups, chains=chains(backups), installed=True, **told)


if __name__ == "__main__":
    main()
