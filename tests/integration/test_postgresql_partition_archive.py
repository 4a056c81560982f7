"""postgresql_partition_archive: seals that are the same everywhere, archives that come back, or say what is wrong."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils import partition_archive
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_files import Compressed, Durable
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import connect
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_seal import SealOptions, seal

MODULE = "postgresql_partition_archive"

AWKWARD = r"""
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), gone int,
    t text COLLATE "C", b boolean, c char(4), n numeric, f float8, j jsonb, y bytea, a text[], d interval, i inet,
    m mood, naive timestamp, day date, doubled numeric GENERATED ALWAYS AS (n * 2) STORED,
    CONSTRAINT known CHECK (t <> 'forbidden'), UNIQUE (at, id)
);
ALTER TABLE log DROP COLUMN gone;
COMMENT ON TABLE log IS 'it''s a log';
COMMENT ON COLUMN log.t IS '100% text {}';
COMMENT ON CONSTRAINT known ON log IS 'a rule';
INSERT INTO log (at, t, b, c, n, f, j, y, a, d, i, m, naive, day) VALUES
  ('2026-10-25 02:30+02', E'Ol\u00e1 \\N \\. \t\r\n"\x01\x7f', true, 'ab', 'NaN', 'Infinity',
   '{"b": 1.00, "a": [1, "\\"]}', '\x00ff5c', ARRAY['x,"y"', NULL, 'NULL', '\'], '1 mon 2 days 03:04:05.6', '10.0.0.1',
   'glad', 'infinity', '-infinity'),
  ('-infinity', '', false, '', 0.10, 0.1, 'null', '', '{}', '0', '::1/64', 'sad', '2026-01-01 00:00:00.000001',
   '0044-03-15 BC'),
  ('infinity', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
"""
# What PostgreSQL's manual says of each type's output, in the order of the columns' names:
# a, at, b, c, d, day, doubled, f, i, id, j, m, n, naive, t, y.
AWKWARD_ROWS = [
    ["{}", "-infinity", "f", "    ", "PT0S", "0044-03-15 BC", "0.20", "0.1", "::1/64", "2", "null", "sad", "0.10"]
    + ["2026-01-01 00:00:00.000001", "", "\\x"],
    ['{"x,\\"y\\"",NULL,"NULL","\\\\"}', "2026-10-25 00:30:00+00", "t", "ab  ", "P1M2DT3H4M5.6S", "-infinity", "NaN"]
    + [
        "Infinity",
        "10.0.0.1",
        "1",
        '{"a": [1, "\\\\"], "b": 1.00}',
        "glad",
        "NaN",
        "infinity",
    ]
    + ['Olá \\N \\. \t\r\n"\x01\x7f', "\\x00ff5c"],
    [None, "infinity"] + [None] * 7 + ["3"] + [None] * 6,
]


def plain(rows):
    """The digest as docs/decisions/what-a-seal-covers.md defines it, without this project's code."""
    lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.fixture
def log(database):
    database.query(AWKWARD)
    return database


@pytest.fixture
def numbers(database):
    database.query(
        "CREATE TABLE log (id int PRIMARY KEY, at timestamptz, t text);"
        "INSERT INTO log SELECT n, timestamptz '2026-10-01Z' + n * interval '1 min', 'row ' || n "
        "FROM generate_series(1, 1000) AS n"
    )
    return database


@pytest.fixture
def session(database):
    session = connect(database.login)
    yield session
    session.connection.close()


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "archive"


def present(database, directory, check=False, **options):
    options = {"table": "public.log", "key": "at", "order_by": ["at", "id"], "block_rows": 100, **options}
    return database.module(MODULE, check, directory=str(directory), **options)


def refused(database, directory, **options):
    options = {"table": "public.log", "key": "at", "order_by": ["at", "id"], "block_rows": 100, **options}
    return database.failure(MODULE, directory=str(directory), **options)


def files(directory):
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


BOTH = ["public.log.copy.zst", "public.log.manifest.json"]


def rows(database, table):
    return database.query(f"SELECT * FROM {table} ORDER BY id")


def test_awkward_values_come_back_and_their_digest_is_what_the_document_says(log, archive):
    done = present(log, archive)
    assert done["changed"] and done["read_back"] and done["table_compared"] and done["executed_queries"] == []
    assert files(archive) == BOTH
    assert [path.stat().st_mode & 0o777 for path in [archive, *archive.iterdir()]] == [0o750, 0o640, 0o640]
    sealed = done["seal"]
    assert (sealed["rows"], sealed["minimum"], sealed["maximum"]) == (3, "-infinity", "infinity")
    assert sealed["sha256"] == plain(AWKWARD_ROWS)
    assert [each["name"] for each in sealed["columns"]] == sorted(each["name"] for each in sealed["columns"])

    log.query("CREATE SCHEMA old; ALTER DEFAULT PRIVILEGES IN SCHEMA old GRANT SELECT ON TABLES TO PUBLIC")
    made = present(log, archive, state="restored", into="old.log")
    assert made["changed"] and made["executed_queries"][0].startswith("CREATE TABLE")
    same = "SELECT count(*) FROM (SELECT l::text FROM log l EXCEPT SELECT o::text FROM old.log o) AS other"
    log.query("SET bytea_output = hex")
    assert log.value(same) == 0 and log.value("SELECT count(*) FROM old.log") == 3
    about = "SELECT obj_description('{0}'::regclass), col_description('{0}'::regclass, 4)"
    assert log.query(about.format("old.log"))[0] == ("it's a log", None)
    assert log.value("SELECT col_description('old.log'::regclass, 3)") == "100% text {}"
    kinds = "SELECT contype::text FROM pg_constraint WHERE conrelid = '{}'::regclass AND contype <> 'n' ORDER BY 1"
    assert log.query(kinds.format("old.log")) == log.query(kinds.format("log"))
    assert log.value(
        "SELECT obj_description(oid) FROM pg_constraint WHERE conrelid = 'old.log'::regclass AND contype = 'c'"
    )
    attributes = (
        "SELECT attname, attnotnull, attgenerated::text, attcollation FROM pg_attribute "
        "WHERE attrelid = '{}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1"
    )
    assert log.query(attributes.format("old.log")) == log.query(attributes.format("log"))
    assert (
        log.value(
            "SELECT count(*) FROM pg_class c, aclexplode(relacl) x WHERE c.oid = 'old.log'::regclass AND grantee = 0"
        )
        == 0
    )
    again = present(log, archive, state="restored", into="old.log")
    assert not again["changed"] and again["table_compared"]


def test_a_second_run_changes_nothing(numbers, archive):
    first = present(numbers, archive)
    stamps = [path.stat().st_mtime_ns for path in archive.iterdir()]
    second = present(numbers, archive)
    assert not second["changed"] and second["read_back"] and second["seal"] == first["seal"]
    assert [path.stat().st_mtime_ns for path in archive.iterdir()] == stamps and files(archive) == BOTH
    assert second["diff"]["before"] == second["diff"]["after"] != ""


def test_check_mode_says_so_and_writes_nothing(numbers, archive):
    said = present(numbers, archive, check=True)
    assert said["changed"] and files(archive) == [] and said["manifest_sha256"] is None and not said["read_back"]
    done = present(numbers, archive)
    assert said["seal"] == done["seal"] and said["diff"] == done["diff"]
    assert not present(numbers, archive, check=True)["changed"]
    said = present(numbers, archive, check=True, state="restored", into="public.copy")
    assert said["changed"] and numbers.value("SELECT to_regclass('copy') IS NULL")


@pytest.mark.parametrize("settings", [{}, {"TimeZone": "Asia/Amman", "DateStyle": "German", "bytea_output": "escape"}])
def test_neither_physical_order_nor_settings_change_the_digest(log, archive, settings):
    for name, value in {**settings, "IntervalStyle": "sql_standard", "extra_float_digits": "-5"}.items():
        log.query(f"ALTER DATABASE \"{log.name}\" SET {name} = '{value}'")
    log.query("CREATE TABLE shuffled (LIKE log INCLUDING GENERATED)")
    names = "t, b, c, n, f, j, y, a, d, i, m, naive, day"
    log.query(f"INSERT INTO shuffled (id, at, {names}) SELECT id, at, {names} FROM log ORDER BY id DESC")
    log.query("UPDATE shuffled SET t = t WHERE id = 2")
    session = connect(log.login)
    one, two = (seal(session, ("public", name), "at", ["at", "id"]) for name in ("log", "shuffled"))
    session.connection.close()
    assert one == two and one.sha256 == plain(AWKWARD_ROWS)


def test_rows_that_tie_have_one_order(database, session):
    database.query("CREATE TABLE a (at date, t text); CREATE TABLE b (t text, at date)")
    for table, texts in (("a", "zéb"), ("b", "bzé")):
        for text in texts:
            database.query(f"INSERT INTO {table} (at, t) VALUES ('2026-01-01', %s)", (text,))
    one, two = (seal(session, ("public", name), "at", ["at"]) for name in "ab")
    assert one == two and one.sha256 == plain([["2026-01-01", text] for text in "bzé"])
    assert one.minimum == "2026-01-01"


def test_an_empty_table_and_one_without_rights(database, archive):
    database.query("CREATE TABLE log (id int, at timestamp)")
    done = present(database, archive)
    assert (done["seal"]["rows"], done["seal"]["minimum"], done["seal"]["blocks"]) == (0, None, 0)
    assert done["seal"]["sha256"] == plain([])


def test_a_naive_time_is_utc(database, session):
    database.query("CREATE TABLE log (at timestamp); INSERT INTO log VALUES ('2026-10-25 02:30')")
    assert seal(session, ("public", "log"), "at", ["at"]).minimum == "2026-10-25T02:30:00+00:00"


def test_a_policy_that_hides_rows_is_an_error(numbers, archive, role_prefix):
    role = f"{role_prefix}reader"
    numbers.query(
        f"CREATE ROLE {role}; GRANT SELECT ON log TO {role}; ALTER TABLE log ENABLE ROW LEVEL SECURITY;"
        f"CREATE POLICY few ON log USING (id < 10)"
    )
    try:
        failed = refused(numbers, archive, session_role=role)
        assert failed["sqlstate"] == "42501" and "row-level security" in failed["msg"] and files(archive) == []
    finally:
        numbers.query(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_changed_row_is_found_and_its_range_named(numbers, archive):
    present(numbers, archive)
    numbers.query("UPDATE log SET t = 'forged' WHERE id = 555")
    before = [path.read_bytes() for path in sorted(archive.iterdir())]
    for state in ("present", "verified"):
        failed = refused(numbers, archive, state=state)
        assert "rows 501 to 600" in failed["msg"] and "501)" in failed["msg"] and failed["remedy"]
        assert failed["differences"]["first_block"]["from_row"] == 501
    assert [path.read_bytes() for path in sorted(archive.iterdir())] == before, "never overwritten"
    numbers.query("UPDATE log SET t = 'row 555' WHERE id = 555")
    assert present(numbers, archive, state="verified")["table_compared"]
    numbers.query("DELETE FROM log WHERE id = 1000")
    assert "rows 1000 became 999" in refused(numbers, archive, state="verified")["msg"]
    numbers.query("DROP TABLE log")
    alone = present(numbers, archive, state="verified")
    assert alone["read_back"] and not alone["table_compared"] and not alone["changed"]


def left_tables(database):
    return [row[0] for row in database.query("SELECT relname FROM pg_class WHERE relkind = 'r' AND oid >= 16384")]


def flip(path, place=-20):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def resealed(path, change):
    """Change a manifest as a forger does, who makes its digest again."""
    manifest = json.loads(path.read_text())
    del manifest["manifest_sha256"]
    change(manifest)
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps({**manifest, "manifest_sha256": digest}))


def forge_row(manifest):
    manifest["seal"]["rows"] = 999


def forge_file(manifest):
    manifest["stream_sha256"] = "0" * 64


def forge_length(manifest):
    manifest["stream_bytes"] = 100


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda data, manifest: flip(data), "SHA-256"),
        (lambda data, manifest: data.write_bytes(data.read_bytes()[:-1]), "bytes and not"),
        (lambda data, manifest: data.unlink(), "No such file"),
        (lambda data, manifest: flip(manifest, 40), "manifest"),
        (lambda data, manifest: manifest.write_bytes(manifest.read_bytes()[:-9]), "no JSON"),
        (lambda data, manifest: manifest.unlink(), "there is no archive"),
        (lambda data, manifest: resealed(manifest, forge_row), "rows 999 became 1000"),
        (lambda data, manifest: resealed(manifest, forge_file), "decompressed stream"),
        (lambda data, manifest: resealed(manifest, forge_length), "longer than the 100 bytes"),
    ],
    ids=["file", "short", "lost", "manifest", "cut", "none", "rows", "stream", "length"],
)
def test_a_harmed_archive_is_found(numbers, archive, harm, said):
    done = present(numbers, archive)
    numbers.query("DROP TABLE log")
    data, manifest = (archive / name for name in BOTH)
    harm(data, manifest)
    for options in ({"state": "verified"}, {"state": "restored", "into": "public.back"}):
        failed = refused(numbers, archive, **options)
        assert said in failed["msg"] and failed["remedy"] and failed["executed_queries"] == []
        assert refused(numbers, archive, manifest_sha256=done["manifest_sha256"], **options)["msg"]
    assert left_tables(numbers) == []


