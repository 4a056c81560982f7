# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes evidence on the control node, without a connection to any host."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.auditdb.postgresql.plugins.filter.health import canonical_json, health_summary, health_verdict
from ansible_collections.auditdb.postgresql.plugins.plugin_utils import evidence

MAKE = "make a pair without passphrase: ssh-keygen -t ed25519 -N '' -f FILE"


class ActionModule(ActionBase):
    """Adds a file that is never overwritten."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Complete the content with summary and verdict, and write it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _valid, options = self.validate_argument_spec(
            {
                "directory": {"type": "path", "required": True},
                "name": {"type": "str", "required": True},
                "content": {"type": "dict", "required": True},
                "signing_key": {"type": "path"},
            }
        )
        key = Path(options["signing_key"]) if options["signing_key"] else None
        if key and not key.is_file():
            return {**result, "failed": True, "msg": f"signing_key: there is no file {key}. Remedy: {MAKE}"}
        rows = options["content"]["results"]
        content = {**options["content"], "summary": health_summary(rows), "verdict": health_verdict(rows)}
        directory = Path(options["directory"])
        if key:
            before = evidence.newest(directory, options["name"])
            content["previous"] = before.as_link() if before else None
        text = canonical_json(content) + "\n"
        path = directory / f"{options['name']}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
        if not self._task.check_mode:
            try:
                directory.mkdir(mode=0o750, parents=True, exist_ok=True)
                with os.fdopen(
                    os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8"
                ) as file:
                    file.write(text)
                if key:
                    evidence.sign(path, key)
            except ValueError as error:
                return {
                    **result,
                    "failed": True,
                    "msg": f"signing_key: {path} cannot be signed: {error}. Remedy: {MAKE}",
                }
            except OSError as error:
                message = f"directory: the evidence cannot be written to {path}: {error.strerror}"
                return {**result, "failed": True, "msg": f"{message}. Remedy: choose a directory that is writable"}
        digest = hashlib.sha256(text.encode()).hexdigest()
        return {**result, "changed": True, "path": str(path), "sha256": digest, "content": content}
