"""What postgresql_backup_info tells of backups."""

from __future__ import annotations

from ansible_collections.auditdb.postgresql.plugins.module_utils.backup_report import chains, shown

FULL = {
    "id": "1-full", "kind": "full", "chain": "1-full", "parent": None, "bytes": 10, "verified_at": "now",
    "restored_at": None, "damaged": "", "artefacts": [],
}  # fmt: skip
NEXT = {**FULL, "id": "2-incremental", "kind": "incremental", "parent": "1-full", "bytes": 3, "restored_at": "now"}
LOGICAL = {**FULL, "id": "3-logical", "kind": "logical", "chain": "3-logical"}
BROKEN = {"id": "4-full", "damaged": "its manifest is no JSON"}


def test_chains_are_of_physical_backups_that_can_be_read():
    (chain,) = chains([FULL, NEXT, LOGICAL, BROKEN])
    assert chain == {
        "id": "1-full", "backups": ["1-full", "2-incremental"], "bytes": 13, "verified": True, "proven": True,
        "damaged": False,
    }  # fmt: skip
    assert not chains([FULL])[0]["proven"]
    assert not chains([{**FULL, "verified_at": None}, NEXT])[0]["verified"]
    assert chains([FULL, {**NEXT, "damaged": "a byte"}])[0]["damaged"]


def test_what_is_told_of_one_that_cannot_be_read():
    assert shown(BROKEN) == BROKEN
    assert "artefacts" not in shown(FULL) and shown(FULL)["bytes"] == 10
