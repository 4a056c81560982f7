"""What a restored directory is told apart by, and what is not recovered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from auditdb_backup import alone, recover
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
    return check(settings, BOTH, request(**target), ["auditdb-backup"])


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
    found = recover.Recovered("0/5000028", None, 2, 700, {"start": 100, "replay": 500, "promote": 100})
    recover.mark(tmp_path, {**described(request(), [FULL]), recover.RECOVERED: found.__dict__})
    assert recover.recover(SETTINGS, tmp_path, 1) == found


def test_phases_are_what_the_servers_log_tells():
    log = """1777600001.250 LOG:  database system was interrupted; last known up at 2026-05-01
1777600001.500 LOG:  starting archive recovery
could not open a file that says nothing of time
1777600003.000 LOG:  redo starts at 0/2000028
1777600009.500 LOG:  redo done at 0/50000A0 system usage: CPU: user: 0.00 s
1777600010.000 LOG:  archive recovery complete
1777600010.750 LOG:  database system is ready to accept connections
1777600020.000 LOG:  database system is ready to accept connections
"""
    assert alone.phases(log, 1777600001.0) == {"start": 500, "replay": 8000, "promote": 1250}
    assert alone.phases("", 1.0) == {}
