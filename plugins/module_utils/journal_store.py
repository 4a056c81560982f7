# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Batches of events into the database, each together with the cursor that says how far it came."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TypeVar

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, database_error
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.journal_event import Event

try:
    import psycopg2
    from psycopg2 import sql
    from psycopg2.extras import execute_values
except ImportError:
    pass  # run_module reports it

T = TypeVar("T")
CHECK_VIOLATION = "23514"  # also what a row without a partition raises


@dataclass
class Span:
    """How many events there were, and from when to when."""

    count: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None

    def add(self, events: list[tuple[Event, str]]) -> None:
        """Count these events in."""
        times = [event.timestamp for event, _cursor in events]
        self.count += len(events)
        self.oldest = min([*times, self.oldest] if self.oldest else times)
        self.newest = max([*times, self.newest] if self.newest else times)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of ``size``; only one list is held at a time."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def table_name(option: str, value: str) -> sql.Identifier:
    """Return ``schema.table`` as an identifier."""
    if not re.fullmatch(r"[^.\s]+\.[^.\s]+", value):
        raise PostgresqlError(
            f"{option}: {value!r} is not schema.table", remedy=f"set {option} to e.g. audit.audit_log"
        )
    return sql.Identifier(*value.split("."))


class Store:
    """One source of one host, as the database knows it."""

    def __init__(self, session: Session, table: str, cursor_table: str, source: str, host: str) -> None:
        self.session = session
        self.name = table
        self.table = table_name("table", table)
        self.cursor_table = table_name("cursor_table", cursor_table)
        self.key = (source, host)

    def cursor(self) -> str | None:
        """Return the saved cursor."""
        statement = sql.SQL("SELECT cursor FROM {} WHERE source = %s AND host = %s").format(self.cursor_table)
        rows = self.session.query(statement, self.key)
        return str(rows[0]["cursor"]) if rows else None

    def load(self, events: list[tuple[Event, str]], before: str | None) -> None:
        """Insert a batch and move the cursor from ``before`` to the batch's end: both or neither."""
        rows = [event.columns() for event, _cursor in events]
        columns = list(rows[0])
        insert = sql.SQL("INSERT INTO {} ({}) VALUES %s").format(
            self.table, sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        text = insert.as_string(self.session.connection)
        with self.session.transaction():
            self._move_cursor(before, events[-1][1])
            try:
                with self.session.connection.cursor() as cursor:
                    execute_values(cursor, text, [tuple(row.values()) for row in rows], page_size=len(rows))
            except psycopg2.Error as error:
                raise self._explained(error, text, [row["timestamp"] for row in rows]) from error
            self.session.executed.append(f"{text} -- {len(rows)} rows")

    def _move_cursor(self, before: str | None, after: str) -> None:
        # First, because it locks the row: of two loads at once, the second waits here and then finds that it lost.
        if before is None:
            statement = sql.SQL(
                "INSERT INTO {} (source, host, cursor, updated_at) VALUES (%s, %s, %s, pg_catalog.now()) "
                "ON CONFLICT (source, host) DO NOTHING"
            ).format(self.cursor_table)
            moved = self.session.execute(statement, (*self.key, after))
        else:
            statement = sql.SQL(
                "UPDATE {} SET cursor = %s, updated_at = pg_catalog.now() "
                "WHERE source = %s AND host = %s AND cursor = %s"
            ).format(self.cursor_table)
            moved = self.session.execute(statement, (after, *self.key, before))
        if not moved:
            raise PostgresqlError(
                f"another load of {self.key[0]} of {self.key[1]} is under way and has moved the cursor",
                remedy="let it finish, then run again: nothing is loaded twice",
            )

    def _explained(self, error: psycopg2.Error, statement: str, times: list[str]) -> PostgresqlError:
        if error.pgcode == CHECK_VIOLATION and not error.diag.constraint_name:  # a broken CHECK names itself
            return PostgresqlError(
                f"{self.name} has no partition for some of the events from {min(times)} to {max(times)}: "
                f"{error.diag.message_detail or error.diag.message_primary}. Nothing of this batch is loaded",
                remedy=f"create them with auditdb.postgresql.postgresql_partition, option start: {min(times)[:10]}, "
                "as playbooks/load_journal.yml does",
                sqlstate=error.pgcode,
                oldest=min(times),
                newest=max(times),
            )
        return database_error(error, statement)