def test_a_forged_archive_is_found_by_the_digest_that_was_kept_elsewhere(numbers, archive, tmp_path):
    done = present(numbers, archive)
    numbers.query("UPDATE log SET t = 'forged' WHERE id = 555")
    forged = present(numbers, tmp_path / "forged")
    assert forged["seal"]["sha256"] != done["seal"]["sha256"]
    failed = refused(numbers, tmp_path / "forged", state="verified", manifest_sha256=done["manifest_sha256"])
    assert "not the expected" in failed["msg"]


def die(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(database, directory, place, after=0):
    """Export in a process of its own, which is killed with -9 in its call of this method after so many calls."""
    owner, name = place
    original = getattr(owner, name)
    left = [after]

    def step(*arguments, **options):
        if not left[0]:
            die()
        left[0] -= 1
        return original(*arguments, **options)

    def work():
        setattr(owner, name, step)
        present(database, directory)

    run = multiprocessing.get_context("fork").Process(target=work)
    run.start()
    run.join(60)
    assert run.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("place", "after", "left"),
    [
        ((Compressed, "write"), 500, [BOTH[0] + ".partial", BOTH[1] + ".partial"]),
        ((Durable, "commit"), 0, [BOTH[0] + ".partial", BOTH[1] + ".partial"]),
        ((Path, "rename"), 0, [BOTH[0] + ".partial", BOTH[1] + ".partial"]),
        ((Durable, "commit"), 1, [BOTH[0], BOTH[1] + ".partial"]),
        ((Path, "rename"), 1, [BOTH[0], BOTH[1] + ".partial"]),
    ],
)
def test_a_killed_export_leaves_nothing_that_counts_and_the_next_completes(numbers, archive, place, after, left):
    killed_at(numbers, archive, place, after)
    assert files(archive) == left
    assert partition_archive.list_archives(archive) == {}
    assert "there is no archive" in refused(numbers, archive, state="verified")["msg"]
    numbers.query("UPDATE log SET t = 'new' WHERE id = 1")  # what is left is not what follows
    assert present(numbers, archive)["changed"]
    assert files(archive) == BOTH and present(numbers, archive, state="verified")["table_compared"]


