# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the migrations on the control node and hands them to the module of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_files import load_directory


class ActionModule(ActionBase):
    """Replaces the option ``path`` by what lies there."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read the directory, then run the module on the target."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("path"):
            try:
                directory = self._find_needle("files", arguments["path"])
                migrations = load_directory(Path(directory), arguments.get("format", "auto"))
            except AnsibleError as error:
                return {**result, "failed": True, "msg": f"path: {error}. Remedy: name a directory of migrations"}
            except PostgresqlError as error:
                return {**result, "failed": True, "changed": False, **error.as_failure()}
            arguments["migrations"] = [migration.as_dict() for migration in migrations]
        return {
            **result,
            **self._execute_module(
                module_name=f"auditdb.postgresql.{self._task.action.rpartition('.')[2]}",
                module_args=arguments,
                task_vars=task_vars,
            ),
        }
