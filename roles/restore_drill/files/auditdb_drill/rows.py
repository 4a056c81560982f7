# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a drill found, in the rows that health reports have too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def row(group: str, name: str, findings: Sequence[str], remedy: str) -> Row:
    """Return the row of a check."""
    return {
        "group": group,
        "name": name,
        "status": "failed" if findings else "ok",
        "findings": list(findings),
        "remedy": remedy,
    }
