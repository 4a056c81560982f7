# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outcome of a failover drill: what does not hold of what a fault may cost, and what it has cost, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.filter.health import health_table

GROUP = "failover"


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.1f} s"


def _leader_findings(found: Mapping[str, Any]) -> list[str]:
    """Return why who leads afterwards is not who should."""
    before, after, wanted = found["leader_before"], found["leader_after"], found["leads"]
    if not after:
        return ["nobody leads all others"]
    if wanted == "another" and after == before:
        return [f"{after} still does"]
    if wanted == "same" and after != before:
        return [f"{after} does, after {before}"]
    return []


def failover_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each thing that has to hold after a fault."""
    lost, outage, budget = found["rows_lost"], found["write_outage_ms"], found["budget_ms"]
    losses = [f"{lost} of {found['rows_acknowledged']} are: {', '.join(map(str, found['lost']))}"] if lost else []
    late = [f"they did not for {_seconds(outage)}"] if outage > budget else []
    who = {"another": "another member", "same": "the same member", "any": "a member"}[found["leads"]]

    def row(name: str, findings: list[str], remedy: str, allowed: bool = False) -> dict[str, Any]:
        status = "failed" if findings and not allowed else "ok"
        return {"group": GROUP, "name": name, "status": status, "findings": findings, "remedy": remedy}

    return [
        row(
            "no acknowledged row is lost",
            losses,
            "keep what the former leader has (its data directory), and compare; see patroni_profile",
            found["may_lose"],
        ),
        row(
            f"writes go on within {_seconds(budget)}",
            late,
            "see what the clients were told, and journalctl of Patroni and of the balancer; failover_drill_budgets",
        ),
        row(
            f"{who} leads",
            _leader_findings(found),
            "patronictl list; journalctl -u 'patroni@*' -u etcd",
        ),
        row(
            "clients write and read again, and all members take part",
            [found["failure"]] if found["failure"] else [],
            "run playbooks/health.yml, then playbooks/site.yml",
        ),
    ]


def _errors(errors: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in sorted(errors.items())) or "none"


def failover_table(content: Mapping[str, Any]) -> str:
    """Return what was done, what it has cost, and the table of the checks."""
    changed = content["leader_before"] != content["leader_after"]
    leads = f"{content['leader_after'] or 'nobody'} leads after {content['leader_before']}"
    times = content["write_interruptions"]
    lines = [
        f"{content['fault']}: {content['what']} ({', '.join(content['targets'])}); profile {content['profile']}",
        f"  {leads if changed else content['leader_before'] + ' leads as before'}",
        f"  seconds without writes   {content['write_outage_ms'] / 1000:8.2f}{f', {times} times' if times > 1 else ''}",
        f"  seconds without reads    {content['read_outage_ms'] / 1000:8.2f}",
        f"  until all members again  {content['degraded_ms'] / 1000:8.2f}",
        f"  acknowledged rows lost   {content['rows_lost']:5} of {content['rows_acknowledged']}",
        f"  errors of writes: {_errors(content['write_errors'])}",
        f"  errors of reads: {_errors(content['read_errors'])}",
    ]
    return "\n".join([*lines, health_table(content["results"])])


class FilterModule:
    """The filters of the failover drill."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"failover_rows": failover_rows, "failover_table": failover_table}