def test_a_read_back_that_is_killed_leaves_no_table(numbers, archive):
    present(numbers, archive)

    def work():
        partition_archive.seal = die
        present(numbers, archive, state="verified", scratch_schema="public")

    run = multiprocessing.get_context("fork").Process(target=work)
    run.start()
    run.join(60)
    assert run.exitcode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while numbers.value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") > 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert left_tables(numbers) == ["log"]
    assert present(numbers, archive, state="verified", scratch_schema="public")["read_back"]


def test_two_exports_at_once_make_one_archive(numbers, archive):
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=present, args=(numbers, archive)) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0] * 4 and files(archive) == BOTH


def test_a_full_disk_is_an_error_and_the_session_lives_on(numbers, session, archive, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Durable, "write", full)
    with pytest.raises(PostgresqlError, match="No space left") as failed:
        partition_archive.export(session, ("public", "log"), archive, SealOptions("at", ("at", "id")))
    assert failed.value.remedy and files(archive) == []
    assert session.query("SELECT 1 AS one") == [{"one": 1}]


def test_names_of_all_kinds(database, archive):
    schema, table = 'a "b" . ç', "€" * 20 + '"./'
    for text in (schema, table):
        assert len(text.encode()) <= 63
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, table))
    odd = 'col "é" %s {}'
    column = '"' + odd.replace('"', '""') + '"'
    database.query(f'CREATE SCHEMA "{schema.replace(chr(34), chr(34) * 2)}"')
    database.query("CREATE TABLE %s (%s text, at timestamptz, id int)" % (quoted, column))  # noqa: UP031
    database.query(f"INSERT INTO {quoted} SELECT 'x', now(), 1")
    done = present(database, archive, table=quoted, order_by=["at", odd])
    assert done["changed"] and done["archive"].isascii() and len(files(archive)) == 2
    into = quoted[:-1] + '2"'
    assert "too long" in refused(database, archive, table=quoted, state="restored", into=into)["msg"]
    into = quoted[:-2] + '2"'
    assert present(database, archive, table=quoted, state="restored", into=into)["changed"]
    assert not present(database, archive, table=quoted, order_by=["at", odd])["changed"]


