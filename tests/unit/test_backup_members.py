"""The members of a cluster: whoever takes writes is the server, and who leads is no standby of itself."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from auditdb_backup import base_backup, standby, wal_archive, wal_stream
from auditdb_backup.errors import BackupError
from auditdb_backup.postgres import Server, Standby
from auditdb_backup.repository import Repository

from .backups import SETTINGS

MEMBERS = replace(SETTINGS, host="pg1,pg2,pg3", standbys=("pg1", "pg2", "pg3"))


def test_of_members_the_one_that_takes_writes_is_meant_and_of_one_address_any():
    assert Server(MEMBERS).session == "read-write"
    assert Server(replace(MEMBERS, host="pg2")).session == "any"
    assert Server(SETTINGS).session == "any"


@pytest.mark.parametrize(("host", "raised"), [("pg1,pg2,pg3", standby.LeadsError), ("db1", BackupError)])
def test_who_leads_is_no_standby_that_failed(monkeypatch, host, raised):
    monkeypatch.setattr(Server, "standby", lambda _self: Standby(False, "7", True))
    with pytest.raises(raised) as refused:
        standby.reach(replace(MEMBERS, host=host), "pg1", Server(MEMBERS), incremental=False)
    assert refused.type is raised


def test_who_leads_is_passed_over_without_a_notice(monkeypatch, tmp_path):
    asked = []

    def reach(_settings, address, _primary, *, incremental):
        asked.append(address)
        if address == "pg1":
            raise standby.LeadsError("pg1 leads", "ask another member")
        raise BackupError("it lags", "wait")

    monkeypatch.setattr(standby, "reach", reach)
    monkeypatch.setattr(base_backup, "_receive", lambda *_arguments: SimpleNamespace())
    primary = SimpleNamespace(name=lambda: "primary pg1")
    copied = base_backup._copy(MEMBERS, primary, None, tmp_path / "data", "label")
    assert asked == ["pg1", "pg2", "pg3"] and copied.source == "primary pg1"
    assert [each.split(" was ")[0] for each in copied.notices] == ["standby pg2", "standby pg3"]


@pytest.mark.parametrize(
    ("streamed", "known", "waits"),
    [
        (["00000001000000000000000A"], {}, True),
        (["00000001000000000000000A.partial"], {2: (1, 5)}, False),
        (["00000002000000000000000A", "00000002.history"], {}, False),
        ([], {}, False),
    ],
)
def test_no_streamed_file_is_judged_before_the_timelines_history_is_known(
    monkeypatch, tmp_path, streamed, known, waits
):
    repository = Repository(tmp_path)
    repository.stream.mkdir()
    for name in streamed:
        (repository.stream / name).touch()
    monkeypatch.setattr(wal_archive, "parents", lambda _directory: known)
    server = SimpleNamespace(flushed=lambda: (2, 0xB000000))
    if waits:
        with pytest.raises(BackupError, match="timeline 2, whose history is not archived yet"):
            wal_stream._wait_for_history(repository, server)
    else:
        wal_stream._wait_for_history(repository, server)


SEGMENT = 16 << 20


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        # Timeline 1 was left in segment 5 for 2, 2 in segment 5 for 3, the server's.
        ("000000010000000000000005.partial", False),
        ("000000020000000000000005.partial", True),
        ("000000030000000000000005.partial", True),
        # What is before the segment in which a timeline was left, the server may have: its slot says so.
        ("000000010000000000000004.partial", True),
        ("000000010000000000000003.partial", False),
        ("000000010000000000000006.partial", False),
    ],
)
def test_a_partial_file_is_left_where_pg_receivewal_can_go_on_from_it(tmp_path, monkeypatch, name, kept):
    repository = Repository(tmp_path)
    repository.stream.mkdir()
    (repository.stream / name).touch()
    monkeypatch.setattr(
        wal_archive, "parents", lambda _directory: {2: (1, 5 * SEGMENT + 10), 3: (2, 5 * SEGMENT + 900)}
    )
    server = SimpleNamespace(flushed=lambda: (3, 7 * SEGMENT), facts=lambda: SimpleNamespace(wal_segment_bytes=SEGMENT))
    found = [path.name for path, _why in wal_stream._in_the_way(repository, server, kept_from=4 * SEGMENT + 7)]
    assert found == ([] if kept else [name])
