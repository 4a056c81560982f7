"""postgresql_migration_info against real servers: what it says, and that it changes nothing."""

from __future__ import annotations

from .migrations import FIRST, SECOND, directory

__all__ = ["directory"]  # a fixture


def test_info_without_a_ledger(directory):
    info = directory.info()
    assert info["applied"] == [] and info["current_version"] is None
    assert info["pending"] == ["0001_table.sql", "0002_column.sql"]


def test_info_without_a_schema_says_that_all_is_pending(directory, database):
    info = directory.info(schema="nowhere")
    assert info["pending"] == ["0001_table.sql", "0002_column.sql"]
    assert database.value("SELECT to_regnamespace('nowhere') IS NULL")


def test_edited_missing_and_pending_are_told_apart(directory):
    directory.run()
    directory.write("0001_table.sql", FIRST + " -- edited")
    (directory.path / "0002_column.sql").rename(directory.path / "0003_column.sql")
    (directory.path / "0002_column.down.sql").unlink()
    info = directory.info()
    assert not info["changed"] and info["current_version"] == "0002"
    assert [each["file"] for each in info["mismatched"]] == ["0001_table.sql"]
    assert info["missing"] == ["0002_column"] and info["pending"] == ["0003_column.sql"]
    directory.write("0002_column.sql", SECOND)
    assert directory.info()["missing"] == []
