"""A client that writes numbered rows to whoever leads, and says for how long it could not, and which rows were lost.

A scenario's conftest.py says `pytest_plugins = ["throwaway", "election"]`. It stops by itself.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
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


@dataclass
class Writer:
    """Writes rows, one transaction each, and remembers those that a server has acknowledged."""

    logins: list[dict[str, Any]]
    patience: float = 3
    acknowledged: dict[int, float] = field(default_factory=dict)
    number: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    seconds: float = 240

    def run(self) -> None:
        begun, connection, at = time.monotonic(), None, 0
        while not self.stop.is_set() and time.monotonic() - begun < self.seconds:
            try:
                if connection is None:
                    connection = psycopg2.connect(**self.logins[at], async_=True)
                    wait(connection, self.patience)
                self.number += 1
                # Kept until it has ended: the connection does not.
                cursor = connection.cursor()
                cursor.execute("INSERT INTO election (number) VALUES (%s)", [self.number])
                wait(connection, self.patience)
                self.acknowledged[self.number] = time.monotonic()
                time.sleep(0.01)
            except (psycopg2.Error, SilentError):
                if connection is not None:
                    connection.close()
                connection, at = None, (at + 1) % len(self.logins)
                time.sleep(0.05)
        if connection is not None:
            connection.close()

    @property
    def outage(self) -> float:
        """Return the longest time between two acknowledged rows."""
        moments = sorted(self.acknowledged.values())
        return max((later - earlier for earlier, later in pairwise(moments)), default=0)

    def since(self, moment: float) -> int:
        """Return how many rows were acknowledged since a moment."""
        return len([each for each in list(self.acknowledged.values()) if each > moment])


@dataclass
class Outcome:
    """What a fault has cost."""

    outage: float = 0
    lost: list[int] = field(default_factory=list)
    rows: int = 0


@contextmanager
def writing(logins: list[dict[str, Any]], patience: float = 3) -> Iterator[Writer]:
    """Write meanwhile; the block begins once rows are acknowledged, and ends once they are again."""
    writer = Writer(logins, patience)
    thread = threading.Thread(target=writer.run, daemon=True)
    thread.start()
    try:
        _acknowledges(writer, 20)
        yield writer
        _acknowledges(writer, 90)
    finally:
        writer.stop.set()
        thread.join(timeout=30)


def _acknowledges(writer: Writer, seconds: float) -> None:
    begun = time.monotonic()
    while writer.since(begun) < 20:
        assert time.monotonic() - begun < seconds, f"no rows are acknowledged within {seconds} s"
        time.sleep(0.1)


def outcome(writer: Writer, present: set[int]) -> Outcome:
    """Compare what was acknowledged with the rows that are there."""
    return Outcome(writer.outage, sorted(set(writer.acknowledged) - present), len(writer.acknowledged))
