# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verifies evidence on the control node, without a connection to any host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.auditdb.postgresql.plugins.plugin_utils import evidence


class ActionModule(ActionBase):
    """Reads reports and their signatures."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the reports and what is wrong with them."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _valid, options = self.validate_argument_spec(
            {"directory": {"type": "path", "required": True}, "public_key": {"type": "path", "required": True}}
        )
        directory, key = Path(options["directory"]), Path(options["public_key"])
        try:
            public_key = key.read_text().strip()
        except OSError as error:
            remedy = "Remedy: give the public half of the key that signed the evidence"
            return {**result, "failed": True, "msg": f"public_key: {error.strerror}: {key}. {remedy}"}
        if not directory.is_dir():
            remedy = "Remedy: give the directory that the evidence was written to"
            return {**result, "failed": True, "msg": f"directory: there is no {directory}. {remedy}"}
        found = evidence.reports(directory)
        rows = [{"file": each.path.name, "name": each.name, "sha256": each.sha256} for each in found]
        return {**result, "changed": False, "reports": rows, "problems": evidence.problems(found, public_key)}
