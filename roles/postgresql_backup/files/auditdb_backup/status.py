# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the backups are: ages, continuity, what would be lost now; and each problem with its remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import clock
from .backup import Backup
from .configuration import Configuration
from .errors import BackupError
from .job import Job
from .postgres import Archiver
from .proof import Proof
from .wal_continuity import WalState
from .wal_name import segment

ROLE = "run the role postgresql_backup"


@dataclass(frozen=True)
class Observed:
    """What a status is made of."""

    at: datetime
    created_at: datetime
    """When the repository was made: a job that never ran is late from then on."""
    jobs: Mapping[str, Job]
    running: frozenset[str]
    """Jobs that are at work."""
    backups: Mapping[str, Backup | BackupError]
    proofs: Mapping[str, Proof]
    wal: WalState
    newest_closed_at: datetime | None
    """When the last byte was written into the newest archived segment."""
    archiver: Archiver | None
    """None where the server does not answer."""
    streamed: int | None = None
    """Seconds of commits that were not received yet by what receives WAL; None where nothing does."""


def age(at: datetime, moment: str | None) -> int | None:
    """Return the seconds since the moment."""
    return max(0, int((at - clock.read(moment)).total_seconds())) if moment else None


def rpo(observed: Observed, archive_timeout: int) -> int | None:
    """Return the seconds of commits that would be lost if the server's disks were gone now; None where unknown.

    Everything that was committed before the newest archived segment was closed is safe. Where the server writes the
    very next segment, it has not closed one for want of anything to keep: it never waits longer than archive_timeout,
    once its checkpointer is awake. While it was down, nothing was committed. Where WAL is received as it is written,
    what was received is safe too.
    """
    archived = _archive_rpo(observed, archive_timeout)
    return min((each for each in (archived, observed.streamed) if each is not None), default=None)


def _archive_rpo(observed: Observed, archive_timeout: int) -> int | None:
    if observed.newest_closed_at is None or observed.wal.newest is None:
        return None
    seconds = max(0, int((observed.at - observed.newest_closed_at).total_seconds()))
    if observed.archiver is None or not archive_timeout:
        return seconds
    newest = segment(observed.wal.newest, observed.archiver.segment_bytes)
    current = segment(observed.archiver.current, observed.archiver.segment_bytes)
    next_one = newest and current and current.timeline == newest.timeline and current.number <= newest.number + 1
    return min(seconds, archive_timeout + observed.archiver.asleep) if next_one else seconds


def problems(settings: Configuration, observed: Observed) -> list[str]:
    """Return what is wrong, each with its remedy."""
    found = []
    for name, late in settings.jobs.items():
        job = observed.jobs.get(name, Job())
        since = age(observed.at, job.succeeded_at)
        if job.failed_at and job.failed_at > (job.succeeded_at or ""):
            found.append(f"job {name} failed at {job.failed_at}: {job.error}")
        elif job.open and name not in observed.running:
            found.append(f"job {name} began at {job.started_at} and was ended from outside. Remedy: see its log")
        if since is None:
            if int((observed.at - observed.created_at).total_seconds()) > late:
                found.append(f"job {name} has never succeeded. Remedy: see its timer: systemctl list-timers")
        elif since > late:
            found.append(
                f"job {name} is late: it succeeded {since} s ago, {late} s are allowed. Remedy: see its timer and log"
            )
    if not any(isinstance(each, Backup) and each.kind != "logical" for each in observed.backups.values()):
        found.append("there is no backup. Remedy: auditdb-backup backup full")
    found += [str(each) for each in observed.backups.values() if isinstance(each, BackupError)]
    found += [f"{name}: {proof.damaged}" for name, proof in observed.proofs.items() if proof.damaged]
    if observed.wal.missing:
        found.append(f"WAL is missing: {', '.join(observed.wal.missing[:5])}. Remedy: take a full backup")
    if settings.slot and observed.streamed is None and observed.archiver:
        found.append(
            f"nothing receives WAL by the replication slot {settings.slot}. Remedy: systemctl status "
            f"postgresql-backup-{settings.cluster}-stream"
        )
    # The archive's own: whatever is streamed, it has to be whole.
    lost = _archive_rpo(observed, settings.archive_timeout)
    if lost is None or lost > settings.wal_late:
        found.append(
            f"the newest archived WAL is {'unknown' if lost is None else f'{lost} s old'}, {settings.wal_late} s are "
            "allowed. Remedy: see why archive_command fails: the server's log"
        )
    return found + _archiver_problems(observed.archiver)


def _archiver_problems(archiver: Archiver | None) -> list[str]:
    if archiver is None:
        return ["the server does not answer. Remedy: pg_lsclusters"]
    if archiver.mode == "off":
        return [f"archive_mode is off. Remedy: {ROLE}"]
    if "auditdb-backup" not in archiver.command:
        return [f"archive_command is '{archiver.command}' and not this program's. Remedy: {ROLE}"]
    return []


def report(settings: Configuration, observed: Observed) -> dict[str, Any]:
    """Return the status as JSON has it; times in seconds, sizes in bytes."""
    physical = [each for each in observed.backups.values() if isinstance(each, Backup) and each.kind != "logical"]
    return {
        "archiver": observed.archiver.__dict__ if observed.archiver else None,
        "at": clock.write(observed.at),
        "backups": {
            kind: sum(1 for each in observed.backups.values() if isinstance(each, Backup) and each.kind == kind)
            for kind in ("full", "incremental", "logical")
        },
        "bytes": sum(each.bytes for each in observed.backups.values() if isinstance(each, Backup)),
        "cluster": settings.cluster,
        "engine": settings.engine,
        "jobs": {
            name: {
                "age": age(observed.at, job.succeeded_at),
                "error": job.error,
                "failed_at": job.failed_at,
                "milliseconds": job.milliseconds,
                "started_at": job.started_at,
                "succeeded_at": job.succeeded_at,
            }
            for name, job in sorted(observed.jobs.items())
        },
        "newest_backup": physical[-1].id if physical else None,
        "newest_backup_source": physical[-1].source if physical else None,
        "notices": list(physical[-1].notices) if physical else [],
        "newest_backup_age": age(observed.at, physical[-1].finished_at) if physical else None,
        "problems": problems(settings, observed),
        "restored": sum(1 for each in observed.proofs.values() if each.restored_at),
        "rpo": rpo(observed, settings.archive_timeout),
        "rpo_stream": observed.streamed,
        "rpo_archive": _archive_rpo(observed, settings.archive_timeout),
        "verified": sum(1 for each in observed.proofs.values() if each.verified_at),
        "wal": {
            "missing": list(observed.wal.missing),
            "newest": observed.wal.newest,
            "oldest": observed.wal.oldest,
            "segments": observed.wal.segments,
        },
    }
