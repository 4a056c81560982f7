# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a drill is asked for: a JSON file, which the role writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from auditdb_backup.errors import BackupError

SOURCES = ("repository", "offsite")


@dataclass(frozen=True)
class Assertion:
    """A query that must return this in the restored copy."""

    name: str
    database: str
    query: str
    expected: str


@dataclass(frozen=True)
class Case:
    """A restore that is rehearsed."""

    name: str
    source: str
    """repository, or offsite: as if the site were lost."""
    target: str
    """latest: the end of the archived WAL; random: between two heartbeats, chosen anew each time; or a time."""
    rpo_budget: int
    """Seconds; 0 for none. A target that is not the latest moment has no RPO."""
    rto_budget: int


@dataclass(frozen=True)
class Drill:
    """What a drill is asked for."""

    configuration: Path
    """Of the backups."""
    workplace: Path
    """Emptied before and after; it has the marker of place.py."""
    result: Path
    """File for the outcome."""
    identity: Path
    acknowledged: Path
    database: str
    """Where the ledger is."""
    interval: int
    """Milliseconds between heartbeats."""
    cases: tuple[Case, ...]
    assertions: tuple[Assertion, ...]
    extrapolate: tuple[int, ...]
    """Sizes in bytes for which the RTO is extrapolated."""
    data_directory: Path
    addresses: tuple[str, ...]
    """Of the production server, which must be out of reach."""
    seconds: int
    """How long one recovery may take."""
    settings: Mapping[str, str]
    """Of the restored server."""
    seals: str
    """Table that keeps seals of closed partitions, in whichever database it is; empty for none."""
    seal_history: str
    """Table of the partitions that left."""

    @classmethod
    def read(cls, path: Path) -> Drill:
        """Return what the file asks for; raise BackupError where it cannot be understood."""
        content: dict[str, Any] = json.loads(path.read_bytes())
        wrong = {field.name for field in fields(cls)} ^ set(content)
        if wrong:
            raise BackupError(f"{path}: {', '.join(sorted(wrong))}", "run playbooks/restore_drill.yml, which writes it")
        for name in ("configuration", "workplace", "result", "identity", "acknowledged", "data_directory"):
            content[name] = Path(content[name])
        for name in ("extrapolate", "addresses"):
            content[name] = tuple(content[name])
        content["cases"] = tuple(Case(**each) for each in content["cases"])
        content["assertions"] = tuple(Assertion(**each) for each in content["assertions"])
        return cls(**content)
