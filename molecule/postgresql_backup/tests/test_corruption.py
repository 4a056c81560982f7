"""Each kind of damage to what is stored is found without a key, and what is whole is not found fault with."""

from __future__ import annotations

import json

import pytest
from backup_host import REPOSITORY

pytestmark = pytest.mark.long
CLEAN = 20
# Where one byte is changed, as a part of the file's size.
FLIPS = {"first byte": 0.0, "byte in the middle": 0.5, "last byte": 1.0}
# What else is done to a file of the newest full backup; {other} is the same file of another backup.
COMMANDS = {
    "a block of zeros": "dd if=/dev/zero of={file} bs=512 count=1 conv=notrunc status=none",
    "cut off": "truncate --size=-1 {file}",
    "emptied": "truncate --size=0 {file}",
    "longer": "printf x >> {file}",
    "missing": "rm {file}",
    "that of another": "cp {other} {file}",
}
BACKUP_FILES = ("data.tar.zst.age", "backup_manifest", "manifest.json")
KINDS = [
    *((name, kind) for name in BACKUP_FILES for kind in (*FLIPS, *COMMANDS)),
    *(("wal", kind) for kind in (*FLIPS, *COMMANDS)),
    ("data.tar.zst.age", "a file more"),
    ("data.tar.zst.age", "directory renamed"),
]


def verified(database) -> tuple[int, str]:
    done = database.backup("verify")
    return done.code, done.output


def test_every_kind_of_damage_is_found(database):
    first, second = database.take("full"), database.take("full")
    segments = []
    for _each in range(3):
        database.sql("INSERT INTO ledger DEFAULT VALUES")
        segments.append(database.switch())
    overlooked = []
    for name, kind in KINDS:
        place = f"{REPOSITORY}/wal" if name == "wal" else f"{REPOSITORY}/backups/{second}"
        file = f"{place}/{segments[1]}" if name == "wal" else f"{place}/{name}"
        other = f"{place}/{segments[0]}" if name == "wal" else f"{REPOSITORY}/backups/{first}/{name}"
        subject = segments[1] if name == "wal" else second
        kept = "/run/auditdb-test/kept"
        source = file if name == "wal" else place
        database.shell(f"rm -rf {kept}; cp -a {source} {kept}")
        if kind == "a file more":
            database.shell(f"echo x > {place}/more")
        elif kind == "directory renamed":
            database.shell(f"mv {place} {place}x")
        elif kind in FLIPS:
            size = int(database.shell(f"stat -c %s {file}"))
            database.flip(file, round((size - 1) * FLIPS[kind]))
        else:
            database.shell(COMMANDS[kind].format(file=file, other=other))
        code, said = verified(database)
        if code != 1 or subject not in said:
            overlooked.append((name, kind, code, said))
        database.shell(f"rm -rf {source} {place}x; mv {kept} {source}")
    print(f"PostgreSQL {database.version}: {len(KINDS)} kinds of damage, {len(overlooked)} overlooked")
    assert overlooked == []
    assert verified(database)[0] == 0


def test_clean_backups_are_not_found_fault_with(database):
    taken = [database.take("full") for _each in range(CLEAN)]
    code, said = verified(database)
    assert code == 0, said
    known = {each["id"]: each for each in json.loads(database.good("list", "--json"))}
    assert all(known[name]["verified_at"] and not known[name]["damaged"] for name in taken)
    print(f"PostgreSQL {database.version}: {CLEAN} clean backups, 0 false alarms")
