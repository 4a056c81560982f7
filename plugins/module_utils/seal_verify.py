# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a closed partition still has the rows that were sealed: intact, with late rows added, or changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_seal import seal, snapshot
from ansible_collections.auditdb.postgresql.plugins.module_utils.seal_model import Seal, differences, explain

# Late rows move the extremes of time; what counts are the rows that were sealed.
OF_ROWS = ("algorithm", "columns", "key", "order_by", "rows", "sha256", "first_block")


@dataclass(frozen=True)
class Verdict:
    """What became of a sealed partition."""

    status: str
    """intact, late or changed."""
    now: Seal
    found: dict[str, Any]
    """What differs, where it was changed."""
    late_rows: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as data."""
        return {
            "status": self.status,
            "rows": self.now.rows,
            "late_rows": self.late_rows,
            "differences": self.found or None,
            "explanation": explain(self.found) or None,
        }


def verify(session: Session, part: Partition, old: Seal) -> Verdict:
    """Return whether the rows that were sealed are as they were. Both readings are of one snapshot."""
    relation = (part.schema, part.name)
    if session.connection.autocommit:
        with snapshot(session):
            return verify(session, part, old)
    now = seal(session, relation, old.options)
    found = differences(old, now)
    if not found:
        return Verdict("intact", now, {})
    if now.rows > old.rows:
        first = seal(session, relation, old.options, limit=old.rows)
        if not set(differences(old, first)) & set(OF_ROWS):
            return Verdict("late", now, {}, now.rows - old.rows)
    return Verdict("changed", now, found)
