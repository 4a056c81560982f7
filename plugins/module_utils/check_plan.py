# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Judge, without a database, what checks returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError

INSUFFICIENT_PRIVILEGE = "42501"
OK, FAILED, UNKNOWN = "ok", "failed", "unknown"
SHOWN = 100  # characters of a statement in a finding

Row = Mapping[str, Any]
# A statement that was tried, and its error.
Attempt = tuple[str, "PostgresqlError | None"]


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check."""

    status: str
    findings: tuple[str, ...] = ()


def validate(checks: Sequence[Mapping[str, Any]]) -> None:
    """Raise where a check does not say exactly one thing, naming all such checks."""
    wrong = [f"'{check['name']}' {problem}" for check in checks for problem in _problems(check)]
    if wrong:
        raise PostgresqlError(
            f"checks: {'; '.join(wrong)}. Nothing was checked",
            remedy="give each a query, or certificate_days, or statements with refused: [SQLSTATE] or accepted: true",
        )


def _problems(check: Mapping[str, Any]) -> list[str]:
    problems = []
    sources = [name for name in ("query", "statements", "certificate_days") if check.get(name)]
    if len(sources) != 1:
        problems.append(f"has {' and '.join(sources) or 'neither a query, nor statements, nor certificate_days'}")
    expects = bool(check.get("refused")) + bool(check.get("accepted"))
    if not check.get("statements") and expects:
        problems.append("has no statements, which alone are refused or accepted")
    if check.get("statements") and expects != 1:
        problems.append("must say either what its statements are refused with, or that they are accepted")
    if check.get("advisory") and not check.get("query"):
        problems.append("is advisory, which only a query can be")
    return problems


def render(row: Row) -> str:
    """Return a finding as text: the bare value of a single column, name=value pairs of several."""
    if len(row) == 1:
        return str(next(iter(row.values())))
    return ", ".join(f"{name}={value}" for name, value in row.items())


def judge_error(error: PostgresqlError) -> Verdict:
    """Return the verdict on a question that could not be answered: never that it holds."""
    if error.sqlstate == INSUFFICIENT_PRIVILEGE:
        return Verdict(UNKNOWN, (f"this login may not look: {error.message}",))
    return Verdict(FAILED, (told(error),))


def judge_rows(rows: Sequence[Row], *, advisory: bool = False) -> Verdict:
    """Return the verdict on a query: it holds when it returned no row, or when its rows only inform."""
    findings = tuple(render(row) for row in rows)
    return Verdict(FAILED if findings and not advisory else OK, findings)


def judge_attempts(check: Mapping[str, Any], attempts: Sequence[Attempt]) -> Verdict:
    """Return the verdict on statements that are all to be accepted, or all to be refused with one of some SQLSTATEs."""
    problems = [(text, _problem(check, error)) for text, error in attempts]
    findings = tuple(f"{_shortened(text)}: {problem}" for text, problem in problems if problem)
    return Verdict(FAILED if findings else OK, findings)


def judge_certificate(end: datetime, now: datetime, days: int) -> Verdict:
    """Return the verdict on a certificate that ends then, and is to last so many days more."""
    if (end - now).days >= days:
        return Verdict(OK)
    return Verdict(FAILED, (f"it ends {end:%Y-%m-%d}, in {(end - now).days} days",))


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _problem(check: Mapping[str, Any], error: PostgresqlError | None) -> str | None:
    if check.get("accepted"):
        return None if error is None else f"refused, {told(error)}"
    if error is None:
        return "accepted, and must be refused"
    if error.sqlstate not in check["refused"]:
        return f"not proven, it failed for another reason: {told(error)}"
    return None


def told(error: PostgresqlError) -> str:
    """Return the error in one line, with its SQLSTATE where there is one."""
    message = " ".join(error.message.split())
    return f"{message} (SQLSTATE {error.sqlstate})" if error.sqlstate else message
