# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Declares the disaster, and fetches what a restore needs, as it is at that moment. Runs as the backups' owner."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from auditdb_backup import clock, engine_outline
from auditdb_backup.backup import Backup
from auditdb_backup.configuration import Configuration
from auditdb_backup.engine import Engine, Request, Target
from auditdb_backup.errors import BackupError
from auditdb_backup.main import PROGRAM, engine_of
from auditdb_backup.postgres import Server
from auditdb_backup.processes import run
from auditdb_backup.wal_name import segment

from . import acknowledged, catalog, space
from .acknowledged import Acknowledged
from .facts import Carried, Facts
from .request import Case, Drill

SOURCE = "source"
ACKNOWLEDGED = "acknowledged"
SETTLED = 2_000_000
"""Microseconds before the end of the archived WAL from which on a heartbeat's commit may not be archived."""
MANY = "backup.manifest"
"""One of many files of a backup, which has no artefact of its own."""
BEFORE = 1000
"""Microseconds between a random target and the heartbeat after it, which it must not include."""


@dataclass(frozen=True)
class Chosen:
    """A case whose backups and files are known."""

    case: Case
    engine: Engine
    target: str | None
    expected: int
    backups: list[str]
    restored_bytes: int
    """Of what becomes of the backups, with the parts that it is combined of."""
    files: dict[Path, int]
    """With their sizes."""
    decide_ms: int


def moment(microseconds: int) -> str:
    """Return the moment as ISO 8601 in UTC."""
    return clock.write(datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds))


def fetch(drill: Drill) -> None:
    """Fetch what the cases need, and write down what is known of production."""
    settings = Configuration.read(drill.configuration)
    declared = int(time.time() * 1_000_000)
    known = [row for row in acknowledged.read(drill.acknowledged) if row.at <= declared]
    until = archived_until(drill)
    server = Server(settings)
    chosen: list[Chosen | Carried] = []
    # All files are chosen before the first is copied: what is archived later is not there in a disaster.
    for case in drill.cases:
        try:
            chosen.append(_choose(drill, settings, case, known, until))
        except BackupError as error:
            chosen.append(Carried(case.name, case.source, None, 0, False, [], 0, 0, 0, str(error)))
    space.check(drill.workplace, needed([each for each in chosen if isinstance(each, Chosen)]))
    facts = Facts(
        declared_at=declared,
        archived_until=until,
        server_version=server.facts().server_version,
        configuration_sha256=hashlib.sha256(drill.configuration.read_bytes()).hexdigest(),
        catalog=_catalog(server),
        cases=[each if isinstance(each, Carried) else _carry(drill, each) for each in chosen],
    )
    facts.write(drill.workplace / SOURCE)
    (drill.workplace / SOURCE / ACKNOWLEDGED).write_text("".join(row.line() for row in known))


def archived_until(drill: Drill) -> int | None:
    """Return the moment up to which every commit is archived, as the backups' own status says it."""
    with contextlib.suppress(BackupError):
        report = json.loads(run([PROGRAM, "--config", str(drill.configuration), "status", "--json"], codes=(0, 3)))
        if report["rpo"] is not None:
            return int(clock.read(report["at"]).timestamp() * 1_000_000) - int(report["rpo"]) * 1_000_000
    return None


def _engine(drill: Drill, settings: Configuration, case: Case) -> tuple[Engine, Path | None]:
    """Return the engine over what a case restores from, and its directory; None where that is on another host."""
    if case.source == "repository":
        local = None if settings.backup_ssh else settings.repository
        return engine_of(settings, drill.configuration, 0), local
    if settings.offsite:
        return engine_of(replace(settings, repository=settings.offsite), drill.configuration, 0), settings.offsite
    if settings.offsite_ssh:
        return engine_outline.engine(settings, drill.workplace / SOURCE / f"outline-{case.name}"), None
    raise BackupError(
        "there is no second place",
        "set postgresql_backup_offsite_host or postgresql_backup_offsite, or take the case out",
    )


