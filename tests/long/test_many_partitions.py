"""Five thousand partitions with fifteen indexes each, at the server's settings for locks. Run: make test-long."""

from __future__ import annotations

import statistics
import time

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session

PARTITIONS = 5000
INDEXES = 14
TABLE = (
    "CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, "
    + ", ".join(f"c{number} int" for number in range(INDEXES))
    + ", PRIMARY KEY (at, id)) PARTITION BY RANGE (at)"
)
NOW = "2026-11-23T04:00:00Z"


def test_they_are_made_in_one_run_and_found_complete_in_few_statements(database, monkeypatch):
    database.query(TABLE)
    for number in range(INDEXES):
        database.query(f"CREATE INDEX ON log (c{number})")
    given = {"table": "log", "interval": "day", "premake": PARTITIONS - 1, "now": NOW}
    begun = time.monotonic()
    made = database.module("postgresql_partition", **given)
    took = time.monotonic() - begun
    assert len(made["created"]) == PARTITIONS
    assert database.value("SELECT count(*) FROM pg_inherits WHERE inhparent = 'log'::regclass") == PARTITIONS
    indexes = "SELECT count(*) FROM pg_index JOIN pg_inherits ON inhrelid = indrelid WHERE inhparent = 'log'::regclass"
    assert database.value(indexes) == PARTITIONS * (INDEXES + 1)
    asked: list[float] = []
    run = Session._run

    def timed(*words):
        before = time.monotonic()
        try:
            return run(*words)
        finally:
            asked.append(time.monotonic() - before)

    monkeypatch.setattr(Session, "_run", timed)
    sums = []
    for _round in range(3):
        asked.clear()
        assert not database.module("postgresql_partition", **given)["changed"]
        assert len(asked) <= 10
        sums.append(sum(asked))
    locks = database.value("SHOW max_locks_per_transaction")
    print(f"\n{PARTITIONS} x {INDEXES + 1}, max_locks_per_transaction {locks}: {took:.0f} s; "
          f"found complete: {len(asked)} statements, {statistics.median(sums) * 1000:.0f} ms of SQL")  # fmt: skip
