# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pgpool: the pattern that matches all names but some, and its lines of the health report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SERVERS = "run playbooks/pgpool.yml; journalctl -u pgpool2 on that host says what it saw"
FEW = 1000
WORTH = 70
"""Reads from which on the share of hits says something, and the percentage that Pgpool's own manual asks for."""


def _quoted(character: str) -> str:
    return f"[{character}]" if character in ".$" else character


def _other(rests: Sequence[str]) -> str:
    """Return what matches every rest of a name but these."""
    following: dict[str, list[str]] = {}
    for rest in sorted({*rests} - {""}):
        following.setdefault(rest[0], []).append(rest[1:])
    ways = [] if "" in rests else [""]
    ways.append(f"[^{''.join(following)}].*" if following else "..*")
    ways += [f"{_quoted(first)}{_other(after)}" for first, after in following.items()]
    return f"({'|'.join(ways)})"


def all_but(names: Sequence[str]) -> str:
    """Return a POSIX extended regular expression that matches every name but these.

    Pgpool keeps results of all tables but those that such an expression matches, and POSIX has no "not": another name
    ends earlier than one of these, or goes on with a character with which none of these does.
    """
    return f"^{_other(names)}$"


def pgpool_rows(said: Mapping[str, Any], host: str) -> list[dict[str, Any]]:
    """Return the rows of the health report about a host's Pgpool, from what it said of its servers and its cache."""
    nodes, kept = said.get("nodes") or [], (said.get("cache") or [{}])[0]
    findings = [] if nodes else [f"could not look: {said.get('msg') or 'Pgpool does not answer'}"]
    leading = [each["hostname"] for each in nodes if each["role"] == "primary"]
    if nodes and len(leading) != 1:
        findings.append("no server takes writes")
    for each in nodes:
        name = f"{each['hostname']}:{each['port']}"
        if each["status"] not in ("up", "waiting"):
            findings.append(f"{name} is {each['status']}: it gets nothing")
        elif each.get("pg_role", "unknown") not in ("unknown", each["role"]):
            findings.append(f"{name} is taken for a {each['role']}, and is a {each['pg_role']}")
    rows = [_row(f"Pgpool on {host} sends writes to who takes them, and reads to each server", findings, SERVERS)]
    asked, hits = int(kept.get("num_selects") or 0), int(kept.get("num_cache_hits") or 0)
    if nodes and said.get("cached"):
        share = 100 * hits / (hits + asked) if hits + asked else 0
        told = f"{share:.0f} % of {hits + asked} reads came from the cache"
        if hits + asked >= FEW and share < WORTH:
            told += f"; below {WORTH} % it costs more than it saves. Take tables out of pgpool_cache_tables"
        rows.append(_row(f"the cache of Pgpool on {host} is worth its memory", [told], "", "ok"))
    return rows


def _row(name: str, findings: list[str], remedy: str, status: str | None = None) -> dict[str, Any]:
    shown = status or ("failed" if findings else "ok")
    return {"group": "cache", "name": name, "status": shown, "findings": findings, "remedy": remedy}


class FilterModule:
    """The filters of role pgpool."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"all_but": all_but, "pgpool_rows": pgpool_rows}
