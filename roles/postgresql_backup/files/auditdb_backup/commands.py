# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The subcommands: each asks the engine, prints, and returns the exit code."""

from __future__ import annotations

import contextlib
import json
from argparse import Namespace
from datetime import datetime
from pathlib import Path

from . import clock, durable, job, metrics, passphrase, proof, scratch, status, streamed, wal_stream
from . import extract as extraction
from . import recover as recovery
from .backup import Backup
from .canonical import canonical
from .configuration import Configuration
from .engine import Engine, Request, Target
from .errors import BackupError
from .postgres import Server
from .repository import Repository
from .wal_archive import read_header

PROBLEMS = 3
FINDINGS = 1


def prepare(settings: Configuration, engine: Engine, _arguments: Namespace) -> int:
    """Make the repository, where there is none."""
    repository = Repository(settings.repository)
    made = repository.create(settings.cluster, Server(settings).facts().system_identifier)
    engine.prepare(made)
    print("made" if made else "is there")
    return 0


def adopt(_settings: Configuration, engine: Engine, _arguments: Namespace) -> int:
    """Make the repository of the second place's copy, where there is none."""
    print("made" if engine.adopt() else "is there")
    return 0


def unsealed(settings: Configuration, _engine: Engine, arguments: Namespace) -> int:
    """Print the passphrase that the repository has sealed."""
    path = settings.repository / passphrase.SEALED
    if not path.exists():
        raise BackupError("the repository has no passphrase", "only that of the engine pgbackrest has one")
    print(passphrase.read(path, arguments.identity))
    return 0


def backup(settings: Configuration, engine: Engine, arguments: Namespace) -> int:
    """Take a backup."""
    with job.recorded(Repository(settings.repository), arguments.kind):
        made = engine.backup(arguments.kind)
    if made is None:
        print("archived the WAL up to now; none is missing")
    else:
        print(f"{made.id}: {made.bytes} bytes" + (f", of the {made.source}" if made.source else ""))
    return 0


def show(settings: Configuration, engine: Engine, arguments: Namespace) -> int:
    """List the backups."""
    backups = engine.backups()
    proofs = proof.read_all(Repository(settings.repository), backups)
    rows = [
        {**each.as_dict(), **proofs[name].__dict__, "bytes": each.bytes}
        if isinstance(each, Backup)
        else {"id": name, "damaged": each.message}
        for name, each in backups.items()
    ]
    if arguments.json:
        print(canonical(rows).decode())
        return 0
    for row in rows:
        states = [state for state in ("damaged", "restored_at", "verified_at") if row.get(state)] or ["not_verified"]
        state = states[0].removesuffix("_at").replace("_", " ")
        size, chain, source = (row.get(name) or "-" for name in ("bytes", "chain", "source"))
        print(f"{row['id']:<30} {size:>14} {chain:<24} {state:<12} {source}")
    return 0


def verify(settings: Configuration, engine: Engine, arguments: Namespace) -> int:
    """Read backups and WAL again."""
    repository = Repository(settings.repository)
    if arguments.restored and not arguments.backup:
        raise BackupError("--restored needs a backup's id", "say which one a restore has proven")
    record = contextlib.nullcontext() if arguments.backup else job.recorded(repository, "verify")
    with record:
        findings = engine.verify(arguments.backup, arguments.identity)
        for each in findings:
            print(f"{each.subject}: {each.message}")
        if findings:
            raise BackupError(f"{len(findings)} findings", "see what was printed")
    if arguments.restored:
        known = proof.read(repository, arguments.backup)
        proof.write(repository, arguments.backup, proof.passed(known, restored=True))
    print("everything is as it was stored")
    return 0


def expire(settings: Configuration, engine: Engine, arguments: Namespace) -> int:
    """Remove what retention does not keep, or say what would go."""
    if arguments.dry_run:
        plan = engine.expire(dry_run=True)
    else:
        with job.recorded(Repository(settings.repository), "expire"):
            plan = engine.expire(dry_run=False)
    if arguments.json:
        print(json.dumps({**plan.__dict__, "dry_run": arguments.dry_run}, sort_keys=True))
        return 0
    for name, reasons in sorted(plan.keep.items()):
        print(f"keep  {name}: {', '.join(reasons)}")
    for name in plan.drop:
        print(f"{'would drop' if arguments.dry_run else 'drop'}  {name}")
    print(f"{'would drop' if arguments.dry_run else 'drop'}  {len(plan.drop_wal)} WAL files")
    return 0


def restore(settings: Configuration, engine: Engine, arguments: Namespace) -> int:
    """Restore into an empty directory."""
    target = _target(arguments, arguments.target_action)
    request = Request(arguments.to.absolute(), arguments.identity.absolute(), arguments.backup, target)
    if arguments.check:
        print(canonical({"backups": list(engine.check_restore(request))}).decode())
        return 0
    done = engine.restore(request)
    print(canonical({"backups": list(done.backups), "milliseconds": dict(done.milliseconds)}).decode())
    return 0


