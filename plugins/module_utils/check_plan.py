# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Judge, without a database, what a check returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError

INSUFFICIENT_PRIVILEGE = "42501"
OK, FAILED, UNKNOWN = "ok", "failed", "unknown"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check."""

    status: str
    findings: list[str] = field(default_factory=list)


def validate(checks: Sequence[Mapping[str, Any]]) -> None:
    """Raise where a check does not say exactly one thing."""
    for check in checks:
        name = check["name"]
        if bool(check.get("query")) == bool(check.get("statements")):
            raise PostgresqlError(f"checks: '{name}' needs either query or statements", remedy="give one of them")
        if check.get("query") and (check.get("refused") or check.get("accepted")):
            raise PostgresqlError(
                f"checks: '{name}' has a query, which is neither refused nor accepted", remedy="use statements"
            )
        if check.get("statements") and bool(check.get("refused")) == bool(check.get("accepted")):
            raise PostgresqlError(
                f"checks: '{name}' must say whether its statements are refused or accepted",
                remedy="give refused: [SQLSTATE] or accepted: true",
            )


def render(row: Mapping[str, Any]) -> str:
    """Return a finding's row as text: the bare value of a single column, name=value pairs of several."""
    if len(row) == 1:
        return str(next(iter(row.values())))
    return ", ".join(f"{name}={value}" for name, value in row.items())


def judge_query(rows: Sequence[Mapping[str, Any]] | None, error: PostgresqlError | None) -> Verdict:
    """Return the verdict on a query: it holds when it returns no row."""
    if error is not None:
        if error.sqlstate == INSUFFICIENT_PRIVILEGE:
            return Verdict(UNKNOWN, [f"this login may not look: {error.message}"])
        return Verdict(FAILED, [_told(error)])
    findings = [render(row) for row in rows or ()]
    return Verdict(FAILED if findings else OK, findings)


def judge_statements(check: Mapping[str, Any], errors: Mapping[str, PostgresqlError | None]) -> Verdict:
    """Return the verdict on statements that are all to be accepted, or all to be refused with one of some SQLSTATEs."""
    findings = [
        f"{statement}: {problem}"
        for statement, error in errors.items()
        for problem in [_problem(check, error)]
        if problem is not None
    ]
    return Verdict(FAILED if findings else OK, findings)


def _problem(check: Mapping[str, Any], error: PostgresqlError | None) -> str | None:
    if check.get("accepted"):
        return None if error is None else f"refused, {_told(error)}"
    if error is None:
        return "accepted, and must be refused"
    if error.sqlstate not in check["refused"]:
        return f"not proven, it failed for another reason: {_told(error)}"
    return None


def _told(error: PostgresqlError) -> str:
    return f"{error.message} (SQLSTATE {error.sqlstate})" if error.sqlstate else error.message
