# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps of a conversion: each is done at once or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Optional

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, with_lock_retries
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Range

AGAIN = {
    "23514": "rows from beyond the boundary came just before the check: run this again, the boundary moves behind them",
    "23505": "rows have the same key by now: give them different ones, then run this again",
}


Tell = Callable[[int, Optional[int]], None]  # noqa: UP045 - a value, and not an annotation
"""Takes how many rows are done, and of how many about."""


@dataclass(frozen=True)
class Step:
    """Something that is done at once or not at all."""

    name: str
    queries: list[str]
    work: Callable[[Tell], float | None]
    """Does it, and tells how far it is; returns for how many seconds it kept everybody from the table, if it did."""


@dataclass(frozen=True)
class Found:
    """What there is, and what follows from it."""

    subject: Subject
    boundary: datetime | None = None
    """First instant that the old table does not hold; None where it was not made a partition."""
    steps: list[Step] = field(default_factory=list)
    create: list[Range] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    later: list[tuple[str, list[str]]] = field(default_factory=list)
    """(step, its SQL) of those that can only be taken once these are done."""

    @property
    def names(self) -> list[str]:
        """Return the names of all steps, in order."""
        return [step.name for step in self.steps] + [name for name, _queries in self.later]

    @property
    def queries(self) -> list[str]:
        """Return all that is to be executed, in order."""
        return [text for step in self.steps for text in step.queries] + [
            text for _name, queries in self.later for text in queries
        ]


def alone(session: Session, name: str, statement: Any) -> Step:
    """Return a step of one statement that lets others read and write, and so may wait for as long as it has to."""
    text = session.render(statement)

    def work(_tell: Tell) -> None:
        session.query("SET lock_timeout = 0; SET statement_timeout = 0")
        try:
            session.execute(text)
        except PostgresqlError as error:
            error.remedy = error.remedy or AGAIN.get(error.sqlstate or "", "")
            raise

    return Step(name, [text], work)


def locked(session: Session, options: Mapping[str, Any], name: str, statement: Any) -> Step:
    """Return a step of one statement that locks everybody out for a moment, and gives up where others wait for it."""
    return together(session, options, name, [statement])


def together(session: Session, options: Mapping[str, Any], name: str, statements: Sequence[Any]) -> Step:
    """Return a step of statements that lock others out for a moment, in one transaction."""
    texts = [session.render(each) for each in statements]

    def once() -> None:
        with session.transaction():
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
            session.execute(";\n".join(texts))

    return Step(name, texts, lambda _tell: with_lock_retries(once, attempts=options["lock_attempts"]))