def _choose(
    drill: Drill, settings: Configuration, case: Case, known: Sequence[Acknowledged], until: int | None
) -> Chosen:
    begun = time.monotonic()
    engine, root = _engine(drill, settings, case)
    if case.target == "latest":
        target, expected = None, _newest(known, until, case)
    elif case.target == "random":
        target, expected = pick(known, _first(engine), until, random.SystemRandom())
    else:
        target, expected = case.target, _newest(known, int(clock.read(case.target).timestamp() * 1_000_000), case)
    backups = list(engine.check_restore(Request(Path("/"), drill.identity, None, Target(time=target))))
    listed = engine.backups()
    sizes = {path: _size(path, root, listed) for path in engine.files(backups)}
    files = {path: size for path, size in sizes.items() if size is not None}
    decided = round((time.monotonic() - begun) * 1000)
    wal = sum(1 for path in files if segment(path.name))
    return Chosen(case, engine, target, expected, backups, space.restored(listed, backups, wal), files, decided)


def _size(path: Path, root: Path | None, known: Mapping[str, Backup | BackupError]) -> int | None:
    """Return the bytes of a file, at most; None where it is not there. On another host, manifests tell."""
    if root:
        return (root / path).stat().st_size if (root / path).is_file() else None
    backup = next((known[part] for part in path.parts if part in known), None)
    if isinstance(backup, Backup):
        # Behind some engines an artefact stands for many files, and its bytes count once.
        names = (path.name, path.parts[0] if path.name == MANY else None)
        return max([0, *(each.bytes for each in backup.artefacts if each.name in names)])
    return max(each.wal_segment_bytes for each in known.values() if isinstance(each, Backup))


def needed(chosen: Sequence[Chosen]) -> int:
    """Return the bytes that the drill takes: all that is fetched, and the largest of the copies, one at a time."""
    fetched = {(each.case.source, path): size for each in chosen for path, size in each.files.items()}
    return sum(fetched.values()) + max((each.restored_bytes for each in chosen), default=0)


def _newest(known: Sequence[Acknowledged], until: int | None, case: Case) -> int:
    """Return the newest row that must be there. Offsite, only the copy's own end tells: none is known here."""
    if until is None or case.source == "offsite":
        return 0
    return max((row.id for row in known if row.at < until - SETTLED), default=0)


def _first(engine: Engine) -> int:
    """Return the moment from which on something can be restored."""
    ends = [
        each.finished_at for each in engine.backups().values() if isinstance(each, Backup) and each.kind != "logical"
    ]
    if not ends:
        raise BackupError("there is no backup to restore", "take one: auditdb-backup backup full")
    return int(clock.read(min(ends)).timestamp() * 1_000_000)


def pick(known: Sequence[Acknowledged], first: int, until: int | None, chance: random.Random) -> tuple[str, int]:
    """Return a moment between two heartbeats, and the newest row that must be there then.

    Each row is committed before the next one is begun: just before the next one's time it is there, the next is not.
    """
    last = (until or 0) - SETTLED
    pairs = [
        (row, after)
        for row, after in itertools.pairwise(known)
        # Where another member led meanwhile, there are rows between them that are not known here.
        if after.id == row.id + 1 and first < row.at and after.at < last and after.at - row.at > 10 * BEFORE
    ]
    if not pairs:
        raise BackupError(
            "no moment can be chosen: no two heartbeats lie between the oldest backup and the end of the archived WAL",
            "wait some minutes, and see that auditdb-heartbeat runs and that WAL is archived",
        )
    row, after = chance.choice(pairs)
    return moment(after.at - BEFORE), row.id


def _carry(drill: Drill, chosen: Chosen) -> Carried:
    """Copy the files of a case, unless another case has brought them, and say how long they take."""
    place = drill.workplace / SOURCE / chosen.case.source
    begun = time.monotonic()
    # Read whole for each case, as it would be for this case alone.
    size = chosen.engine.fetch(list(chosen.files), place)
    return Carried(
        name=chosen.case.name,
        source=chosen.case.source,
        target=chosen.target,
        expected=chosen.expected,
        exact=chosen.case.target == "random",
        backups=chosen.backups,
        decide_ms=chosen.decide_ms,
        fetch_ms=round((time.monotonic() - begun) * 1000),
        fetched_bytes=size,
        problem="",
    )


def _catalog(server: Server) -> list[str]:
    with server.connect() as cursor:
        lines = catalog.roles(cursor)
    for database in server.databases():
        with server.connect(database) as cursor:
            lines += catalog.objects(cursor, database)
    return lines
