"""Which backup a restore starts from, and what the server is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from auditdb_backup.chains import build, line, trusted
from auditdb_backup.engine import Request, Target
from auditdb_backup.errors import BackupError
from auditdb_backup.main import NOT_ARCHIVED, STOP_RECOVERY, main
from auditdb_backup.proof import Proof
from auditdb_backup.restore import choose, lines, settings_of
from backups import backup

FULL = backup("20260501T013000Z-full")
SECOND = backup(
    "20260502T013000Z-incremental",
    kind="incremental",
    chain=FULL.id,
    parent=FULL.id,
    start_lsn="0/5000028",
    stop_lsn="0/5000100",
)
THIRD = backup(
    "20260503T013000Z-incremental",
    kind="incremental",
    chain=FULL.id,
    parent=SECOND.id,
    start_lsn="0/7000028",
    stop_lsn="0/7000100",
)
LOGICAL = backup("20260504T013000Z-logical")
ALL = {each.id: each for each in (FULL, SECOND, THIRD, LOGICAL)}


def request(backup_id: str | None = None, **target: object) -> Request:
    return Request(Path("/nowhere"), Path("/run/it's a key"), backup_id, Target(**target))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ({}, THIRD),
        ({"time": "2026-05-03T01:39:59Z"}, SECOND),
        ({"time": "2026-05-03T01:40:01Z"}, THIRD),
        ({"time": "2026-05-02T04:40:01+02:00"}, SECOND),
        ({"lsn": "0/7000100"}, THIRD),
        ({"lsn": "0/7000099"}, SECOND),
    ],
)
def test_the_newest_backup_before_the_target_is_taken(wanted, chosen):
    assert choose(ALL, request(**wanted), {}) == chosen


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (request(time="2026-05-01T01:39:59Z"), "before the oldest backup. Remedy: targets from 2026-05-01T01:40:00"),
        (request(time="2999-01-01T00:00:00Z"), "in the future"),
        (request(time="2026-05-01T12:00:00"), "no time zone"),
        (request(lsn="0/1000000"), "before the oldest backup"),
        (request("20260503T013000Z-incremental", time="2026-05-02T12:00:00Z"), "ended after the target"),
        (request("20260504T013000Z-logical"), "cannot be restored"),
    ],
)
def test_targets_outside_the_window_are_refused_with_the_window(asked, said):
    with pytest.raises(BackupError) as error:
        choose(ALL, asked, {})
    assert said in str(error.value)


def test_only_a_backup_that_leads_to_the_timeline_is_taken():
    parents = {2: (1, 0x6000000), 3: (2, 0x8000000)}
    assert choose(ALL, request(), parents) == SECOND, "the third was taken after timeline 2 had begun"
    assert choose(ALL, request(timeline="1"), parents) == THIRD
    assert choose(ALL, request(timeline="current"), parents) == THIRD
    for asked in (request(THIRD.id), request(THIRD.id, timeline="2"), request(timeline="9"), request(timeline="x")):
        with pytest.raises(BackupError, match="timeline"):
            choose(ALL, asked, parents)


def test_a_chain_without_one_of_its_members_is_not_taken():
    assert line(ALL, THIRD) == [FULL, SECOND, THIRD]
    torn = {**ALL, SECOND.id: BackupError("the manifest was changed", "none")}
    assert choose(torn, request(), {}) == FULL
    with pytest.raises(BackupError, match="is damaged"):
        line(torn, THIRD)
    del torn[SECOND.id]
    with pytest.raises(BackupError, match="is missing"):
        line(torn, THIRD)
    found = {SECOND.id: Proof(damaged="data is not what was stored")}
    known = trusted(ALL, {name: found.get(name, Proof()) for name in ALL})
    assert choose(known, request(), {}) == FULL, "what was found damaged is not trusted, nor what rests on it"
    (chain,) = build(torn, {FULL.id: Proof(verified_at="x")})
    assert not chain.usable and chain.members == (FULL.id, THIRD.id)


def test_recovery_settings_are_quoted_twice():
    found = settings_of(request(name="before 'it'"), ["/bin/auditdb-backup", "--config", "/etc/a b.json"])
    assert found["recovery_target_name"] == "before 'it'" and found["recovery_target_action"] == "promote"
    assert "recovery_target_name = 'before ''it'''\n" in lines(found)
    assert found["restore_command"] == (
        "/bin/auditdb-backup --config '/etc/a b.json' get --identity '/run/it'\"'\"'s a key' %f %p"
    )
    assert found["archive_mode"] == "off", "a copy never writes into the original's archive"


def test_without_a_target_recovery_goes_to_the_end():
    assert not [name for name in settings_of(request(), ["p"]) if name == "recovery_target_action"]


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["get"], STOP_RECOVERY),
        (["--config", "/nowhere", "get", "--identity", "k", "000000010000000000000001", "t"], STOP_RECOVERY),
        (
            ["--config", "/nowhere", "get", "--standby", "--identity", "k", "000000010000000000000001", "t"],
            NOT_ARCHIVED,
        ),
        (["--config", "/nowhere", "push", "x"], 1),
        (["--help"], 0),
    ],
)
def test_no_failure_passes_for_a_file_that_is_not_archived(argv, code, capsys):
    assert main(argv) == code
    assert capsys.readouterr()
