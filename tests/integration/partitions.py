"""What the tests of the two partition modules share."""

from __future__ import annotations

NOW = "2026-11-23T04:00:00Z"
TABLE = """
CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, a text, PRIMARY KEY (id, at))
PARTITION BY RANGE (at)
"""


def bounds(database, table="log"):
    """Return each partition's bounds, as PostgreSQL writes them in UTC, by its name."""
    database.query("SET TimeZone = 'UTC'")
    return dict(
        database.query(
            "SELECT relname, pg_get_expr(relpartbound, c.oid) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
            "WHERE inhparent = %s::regclass ORDER BY 1",
            (table,),
        )
    )


def names(result):
    return [each["name"] for each in result["created"]]


def declare(database, check=False, **options):
    return database.module("postgresql_partition", check, **{"table": "log", "premake": 2, "now": NOW, **options})


def refuse(database, check=False, **options):
    return database.failure("postgresql_partition", check, **{"table": "log", "premake": 2, "now": NOW, **options})


def info(database, *tables, **options):
    return database.module("postgresql_partition_info", **{"tables": list(tables), "now": NOW, **options})
