# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Patroni cluster: its shared settings beside the declared ones, and its lines of the health report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def _told(value: Any) -> str:
    """Return a value as Patroni compares it: 100 is "100", and true is on."""
    text = str(value).lower()
    return {"true": "on", "false": "off"}.get(text, text)


def _differ(live: Mapping[str, Any], wanted: Mapping[str, Any], path: str, lines: list[str]) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    for name in sorted({*live, *wanted}):
        had, wants = live.get(name), wanted.get(name)
        if isinstance(had, Mapping) and isinstance(wants, Mapping):
            inner = _differ(had, wants, f"{path}{name}.", lines)
            if inner:
                patch[name] = inner
        elif isinstance(had, Mapping) or isinstance(wants, Mapping) or _told(had) != _told(wants):
            patch[name] = wants
            lines.append(f"{path}{name}: {_shown(had)} -> {_shown(wants)}")
    return patch


def _shown(value: Any) -> str:
    return "(none)" if value is None else str(value)


def dcs_change(live: Mapping[str, Any], wanted: Mapping[str, Any], keep: Sequence[str] = ()) -> dict[str, Any]:
    """Return the patch that makes the live settings the wanted ones, and a line for each setting that it changes."""
    lines: list[str] = []
    known = {name: value for name, value in live.items() if name not in keep or name in wanted}
    return {"patch": _differ(known, wanted, "", lines), "lines": lines}


Member = Mapping[str, Any]
UNDECLARED = (
    "declare it, and run playbooks/add_replica.yml; or stop its Patroni for good: "
    "systemctl disable --now patroni@VERSION-NAME there"
)


def _leads(found: Mapping[str, Member]) -> list[str]:
    """Return the members that lead, as they say of themselves."""
    return [name for name, each in found.items() if each["patroni"].get("role") in ("primary", "master")]


def _leader_findings(found: Mapping[str, Member]) -> list[str]:
    """Return why not exactly one server takes writes: a server that has left Patroni may, too."""
    leading = _leads(found)
    findings = [] if leading else ["nobody leads"]
    if len(leading) > 1:
        findings.append(f"{' and '.join(leading)} lead")
    rogue = [name for name, each in found.items() if each["server"].get("standby") is False and name not in leading]
    return findings + [f"{name} takes writes, and does not lead" for name in rogue]


def _streaming_findings(found: Mapping[str, Member], members: Sequence[str], leaving: str = "") -> list[str]:
    """Return what keeps a declared member from streaming from the leader; one that is leaving need not."""
    leading = _leads(found)
    leader = found[leading[0]]["server"] if leading else {}
    findings = []
    for name in members:
        if name == leaving:
            continue
        each = found.get(name)
        if each is None:
            findings.append(f"{name} cannot be reached")
        elif not each["server"]:
            findings.append(f"{name}: the server does not answer")
        elif not each["patroni"]:
            findings.append(f"{name}: Patroni does not answer")
        elif name not in leading:
            timeline = each["server"]["timeline"]
            if timeline is None or name not in leader.get("streaming", []):
                findings.append(f"{name} does not stream from {leading[0] if leading else 'a leader'}")
            elif timeline != leader["timeline"]:
                findings.append(f"{name} is on timeline {timeline}, and {leading[0]} on {leader['timeline']}")
    return findings


def _undeclared_findings(found: Mapping[str, Member], members: Sequence[str], leaving: str = "") -> list[str]:
    """Return the members that are not declared; one that is leaving may be known still."""
    known = {row["name"] for each in found.values() for row in each["cluster"].get("members", [])}
    return [f"{name} is a member, and not declared" for name in sorted(known - {*members, leaving})]


def _waiting_findings(found: Mapping[str, Member]) -> list[str]:
    findings = []
    for name, each in found.items():
        settings = {*each["server"].get("waiting", []), *(each["patroni"].get("pending_restart_reason") or {})}
        if settings or each["patroni"].get("pending_restart"):
            findings.append(f"{name}: {', '.join(sorted(settings)) or 'what the members share'}")
    return findings


