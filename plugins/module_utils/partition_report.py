# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules return of a table's partitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Plan, Range


def ranges(parts: Sequence[Range]) -> list[dict[str, str]]:
    """Return ranges as data, the name only where there is one."""
    return [
        {**({"name": part.name} if part.name else {}), "from": part.lower.isoformat(), "to": part.upper.isoformat()}
        for part in parts
    ]


def describe(planned: Plan, table: Table) -> dict[str, Any]:
    """Return how well the table is covered, and what is odd about its partitions."""
    return {
        "covered_until": planned.covered_until.isoformat() if planned.covered_until else None,
        "headroom": planned.headroom,
        "gaps": ranges(planned.gaps),
        "misnamed": [{"name": name, "expected": expected} for name, expected in planned.misnamed],
        "detach_pending": [each.name for each in table.partitions if each.detach_pending],
        "default_partition": next((each.name for each in table.partitions if each.default), None),
    }
