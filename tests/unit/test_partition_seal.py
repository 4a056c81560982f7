"""The pure parts of seals, manifests and archive files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import string

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils import archive_files
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_files import Durable, archive_name, check_name
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_manifest import (
    FORMAT_VERSION,
    Manifest,
    find_manifest,
    list_archives,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.seal_model import (
    ALGORITHM,
    Digest,
    Seal,
    canonical_json,
    differences,
    explain,
)
from hypothesis import assume, given
from hypothesis import strategies as st

TEXTS = st.none() | st.text(max_size=8)
ROWS = st.lists(st.tuples(st.integers(0, 99).map(str), TEXTS), max_size=30)
BLOCKS = st.integers(1, 7)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=63)


def line(row):
    return (json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def make(rows, block_rows=3):
    digest = Digest(["id", "text"], ["id"], block_rows)
    for row in rows:
        digest.write(line(row))
    ids = [row[0] for row in rows]
    return Seal(
        rows=digest.rows,
        minimum=min(ids, default=None),
        maximum=max(ids, default=None),
        sha256=digest.finish(),
        columns=(("id", "text"), ("text", "text")),
        algorithm=ALGORITHM,
        blocks=tuple(digest.blocks),
        key="id",
        order_by=("id",),
        block_rows=block_rows,
    )


@given(ROWS, BLOCKS)
def test_a_digest_is_that_of_the_lines(rows, block_rows):
    seal = make(rows, block_rows)
    lines = [line(row) for row in rows]
    assert seal.sha256 == hashlib.sha256(b"".join(lines)).hexdigest()
    parts = [lines[begin : begin + block_rows] for begin in range(0, len(lines), block_rows)]
    assert [block.sha256 for block in seal.blocks] == [hashlib.sha256(b"".join(part)).hexdigest() for part in parts]
    assert sum(block.rows for block in seal.blocks) == seal.rows == len(rows)


def test_large_rows_go_through_the_buffer():
    rows = [("1", "x" * 100_000), ("2", "y")]
    assert make(rows).sha256 == hashlib.sha256(b"".join(map(line, rows))).hexdigest()


@given(ROWS, BLOCKS)
def test_a_seal_survives_json_and_equals_itself(rows, block_rows):
    seal = make(rows, block_rows)
    assert Seal.from_dict(json.loads(canonical_json(seal.as_dict()))) == seal
    assert differences(seal, make(rows, block_rows)) == {} and explain({}) == ""


@given(ROWS, BLOCKS, st.data())
def test_a_changed_row_is_in_the_named_range(rows, block_rows, data):
    assume(rows)
    place = data.draw(st.integers(0, len(rows) - 1))
    changed = [*rows]
    changed[place] = (rows[place][0], (rows[place][1] or "") + "!")
    found = differences(make(rows, block_rows), make(changed, block_rows))
    block = found["first_block"]
    assert block["from_row"] <= place + 1 <= block["to_row"] < block["from_row"] + block_rows
    assert set(found) == {"sha256", "first_block"}
    assert f"rows {block['from_row']} to {block['to_row']}" in explain(found)


@given(ROWS, BLOCKS, st.data())
def test_a_removed_row_is_never_missed(rows, block_rows, data):
    assume(rows)
    place = data.draw(st.integers(0, len(rows) - 1))
    found = differences(make(rows, block_rows), make(rows[:place] + rows[place + 1 :], block_rows))
    assert found["rows"] == {"old": len(rows), "new": len(rows) - 1}
    assert found["first_block"]["from_row"] <= len(rows)
    assert f"rows {len(rows)} became {len(rows) - 1}" in explain(found)


def test_added_rows_behind_the_last_range_are_named():
    rows = [(str(n), None) for n in range(6)]
    found = differences(make(rows), make([*rows, ("6", None)]))
    assert found["first_block"] == {"from_row": 7, "to_row": 7, "from": ["6"], "to": ["6"]}


def test_what_cannot_be_compared_by_range_is_still_different():
    rows = [(str(n), None) for n in range(6)]
    assert differences(make(rows), make(rows, 2)) == {}, "the same rows in other ranges"
    found = differences(make(rows), make([*rows[:-1], ("5", "!")], 2))
    assert set(found) == {"sha256"} and explain(found) == "the digests differ"
    other = dataclasses.replace(make(rows), columns=(("id", "text"), ("text", "character varying")))
    assert explain(differences(make(rows), other)) == "columns differ: text character varying, text text"


def test_a_forged_range_is_a_difference():
    seal = make([(str(n), None) for n in range(6)])
    forged = dataclasses.replace(seal, blocks=(dataclasses.replace(seal.blocks[0], sha256="0" * 64), seal.blocks[1]))
    assert differences(seal, forged)["first_block"]["to_row"] == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"algorithm": "md5"}, "made by md5"),
        ({"rows": "many"}, "no seal"),
        ({"columns": [1]}, "no seal"),
        ({"blocks": [{}]}, "no seal"),
    ],
)
def test_no_seal(change, said):
    with pytest.raises(PostgresqlError, match=said):
        Seal.from_dict({**make([("1", None)]).as_dict(), **change})


@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
def test_names_are_safe_and_never_meet(one, two):
    name = archive_name(one)
    assert check_name(name) == name and set(name) <= set(string.ascii_letters + string.digits + "_%.-")
    assert (archive_name(two) == name) == (one == two)


def test_plain_names_stay_readable():
    assert archive_name(("audit", "audit_log_2026_10")) == "audit.audit_log_2026_10"
    assert archive_name(('a.b"', "../é")) == "a%2Eb%22.%2E%2E%2F%C3%A9"
    assert len(archive_name(("€" * 21, '"' * 63))) <= 200


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a\nb", "é", "x" * 201])
def test_names_that_leave_the_directory_are_refused(name):
    with pytest.raises(PostgresqlError, match="no name of an archive"):
        check_name(name)


def manifest(name="a.b", **others):
    return Manifest(
        **{
            "format_version": FORMAT_VERSION,
            "name": name,
            "database": "d",
            "schema": "a",
            "table": "b",
            "definition": {"columns": []},
            "seal": make([("1", None)]),
            "file_bytes": 1,
            "file_sha256": "",
            "stream_bytes": 1,
            "stream_sha256": "",
            "server_version": "17.1",
            "created_at": "2026-11-23T00:00:00+00:00",
            **others,
        }
    )


def test_a_manifest_survives_its_file_and_no_change_of_it(tmp_path):
    path = tmp_path / "a.b.manifest.json"
    path.write_text(manifest().text())
    assert find_manifest(tmp_path, "a.b") == manifest()
    path.write_text(manifest().text().replace('"rows":1', '"rows":2', 1))
    with pytest.raises(PostgresqlError, match="archive a.b: the manifest was changed"):
        find_manifest(tmp_path, "a.b")
    for text, said in [("{", "no JSON"), ("[]", "no JSON object"), ("{}", "format is None")]:
        path.write_text(text)
        with pytest.raises(PostgresqlError, match=said):
            find_manifest(tmp_path, "a.b")
    (tmp_path / "c.d.manifest.json").write_text(manifest().text())
    found = list_archives(tmp_path)
    assert [*found] == ["a.b", "c.d"] and "is that of a.b" in found["c.d"].message
    assert list_archives(tmp_path / "nowhere") == {}


def test_a_file_appears_complete_or_not_at_all(tmp_path):
    path = tmp_path / "x"
    with Durable(path) as file:
        file.write(b"half")
        assert not path.exists()
    assert [*tmp_path.iterdir()] == []
    (tmp_path / "x.partial").write_bytes(b"left by a killed run, and longer than what follows")
    with Durable(path) as file:
        file.write(b"whole")
        file.commit()
    assert path.read_bytes() == b"whole" and [*tmp_path.iterdir()] == [path]
    assert path.stat().st_mode & 0o777 == 0o640
    assert file.sha256 == hashlib.sha256(b"whole").hexdigest() and file.size == 5


def test_two_writers_of_a_file(tmp_path):
    with Durable(tmp_path / "x"), pytest.raises(PostgresqlError, match="another run writes x") as busy:
        Durable(tmp_path / "x")
    assert busy.value.details["busy"]


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "x.partial").symlink_to("victim")
    with pytest.raises(OSError, match="symbolic"):
        Durable(tmp_path / "x")
    assert (tmp_path / "victim").read_text() == "precious"


def test_directories_are_made_closed(tmp_path):
    before = os.umask(0)
    try:
        archive_files.make_directory(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [(tmp_path / each).stat().st_mode & 0o777 for each in ("a", "a/b")] == [0o750, 0o750]


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(archive_files, "ZSTANDARD_IMPORT_ERROR", "Traceback")
    with pytest.raises(PostgresqlError, match="zstandard is missing") as missing:
        archive_files.require_zstandard()
    assert "python3-zstandard" in missing.value.remedy
