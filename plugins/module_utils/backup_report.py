# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of backups, from what their program says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TOLD = (
    "id",
    "kind",
    "chain",
    "parent",
    "bytes",
    "started_at",
    "finished_at",
    "timeline",
    "start_lsn",
    "stop_lsn",
    "source",
    "notices",
    "verified_at",
    "restored_at",
    "damaged",
)


def shown(backup: Mapping[str, Any]) -> dict[str, Any]:
    """Return of one backup what people and other programs ask for; all there is where it cannot be read."""
    return {name: backup[name] for name in TOLD if name in backup}


def chains(backups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the full backups with what rests on them, the oldest first."""
    members: dict[str, list[Mapping[str, Any]]] = {}
    for each in backups:
        if each.get("kind") in ("full", "incremental"):
            members.setdefault(each["chain"], []).append(each)
    return [
        {
            "id": name,
            "backups": [each["id"] for each in those],
            "bytes": sum(each["bytes"] for each in those),
            "verified": all(each["verified_at"] for each in those),
            "proven": any(each["restored_at"] for each in those),
            "damaged": any(each["damaged"] for each in those),
        }
        for name, those in members.items()
    ]
