# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A table in which others see how far a conversion is: each step gets a row when it begins."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_steps import Tell

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

CREATE = """CREATE TABLE IF NOT EXISTS {} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name text NOT NULL,
    step text NOT NULL,
    message text,
    rows_done bigint,
    rows_expected bigint,
    rows_per_second bigint,
    seconds_left bigint,
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    updated_at timestamptz,
    ended_at timestamptz)"""


def report(done: int, expected: int | None, rate: float | None) -> dict[str, Any]:
    """Return how far a step is, as a row of the table; ``rate`` in rows a second, None where it is not known yet."""
    left = max(0, round((expected - done) / rate)) if expected is not None and rate else None
    message = f"{done} rows" if expected is None else f"{done} of about {expected} rows"
    if rate:
        message += f", {round(rate)} a second"
    if left is not None:
        message += f", about {left} s left"
    return {
        "message": message,
        "rows_done": done,
        "rows_expected": expected,
        "rows_per_second": round(rate) if rate else None,
        "seconds_left": left,
    }


class Progress:
    """Writes the steps of one table down; nothing where no table is named for it."""

    def __init__(self, session: Session, subject: Subject, table: str | None) -> None:
        self.session = session
        self.label = subject.label
        # Without a schema it is that of the table.
        self.table = sql.Identifier(*(table.split(".") if "." in table else (subject.schema, table))) if table else None
        self.made = False

    @contextlib.contextmanager
    def of(self, step: str) -> Iterator[Tell]:
        """Write down when the block begins and when it has ended; one that failed or was killed has no end.

        The block is given what it tells its progress to. Its rate counts from the first that it tells: a run that goes
        on where another was killed begins with what that one did.
        """
        if self.table is None:
            yield lambda _done, _expected: None
            return
        if not self.made:
            self.session.execute(sql.SQL(CREATE).format(self.table))
            self.made = True
        begin = sql.SQL("INSERT INTO {} (table_name, step) VALUES (%s, %s) RETURNING id").format(self.table)
        number = self.session.query(begin, (self.label, step))[0]["id"]
        first: list[tuple[float, int]] = []

        def tell(done: int, expected: int | None) -> None:
            now = time.monotonic()
            if not first:
                first.append((now, done))
            since, before = first[0]
            rate = (done - before) / (now - since) if now > since and done > before else None
            self._update(number, {**report(done, expected, rate), "updated_at": "now"})

        yield tell
        self._update(number, {"ended_at": "now"})

    def _update(self, number: int, values: dict[str, Any]) -> None:
        """Write it down, for others to see at once."""
        if self.table is None:
            return
        clock = sql.SQL("pg_catalog.clock_timestamp()")
        settings = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), clock if value == "now" else sql.Literal(value))
            for name, value in values.items()
        )
        self.session.query(sql.SQL("UPDATE {} SET {} WHERE id = {}").format(self.table, settings, sql.Literal(number)))
