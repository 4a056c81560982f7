# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outcome of a restore drill, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.filter.health import health_table

MIB = 1 << 20
NOT_MEASURED = "not measured yet"
NO_RPO = "none: a chosen moment"
# In the order in which they come; canonical JSON sorts by name.
PHASES = ("decide", "fetch", "decrypt", "combine", "verify", "start", "replay", "promote", "check")


def spent_by(case: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the phases of a case with their milliseconds, in order."""
    return [(name, case["phases_ms"][name]) for name in PHASES if name in case["phases_ms"]]


def drill_table(content: Mapping[str, Any]) -> str:
    """Return what was measured, case by case, and the table of the checks."""
    lines = []
    for case in content["cases"]:
        if "rto_ms" not in case:
            lines.append(f"{case['name']}: it was not restored")
            continue
        target = case["target"] or "the end of the archived WAL"
        lost = "" if case["rpo_ms"] is None else f"; RPO {case['rpo_ms'] / 1000:.1f} s, {case['rows_lost']} rows lost"
        phases = ", ".join(f"{name} {spent / 1000:.1f}" for name, spent in spent_by(case))
        lines += [
            f"{case['name']}: from {case['source']} to {target}: RTO {case['rto_ms'] / 1000:.1f} s{lost}",
            f"  {case['bytes'] / MIB:.0f} MiB at {case['bytes_per_second'] / MIB:.1f} MiB/s; seconds: {phases}",
        ]
        if case.get("seals"):
            lines.append(f"  {len(case['seals'])} sealed partitions verified")
        lines += [
            f"  extrapolated, not measured: {each['bytes'] / MIB / 1024:.0f} GiB in {each['rto_ms'] / 1000:.0f} s"
            for each in case["extrapolated_not_measured"]
        ]
    return "\n".join([*lines, health_table(content["results"])])


def drill_figures(content: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what is wanted of each case, and what a drill has measured of it: texts, never a figure that was not."""
    found = {(case["name"], case["source"]): case for case in content.get("cases", [])}
    failed = {row["group"] for row in content.get("results", []) if row["status"] != "ok"}
    return [_figures(case, found.get((case["name"], case["source"])), case["name"] in failed) for case in cases]


def _figures(wanted: Mapping[str, Any], case: Mapping[str, Any] | None, failed: bool) -> dict[str, str]:
    has_rpo = wanted["target"] == "latest"
    rpo = rto = outcome = NOT_MEASURED
    if case:
        rpo = rto = "it was not restored"
        outcome = "failed" if failed else "ok"
        if "rto_ms" in case:
            rto = f"{case['rto_ms'] / 1000:.1f} s"
            rpo = "" if case["rpo_ms"] is None else f"{case['rpo_ms'] / 1000:.1f} s, {case['rows_lost']} rows"
    return {
        "case": f"{wanted['name']} ({'site lost' if wanted['source'] == 'offsite' else 'normal'})",
        "rpo_wanted": _budget(wanted["rpo_budget"]) if has_rpo else NO_RPO,
        "rpo": rpo if has_rpo else NO_RPO,
        "rto_wanted": _budget(wanted["rto_budget"]),
        "rto": rto,
        "outcome": outcome,
    }


def _budget(seconds: int) -> str:
    return f"{seconds} s" if seconds else "any"


class FilterModule:
    """The filters of the restore drill."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"drill_figures": drill_figures, "drill_table": drill_table}
