"""The client of role failover_drill, with a table of the tests' own, to whoever leads.

A scenario's conftest.py says `pytest_plugins = ["throwaway", "election"]`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from auditdb_failover.clients import Writer as Client
from auditdb_failover.outcome import longest


class Writer(Client):
    """Writes rows into the table election."""

    INSERT = "INSERT INTO election (number) SELECT %s RETURNING host(inet_server_addr())"

    def __init__(self, logins: list[dict[str, Any]], patience: float = 3) -> None:
        super().__init__(logins, patience)

    @property
    def outage(self) -> float:
        """Return the longest time between two acknowledged rows."""
        return longest(self.moments[1:-1], self.moments[0], self.moments[-1]) if self.moments else 0


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
    writer.start()
    try:
        _acknowledges(writer, 20)
        yield writer
        _acknowledges(writer, 90)
    finally:
        writer.stop()


def _acknowledges(writer: Writer, seconds: float) -> None:
    begun = time.monotonic()
    while writer.since(begun) < 20:
        assert time.monotonic() - begun < seconds, f"no rows are acknowledged within {seconds} s"
        time.sleep(0.1)


def outcome(writer: Writer, present: set[int]) -> Outcome:
    """Compare what was acknowledged with the rows that are there."""
    return Outcome(writer.outage, sorted(writer.acknowledged - present), len(writer.acknowledged))
