"""The status: what would be lost now, and each problem, none of them hidden by another."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from auditdb_backup import clock, metrics, status
from auditdb_backup.backup import Backup
from auditdb_backup.errors import BackupError
from auditdb_backup.job import Job
from auditdb_backup.postgres import Archiver
from auditdb_backup.proof import Proof
from auditdb_backup.status import Observed
from auditdb_backup.wal_continuity import WalState
from auditdb_backup.wal_name import Segment
from backups import BACKUP, SETTINGS

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ARCHIVER = Archiver(
    current=Segment(1, 11).name(),
    ready=0,
    archived_count=10,
    failed_count=0,
    last_archived=Segment(1, 10).name(),
    last_failed=None,
    last_archived_age=30,
    mode="on",
    command="/usr/local/bin/auditdb-backup push %p || exit 1",
    segment_bytes=16 << 20,
    asleep=0,
)


def ago(seconds: int) -> str:
    return clock.write(NOW - timedelta(seconds=seconds))


WELL = Observed(
    at=NOW,
    created_at=NOW - timedelta(days=9),
    jobs={"full": Job(started_at=ago(110), succeeded_at=ago(100))},
    running=frozenset(),
    backups={BACKUP.id: BACKUP},
    proofs={BACKUP.id: Proof(verified_at=ago(50))},
    wal=WalState(10, Segment(1, 1).name(), Segment(1, 10).name(), ()),
    newest_closed_at=NOW - timedelta(seconds=30),
    archiver=ARCHIVER,
)


def test_all_is_well():
    assert status.problems(SETTINGS, WELL) == []
    assert status.rpo(WELL, 60) == 30


def test_a_backup_of_the_primary_instead_of_a_standby_is_no_problem():
    passed_over = replace(BACKUP, source="primary db1", notices=("standby db2 was passed over: it lags",))
    report = status.report(SETTINGS, replace(WELL, backups={BACKUP.id: passed_over}))
    assert (report["problems"], report["notices"]) == ([], ["standby db2 was passed over: it lags"])
    assert report["newest_backup_source"] == "primary db1"


def test_an_idle_server_loses_nothing_more_with_time():
    assert status.rpo(replace(WELL, newest_closed_at=NOW - timedelta(hours=9)), 60) == 60


def test_a_server_that_began_anew_may_lose_more_than_archive_timeout():
    asleep = replace(WELL, newest_closed_at=NOW - timedelta(hours=4), archiver=replace(ARCHIVER, asleep=200))
    assert status.rpo(asleep, 60) == 260, "and nothing for the hours in which it was down"


def test_a_server_whose_archiver_is_behind_loses_all_since():
    behind = replace(
        WELL,
        newest_closed_at=NOW - timedelta(hours=9),
        archiver=replace(ARCHIVER, current=Segment(1, 12).name(), ready=1),
    )
    assert status.rpo(behind, 60) == 9 * 3600
    assert "32400 s old" in " ".join(status.problems(SETTINGS, behind))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"jobs": {}}, "full has never succeeded"),
        ({"jobs": {"full": Job(ago(7300), ago(7200))}}, "full is late: it succeeded 7200 s ago, 3600 s are allowed"),
        ({"jobs": {"full": Job(ago(99), ago(110), ago(90), "disk full")}}, "full failed at"),
        ({"jobs": {"full": Job(ago(99), ago(110))}}, "was ended from outside"),
        ({"backups": {}}, "there is no backup"),
        ({"backups": {"x": BackupError("the manifest was changed", "none")}}, "the manifest was changed"),
        ({"proofs": {BACKUP.id: Proof(damaged="data is not what was stored")}}, "data is not what was stored"),
        ({"wal": replace(WELL.wal, missing=(Segment(1, 4).name(),))}, "WAL is missing: 000000010000000000000004"),
        ({"newest_closed_at": None}, "the newest archived WAL is unknown"),
        ({"archiver": None}, "the server does not answer"),
        ({"archiver": replace(ARCHIVER, mode="off")}, "archive_mode is off"),
        ({"archiver": replace(ARCHIVER, command="/bin/true")}, "archive_command is '/bin/true'"),
    ],
)
def test_each_problem_is_said(change, said):
    found = status.problems(SETTINGS, replace(WELL, **change))
    assert any(said in each for each in found), found


def test_a_running_job_and_a_young_repository_are_no_problems():
    running = replace(WELL, jobs={"full": Job(ago(99), ago(110))}, running=frozenset({"full"}))
    assert status.problems(SETTINGS, running) == []
    young = replace(WELL, jobs={}, created_at=NOW - timedelta(seconds=9))
    assert status.problems(SETTINGS, young) == []


def test_metrics_leave_out_what_is_unknown():
    text = metrics.render(status.report(SETTINGS, replace(WELL, newest_closed_at=None)))
    assert "rpo_seconds" not in text
    assert 'auditdb_backup_job_age_seconds{cluster="main",job="full"} 100' in text
    assert 'auditdb_backup_problems{cluster="main"} 1' in text


def test_the_report_counts():
    report = status.report(SETTINGS, WELL)
    assert isinstance(BACKUP, Backup) and report["backups"] == {"full": 1, "incremental": 0, "logical": 0}
    assert (report["rpo"], report["verified"], report["newest_backup"]) == (30, 1, BACKUP.id)
