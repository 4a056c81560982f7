"""How long it takes to manage partitions, beside pg_partman and a loop of Ansible tasks in the same run.

Run: make bench-partitions. It takes about half an hour, and writes the section of docs/benchmarks.md and its plots.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from partition_report import write
from partition_servers import NOW, ROOT, Server, module, partman_create, save, server, table, timed

CASES = [("month", "1 month", 90, 15), ("day", "1 day", 1000, 3), ("day", "1 day", 5000, 1)]
ROUNDS = 3
ROWS = int(os.environ.get("ROWS", "10000000"))
LOOP = """
- hosts: localhost
  gather_facts: false
  tasks:
    - community.postgresql.postgresql_query:
        login_host: {host}
        login_user: postgres
        login_password: "{{{{ lookup('env', 'PGPASSWORD') }}}}"
        login_db: bench
        query: >-
          CREATE TABLE IF NOT EXISTS part_{{{{ item }}}} PARTITION OF log
          FOR VALUES FROM (timestamptz '2026-11-01Z' + {{{{ item }}}} * interval '1 month')
          TO (timestamptz '2026-11-01Z' + ({{{{ item }}}} + 1) * interval '1 month')
      loop: "{{{{ range(0, {count}) | list }}}}"
"""


def floor(running: Server, count: int, indexes: int) -> float:
    """Time the making of as many tables with the same indexes that are no partitions: what any tool has to wait for."""
    running.fresh(table(indexes))
    texts = [f"CREATE TABLE floor_{number} (LIKE log INCLUDING ALL EXCLUDING IDENTITY)" for number in range(count)]
    times: list[float] = []
    with timed(times):
        for begin in range(0, count, 100):
            running.sql("; ".join(texts[begin : begin + 100]))
    return times[0]


def create(running: Server, raised: bool) -> list[dict[str, Any]]:
    """Time the creation of partitions. pg_partman makes all in one transaction, and so needs more locks."""
    rows = []
    for interval, partmans, count, indexes in CASES[-1:] if raised else CASES:
        ours: list[float] = []
        theirs: list[float] = []
        floors: list[float] = []
        refused = None
        for _round in range(ROUNDS if count < 5000 else 1):
            running.fresh(table(indexes))
            with timed(ours):
                made = module(
                    running, "postgresql_partition", table="log", interval=interval, premake=count - 1, now=NOW
                )
            assert len(made["created"]) == count
            floors.append(floor(running, count, indexes))
            running.fresh(table(indexes))
            try:
                with timed(theirs):
                    partman_create(running, partmans, count)
            except Exception as error:
                refused = str(error).splitlines()[0]
        row = {"partitions": count, "indexes": indexes, "locks": "raised" if raised else "default"}
        row |= {"ours": statistics.median(ours), "floor": statistics.median(floors)}
        row |= {"partman": statistics.median(theirs) if theirs else None}
        rows.append({**row, "partman refused": refused})
        print(row, refused, flush=True)
    return rows


def loop(running: Server, count: int = 90) -> float:
    """Time the same by a loop of community.postgresql.postgresql_query."""
    running.fresh(table(15))
    playbook = ROOT / ".build/bench/loop.yml"
    playbook.parent.mkdir(parents=True, exist_ok=True)
    playbook.write_text(LOOP.format(host=running.host, count=count))
    times: list[float] = []
    with timed(times):
        subprocess.run(
            ["ansible-playbook", "-i", "localhost,", "-c", "local",
             "-e", f"ansible_python_interpreter={sys.executable}", str(playbook)],
            check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PGPASSWORD": running.password},
        )  # fmt: skip
    assert running.sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'log'::regclass")[0][0] == count
    return times[0]


def again(running: Server) -> list[dict[str, Any]]:
    """Time runs that find nothing to do, and count their statements."""
    from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session

    rows = []
    for interval, partmans, count, indexes in CASES[:2]:
        options = {"table": "log", "interval": interval, "premake": count - 1, "now": NOW}
        running.fresh(table(indexes))
        module(running, "postgresql_partition", **options)
        asked: list[float] = []
        run = Session._run
        Session._run = _timed(run, asked)  # type: ignore[method-assign]
        whole: list[float] = []
        sums = []
        try:
            for _round in range(5):
                asked.clear()
                with timed(whole):
                    assert not module(running, "postgresql_partition", **options)["changed"]
                sums.append(sum(asked))
        finally:
            Session._run = run  # type: ignore[method-assign]
        running.fresh(table(indexes))
        partman_create(running, partmans, count)
        theirs: list[float] = []
        for _round in range(5):
            with timed(theirs):
                running.sql("SELECT partman.run_maintenance('public.log')")
        row = {"partitions": count, "statements": len(asked), "sql": statistics.median(sums)}
        row |= {"whole": statistics.median(whole), "partman": statistics.median(theirs)}
        rows.append(row)
        print(row, flush=True)
    return rows


def _timed(run: Any, times: list[float]) -> Any:
    def timed_run(*words: Any) -> Any:
        with timed(times):
            return run(*words)

    return timed_run


class Application(threading.Thread):
    """Writes and reads rows of now, and remembers the longest that it waited."""

    def __init__(self, running: Server) -> None:
        super().__init__()
        self.running, self.worst, self.count, self.over = running, 0.0, 0, threading.Event()

    def run(self) -> None:
        session = self.running.connect("bench")
        hour = datetime.now(UTC) - timedelta(hours=1)
        with session.cursor() as cursor:
            while not self.over.is_set():
                insert = "INSERT INTO log (id, at, a) VALUES (nextval('numbers'), now(), 'live') RETURNING id"
                number = self.ask(cursor, insert)
                # An hour, and not now(): else the planner locks every partition for a moment.
                self.ask(cursor, f"SELECT a FROM log WHERE id = {number} AND at > '{hour}'")
                self.count += 1
        session.close()

    def ask(self, cursor: Any, statement: str) -> Any:
        begun = time.monotonic()
        cursor.execute(statement)
        row = cursor.fetchone()
        self.worst = max(self.worst, time.monotonic() - begun)
        return row[0] if row else None

    def stop(self) -> dict[str, Any]:
        self.over.set()
        self.join()
        return {"worst": self.worst, "writes": self.count}


class Reader(threading.Thread):
    """Reads all partitions in transactions of a second, so that whoever wants the table to itself has to wait."""

    def __init__(self, running: Server) -> None:
        super().__init__()
        self.running, self.over = running, threading.Event()

    def run(self) -> None:
        session = self.running.connect("bench")
        with session.cursor() as cursor:
            while not self.over.is_set():
                cursor.execute("BEGIN; SELECT count(*) FROM log WHERE a = 'none'; SELECT pg_sleep(1); COMMIT")
                time.sleep(0.3)
        session.close()


def leave(running: Server) -> dict[str, Any]:
    """Let 1,000 partitions leave while an application works and a reader is in the way."""
    result: dict[str, Any] = {}
    old = "SELECT to_char(now() - interval '1000 days', 'YYYY-MM-DD')"
    for tool in ("ours", "partman"):
        running.fresh(table(1) + "; CREATE SEQUENCE numbers START 1000000")
        start = running.sql(old)[0][0]
        if tool == "ours":
            module(running, "postgresql_partition", table="log", interval="day", premake=3, start=start)
        else:
            partman_create(running, "1 day", 4, start)
            running.sql("UPDATE partman.part_config SET retention = '1 day', retention_keep_table = false, premake = 1")
        application, reader = Application(running), Reader(running)
        application.start()
        reader.start()
        times: list[float] = []
        try:
            with timed(times):
                if tool == "ours":
                    module(running, "postgresql_partition", table="log", interval="day", premake=3, retention="1 day",
                           retention_action="drop", max_leaving=2000, lock_timeout="200ms", lock_attempts=1000,
                           clock_lead="99 years")  # fmt: skip
                else:
                    running.sql("SELECT partman.run_maintenance('public.log')")
        except Exception as error:
            result[f"{tool} refused"] = str(error).splitlines()[0]
        reader.over.set()
        reader.join()
        left = running.sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'log'::regclass")[0][0]
        result[tool] = {"seconds": times[0] if times else None, "left": left, **application.stop()}
        print(tool, result[tool], flush=True)
    return result


def convert(running: Server) -> dict[str, Any]:
    """Convert a table of many rows while an application writes."""
    result: dict[str, Any] = {}
    plain = (
        "CREATE TABLE log (id bigint NOT NULL PRIMARY KEY, at timestamptz NOT NULL, a text); CREATE SEQUENCE numbers "
        f"START {ROWS + 1}; INSERT INTO log SELECT n, now() - interval '2 years' + n * interval '2 years' / {ROWS}, "
        f"repeat('x', 100) FROM generate_series(1, {ROWS}) AS n; CREATE INDEX log_at ON log (at); "
        "CREATE INDEX log_a ON log (a, at); ANALYZE log"
    )
    for tool in ("ours", "split", "partman"):
        if tool != "split":  # of what was converted before
            running.fresh(plain)
        running.sql("CHECKPOINT")
        wal = running.sql("SELECT pg_current_wal_lsn()")[0][0]
        application = Application(running)
        application.start()
        times: list[float] = []
        locked = None
        with timed(times):
            if tool != "partman":
                done = module(running, "postgresql_partition_convert", table="log", key="at", premake=2,
                              lock_timeout="200ms", lock_attempts=100, split=tool == "split")  # fmt: skip
                locked = done["locked_seconds"]
            else:
                # As pg_partman's guide has it: the new table takes the name, rows are moved from the old one.
                running.sql(
                    "BEGIN; LOCK TABLE log; ALTER TABLE log RENAME TO log_old; CREATE TABLE log (LIKE log_old) "
                    "PARTITION BY RANGE (at); ALTER TABLE log ADD PRIMARY KEY (id, at); "
                    "CREATE INDEX ON log (at); CREATE INDEX ON log (a, at); "
                    "CREATE TABLE log_rest PARTITION OF log DEFAULT; COMMIT"
                )
                running.sql("DROP TABLE log_rest; " + _partman_parent(running))
                running.sql(
                    "CALL partman.partition_data_proc('public.log', p_wait := 0, p_source_table := 'public.log_old')"
                )
        used = running.sql(f"SELECT pg_current_wal_lsn() - '{wal}'::pg_lsn")[0][0]
        result[tool] = {"seconds": times[0], "locked": locked, "wal_bytes": int(used), **application.stop()}
        print(tool, result[tool], flush=True)
        found = running.sql("SELECT count(*) FROM log WHERE a <> 'live'")[0][0]
        assert found == ROWS, found
    return result


def _partman_parent(running: Server) -> str:
    kind = "'native'" if running.partman.startswith("4") else "'range'"
    return (
        f"SELECT partman.create_parent(p_parent_table := 'public.log', p_control := 'at', p_type := {kind}, "
        "p_interval := '1 month', p_premake := 2, "
        "p_start_partition := to_char(now() - interval '25 months', 'YYYY-MM-DD'))"
    )


def memory(running: Server) -> float:
    """Return the most memory, in MB, of the module as a process of its own at 5,000 partitions."""
    running.fresh(table(1))
    arguments = {**running.login(), "table": "log", "interval": "day", "premake": 4999, "now": NOW}
    program = (
        "import json, resource, sys; sys.path.insert(0, sys.argv[1]); "
        "from tests.integration.conftest import call_module; "
        "call_module('postgresql_partition', **json.load(sys.stdin)); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT)],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main() -> None:
    """Measure on both versions, or again the parts that PARTS names, and write the page."""
    kept = ROOT / ".build/bench/partitions.json"
    parts = os.environ.get("PARTS", "create loop again memory convert raised leave").split()
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() and "PARTS" in os.environ else {}
    measures: dict[str, Any] = {
        "create": lambda running: create(running, raised=False),
        "loop": loop,
        "again": again,
        "memory": memory,
        "convert": convert,
        "leave": leave,
    }
    for version in (15, 17):
        figures = found.setdefault(str(version), {})
        with server(version) as running:
            figures["partman"] = running.partman
            figures |= {
                name: measure(running) for name, measure in measures.items() if name in parts and name != "leave"
            }
        if {"raised", "leave"} & set(parts):
            with server(version, max_locks=1024) as running:
                figures |= {"create raised": create(running, raised=True)} if "raised" in parts else {}
                figures |= {"leave": leave(running)} if "leave" in parts else {}
        save(kept, found)
    write(found, Path(ROOT / "docs"))


if __name__ == "__main__":
    main()
