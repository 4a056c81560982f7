"""What the indexes of audit.audit_log cost: bytes per row, write-ahead log and time of loading 150,000 events.

Run: .venv/bin/python benchmarks/audit_log_indexes.py
It uses the PostgreSQL 17 server of the module tests, in a database of its own, and prints the tables of docs/schema.md.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))

from conftest import start_server  # noqa: E402

# Not more: beyond half a gigabyte of log a checkpoint begins, and its full-page images would blur the comparison.
EVENTS = 150_000
MIGRATION = ROOT / "roles/audit_schema/files/migrations/0001_audit_log.sql"

# The indexes of the TypeScript original: 16 of the schema, and the two that its partition manager adds.
ORIGINAL = [
    *(
        f"({columns})"
        for columns in (
            '"timestamp"', "principal_id", "organization_id", "action", "status", "hash", "target_resource_type",
            "target_resource_id", "correlation_id", "data_classification", "retention_policy", "archived_at",
            '"timestamp", status', "principal_id, action", "data_classification, retention_policy",
            "target_resource_type, target_resource_id",
        )
    ),
    "USING hash (hash)",
    "USING gin (details)",
]  # fmt: skip

# Half a month of events in order of time: 5,000 users, 50 organizations, 120 actions (few of them frequent), three
# events per request, one event in seven PHI, details of four fields.
SOURCE = f"""
CREATE UNLOGGED TABLE source AS
SELECT '2026-11-01Z'::timestamptz + n * interval '8.6 s' AS "timestamp",
    'user-' || (random() * 5000)::int AS principal_id, 'org-' || (random() * 50)::int AS organization_id,
    'entity.action' || (random() * random() * 120)::int AS action,
    'Type' || (random() * 20)::int AS target_resource_type, gen_random_uuid()::text AS target_resource_id,
    (ARRAY['success', 'success', 'success', 'success', 'success', 'success', 'success', 'attempt', 'failure'])
        [1 + (random() * 8)::int] AS status,
    encode(sha256(n::text::bytea), 'hex') AS hash, md5((n / 3)::text)::uuid::text AS correlation_id,
    (ARRAY['INTERNAL', 'INTERNAL', 'INTERNAL', 'INTERNAL', 'PUBLIC', 'CONFIDENTIAL', 'PHI'])
        [1 + (random() * 6)::int] AS data_classification,
    jsonb_build_object('ip', '10.0.' || (random() * 255)::int || '.' || (random() * 255)::int,
        'unit', 'svc' || (random() * 50)::int, 'pid', (random() * 32000)::int, 'message', 'some text ' || n) AS details
FROM generate_series(1, {EVENTS}) AS n
"""
COLUMNS = (
    '"timestamp", principal_id, organization_id, action, target_resource_type, target_resource_id, status, hash,'
    " correlation_id, data_classification, details"
)


def load(cursor: Any, title: str, drop: bool, extra: list[str]) -> None:
    """Build the table, load it and print what that took."""
    cursor.execute("DROP SCHEMA IF EXISTS audit CASCADE; CREATE SCHEMA audit")
    cursor.execute(MIGRATION.read_text(encoding="utf-8"))
    if drop:
        cursor.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'audit.audit_log'::regclass"
                       " AND NOT indisprimary")  # fmt: skip
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP INDEX {name}")
    for definition in extra:
        cursor.execute(f"CREATE INDEX ON audit.audit_log {definition}")
    cursor.execute(
        "CREATE TABLE audit.month PARTITION OF audit.audit_log FOR VALUES FROM ('2026-11-01Z') TO ('2026-12-02Z')"
    )
    cursor.execute("CHECKPOINT")
    cursor.execute("SELECT pg_current_wal_lsn()")
    (begun,) = cursor.fetchone()
    clock = time.perf_counter()
    cursor.execute(f"INSERT INTO audit.audit_log ({COLUMNS}) SELECT {COLUMNS} FROM source")
    seconds = time.perf_counter() - clock
    cursor.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s)::bigint, pg_indexes_size('audit.month')", (begun,))
    log, size = cursor.fetchone()
    print(f"| {title} | {seconds:.1f} s | {log / 1e6:.0f} MB | {size / EVENTS:.0f} |", flush=True)


def main() -> None:
    """Load the same events into three variants of the table."""
    server = start_server(17)
    admin = server.connect().cursor()
    admin.execute("DROP DATABASE IF EXISTS bench_audit_log_indexes")
    admin.execute("CREATE DATABASE bench_audit_log_indexes TEMPLATE template0")
    connection = server.connect("bench_audit_log_indexes")
    cursor = connection.cursor()
    cursor.execute("SELECT setseed(0.5)")
    cursor.execute(SOURCE)
    print(f"| indexes | time of {EVENTS:,} events | write-ahead log | bytes of index per event |")
    print("|---|---|---|---|")
    load(cursor, "primary key only", True, [])
    load(cursor, "the original's 16, GIN and hash", True, ORIGINAL)
    load(cursor, "ours", False, [])
    cursor.execute(
        "SELECT i.inhparent::regclass::text, pg_relation_size(i.inhrelid) FROM pg_inherits AS i"
        " JOIN pg_index AS x ON x.indexrelid = i.inhrelid WHERE x.indrelid = 'audit.month'::regclass ORDER BY 2"
    )
    print("\n| index | bytes per event |\n|---|---|")
    for name, size in cursor.fetchall():
        print(f"| {name.removeprefix('audit.')} | {size / EVENTS:.1f} |")
    connection.close()
    admin.execute("DROP DATABASE bench_audit_log_indexes")


if __name__ == "__main__":
    main()