def _target(arguments: Namespace, action: str) -> Target:
    return Target(
        time=arguments.target_time,
        lsn=arguments.target_lsn,
        xid=arguments.target_xid,
        name=arguments.target_name,
        immediate=arguments.target_immediate,
        timeline=arguments.timeline,
        action=action,
    )


def extract(settings: Configuration, engine: Engine, arguments: Namespace) -> int:
    """Restore a database or a table beside the live one; exchange the two where that is asked for."""
    place = arguments.scratch.absolute()
    target = _target(arguments, "promote")
    request = Request(place / scratch.DATA, arguments.identity.absolute(), arguments.backup, target)
    wanted = extraction.wanted(arguments.database, arguments.table, arguments.name, arguments.over)
    work = extraction.Extraction(settings, engine, request, wanted)
    if arguments.check:
        print(canonical(work.plan()).decode())
        return 0
    with scratch.held(place):
        print(canonical(work.run(arguments.seconds)).decode())
    return 0


def discard(settings: Configuration, _engine: Engine, arguments: Namespace) -> int:
    """Stop and remove what a killed extract has left."""
    place = arguments.scratch.absolute()
    with scratch.held(place):
        scratch.discard(settings, place)
    return 0


def recover(settings: Configuration, _engine: Engine, arguments: Namespace) -> int:
    """Bring a restored directory to its target beside the running cluster."""
    done = recovery.recover(settings, arguments.to.absolute(), arguments.seconds)
    print(canonical(done.__dict__).decode())
    return 0


def offsite(settings: Configuration, engine: Engine, _arguments: Namespace) -> int:
    """Copy what the second place does not have yet."""
    with job.recorded(Repository(settings.repository), "offsite"):
        print(f"{engine.offsite()} files copied")
    return 0


def stream(settings: Configuration, _engine: Engine, _arguments: Namespace) -> int:
    """Receive WAL as it is written."""
    wal_stream.receive(settings)


def wake(settings: Configuration, _engine: Engine, _arguments: Namespace) -> int:
    """What is due each minute: archive_timeout counts at once after a start of the server; streamed WAL is tended."""
    with contextlib.suppress(BackupError):  # a server that does not run is what the status is there to say
        if Server(settings).wake():
            print("the server began anew: its checkpointer was woken, so that archive_timeout counts")
    if settings.slot:
        wal_stream.tend(settings, settings.wal_late)
    return 0


def look(settings: Configuration, engine: Engine, arguments: Namespace) -> int:
    """Print how the backups are; the exit code says whether there are problems."""
    report = status.report(settings, _observe(settings, engine))
    if arguments.textfile and settings.textfile:
        durable.replace(settings.textfile, metrics.render(report).encode(), mode=0o644)
    if arguments.json:
        print(canonical(report).decode())
    else:
        for name in ("at", "rpo", "newest_backup", "newest_backup_age", "newest_backup_source", "verified", "restored"):
            print(f"{name}: {report[name]}")
        for name, each in report["jobs"].items():
            print(f"job {name}: succeeded {each['succeeded_at'] or 'never'}, failed {each['failed_at'] or 'never'}")
        for notice in report["notices"]:
            print(f"NOTICE {report['newest_backup']}: {notice}")
        for problem in report["problems"]:
            print(f"PROBLEM {problem}")
    return PROBLEMS if report["problems"] else 0


def _observe(settings: Configuration, engine: Engine) -> status.Observed:
    repository = Repository(settings.repository)
    created: str = repository.check()["created_at"]
    backups = engine.backups()
    wal = engine.wal()
    try:
        archiver = Server(settings).archiver()
        unreceived = Server(settings).streamed(wal_stream.APPLICATION) if settings.slot else None
    except BackupError:
        archiver = None
        # Nothing is committed while the server is down: what is missing is at most what it wrote since.
        received = streamed.received_at(repository.stream)
        unreceived = max(0, int((clock.now() - received).total_seconds())) if received else None
    jobs = {name: job.read(repository, name) for name in settings.jobs}
    return status.Observed(
        at=clock.now(),
        created_at=clock.read(created),
        jobs=jobs,
        running=frozenset(name for name, each in jobs.items() if each.running),
        backups=backups,
        proofs=proof.read_all(repository, backups),
        wal=wal,
        newest_closed_at=_closed_at(repository.wal, wal.newest),
        archiver=archiver,
        streamed=unreceived,
    )


def _closed_at(directory: Path, name: str | None) -> datetime | None:
    if name is None:
        return None
    try:
        with (directory / name).open("rb") as file:
            return clock.read(read_header(file, name).closed_at)
    except BackupError:  # damaged: verify names it, and what is unknown is a problem
        return None
