"""What a restored directory is told apart by, and what is not recovered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from auditdb_backup import recover
from auditdb_backup.engine import Request, Target
from auditdb_backup.errors import BackupError
from auditdb_backup.restore import check, described
from backups import SETTINGS, backup

FULL = backup("20260501T013000Z-full")
SECOND = backup("20260502T013000Z-full", start_lsn="0/5000028", stop_lsn="0/5000100")
BOTH = {each.id: each for each in (FULL, SECOND)}


def request(**target):
    return Request(Path("/nowhere"), Path("/run/key"), None, Target(**target))


def checked(tmp_path, **target):
    (tmp_path / "wal").mkdir(exist_ok=True)
    settings = replace(SETTINGS, repository=tmp_path)
    return check(settings, BOTH, request(**target), "auditdb-backup", Path("/etc/x.json"))


def test_a_check_says_what_would_be_used_and_makes_nothing(tmp_path):
    assert checked(tmp_path, time="2026-05-02T01:39:59Z") == [FULL.id]
    assert checked(tmp_path) == [SECOND.id]
    assert [each.name for each in tmp_path.iterdir()] == ["wal"]


@pytest.mark.parametrize(
    "target", [{"time": "2020-01-01T00:00:00Z"}, {"time": "2999-01-01T00:00:00Z"}, {"lsn": "0/1", "xid": "7"}]
)
def test_a_check_refuses_what_a_restore_would(tmp_path, target):
    with pytest.raises(BackupError):
        checked(tmp_path, **target)


def test_a_restore_is_told_apart_by_its_target_and_backup():
    one, other = (described(request(time=at), [FULL]) for at in ("2026-05-01T02:00:00Z", "2026-05-01T03:00:00Z"))
    assert one["request"] != other["request"] and one["backups"] == [FULL.id]


def test_only_what_a_restore_made_is_recovered_and_once(tmp_path):
    with pytest.raises(BackupError, match="was not made by a restore"):
        recover.recover(SETTINGS, tmp_path, 1)
    found = recover.Recovered("0/5000028", None, 2, 700)
    recover.mark(tmp_path, {**described(request(), [FULL]), recover.RECOVERED: found.__dict__})
    assert recover.recover(SETTINGS, tmp_path, 1) == found
