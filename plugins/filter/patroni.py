# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the settings that the members of a Patroni cluster share with the declared ones."""

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


class FilterModule:
    """The filter of role patroni."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by name."""
        return {"dcs_change": dcs_change}
