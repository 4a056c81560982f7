"""postgresql_partition_archive: seals that are the same everywhere, archives that come back, or say what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import docker
import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import connect
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_seal import SealOptions, seal

from .archives import AWKWARD_ROWS, BOTH, archive, files, log, numbers, plain, present, refused, session

__all__ = ["archive", "log", "numbers", "session"]  # fixtures


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
    one, two = (
        seal(
            session,
            ("public", name),
            SealOptions(
                "at",
                (
                    "at",
                    "id",
                ),
            ),
        )
        for name in ("log", "shuffled")
    )
    session.connection.close()
    assert one == two and one.sha256 == plain(AWKWARD_ROWS)


def test_rows_that_tie_have_one_order(database, session):
    database.query("CREATE TABLE a (at date, t text); CREATE TABLE b (t text, at date)")
    for table, texts in (("a", "zéb"), ("b", "bzé")):
        for text in texts:
            database.query(f"INSERT INTO {table} (at, t) VALUES ('2026-01-01', %s)", (text,))
    one, two = (seal(session, ("public", name), SealOptions("at", ("at",))) for name in "ab")
    assert one == two and one.sha256 == plain([["2026-01-01", text] for text in "bzé"])
    assert one.minimum == "2026-01-01"


def test_an_empty_table_and_one_without_rights(database, archive):
    database.query("CREATE TABLE log (id int, at timestamp)")
    done = present(database, archive)
    assert (done["seal"]["rows"], done["seal"]["minimum"], done["seal"]["blocks"]) == (0, None, 0)
    assert done["seal"]["sha256"] == plain([])


def test_a_naive_time_is_utc(database, session):
    database.query("CREATE TABLE log (at timestamp); INSERT INTO log VALUES ('2026-10-25 02:30')")
    assert seal(session, ("public", "log"), SealOptions("at", ("at",))).minimum == "2026-10-25T02:30:00+00:00"


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


def test_values_that_look_like_null_and_many_columns(database, archive):
    """A row of nulls IS NULL, and is not; a function takes at most 100 arguments."""
    many = ", ".join(f"c{n} int DEFAULT {n}" for n in range(300))
    database.query(
        f"CREATE TYPE pair AS (x int, y int); CREATE TABLE log (id int, at date, p pair, r int4range, k json, {many});"
        "INSERT INTO log (id, at, p, r, k) VALUES (1, '2026-01-01', ROW(NULL, NULL), 'empty', '{ \"a\":1}'),"
        "(2, '2026-01-01', NULL, '[1,3)', NULL)"
    )
    values = {f"c{n}": str(n) for n in range(300)} | {"at": "2026-01-01"}
    expected = [
        {**values, "id": "1", "p": "(,)", "r": "empty", "k": '{ "a":1}'},
        {**values, "id": "2", "p": None, "r": "[1,3)", "k": None},
    ]
    done = present(database, archive)
    assert done["seal"]["sha256"] == plain([[row[name] for name in sorted(row)] for row in expected])
    present(database, archive, state="restored", into="public.back")
    assert database.query("SELECT p::text FROM back ORDER BY id") == [("(,)",), (None,)]


def test_a_dump_and_another_encoding_keep_the_digest(log):
    text = "Ol\u00e1 \xfc"
    log.query("UPDATE log SET t = %s WHERE id = 1", (text,))
    session = connect(log.login)
    before = seal(
        session,
        ("public", "log"),
        SealOptions(
            "at",
            (
                "t",
                "id",
            ),
        ),
    )
    session.connection.close()
    copy = f"{log.name}_copy"
    log.query(f"CREATE DATABASE {copy} TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'")
    try:
        server = docker.from_env().containers.get(f"auditdb-modules-{log.version}")
        # The tools of the server, and not of the host: theirs is the right version.
        dumped = server.exec_run(
            ["bash", "-ec", f"pg_dump {log.name} | psql -qX -v ON_ERROR_STOP=1 {copy}"], user="postgres"
        )
        assert dumped.exit_code == 0, dumped.output
        session = connect({**log.login, "login_db": copy})
        assert session.query("SHOW server_encoding")[0]["server_encoding"] == "LATIN1"
        assert (
            seal(
                session,
                ("public", "log"),
                SealOptions(
                    "at",
                    (
                        "t",
                        "id",
                    ),
                ),
            )
            == before
        )
        session.connection.close()
    finally:
        log.query(f"DROP DATABASE {copy} WITH (FORCE)")
