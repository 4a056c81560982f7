"""The engine pgbackrest: what it reads of pgBackRest's answers and files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from auditdb_backup.backup import Artefact
from auditdb_backup.engine_pgbackrest import FILES, Engine, Reader
from auditdb_backup.errors import BackupError
from auditdb_backup.pgbackrest import PgBackRest, Taken
from auditdb_backup.wal_archive import Header
from backups import SETTINGS, backup

SEGMENT = "000000010000000000000002"
SHA1 = "3c3a54390c1a90dca853870583d54fac39f9a735"
# As pgBackRest 2.55.1 told it.
TOLD = {
    "archive": {"start": "000000010000000000000004", "stop": "000000010000000000000004"},
    "error": False,
    "info": {"delta": 1474818, "repository": {"delta": 158048, "size": 2783584}, "size": 23390622},
    "label": "20261124-054231F_20261124-054233I",
    "lsn": {"start": "0/4000028", "stop": "0/4000120"},
    "prior": "20261124-054231F",
    "timestamp": {"start": 1795498953, "stop": 1795498954},
    "type": "incr",
}


@pytest.fixture
def tool(tmp_path: Path) -> PgBackRest:
    return PgBackRest(replace(SETTINGS, repository=tmp_path), tmp_path / "main.json")


def put(root: Path, path: str, content: bytes = b"x") -> Path:
    found = root / path
    found.parent.mkdir(parents=True, exist_ok=True)
    found.write_bytes(content)
    return found


def test_a_backup_is_read_of_what_it_tells():
    taken = Taken.read(TOLD)
    assert (taken.incremental, taken.prior, taken.first_wal) == (True, "20261124-054231F", TOLD["archive"]["start"])
    assert (taken.bytes, taken.plain_bytes) == (158048, 23390622)
    assert not Taken.read({**TOLD, "type": "full", "prior": None}).incremental


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (SEGMENT, f"{SEGMENT[:16]}/{SEGMENT}-{SHA1}.zst"),
        (f"{SEGMENT}.partial", f"{SEGMENT[:16]}/{SEGMENT}.partial-{SHA1}.zst"),
        (f"{SEGMENT}.00000028.backup", f"{SEGMENT[:16]}/{SEGMENT}.00000028.backup"),
        ("00000002.history", "00000002.history"),
    ],
)
def test_a_wal_file_is_found_by_its_name(tool, name, file):
    archive = tool.root / "archive/main"
    for other in (
        f"{SEGMENT[:16]}/{SEGMENT[:-1]}3-{SHA1}.zst",
        f"{SEGMENT[:16]}/{SEGMENT}.pgbackrest.tmp",
        "archive.info",
    ):
        put(archive / "17-1", other)
    with pytest.raises(BackupError, match="has 0 of it"):
        tool.wal(name)
    path = put(archive / "17-1", file)
    assert tool.wal(name) == path
    put(archive / "17-2", file)
    with pytest.raises(BackupError, match="has 2 of it"):
        tool.wal(name)


@pytest.fixture
def stored(tool, tmp_path):
    """Return a backup of two files, and the reader that reads it again."""
    made = backup("20261124-054231F", kind="full")
    there = tool.directory(made.id)
    lines = [
        f"{hashlib.sha256(b'x').hexdigest()}  {put(there, name).relative_to(there)}\n"
        for name in ("backup.manifest", "pg_data/a b")
    ]
    listed = put(tmp_path, f"backups/{made.id}/{FILES}", "".join(lines).encode())
    digest = hashlib.sha256(listed.read_bytes()).hexdigest()
    size = listed.stat().st_size
    made = replace(made, artefacts=(Artefact(FILES, size, digest, size, digest),))
    return made, there, Reader(replace(SETTINGS, repository=tmp_path), tool)


def test_each_change_of_its_files_is_found(stored, tmp_path):
    made, there, reader = stored
    reader.backup(made, None)
    (there / "pg_data/a b").write_bytes(b"y")
    with pytest.raises(BackupError, match="pg_data/a b: 1 files are not what was stored"):
        reader.backup(made, None)
    put(there, "pg_data/a b")
    more = put(there, "pg_data/more")
    with pytest.raises(BackupError, match="pg_data/more"):
        reader.backup(made, None)
    more.unlink()
    (there / "backup.manifest").unlink()
    with pytest.raises(BackupError, match="backup.manifest"):
        reader.backup(made, None)
    put(there, "backup.manifest")
    reader.backup(made, None)
    listed = tmp_path / f"backups/{made.id}/{FILES}"
    listed.write_bytes(listed.read_bytes().replace(b"a b", b"a c"))
    with pytest.raises(BackupError, match=FILES):
        reader.backup(made, None)


def test_a_wal_file_that_was_changed_is_found(stored, tool, tmp_path):
    _made, _there, reader = stored
    path = put(tool.root / "archive/main/17-1", f"{SEGMENT[:16]}/{SEGMENT}-{SHA1}.zst", b"wal")
    digest = hashlib.sha256(b"wal").hexdigest()
    header = Header(1, SEGMENT, "00", 16 << 20, digest, 3, "2026-05-01T00:00:00.000000Z", "")
    put(tmp_path, f"wal/{SEGMENT}", header.pack())
    reader.wal(SEGMENT, None)
    path.write_bytes(b"wax")
    with pytest.raises(BackupError, match="its bytes are not those that were stored"):
        reader.wal(SEGMENT, None)


CHANGING = [f"{part}.info{end}" for part in ("archive", "backup") for end in ("", ".copy")]


def test_what_is_fetched_of_a_second_place_has_its_newest_state(tmp_path):
    engine = Engine(replace(SETTINGS, repository=tmp_path), "auditdb-backup", tmp_path / "main.json", 0)
    for number in (9, 10):
        for name in (*CHANGING, "passphrase.age", "pgbackrest.json"):
            put(tmp_path, f"pgbackrest/states/{number:08}/{name}", str(number).encode())
    engine.fetch([], tmp_path)
    there = [tmp_path / f"pgbackrest/{name.split('.')[0]}/{SETTINGS.cluster}/{name}" for name in CHANGING]
    there += [tmp_path / "passphrase.age", tmp_path / "pgbackrest.json"]
    assert {path.read_bytes() for path in there} == {b"10"}
    put(tmp_path, "pgbackrest/states/00000011/backup.info", b"11")
    engine.fetch([], tmp_path)
    assert there[-1].read_bytes() == b"10", "what is there stays"


def test_a_state_that_lacks_a_file_is_an_error(tmp_path):
    engine = Engine(replace(SETTINGS, repository=tmp_path), "auditdb-backup", tmp_path / "main.json", 0)
    put(tmp_path, "pgbackrest/states/00000001/backup.info")
    with pytest.raises(BackupError, match=r"archive\.info is missing"):
        engine.fetch([], tmp_path)
    assert not (tmp_path / "pgbackrest.json").exists()