def _etcd_findings(found: Mapping[str, Member], leaving: str = "") -> list[str]:
    """Return the members of etcd that are not healthy, with who says so; one that is leaving need not be."""
    complaints: dict[str, list[str]] = {}
    for name, each in found.items():
        for address, healthy in each["etcd"].items():
            if not healthy and address != leaving:
                complaints.setdefault(address, []).append(name)
    return [f"{address} does not say that it is healthy to {', '.join(names)}" for address, names in complaints.items()]


def cluster_rows(found: Mapping[str, Member], members: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of the health report that are about the cluster, from what its members said, by name."""

    def row(name: str, findings: list[str], remedy: str, status: str | None = None) -> dict[str, Any]:
        shown = status or ("failed" if findings else "ok")
        return {"group": "cluster", "name": name, "status": shown, "findings": findings, "remedy": remedy}

    paused = [name for name, each in found.items() if each["cluster"].get("pause") or each["patroni"].get("pause")]
    return [
        row(
            "one member leads, and no other server takes writes",
            _leader_findings(found),
            "stop who does not lead (patronictl list says who does); what it took is lost when it is rewound",
        ),
        row(
            "each declared member streams from the leader, on its timeline",
            _streaming_findings(found, members),
            "run playbooks/site.yml; patronictl list, and reinit for one that cannot follow",
        ),
        row("no other host is a member", _undeclared_findings(found, members), UNDECLARED),
        row(
            "no member waits for a restart to put a setting in force",
            _waiting_findings(found),
            "run playbooks/site.yml, which restarts the standbys first",
        ),
        row(
            "a failure of the leader is answered; a pause is said",
            [f"the cluster is paused, as {', '.join(paused)} see it: nobody takes a leader's place"] if paused else [],
            "patronictl resume",
            "ok",
        ),
        row(
            "etcd has its quorum, and all of its members",
            _etcd_findings(found),
            "run playbooks/etcd.yml; journalctl -u etcd on that host",
        ),
    ]


def cluster_refusals(
    found: Mapping[str, Member],
    members: Sequence[str],
    *,
    without: str = "",
    without_etcd: str = "",
    synchronous: bool = False,
) -> list[str]:
    """Return why no member may be taken out of service now: what one that stays lacks, each with its remedy.

    `without` is one that is to go, and may be in any state, as may `without_etcd`, its member of etcd. Where the
    profile is synchronous, one that stays must be one that commits wait for.
    """
    stay = {name: each for name, each in found.items() if name != without}
    leading = _leads(stay)
    wrong = [f"{each}. Remedy: patronictl list says how they are" for each in _leader_findings(stay)]
    wrong += [
        f"{each}. Remedy: run playbooks/site.yml; for one that cannot follow, rebuild_replica.yml"
        for each in _streaming_findings(stay, members, without)
    ]
    wrong += [f"{each}. Remedy: {UNDECLARED}" for each in _undeclared_findings(stay, members, without)]
    if any(each["cluster"].get("pause") or each["patroni"].get("pause") for each in stay.values()):
        wrong.append("the cluster is paused. Remedy: patronictl resume, once who has paused it agrees")
    wrong += [
        f"etcd: {each}. Remedy: journalctl -u etcd there, then playbooks/etcd.yml"
        for each in _etcd_findings(stay, without_etcd)
    ]
    rows = stay[leading[0]]["cluster"].get("members", []) if leading else []
    waited = [row["name"] for row in rows if row.get("role") in ("sync_standby", "quorum_standby")]
    if synchronous and not {*waited} - {without}:
        wrong.append(
            f"no standby{f' besides {without}' if without else ''} has all that is committed. Remedy: have one"
            " that streams (playbooks/add_replica.yml), or another patroni_profile"
        )
    return wrong


def cluster_lowered(running: Mapping[str, str], wanted: Mapping[str, Any]) -> list[str]:
    """Return the settings that would become less than a standby may have while its leader has more."""
    return [
        f"{name} ({running[name]} -> {wanted[name]})"
        for name in sorted(running)
        if name in wanted and int(wanted[name]) < int(running[name])
    ]


class FilterModule:
    """The filters of role patroni."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "cluster_lowered": cluster_lowered,
            "cluster_refusals": cluster_refusals,
            "cluster_rows": cluster_rows,
            "dcs_change": dcs_change,
        }