def test_a_partition_keeps_its_bounds_and_leaves_its_foreign_keys(database, archive):
    database.query(
        "CREATE TABLE kind (id int PRIMARY KEY); INSERT INTO kind VALUES (1);"
        "CREATE TABLE logs (id int, at timestamptz, kind int REFERENCES kind, PRIMARY KEY (id, at))"
        "PARTITION BY RANGE (at);"
        "CREATE TABLE log PARTITION OF logs FOR VALUES FROM ('2026-10-01Z') TO ('2026-11-01Z');"
        "INSERT INTO logs VALUES (1, '2026-10-02', 1)"
    )
    present(database, archive)
    manifest = json.loads((archive / BOTH[1]).read_text())["definition"]
    assert manifest["parent"] == ["public", "logs"]
    assert manifest["bounds"] == "FOR VALUES FROM ('2026-10-01 00:00:00+00') TO ('2026-11-01 00:00:00+00')"
    assert [each["definition"] for each in manifest["foreign_keys"]] == [
        "FOREIGN KEY (kind) REFERENCES public.kind(id)"
    ]
    database.query("ALTER TABLE logs DETACH PARTITION log; DROP TABLE log")
    assert present(database, archive, state="restored", into="public.log")["changed"]
    database.query("ALTER TABLE logs ATTACH PARTITION log FOR VALUES FROM ('2026-10-01Z') TO ('2026-11-01Z')")
    assert database.value("SELECT count(*) FROM logs") == 1
    assert not present(database, archive)["changed"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"table": "log"}, "table: 'log'"),
        ({"table": "public."}, "table: 'public.'"),
        ({"table": "public.nothing"}, "does not exist"),
        ({"table": "pg_catalog.pg_tables"}, "not a table"),
        ({"key": "nothing"}, "no column nothing"),
        ({"order_by": ["id", "nothing"]}, "no column nothing"),
        ({"block_rows": 0}, "block_rows: 0"),
        ({"compression_level": 20}, "compression_level: 20"),
        ({"archive": "../up"}, "no name of an archive"),
        ({"key": None}, "key"),
        ({"state": "restored"}, "into"),
        ({"state": "restored", "into": "x"}, "into: 'x'"),
        ({"state": "verified"}, "there is no archive public.log"),
        ({"directory": "/proc/nowhere"}, "/proc/nowhere"),
    ],
)
def test_wrong_options_are_named(numbers, archive, options, said):
    failed = refused(numbers, options.pop("directory", archive), **options)
    assert said in failed["msg"] and not failed.get("changed") and files(archive) == []


