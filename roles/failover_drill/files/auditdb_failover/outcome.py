# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a fault has cost, from what the clients have seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

SHOWN = 100
"""So many lost rows are named."""


def longest(moments: Sequence[float], begun: float, ended: float) -> float:
    """Return the longest time in which nothing worked; one that has not ended, ends with the drill."""
    return max((later - earlier for earlier, later in pairwise([begun, *moments, ended])), default=0)


def interruptions(moments: Sequence[float], begun: float, ended: float, seconds: float = 1) -> int:
    """Return how many times nothing worked for longer than that."""
    return sum(later - earlier > seconds for earlier, later in pairwise([begun, *moments, ended]))


def degraded(seen: Sequence[tuple[float, str]], begun: float, ended: float) -> float:
    """Return for how long not all members took part: from the last look before it to the first after it."""
    wrong = [at for at, leader in seen if not leader]
    if not wrong:
        return 0
    before = max((at for at, leader in seen if leader and at < wrong[0]), default=begun)
    after = min((at for at, leader in seen if leader and at > wrong[-1]), default=ended)
    return after - before


@dataclass
class Outcome:
    """What a fault has cost."""

    rows: int = 0
    lost: list[int] = field(default_factory=list)
    unacknowledged: int = 0
    """Rows that are there though their client was not told so."""
    outage: float = 0
    interruptions: int = 0
    read_outage: float = 0
    reads: int = 0
    degraded: float = 0
    leader_before: str = ""
    leader_after: str = ""
    servers: list[str] = field(default_factory=list)
    write_errors: dict[str, int] = field(default_factory=dict)
    read_errors: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as evidence has it: whole milliseconds, no fractions."""
        return {
            "rows_acknowledged": self.rows,
            "rows_lost": len(self.lost),
            "lost": self.lost[:SHOWN],
            "rows_unacknowledged": self.unacknowledged,
            "write_outage_ms": round(self.outage * 1000),
            "write_interruptions": self.interruptions,
            "read_outage_ms": round(self.read_outage * 1000),
            "reads": self.reads,
            "degraded_ms": round(self.degraded * 1000),
            "leader_before": self.leader_before,
            "leader_after": self.leader_after,
            "servers": self.servers,
            "write_errors": self.write_errors,
            "read_errors": self.read_errors,
        }
