# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client that does the same thing again and again, and remembers when it has worked and what has gone wrong."""

from __future__ import annotations

import select
import threading
import time
from collections import Counter
from typing import Any

import psycopg2
from psycopg2 import extensions


class SilentError(Exception):
    """A host has not answered in time. A frozen one takes a connection and says nothing."""


def wait(connection: Any, seconds: float) -> None:
    """Wait until what an asynchronous connection is at has ended."""
    deadline = time.monotonic() + seconds
    while (state := connection.poll()) != extensions.POLL_OK:
        left = deadline - time.monotonic()
        ready = ([connection], []) if state == extensions.POLL_READ else ([], [connection])
        if left <= 0 or not any(select.select(*ready, [], left)):
            raise SilentError


def told(error: Exception) -> str:
    """Return what an error is counted as: its SQLSTATE, or the end of what the library says."""
    if isinstance(error, SilentError):
        return "no answer in time"
    code = getattr(error, "pgcode", None)
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return str(code) if code else first.rsplit(": ", 1)[-1].strip()


class Client(threading.Thread):
    """Goes to the next login when one does not work."""

    def __init__(self, logins: list[dict[str, Any]], patience: float, every: float) -> None:
        super().__init__(daemon=True)
        self.logins = logins
        self.patience = patience
        self.every = every
        self.begun = time.monotonic()
        self.moments: list[float] = []
        """When it has worked."""
        self.errors: Counter[str] = Counter()
        self._halt = threading.Event()

    def once(self, connection: Any) -> None:
        """Do it once."""
        raise NotImplementedError

    def ask(self, connection: Any, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement, a transaction of its own."""
        # Kept until it has ended: the connection does not.
        cursor = connection.cursor()
        cursor.execute(statement, values)
        wait(connection, self.patience)
        return list(cursor.fetchall())

    def failed(self, error: Exception) -> None:
        """Remember that it did not work."""
        self.errors[told(error)] += 1

    def run(self) -> None:
        """Do it until it is stopped."""
        connection, at = None, 0
        while not self._halt.is_set():
            try:
                if connection is None:
                    connection = psycopg2.connect(**self.logins[at], async_=True)
                    wait(connection, self.patience)
                self.once(connection)
                self.moments.append(time.monotonic())
                self._halt.wait(self.every)
            except (psycopg2.Error, SilentError) as error:
                self.failed(error)
                if connection is not None:
                    connection.close()
                connection, at = None, (at + 1) % len(self.logins)
                self._halt.wait(0.05)
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        """Have it end, and wait until it has."""
        self._halt.set()
        self.join(timeout=2 * self.patience + 5)

    def since(self, moment: float) -> int:
        """Return how often it has worked since a moment."""
        return len([each for each in list(self.moments) if each > moment])


class Writer(Client):
    """Writes rows, one transaction each, and remembers those that a server has acknowledged."""

    INSERT = "INSERT INTO failover_drill.written (number, fault) VALUES (%s, %s) RETURNING host(inet_server_addr())"

    def __init__(self, logins: list[dict[str, Any]], patience: float, *fault: str) -> None:
        super().__init__(logins, patience, 0.01)
        self.fault = fault
        self.number = 0
        self.acknowledged: set[int] = set()
        self.servers: list[str] = []
        """Addresses of who has acknowledged, each time that it was another."""

    def once(self, connection: Any) -> None:
        """Write one row."""
        self.number += 1
        ((server,),) = self.ask(connection, self.INSERT, self.number, *self.fault)
        self.acknowledged.add(self.number)
        if self.servers[-1:] != [server]:
            self.servers.append(server)

    def present(self) -> set[int]:
        """Return the rows that are there."""
        connection = psycopg2.connect(**self.logins[0], async_=True)
        try:
            wait(connection, self.patience)
            rows = self.ask(connection, "SELECT number FROM failover_drill.written WHERE fault = %s", *self.fault)
        finally:
            connection.close()
        return {number for (number,) in rows}


class Reader(Client):
    """Reads a row where reads go."""

    def __init__(self, logins: list[dict[str, Any]], patience: float) -> None:
        super().__init__(logins, patience, 0.01)

    def once(self, connection: Any) -> None:
        """Read one row."""
        self.ask(connection, "SELECT number FROM failover_drill.written LIMIT 1")


class Watcher(Client):
    """Asks who leads which standbys stream from it."""

    def __init__(self, logins: list[dict[str, Any]], patience: float, members: list[str]) -> None:
        super().__init__(logins, patience, 0.1)
        self.members = set(members)
        self.seen: list[tuple[float, str]] = []
        """When it has looked, and who led; empty where not all others streamed from one, or nobody answered."""

    def once(self, connection: Any) -> None:
        """Look once."""
        ((names,),) = self.ask(connection, "SELECT failover_drill.streaming()")
        silent = self.members - set(names)
        self.seen.append((time.monotonic(), silent.pop() if len(silent) == 1 else ""))

    def failed(self, error: Exception) -> None:
        """Remember that nobody answered."""
        super().failed(error)
        self.seen.append((time.monotonic(), ""))

    def leader(self, seconds: float) -> str:
        """Return who leads while all others have streamed from it for some seconds."""
        last = [leader for at, leader in list(self.seen) if at > time.monotonic() - seconds]
        return last[0] if last and len(set(last)) == 1 else ""