def test_what_is_in_the_way_of_a_restore_stays(numbers, archive):
    present(numbers, archive)
    numbers.query("CREATE TABLE other (id int, at timestamptz, t text); CREATE VIEW seen AS SELECT 1 AS a")
    failed = refused(numbers, archive, state="restored", into="public.other")
    assert "public.other has other rows" in failed["msg"] and failed["differences"]
    assert "is not a table" in refused(numbers, archive, state="restored", into="public.seen")["msg"]
    assert refused(numbers, archive, state="restored", into="nowhere.log")["sqlstate"] == "3F000"
    with pytest.raises(PostgresqlError, match="exists") as exists:
        session = connect(numbers.login)
        partition_archive.restore(session, archive, "public.log", ("public", "other"))
    session.connection.close()
    assert exists.value.sqlstate == "42P07"


def test_an_archive_is_of_one_table(numbers, archive):
    present(numbers, archive, archive="mine")
    numbers.query("CREATE TABLE two (LIKE log)")
    assert "holds public.log" in refused(numbers, archive, archive="mine", table="public.two")["msg"]


MEMORY = """
import json, sys
from pathlib import Path
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import connect
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_archive import SealOptions, export, read_back
session = connect(json.loads(sys.argv[1]))
manifest = export(session, ("public", "log"), Path(sys.argv[2]), SealOptions("at", ("at", "id")))
assert read_back(session, Path(sys.argv[2]), manifest.name) == manifest.seal
# Not ru_maxrss: it begins with what the process that started this one used.
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1], manifest.seal.rows)
"""


def test_memory_does_not_grow_with_the_rows(database, archive):
    database.query(
        "CREATE UNLOGGED TABLE log (id int, at timestamptz, t text);"
        "INSERT INTO log SELECT n, timestamptz '2026-10-01Z' + n * interval '1 s', md5(n::text) "
        "FROM generate_series(1, 1000000) AS n"
    )
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, json.dumps(database.login), str(archive)],
        check=True,
        capture_output=True,
        text=True,
    )
    peak, count = map(int, run.stdout.split())
    assert count == 1_000_000 and peak < 150 * 1024, f"{peak} kB"
