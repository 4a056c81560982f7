# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rehearsed restore has measured: whether the ledger is whole, what was lost, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .acknowledged import Acknowledged
from .facts import Carried, Facts
from .ledger import Row as LedgerRow
from .ledger import broken
from .request import Case
from .rows import Row, row

PHASES = ("decide", "fetch", "decrypt", "combine", "verify", "start", "replay", "promote", "check")
GROWING = ("fetch", "decrypt", "combine", "verify")
"""Phases that take as long as there are bytes; the others do not depend on the size."""


@dataclass(frozen=True)
class Loss:
    """What a disaster would have lost. Only where the target was the newest moment."""

    rpo_ms: int
    rows: int


def chain(group: str, found: Sequence[LedgerRow], known: Sequence[Acknowledged], carried: Carried) -> list[Row]:
    """Return whether the restored ledger is exactly what was acknowledged."""
    newest = found[-1].id if found else 0
    hashes = {each.id: each.hash for each in known}
    findings = [] if found else ["it is empty"]
    why = broken(found)
    if why:
        findings.append(why)
    # The hash of the newest row stands for all before it. A row beyond what was acknowledged may have been committed.
    if found and newest in hashes and hashes[newest] != found[-1].hash:
        findings.append(f"row {newest} is not the one that was acknowledged")
    remedy = "rows were lost or changed between the commit and the restore: find out where"
    rows = [row(group, "the ledger is whole, each row as it was acknowledged", findings, remedy)]
    ends = []
    if newest < carried.expected:
        ends.append(f"it ends with row {newest}; row {carried.expected} was archived")
    if carried.exact and newest > carried.expected:
        ends.append(f"it ends with row {newest}, after the target; row {carried.expected} is the last before it")
    name = "recovery ends exactly at its target" if carried.exact else "every archived row is there"
    return [*rows, row(group, name, ends, remedy)]


def loss(found: Sequence[LedgerRow], known: Sequence[Acknowledged], facts: Facts) -> Loss:
    """Return what is lost: acknowledged rows, and the time since the newest row that is there."""
    newest = found[-1].id if found else 0
    since = found[-1].at if found else known[0].at
    return Loss(max(0, (facts.declared_at - since) // 1000), sum(1 for each in known if each.id > newest))


def budgets(group: str, case: Case, lost: Loss | None, rto_ms: int) -> list[Row]:
    """Return whether the budgets are kept."""
    rows = []
    if case.rpo_budget and lost:
        over = [f"{lost.rpo_ms / 1000:.1f} s, {lost.rows} rows"] if lost.rpo_ms > case.rpo_budget * 1000 else []
        rows.append(
            row(group, f"RPO within {case.rpo_budget} s", over, "archive more often: archive_timeout, offsite job")
        )
    if case.rto_budget:
        over = [f"{rto_ms / 1000:.1f} s"] if rto_ms > case.rto_budget * 1000 else []
        rows.append(
            row(
                group,
                f"RTO within {case.rto_budget} s",
                over,
                "see which phase is long; more frequent backups replay less",
            )
        )
    return rows


def extrapolated(phases: Mapping[str, int], measured: int, size: int) -> int:
    """Return the milliseconds for another size: phases that move bytes grow with it, the others are as measured."""
    return sum(spent * size // measured if name in GROWING else spent for name, spent in phases.items())
