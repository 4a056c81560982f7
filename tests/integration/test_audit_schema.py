"""The shipped migrations build the specified schema, keep its promises, and can be taken back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extras
import pytest
import yaml
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_files import load_directory

# The names of the roles are fixed, and all databases of a server share them: one at a time.
pytestmark = pytest.mark.xdist_group("audit-roles")

MIGRATIONS = Path(__file__).parents[2] / "roles/audit_schema/files/migrations"
UP = sorted(path for path in MIGRATIONS.glob("*.sql") if path.name.count(".") == 1)

STAMP = "timestamp with time zone"
NOW = "now()"

# Written from the specification, not from the migrations: name, type, NOT NULL, default.
COLUMNS: dict[str, list[tuple[str, str, bool, Any]]] = {
    "audit_log": [
        ("id", "bigint", True, None),
        ("timestamp", STAMP, True, None),
        ("ttl", "character varying(255)", False, None),
        ("principal_id", "character varying(255)", False, None),
        ("organization_id", "character varying(255)", False, None),
        ("action", "character varying(255)", True, None),
        ("target_resource_type", "character varying(255)", False, None),
        ("target_resource_id", "character varying(255)", False, None),
        ("status", "character varying(50)", True, None),
        ("outcome_description", "text", False, None),
        ("hash", "character varying(64)", False, None),
        ("hash_algorithm", "character varying(50)", False, "'SHA-256'::character varying"),
        ("event_version", "character varying(20)", False, "'1.0'::character varying"),
        ("correlation_id", "character varying(255)", False, None),
        ("data_classification", "character varying(20)", False, "'INTERNAL'::character varying"),
        ("retention_policy", "character varying(50)", False, "'standard'::character varying"),
        ("processing_latency", "integer", False, None),
        ("archived_at", STAMP, False, None),
        ("details", "jsonb", False, None),
    ],
    "audit_integrity_log": [
        ("id", "bigint", True, None),
        ("audit_log_id", "bigint", True, None),
        ("audit_log_timestamp", STAMP, True, None),
        ("verification_timestamp", STAMP, True, NOW),
        ("verification_status", "character varying(20)", True, None),
        ("verification_details", "jsonb", False, None),
        ("verified_by", "character varying(255)", False, None),
        ("hash_verified", "character varying(64)", False, None),
        ("expected_hash", "character varying(64)", False, None),
    ],
    "audit_retention_policy": [
        ("id", "integer", True, None),
        ("policy_name", "character varying(100)", True, None),
        ("retention_days", "integer", True, None),
        ("archive_after_days", "integer", False, None),
        ("delete_after_days", "integer", False, None),
        ("data_classification", "character varying(20)", True, None),
        ("description", "text", False, None),
        ("is_active", "character varying(10)", False, "'true'::character varying"),
        ("created_at", STAMP, True, NOW),
        ("updated_at", STAMP, True, NOW),
        ("created_by", "character varying(255)", False, None),
    ],
    "error_log": [
        ("id", "character varying(36)", True, None),
        ("category", "character varying(50)", True, None),
        ("severity", "character varying(20)", True, None),
        ("code", "character varying(20)", True, None),
        ("message", "text", True, None),
        ("component", "character varying(100)", True, None),
        ("operation", "character varying(100)", True, None),
        ("correlation_id", "character varying(255)", True, None),
        ("user_id", "character varying(255)", False, None),
        ("session_id", "character varying(255)", False, None),
        ("request_id", "character varying(255)", False, None),
        ("retryable", "character varying(10)", True, None),
        ("aggregation_key", "character varying(255)", True, None),
        ("context", "jsonb", False, None),
        ("troubleshooting", "jsonb", False, None),
        ("timestamp", STAMP, True, None),
        ("created_at", STAMP, True, NOW),
    ],
    "scheduled_reports": [
        ("id", "character varying(255)", True, None),
        ("name", "character varying(255)", True, None),
        ("description", "text", False, None),
        ("organization_id", "character varying(255)", True, None),
        ("template_id", "character varying(255)", False, None),
        ("report_type", "character varying(50)", True, None),
        ("criteria", "jsonb", True, None),
        ("format", "character varying(50)", True, None),
        ("schedule", "jsonb", True, None),
        ("delivery", "jsonb", True, None),
        ("export", "jsonb", True, None),
        ("enabled", "character varying(10)", True, "'true'::character varying"),
        ("last_run", STAMP, False, None),
        ("next_run", STAMP, False, None),
        ("created_at", STAMP, True, NOW),
        ("created_by", "character varying(255)", True, None),
        ("updated_at", STAMP, True, NOW),
        ("updated_by", "character varying(255)", False, None),
    ],
    "report_executions": [
        ("id", "character varying(255)", True, None),
        ("report_config_id", "character varying(255)", True, None),
        ("organization_id", "character varying(255)", True, None),
        ("scheduled_time", STAMP, True, None),
        ("execution_time", STAMP, True, None),
        ("status", "character varying(20)", True, None),
        ("duration", "integer", False, None),
        ("records_processed", "integer", False, None),
        ("export_result", "jsonb", False, None),
        ("integrity_report", "jsonb", False, None),
        ("delivery_attempts", "jsonb", True, "'[]'::jsonb"),
        ("error", "text", False, None),
        ("created_at", STAMP, True, NOW),
    ],
    "ingest_cursor": [
        ("source", "character varying(100)", True, None),
        ("host", "character varying(255)", True, None),
        ("cursor", "text", True, None),
        ("updated_at", STAMP, True, NOW),
    ],
    "legal_hold": [
        ("id", "bigint", True, None),
        ("table_name", "character varying(255)", False, None),
        ("time_from", STAMP, False, None),
        ("time_to", STAMP, False, None),
        ("organization_id", "character varying(255)", False, None),
        ("reason", "text", True, None),
        ("owner", "character varying(255)", True, None),
        ("since", STAMP, True, NOW),
        ("created_by", "character varying(255)", True, "SESSION_USER"),
        ("released_at", STAMP, False, None),
        ("released_by", "character varying(255)", False, None),
        ("release_reason", "text", False, None),
    ],
    "partition_history": [
        ("id", "bigint", True, None),
        ("table_name", "text", True, None),
        ("partition_schema", "text", True, None),
        ("partition_name", "text", True, None),
        ("part_of", "text", False, None),
        ("time_from", STAMP, True, None),
        ("time_to", STAMP, True, None),
        ("action", "character varying(20)", True, None),
        ("left_at", STAMP, True, NOW),
        ("left_by", "character varying(255)", True, "SESSION_USER"),
        ("row_count", "bigint", False, None),
        ("sha256", "character varying(64)", False, None),
        ("archive_name", "text", False, None),
        ("archive_directory", "text", False, None),
        ("manifest_sha256", "character varying(64)", False, None),
        ("archived_at", STAMP, False, None),
        ("dropped_at", STAMP, False, None),
    ],
    "partition_seal": [
        ("id", "bigint", True, None),
        ("table_name", "text", True, None),
        ("partition_schema", "text", True, None),
        ("partition_name", "text", True, None),
        ("time_from", STAMP, True, None),
        ("time_to", STAMP, True, None),
        ("sealed_at", STAMP, True, NOW),
        ("sealed_by", "character varying(255)", True, "SESSION_USER"),
        ("row_count", "bigint", True, None),
        ("sha256", "character varying(64)", True, None),
        ("seal", "jsonb", True, None),
        ("previous_id", "bigint", False, None),
    ],
}

SEEDS = [
    ("confidential", "CONFIDENTIAL", 1825, 365, None, "true"),
    ("minimal", "PUBLIC", 90, 30, None, "true"),
    ("phi_extended", "PHI", 2555, 365, None, "true"),
    ("standard", "INTERNAL", 2555, 365, None, "true"),
]


@contextlib.contextmanager
def as_owner(database: Any) -> Iterator[Any]:
    """Give a cursor in one transaction as audit_owner, as the migration module has it."""
    connection = database.server.connect(database.name)
    connection.autocommit = False
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SET LOCAL ROLE audit_owner")
            cursor.execute("SET LOCAL search_path = audit")
            yield cursor
    finally:
        connection.close()


def run(database: Any, *files: Path) -> None:
    for file in files:
        with as_owner(database) as cursor:
            cursor.execute(file.read_text(encoding="utf-8"))


def beside(file: Path, kind: str) -> Path:
    return file.with_suffix(f".{kind}.sql")


def verify(database: Any, file: Path) -> None:
    with as_owner(database) as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
        cursor.execute(beside(file, "verify").read_text(encoding="utf-8"))


@pytest.fixture
def empty(database):
    """Return a database with the owner and the schema, as role audit_database leaves it."""
    # Tests in parallel share the roles of one server: the role may be there, or appear this very moment.
    with contextlib.suppress(psycopg2.errors.DuplicateObject, psycopg2.errors.UniqueViolation):
        database.query("CREATE ROLE audit_owner NOLOGIN")
    database.query("CREATE SCHEMA audit AUTHORIZATION audit_owner")
    return database


@pytest.fixture
def schema(empty):
    run(empty, *UP)
    return empty


@pytest.fixture
def partitioned(schema):
    """Add the partitions of three months."""
    for table in ("audit_log", "audit_integrity_log", "error_log"):
        for month, following in (("2026-10", "2026-11"), ("2026-11", "2026-12"), ("2026-12", "2027-01")):
            schema.query(
                f"CREATE TABLE audit.{table}_{month.replace('-', '_')} PARTITION OF audit.{table}"
                f" FOR VALUES FROM ('{month}-01 00:00+00') TO ('{following}-01 00:00+00')"
            )
    return schema


def insert(database: Any, table: str, **values: Any) -> tuple[Any, ...]:
    """Insert a row made of the given values and of what the table demands, and return it."""
    demanded: dict[str, dict[str, Any]] = {
        "audit_log": {"timestamp": "2026-11-15 12:00Z", "action": "user.login", "status": "success"},
        "error_log": {
            **dict.fromkeys(
                ("id", "category", "severity", "code", "message", "component", "operation", "correlation_id"), "x"
            ),
            "retryable": "false",
            "aggregation_key": "x",
            "timestamp": "2026-11-15 12:00Z",
        },
        "audit_retention_policy": {"policy_name": "own", "retention_days": 7, "data_classification": "PHI"},
        "scheduled_reports": {
            **dict.fromkeys(("id", "name", "organization_id", "report_type", "format", "created_by"), "x"),
            **dict.fromkeys(("criteria", "schedule", "delivery", "export"), "{}"),
        },
        "report_executions": {
            **dict.fromkeys(("id", "report_config_id", "organization_id", "status"), "x"),
            **dict.fromkeys(("scheduled_time", "execution_time"), "2026-11-15 12:00Z"),
        },
        "ingest_cursor": {"source": "journal", "host": "db1", "cursor": "s=1"},
        "legal_hold": {"reason": "case 1", "owner": "legal"},
        "partition_history": {
            **{"table_name": "audit.audit_log", "partition_schema": "audit", "partition_name": "audit_log_2026_01"},
            **{"time_from": "2026-01-01Z", "time_to": "2026-02-01Z", "action": "archive"},
        },
        "partition_seal": {
            **{"table_name": "audit.audit_log", "partition_schema": "audit", "partition_name": "audit_log_2026_01"},
            **{"time_from": "2026-01-01Z", "time_to": "2026-02-01Z", "row_count": 1, "sha256": "a", "seal": "{}"},
        },
    }
    row = {**demanded.get(table, {}), **values}
    names = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join(["%s"] * len(row))
    return database.query(f"INSERT INTO audit.{table} ({names}) VALUES ({marks}) RETURNING *", tuple(row.values()))[0]


def verified(database: Any, **values: Any) -> None:
    """Insert an event and its verification."""
    event = insert(database, "audit_log")
    row = {"audit_log_id": event[0], "audit_log_timestamp": event[1], "verification_status": "success", **values}
    insert(database, "audit_integrity_log", **row)


# Shape


@pytest.mark.parametrize("file", UP, ids=lambda file: file.stem)
def test_every_migration_can_be_taken_back_and_verified(file):
    assert beside(file, "down").is_file()
    assert beside(file, "verify").is_file()


def test_columns_are_those_of_the_specification(schema):
    for table, columns in COLUMNS.items():
        found = schema.query(
            """
            SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
            FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
            WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
            """,
            (f"audit.{table}",),
        )
        assert found == columns, table
    tables = schema.query(
        "SELECT relname FROM pg_class WHERE relnamespace = 'audit'::regnamespace AND relkind ~ '[rp]'"
    )
    assert {name for (name,) in tables} == set(COLUMNS)


def test_keys_and_partitioning(schema):
    found = schema.query(
        """
        SELECT c.relname, pg_get_partkeydef(c.oid), array_agg(pg_get_constraintdef(k.oid) ORDER BY k.contype, k.conname)
        FROM pg_class AS c JOIN pg_constraint AS k ON k.conrelid = c.oid AND k.contype IN ('p', 'f', 'u')
        WHERE c.relnamespace = 'audit'::regnamespace GROUP BY c.oid, c.relname ORDER BY c.relname
        """
    )
    assert found == [
        (
            "audit_integrity_log",
            "RANGE (audit_log_timestamp)",
            [
                'FOREIGN KEY (audit_log_id, audit_log_timestamp) REFERENCES audit.audit_log(id, "timestamp")',
                "PRIMARY KEY (id, audit_log_timestamp)",
            ],
        ),
        ("audit_log", 'RANGE ("timestamp")', ['PRIMARY KEY (id, "timestamp")']),
        ("audit_retention_policy", None, ["PRIMARY KEY (id)", "UNIQUE (policy_name)"]),
        ("error_log", 'RANGE ("timestamp")', ['PRIMARY KEY (id, "timestamp")']),
        ("ingest_cursor", None, ["PRIMARY KEY (source, host)"]),
        ("legal_hold", None, ["PRIMARY KEY (id)"]),
        ("partition_history", None, ["PRIMARY KEY (id)"]),
        (
            "partition_seal",
            None,
            [
                "FOREIGN KEY (previous_id) REFERENCES audit.partition_seal(id)",
                "PRIMARY KEY (id)",
                "UNIQUE (previous_id)",
            ],
        ),
        (
            "report_executions",
            None,
            ["FOREIGN KEY (report_config_id) REFERENCES audit.scheduled_reports(id)", "PRIMARY KEY (id)"],
        ),
        ("scheduled_reports", None, ["PRIMARY KEY (id)"]),
    ]


def test_everything_is_the_owners_and_granted_to_nobody(schema):
    objects = schema.query(
        """
        SELECT relname, relowner::regrole::text, relacl FROM pg_class WHERE relnamespace = 'audit'::regnamespace
            AND relkind IN ('r', 'p', 'S')
        UNION ALL
        SELECT proname, proowner::regrole::text, proacl FROM pg_proc WHERE pronamespace = 'audit'::regnamespace
        """
    )
    assert len(objects) == len(COLUMNS) + 6 + 4  # six identities, four functions
    assert {owner for _name, owner, _acl in objects} == {"audit_owner"}
    others = [(name, acl) for name, _owner, acl in objects if acl not in (None, "{audit_owner=X/audit_owner}")]
    assert others == []
    assert schema.value(
        "SELECT NOT has_function_privilege('pg_monitor', p.oid, 'EXECUTE') FROM pg_proc AS p"
        " WHERE p.proname = 'mark_archived'"
    )


def test_every_table_and_column_says_what_it_is(schema):
    silent = schema.query(
        """
        SELECT c.relname, a.attname FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum >= 0 AND a.attname <> 'id'
        WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind IN ('r', 'p')
            AND col_description(c.oid, a.attnum) IS NULL
        UNION ALL
        SELECT c.relname, NULL FROM pg_class AS c
        WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind IN ('r', 'p')
            AND obj_description(c.oid, 'pg_class') IS NULL
        """
    )
    assert silent == []


# Values


REFUSED = [
    ("audit_log", {"status": "done"}, "audit_log_status_check"),
    ("audit_log", {"status": "Success"}, "audit_log_status_check"),
    ("audit_log", {"data_classification": "SECRET"}, "audit_log_data_classification_check"),
    ("audit_log", {"processing_latency": -1}, "audit_log_processing_latency_check"),
    ("error_log", {"retryable": "maybe"}, "error_log_retryable_check"),
    ("audit_retention_policy", {"retention_days": 0}, "audit_retention_policy_retention_days_check"),
    ("audit_retention_policy", {"archive_after_days": 0}, "audit_retention_policy_archive_after_days_check"),
    ("audit_retention_policy", {"delete_after_days": -1}, "audit_retention_policy_delete_after_days_check"),
    ("audit_retention_policy", {"data_classification": "x"}, "audit_retention_policy_data_classification_check"),
    ("audit_retention_policy", {"is_active": "yes"}, "audit_retention_policy_is_active_check"),
    ("audit_retention_policy", {"policy_name": "standard"}, "audit_retention_policy_policy_name_key"),
    ("scheduled_reports", {"enabled": "on"}, "scheduled_reports_enabled_check"),
    ("report_executions", {"duration": -1}, "report_executions_duration_check"),
    ("report_executions", {"records_processed": -1}, "report_executions_records_processed_check"),
    ("report_executions", {}, "report_executions_report_config_fkey"),
]


def test_wrong_values_are_refused(partitioned):
    for table, values, constraint in REFUSED:
        with pytest.raises(psycopg2.IntegrityError) as refused:
            insert(partitioned, table, **values)
        assert refused.value.diag.constraint_name == constraint, (table, values)
    with pytest.raises(psycopg2.errors.CheckViolation):
        verified(partitioned, verification_status="unknown")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        verified(partitioned, audit_log_id=-1)
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        verified(partitioned, audit_log_timestamp="2026-11-15 12:00:01Z")
    with pytest.raises(psycopg2.errors.GeneratedAlways):
        insert(partitioned, "audit_log", id=1)


def test_every_listed_value_is_taken(partitioned):
    for status in ("attempt", "success", "failure"):
        insert(partitioned, "audit_log", status=status)
    for classification in ("PUBLIC", "INTERNAL", "CONFIDENTIAL", "PHI", None):
        insert(partitioned, "audit_log", data_classification=classification, processing_latency=0)
    for status in ("success", "failure", "tampered"):
        verified(partitioned, verification_status=status)
    for enabled in ("true", "false"):
        insert(partitioned, "scheduled_reports", id=enabled, enabled=enabled)
        insert(partitioned, "report_executions", id=enabled, report_config_id=enabled, duration=0)
        insert(partitioned, "error_log", retryable=enabled, id=enabled)
        insert(partitioned, "audit_retention_policy", policy_name=enabled, is_active=enabled)


def test_an_event_that_was_verified_cannot_be_deleted(partitioned):
    verified(partitioned)
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        partitioned.query("DELETE FROM audit.audit_log")


def test_any_language_comes_back_as_it_went(partitioned):
    texts = [
        "ผู้ใช้เข้าสู่ระบบ",
        "👩🏽‍⚕️🔐 🇹🇭",
        unicodedata.normalize("NFC", "Škoda café"),
        unicodedata.normalize("NFD", "Škoda café"),
        "z̷̡̛͙a̶̧l̵g̸o",
        "שלום مرحبا",
        "tab\tline\nquote'\"\\ %s {} ;",
        "😀" * 255,  # lengths count characters, not bytes
    ]
    for text in texts:
        row = insert(partitioned, "audit_log", principal_id=text, outcome_description=text, details=json.dumps([text]))
        found = partitioned.query(
            "SELECT principal_id, outcome_description, details->>0 FROM audit.audit_log WHERE id = %s", (row[0],)
        )
        assert found == [(text, text, text)]
    found = partitioned.value("SELECT count(*) FROM audit.audit_log WHERE principal_id = %s", (texts[2],))
    assert found == 1, "composed and decomposed forms are different texts"
    with pytest.raises(psycopg2.errors.StringDataRightTruncation):
        insert(partitioned, "audit_log", principal_id="😀" * 256)


# Reference data


def seeds(database: Any) -> list[tuple[Any, ...]]:
    return database.query(
        "SELECT policy_name, data_classification, retention_days, archive_after_days, delete_after_days, is_active"
        " FROM audit.audit_retention_policy ORDER BY policy_name"
    )


def test_seeds(schema):
    assert seeds(schema) == SEEDS


def test_an_operators_policy_is_never_overwritten(schema):
    schema.query("UPDATE audit.audit_retention_policy SET retention_days = 3650 WHERE policy_name = 'standard'")
    run(schema, next(file for file in UP if "seed" in file.name))
    assert seeds(schema)[:3] == SEEDS[:3]
    assert seeds(schema)[3] == ("standard", "INTERNAL", 3650, 365, None, "true")
    assert len(seeds(schema)) == 4


# Plans


def plan(database: Any, statement: str) -> tuple[set[str], set[str], set[str]]:
    """Return the relations, the parents of the indexes, and the kinds of node that a plan uses."""
    relations: set[str] = set()
    indexes: set[str] = set()
    kinds: set[str] = set()

    def walk(node: dict[str, Any]) -> None:
        kinds.add(node["Node Type"])
        if "Relation Name" in node:
            relations.add(node["Relation Name"])
        if "Index Name" in node:
            indexes.add(node["Index Name"])
        for child in node.get("Plans", []):
            walk(child)

    walk(database.value(f"EXPLAIN (FORMAT JSON) {statement}")[0]["Plan"])
    parents = {
        database.value(
            "SELECT coalesce((SELECT inhparent FROM pg_inherits WHERE inhrelid = i), i)::regclass::text"
            " FROM to_regclass('audit.' || quote_ident(%s)) AS i",
            (index,),
        ).removeprefix("audit.")
        for index in indexes
    }
    return relations, parents, kinds


def test_a_time_range_touches_one_partition(partitioned):
    insert(partitioned, "audit_log")
    for table, column in (
        ("audit_log", "timestamp"),
        ("error_log", "timestamp"),
        ("audit_integrity_log", "audit_log_timestamp"),
    ):
        month = f"\"{column}\" >= '2026-11-01 00:00+00' AND \"{column}\" < '2026-12-01 00:00+00'"
        relations, _indexes, _kinds = plan(partitioned, f"SELECT count(*) FROM audit.{table} WHERE {month}")
        assert relations == {f"{table}_2026_11"}
        relations, _indexes, _kinds = plan(partitioned, f"SELECT count(*) FROM audit.{table}")
        assert len(relations) == 3, "the proof above can fail"


NOVEMBER = "\"timestamp\" >= '2026-11-01Z' AND \"timestamp\" < '2026-12-01Z'"

LATEST = 'ORDER BY "timestamp" DESC LIMIT 5'

# Index -> the questions it answers.
QUESTIONS = {
    "audit_log_pkey": ["audit_log WHERE id = 42"],
    "audit_log_timestamp_status_idx": [
        f"audit_log {LATEST}",
        f"audit_log WHERE {NOVEMBER} {LATEST}",
        f"audit_log WHERE {NOVEMBER} AND status = 'failure' {LATEST}",
    ],
    "audit_log_organization_timestamp_idx": [f"audit_log WHERE organization_id = 'org-7' {LATEST}"],
    "audit_log_principal_action_idx": [
        "audit_log WHERE principal_id = 'user-7'",
        "audit_log WHERE principal_id = 'user-7' AND action = 'action-3'",
    ],
    "audit_log_action_idx": ["audit_log WHERE action = 'action-3'"],
    "audit_log_resource_idx": [
        "audit_log WHERE target_resource_id = 'thing-7'",
        "audit_log WHERE target_resource_type = 'type-1' AND target_resource_id = 'thing-7'",
    ],
    "audit_log_correlation_id_idx": ["audit_log WHERE correlation_id = 'request-7'"],
    "audit_log_classification_retention_idx": [
        "audit_log WHERE data_classification = 'PHI'",
        "audit_log WHERE data_classification = 'PHI' AND retention_policy = 'standard'",
    ],
    "audit_log_archived_at_idx": ["audit_log WHERE archived_at IS NOT NULL"],
    "audit_log_hash_idx": ["audit_log WHERE hash = 'hash-7'"],
    "audit_log_details_idx": [
        "audit_log WHERE details @> '{\"n\": 7}'",
        "audit_log WHERE details @? '$.n ? (@ == 7)'",
    ],
    "audit_integrity_log_pkey": ["audit_integrity_log WHERE id = 7"],
    "audit_integrity_log_audit_log_idx": ["audit_integrity_log WHERE audit_log_id = 7"],
    "audit_integrity_log_verification_timestamp_idx": [
        "audit_integrity_log WHERE verification_timestamp > now() - interval '1 day'"
    ],
    "audit_integrity_log_not_success_idx": [
        "audit_integrity_log WHERE verification_status <> 'success' ORDER BY verification_timestamp DESC LIMIT 5"
    ],
    "error_log_pkey": ["error_log WHERE id = 'x7'"],
    "error_log_timestamp_idx": [f"error_log {LATEST}"],
    "error_log_component_timestamp_idx": [f"error_log WHERE component = 'part-7' {LATEST}"],
    "error_log_category_severity_idx": ["error_log WHERE category = 'category-7'"],
    "error_log_correlation_id_idx": ["error_log WHERE correlation_id = 'request-7'"],
    "error_log_aggregation_key_idx": ["error_log WHERE aggregation_key = 'key-7'"],
    "error_log_user_id_idx": ["error_log WHERE user_id = 'user-7'"],
    "error_log_created_at_idx": ["error_log WHERE created_at > now() - interval '1 day'"],
}


def test_every_index_answers_a_question_and_every_question_has_one(partitioned):
    partitioned.query(
        """
        INSERT INTO audit.audit_log ("timestamp", principal_id, organization_id, action, target_resource_type,
            target_resource_id, status, hash, correlation_id, data_classification, details)
        SELECT '2026-10-01Z'::timestamptz + n * interval '30 min', 'user-' || n % 500, 'org-' || n % 50,
            'action-' || n % 100, 'type-' || n % 9, 'thing-' || n, (ARRAY['success', 'attempt', 'failure'])[n % 3 + 1],
            'hash-' || n, 'request-' || n / 3, CASE n % 100 WHEN 0 THEN 'PHI' ELSE 'INTERNAL' END,
            jsonb_build_object('n', n)
        FROM generate_series(1, 4000) AS n;
        INSERT INTO audit.audit_integrity_log (audit_log_id, audit_log_timestamp, verification_status)
        SELECT id, "timestamp", CASE id % 100 WHEN 0 THEN 'tampered' ELSE 'success' END FROM audit.audit_log;
        INSERT INTO audit.error_log (id, category, severity, code, message, component, operation, correlation_id,
            user_id, retryable, aggregation_key, "timestamp")
        SELECT 'x' || n, 'category-' || n % 60, 'bad', 'c', 'm', 'part-' || n % 90, 'o', 'request-' || n,
            'user-' || n % 500, 'true', 'key-' || n % 200, '2026-10-01Z'::timestamptz + n * interval '30 min'
        FROM generate_series(1, 4000) AS n;
        ANALYZE;
        """
    )
    for index, questions in QUESTIONS.items():
        # BRIN pays from many blocks on; on the few of a test, reading all of them is as good.
        brin = partitioned.value("SELECT pg_get_indexdef(%s::regclass) LIKE '%% USING brin %%'", (f"audit.{index}",))
        partitioned.query(f"SET enable_seqscan = {'off' if brin else 'on'}")
        for question in questions:
            _relations, indexes, kinds = plan(partitioned, f"SELECT * FROM audit.{question}")
            assert indexes == {index}, question
            if "ORDER BY" in question:
                assert not {"Sort", "Seq Scan"} & kinds, question
    existing = partitioned.query(
        "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class AS c ON c.oid = indrelid"
        " WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind = 'p'"
    )
    assert {name.removeprefix("audit.") for (name,) in existing} == set(QUESTIONS)


# The narrow way


def archived(database: Any) -> list[bool]:
    return [
        row[0] for row in database.query('SELECT archived_at IS NOT NULL FROM audit.audit_log ORDER BY "timestamp"')
    ]


def test_mark_archived_stamps_a_range_once(partitioned):
    for moment in ("2026-10-31 23:59:59.999999Z", "2026-11-01Z", "2026-11-30 23:59:59.999999Z", "2026-12-01Z"):
        insert(partitioned, "audit_log", timestamp=moment)
    mark = "SELECT audit.mark_archived('2026-11-01Z', '2026-12-01Z')"
    assert partitioned.value(mark) == 2
    assert archived(partitioned) == [False, True, True, False]
    stamps = "SELECT array_agg(archived_at ORDER BY id) FROM audit.audit_log"
    before = partitioned.value(stamps)
    assert partitioned.value(mark) == 0
    assert partitioned.value(stamps) == before
    assert partitioned.value("SELECT audit.mark_archived('2026-01-01Z', '2027-01-01Z')") == 2
    assert partitioned.value(stamps)[1:3] == before[1:3], "a stamp never moves"


def test_mark_archived_changes_nothing_else(partitioned):
    insert(partitioned, "audit_log", details='{"a": 1}', hash="h", processing_latency=5)
    event = "SELECT to_jsonb(e) - 'archived_at' FROM audit.audit_log AS e"
    before = partitioned.value(event)
    assert partitioned.value("SELECT audit.mark_archived('2026-11-01Z', '2026-12-01Z')") == 1
    assert partitioned.value(event) == before


@pytest.mark.parametrize("bounds", ["NULL, now()", "now(), NULL", "now(), now()", "'2026-12-01Z', '2026-11-01Z'"])
def test_mark_archived_refuses_an_empty_range(schema, bounds):
    with pytest.raises(psycopg2.errors.InvalidParameterValue):
        schema.query(f"SELECT audit.mark_archived({bounds})")


def test_mark_archived_needs_execute_and_nothing_more(partitioned, role_prefix):
    insert(partitioned, "audit_log")
    role = f"{role_prefix}archiver"
    partitioned.query(f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA audit TO {role}; SET ROLE {role}")
    mark = "SELECT audit.mark_archived('2026-11-01Z', '2026-12-01Z')"
    try:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            partitioned.query(mark)
        partitioned.query(
            f"RESET ROLE; GRANT EXECUTE ON FUNCTION audit.mark_archived(timestamptz, timestamptz) TO {role};"
            f" SET ROLE {role}"
        )
        assert partitioned.value(mark) == 1
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            partitioned.query("UPDATE audit.audit_log SET archived_at = NULL")
    finally:
        partitioned.query(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


def test_what_came_after_the_copy_is_not_stamped(partitioned):
    insert(partitioned, "audit_log", action="copied")
    archiver = partitioned.server.connect(partitioned.name)
    archiver.set_session(isolation_level="REPEATABLE READ", autocommit=False)
    with archiver, archiver.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM audit.audit_log")
        insert(partitioned, "audit_log", action="late")
        cursor.execute("SELECT audit.mark_archived('2026-11-01Z', '2026-12-01Z')")
        assert cursor.fetchone() == (1,)
    archiver.close()
    assert partitioned.query("SELECT action FROM audit.audit_log WHERE archived_at IS NULL") == [("late",)]


# There and back


def catalog(database: Any) -> list[tuple[Any, ...]]:
    return database.query(
        """
        SELECT 'relation', relname::text, relkind::text FROM pg_class WHERE relnamespace = 'audit'::regnamespace
        UNION ALL SELECT 'function', proname, prokind::text FROM pg_proc WHERE pronamespace = 'audit'::regnamespace
        UNION ALL SELECT 'type', typname, typtype::text FROM pg_type WHERE typnamespace = 'audit'::regnamespace
        UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'audit'::regnamespace
        ORDER BY 1, 2, 3
        """
    )


def test_down_leaves_nothing_and_up_works_again(schema):
    first = catalog(schema)
    run(schema, *(beside(file, "down") for file in reversed(UP)))
    assert catalog(schema) == []
    run(schema, *UP)
    assert catalog(schema) == first
    assert seeds(schema) == SEEDS


def test_down_takes_empty_partitions_along(partitioned):
    run(partitioned, *(beside(file, "down") for file in reversed(UP)))
    assert catalog(partitioned) == []


def row_of(database: Any, table: str) -> None:
    if table == "audit_integrity_log":
        verified(database)
    else:
        insert(database, table)


def test_down_never_removes_rows(partitioned):
    tables = {
        "0001": "audit_log",
        "0002": "audit_integrity_log",
        "0003": "audit_retention_policy",
        "0004": "error_log",
        "0005": "scheduled_reports",
        "0008": "ingest_cursor",
        "0009": "legal_hold",
        "0010": "partition_history",
        "0011": "partition_seal",
    }
    for file in UP:
        table = tables.get(file.name[:4])
        if table:
            row_of(partitioned, table)
            with pytest.raises(psycopg2.errors.RaiseException) as refused:
                run(partitioned, beside(file, "down"))
            assert refused.value.diag.message_hint, table
            assert partitioned.value(f"SELECT count(*) FROM audit.{table}") >= 1


def test_down_sees_rows_that_a_policy_hides(partitioned):
    insert(partitioned, "audit_log")
    partitioned.query("ALTER TABLE audit.audit_log ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="row-level security"):
        run(partitioned, beside(UP[0], "down"))


def test_down_of_the_seeds_leaves_what_the_operator_changed(schema):
    seed = next(file for file in UP if "seed" in file.name)
    for change in (
        "retention_days = 91",
        "archive_after_days = 60",
        "delete_after_days = 90",
        "data_classification = 'INTERNAL'",
        "description = 'Ours'",
        "is_active = 'false'",
        "created_by = 'us'",
        "updated_at = now() + interval '1 s'",
    ):
        schema.query(f"UPDATE audit.audit_retention_policy SET {change} WHERE policy_name = 'minimal'")
        run(schema, beside(seed, "down"))
        assert [row[0] for row in seeds(schema)] == ["minimal"], change
        with pytest.raises(psycopg2.errors.RaiseException, match="policies: confidential, phi_extended, standard"):
            verify(schema, seed)
        schema.query("DELETE FROM audit.audit_retention_policy")
        run(schema, seed)


# Legal holds


@pytest.mark.parametrize(
    "bad",
    [
        {"reason": ""},
        {"owner": ""},
        {"time_from": "2026-02-01Z", "time_to": "2026-01-01Z"},
        {"released_at": "2026-01-01Z"},
        {"released_at": "2026-01-01Z", "released_by": "legal", "release_reason": ""},
    ],
)
def test_a_hold_that_says_too_little_is_refused(schema, bad):
    with pytest.raises(psycopg2.errors.CheckViolation):
        insert(schema, "legal_hold", **bad)


def test_a_hold_on_a_table_that_is_not_there_is_refused(schema):
    with pytest.raises(psycopg2.errors.UndefinedTable, match="no_such_table"):
        insert(schema, "legal_hold", table_name="audit.no_such_table")


def test_a_hold_is_released_once_and_never_changed_or_removed(schema):
    insert(schema, "legal_hold", table_name="audit.audit_log")
    release = "UPDATE audit.legal_hold SET released_at = now(), released_by = 'legal', release_reason = 'case closed'"
    for statement in (
        "DELETE FROM audit.legal_hold",
        "TRUNCATE audit.legal_hold",
        "UPDATE audit.legal_hold SET reason = 'another'",
        f"{release}, owner = 'somebody else'",
    ):
        with pytest.raises(psycopg2.errors.RestrictViolation, match="released once"):
            schema.query(statement)
    schema.query(release)
    with pytest.raises(psycopg2.errors.RestrictViolation):
        schema.query(release)
    assert schema.value("SELECT release_reason FROM audit.legal_hold") == "case closed"


# The history of partitions that left

ARCHIVED = {
    **{"row_count": 1, "sha256": "a", "archive_name": "a", "archive_directory": "/a", "manifest_sha256": "b"},
    "archived_at": "2026-02-02Z",
}


@pytest.mark.parametrize(
    "bad",
    [
        {"action": "lost"},
        {"time_to": "2026-01-01Z"},
        {"archived_at": "2026-02-02Z"},
        {**ARCHIVED, "manifest_sha256": None},
        {"dropped_at": "2026-02-02Z"},
    ],
)
def test_a_departure_that_cannot_have_been_is_refused(schema, bad):
    with pytest.raises(psycopg2.errors.CheckViolation):
        insert(schema, "partition_history", **bad)


def test_what_has_happened_is_filled_in_once_and_never_changed_or_removed(schema):
    insert(schema, "partition_history")
    values = ", ".join(f"{name} = '{value}'" for name, value in ARCHIVED.items())
    schema.query(f"UPDATE audit.partition_history SET {values}")
    for statement in (
        "DELETE FROM audit.partition_history",
        "TRUNCATE audit.partition_history",
        "UPDATE audit.partition_history SET row_count = 2",
        "UPDATE audit.partition_history SET action = 'drop', dropped_at = now()",
    ):
        with pytest.raises(psycopg2.errors.RestrictViolation, match="what has happened"):
            schema.query(statement)
    schema.query("UPDATE audit.partition_history SET dropped_at = now()")
    with pytest.raises(psycopg2.errors.RestrictViolation):
        schema.query("UPDATE audit.partition_history SET dropped_at = NULL")


def test_a_seal_is_never_changed_or_removed_and_followed_once(schema):
    insert(schema, "partition_seal")
    for statement in (
        "DELETE FROM audit.partition_seal",
        "TRUNCATE audit.partition_seal",
        "UPDATE audit.partition_seal SET row_count = 2",
    ):
        with pytest.raises(psycopg2.errors.RestrictViolation, match="a seal is never changed"):
            schema.query(statement)
    first = schema.value("SELECT id FROM audit.partition_seal")
    insert(schema, "partition_seal", previous_id=first)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        insert(schema, "partition_seal", previous_id=first)
    with pytest.raises(psycopg2.errors.CheckViolation):
        insert(schema, "partition_seal", row_count=-1)


# Verification


BREAKS = {
    "0001": [
        "ALTER TABLE audit.audit_log DROP COLUMN ttl",
        "ALTER TABLE audit.audit_log ALTER action DROP NOT NULL",
        "ALTER TABLE audit.audit_log ALTER hash TYPE varchar(100)",
        "ALTER TABLE audit.audit_log DROP CONSTRAINT audit_log_status_check",
        "DROP INDEX audit.audit_log_details_idx",
        "DROP TABLE audit.audit_log CASCADE",
        "DROP TABLE audit.audit_log CASCADE; CREATE TABLE audit.audit_log (id int)",
    ],
    "0002": [
        "ALTER TABLE audit.audit_integrity_log DROP CONSTRAINT audit_integrity_log_audit_log_fkey",
        "DROP TABLE audit.audit_integrity_log",
    ],
    "0003": ["ALTER TABLE audit.audit_retention_policy DROP CONSTRAINT audit_retention_policy_policy_name_key"],
    "0004": ["DROP INDEX audit.error_log_timestamp_idx"],
    "0005": ["ALTER TABLE audit.report_executions DROP error", "DROP TABLE audit.report_executions"],
    "0006": ["DELETE FROM audit.audit_retention_policy WHERE policy_name = 'phi_extended'"],
    "0007": [
        "DROP FUNCTION audit.mark_archived",
        "ALTER FUNCTION audit.mark_archived SECURITY INVOKER",
        "ALTER FUNCTION audit.mark_archived RESET search_path",
        "GRANT EXECUTE ON FUNCTION audit.mark_archived TO PUBLIC",
    ],
    "0008": ["ALTER TABLE audit.ingest_cursor DROP CONSTRAINT ingest_cursor_pkey", "DROP TABLE audit.ingest_cursor"],
    "0009": [
        "DROP TABLE audit.legal_hold",
        "DROP TRIGGER legal_hold_truncate_guard ON audit.legal_hold",
        "ALTER TABLE audit.legal_hold DISABLE TRIGGER legal_hold_row_guard",
        "ALTER TABLE audit.legal_hold DROP CONSTRAINT legal_hold_release_check",
    ],
    "0010": [
        "DROP TABLE audit.partition_history",
        "DROP TRIGGER partition_history_truncate_guard ON audit.partition_history",
        "ALTER TABLE audit.partition_history DISABLE TRIGGER partition_history_row_guard",
        "ALTER TABLE audit.partition_history DROP CONSTRAINT partition_history_dropped_check",
    ],
    "0011": [
        "DROP TABLE audit.partition_seal",
        "DROP TRIGGER partition_seal_guard ON audit.partition_seal",
        "ALTER TABLE audit.partition_seal DISABLE TRIGGER partition_seal_guard",
        "ALTER TABLE audit.partition_seal DROP CONSTRAINT partition_seal_previous_id_key",
        "DROP INDEX audit.partition_seal_partition_idx",
    ],
    "0012": [
        "ALTER TABLE audit.partition_history DROP CONSTRAINT partition_history_action_check",
        "ALTER TABLE audit.partition_history DROP CONSTRAINT partition_history_action_check, "
        "ADD CONSTRAINT partition_history_action_check CHECK (action IN ('detach', 'drop', 'archive'))",
    ],
}


def test_verification_holds_and_sees_what_is_broken(schema):
    for file in UP:
        verify(schema, file)
        breaks = BREAKS[file.name[:4]]
        for statement in breaks:
            with pytest.raises(psycopg2.errors.RaiseException), as_owner(schema) as cursor:
                cursor.execute(statement)
                cursor.execute(beside(file, "verify").read_text(encoding="utf-8"))
            # The failure rolled the break back.
        verify(schema, file)


# Through the module and the role


def migrate(database: Any, check: bool = False, **options: Any) -> dict[str, Any]:
    migrations = [migration.as_dict() for migration in load_directory(MIGRATIONS)]
    wanted = {"path": str(MIGRATIONS), "migrations": migrations, "schema": "audit", "session_role": "audit_owner"}
    result: dict[str, Any] = database.module("postgresql_migration", check, **{**wanted, **options})
    return result


def test_the_module_applies_and_reverts_them(empty):
    versions = [file.name[:4] for file in UP]
    assert migrate(empty, check=True)["pending"] == versions
    assert catalog(empty) == []
    assert migrate(empty)["applied"] == versions
    assert seeds(empty) == SEEDS
    again = migrate(empty)
    assert (again["changed"], again["executed_queries"]) == (False, [])
    run_by_hand = {("relation", name) for name in COLUMNS}
    assert run_by_hand <= {row[:2] for row in catalog(empty)}
    assert migrate(empty, state="reverted", target="0")["reverted"] == versions[::-1]
    assert {name.split("_event")[0] for kind, name, _d in catalog(empty) if kind == "relation"} >= {"schema_migrations"}
    assert not run_by_hand & {row[:2] for row in catalog(empty)}
    assert migrate(empty)["applied"] == versions


def play(database: Any, folder: Path, *arguments: str, **variables: Any) -> dict[str, Any]:
    """Run the role as playbooks/migrate.yml does, against a server that is reached over TCP."""
    playbook = folder / "play.yml"
    playbook.write_text(
        yaml.safe_dump(
            [{"hosts": "localhost", "gather_facts": False, "roles": [{"role": "auditdb.postgresql.audit_schema"}]}]
        )
    )
    login = {name: value for name, value in database.login.items() if name != "login_db"}
    (folder / "variables.json").write_text(
        json.dumps(
            {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                "audit_login": login,
                "audit_database": database.name,
                **variables,
            }
        )
    )
    outcome = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", playbook, "-e", f"@{folder}/variables.json", *arguments],
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    recap = dict(re.findall(r"(\w+)=(\d+)", outcome.stdout.rpartition("PLAY RECAP")[2]))
    return {"output": outcome.stdout + outcome.stderr, "password": login["login_password"], **recap}


def test_the_role_runs_the_hook_only_when_something_is_pending(empty, tmp_path):
    if empty.version != 17:
        pytest.skip("nothing of it depends on the server's version")
    own = tmp_path / "own"
    own.mkdir()
    (own / "0001_note.sql").write_text("CREATE TABLE audit.note (id int);\n")
    hook = tmp_path / "hook.yml"
    hook.write_text("- ansible.builtin.debug: {msg: 'backup of {{ audit_schema_database }}'}\n")
    wanted = {
        "audit_schema_before": str(hook),
        "audit_schema_extra_migrations": [{"path": str(own), "table": "own_migrations"}],
    }
    outcome = play(empty, tmp_path, "--check", "--diff", **wanted)
    assert (outcome.get("failed"), outcome.get("changed")) == ("0", "2"), outcome["output"]
    assert "+CREATE TABLE audit.note" in outcome["output"]
    assert catalog(empty) == []
    outcome = play(empty, tmp_path, **wanted)
    assert (outcome.get("failed"), outcome.get("changed")) == ("0", "2"), outcome["output"]
    assert f"backup of {empty.name}" in outcome["output"]
    assert empty.value("SELECT count(*) FROM audit.schema_migrations") == len(UP)
    assert empty.value("SELECT tableowner FROM pg_tables WHERE tablename = 'note'") == "audit_owner"
    outcome = play(empty, tmp_path, **wanted)
    assert (outcome.get("failed"), outcome.get("changed")) == ("0", "0"), outcome["output"]
    assert "backup of" not in outcome["output"]
    assert outcome["password"] not in outcome["output"]


def test_the_role_refuses_two_directories_with_one_ledger(empty, tmp_path):
    if empty.version != 17:
        pytest.skip("nothing of it depends on the server's version")
    extra = [{"path": str(tmp_path), "table": "schema_migrations"}]
    outcome = play(empty, tmp_path, audit_schema_extra_migrations=extra)
    assert outcome["failed"] == "1"
    assert "needs a ledger of its own" in outcome["output"].replace("\n", " ")
    assert catalog(empty) == []
