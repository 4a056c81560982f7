"""postgresql_partition_archive when files are harmed, rows changed, runs killed and options wrong."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils import archive_verify, partition_archive
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_files import Compressed, Durable
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import connect
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_seal import SealOptions

from .archives import BOTH, archive, files, numbers, present, refused, session

pytestmark = pytest.mark.newest

__all__ = ["archive", "numbers", "session"]  # fixtures


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
        archive_verify.seal = die
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
    runs = [context.Process(target=present, args=(numbers, archive)) for run in range(4)]
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
    failed = refused(
        numbers, options.get("directory", archive), **{k: v for k, v in options.items() if k != "directory"}
    )
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
