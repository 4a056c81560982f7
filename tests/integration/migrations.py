"""What the tests of the two migration modules share."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_files import load_directory

FIRST = "CREATE TABLE t (a integer PRIMARY KEY, b text DEFAULT 'ไทย %s %');"
SECOND = "ALTER TABLE t ADD COLUMN c integer;"


class Directory:
    """A directory of migrations under test."""

    def __init__(self, path: Path, database) -> None:
        self.path = path
        self.database = database

    def write(self, name: str, text: str | bytes) -> None:
        data = text if isinstance(text, bytes) else text.encode()
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_bytes(data)

    def options(self, **options):
        migrations = [migration.as_dict() for migration in load_directory(self.path)]
        return {"path": str(self.path), "migrations": migrations, **options}

    def run(self, check: bool = False, **options):
        return self.database.module("postgresql_migration", check, **self.options(**options))

    def failure(self, check: bool = False, **options):
        return self.database.failure("postgresql_migration", check, **self.options(**options))

    def info(self, **options):
        return self.database.module("postgresql_migration_info", **self.options(**options))


@pytest.fixture
def directory(tmp_path, database):
    directory = Directory(tmp_path, database)
    directory.write("0001_table.sql", FIRST)
    directory.write("0001_table.down.sql", "DROP TABLE t;")
    directory.write("0002_column.sql", SECOND)
    directory.write("0002_column.down.sql", "ALTER TABLE t DROP COLUMN c;")
    return directory


def columns(database):
    return [
        name
        for (name,) in database.query(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('t') AND attnum > 0 AND NOT attisdropped"
        )
    ]


def ledger(database):
    return database.query("SELECT version, state FROM schema_migrations ORDER BY version")
