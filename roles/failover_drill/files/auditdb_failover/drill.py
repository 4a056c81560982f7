# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The three clients of a drill, together: they begin with a whole cluster, and end with one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from auditdb_failover.clients import Reader, Watcher, Writer
from auditdb_failover.outcome import Outcome, degraded, interruptions, longest


class DrillError(Exception):
    """A drill cannot begin, or has not ended well."""


class Path(NamedTuple):
    """How clients reach the cluster: the logins to write by, one after the other, and those to read by."""

    writes: list[dict[str, Any]]
    reads: list[dict[str, Any]]


class Drill:
    """Clients that write, read and watch."""

    def __init__(self, path: Path, members: list[str], fault: str, patience: float = 3) -> None:
        self.writer = Writer(path.writes, patience, fault)
        self.reader = Reader(path.reads, patience)
        self.watcher = Watcher(path.writes, patience, members)
        self.clients = (self.writer, self.reader, self.watcher)
        self.outcome = Outcome()
        self.begun = 0.0

    def start(self, seconds: float = 30) -> None:
        """Begin once rows are acknowledged, reads answered, and all members take part."""
        for each in self.clients:
            each.start()
        since = time.monotonic()
        self._wait(lambda: self._well(since, 1), seconds)
        self.begun = time.monotonic()
        for each in self.clients:
            each.errors.clear()
        self.outcome.leader_before = self.watcher.leader(1)

    def finish(self, seconds: float = 120) -> Outcome:
        """End once all is well again, and compare what was acknowledged with the rows that are there."""
        since = time.monotonic()
        try:
            self._wait(lambda: self._well(since, 3), seconds)
        finally:
            ended = time.monotonic()
            self.outcome.leader_after = self.watcher.leader(3)
            self.stop()
            self._count(ended)
        present = self.writer.present()
        self.outcome.lost = sorted(self.writer.acknowledged - present)
        self.outcome.unacknowledged = len(present - self.writer.acknowledged)
        return self.outcome

    def stop(self) -> None:
        """Have all clients end."""
        for each in self.clients:
            each.stop()

    def _well(self, since: float, seconds: float) -> bool:
        worked = self.writer.since(since) >= 20 and self.reader.since(since) >= 20
        return worked and time.monotonic() - since > seconds and self.watcher.leader(seconds) != ""

    def _wait(self, until: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                raise DrillError(self._state(seconds))
            time.sleep(0.1)

    def _state(self, seconds: float) -> str:
        last = time.monotonic() - 1
        members = ", ".join(sorted(self.watcher.members))
        return (
            f"after {seconds:g} s: in the last second {self.writer.since(last)} rows were acknowledged and"
            f" {self.reader.since(last)} reads answered, and of {members}"
            f" {'all take part' if self.watcher.leader(1) else 'not all take part, or nobody answers'};"
            f" errors of writes {dict(self.writer.errors)}, of reads {dict(self.reader.errors)}"
        )

    def _count(self, ended: float) -> None:
        found = self.outcome
        writes = [each for each in self.writer.moments if each > self.begun]
        reads = [each for each in self.reader.moments if each > self.begun]
        found.rows, found.reads = len(self.writer.acknowledged), len(reads)
        found.outage = longest(writes, self.begun, ended)
        found.interruptions = interruptions(writes, self.begun, ended)
        found.read_outage = longest(reads, self.begun, ended)
        found.degraded = degraded([each for each in self.watcher.seen if each[0] > self.begun], self.begun, ended)
        found.servers = self.writer.servers
        found.write_errors, found.read_errors = dict(self.writer.errors), dict(self.reader.errors)
