# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is taken along from production into the isolation of a drill."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from auditdb_backup.canonical import canonical

FILE = "facts.json"


@dataclass(frozen=True)
class Carried:
    """What was fetched for a case."""

    name: str
    source: str
    target: str | None
    """The moment, ISO 8601 in UTC; None for the end of the archived WAL."""
    expected: int
    """The newest row of the ledger that must be there."""
    exact: bool
    """Whether no later row may be there."""
    backups: list[str]
    decide_ms: int
    fetch_ms: int
    fetched_bytes: int
    problem: str
    """Why it cannot be rehearsed; empty where it can."""


@dataclass(frozen=True)
class Facts:
    """What was known of production when the disaster was declared."""

    declared_at: int
    """Microseconds since 1970."""
    archived_until: int | None
    """Up to then every commit is archived. Microseconds since 1970."""
    server_version: str
    configuration_sha256: str
    catalog: list[str]
    cases: list[Carried]

    def write(self, directory: Path) -> None:
        """Write them into the drill's directory."""
        (directory / FILE).write_bytes(canonical(asdict(self)) + b"\n")

    @classmethod
    def read(cls, directory: Path) -> Facts:
        """Return what was written there."""
        content = json.loads((directory / FILE).read_bytes())
        return cls(**{**content, "cases": [Carried(**each) for each in content["cases"]]})
