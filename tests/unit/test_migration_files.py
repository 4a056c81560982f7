"""Reading a directory of migrations: what is refused, and where the error points."""

from __future__ import annotations

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_files import build, load_directory, normalise


def refusal(sql, file="0001_x.sql"):
    with pytest.raises(PostgresqlError) as refused:
        build("0001", "x", file, sql)
    return refused.value


@pytest.mark.parametrize(
    ("sql", "where"),
    [
        ("SELECT 1;\nBEGIN;", "0001_x.sql line 2: transaction control"),
        ("SELECT 1;\nCREATE INDEX CONCURRENTLY i ON t (a);", "line 2: this statement cannot run in a transaction"),
        ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY;", "line 1: this statement cannot run in a transaction"),
        ("DROP INDEX CONCURRENTLY i;", "line 1: this statement cannot run in a transaction"),
        ("REINDEX TABLE CONCURRENTLY t;", "line 1: this statement cannot run in a transaction"),
        ("VACUUM t;", "line 1: this statement cannot run in a transaction"),
        ("SELECT 1;\n\\i other.sql\n", "line 2: '\\i' is a command of psql"),
        ("SELECT 1;\nSELEC 2;", "line 2: syntax error"),
        ("-- migrate: no-transactions\nSELECT 1;", "line 1: unknown directive"),
        ("-- nothing here\n", "holds no statement"),
    ],
)
def test_what_could_not_run_is_refused_with_its_place(sql, where):
    assert where in str(refusal(sql))


@pytest.mark.parametrize("sql", ["ANALYZE t;", "CREATE INDEX i ON t (a);", "ALTER TABLE t DETACH PARTITION p;"])
def test_what_can_run_in_a_transaction_may(sql):
    assert build("0001", "x", "0001_x.sql", sql).transactional


def test_statements_are_split_by_postgresqls_own_parser():
    text = (
        "-- migrate: no-transaction\nCREATE FUNCTION f() RETURNS text LANGUAGE sql AS $b$ SELECT 'a;b'; $b$;\n"
        "-- ไทย;\nSELECT 'ไทย;';"
    )
    migration = build("0001", "x", "0001_x.sql", text)
    assert [(statement["line"], statement["sql"][:6]) for statement in migration.statements] == [
        (2, "CREATE"),
        (4, "SELECT"),
    ]
    assert migration.statements[1]["sql"] == "SELECT 'ไทย;'"


def test_the_index_of_a_concurrent_creation_is_named():
    migration = build("1", "x", "f", '-- migrate: no-transaction\nCREATE INDEX CONCURRENTLY "my i" ON s.t (a);')
    assert migration.statements[0]["index"] == '"s"."my i"'


def test_line_ends_and_byte_order_mark_do_not_count():
    assert normalise(b"\xef\xbb\xbfa\r\nb\rc\n", "f") == "a\nb\nc\n"


def test_a_file_that_is_not_utf8_is_refused():
    with pytest.raises(PostgresqlError, match="f is not UTF-8"):
        normalise(b"\xff\xfe", "f")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0001_a.sql", "0001_b.sql"], "version 0001 is used twice"),
        (["1_a.sql"], "is not named"),
        (["0001_a.down.sql"], "has no 0001_a.sql"),
    ],
)
def test_a_confused_directory_is_refused(tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(PostgresqlError, match=message):
        load_directory(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "0001_a.sql").write_text("\n")
    with pytest.raises(PostgresqlError, match="is empty"):
        load_directory(tmp_path)


def test_versions_sort_as_numbers(tmp_path):
    for name in ("10000_b.sql", "9999_a.sql"):
        (tmp_path / name).write_text("SELECT 1;")
    assert [migration.version for migration in load_directory(tmp_path)] == ["9999", "10000"]


def test_a_journal_that_names_a_missing_file_is_refused(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/_journal.json").write_text('{"entries": [{"idx": 0, "tag": "0000_gone"}]}')
    with pytest.raises(PostgresqlError, match="0000_gone.sql is in _journal.json"):
        load_directory(tmp_path)
