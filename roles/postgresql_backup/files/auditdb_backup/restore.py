# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An empty directory becomes a data directory that recovers, once it is started, to the wanted moment."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import clock, recover, standby, wal_archive
from .backup import Backup
from .base_backup import DATA
from .chains import broken, line
from .configuration import Configuration
from .engine import Request, Restored
from .errors import BackupError
from .packing import check as check_artefact
from .packing import unpack_directory
from .processes import run
from .repository import Repository
from .wal_continuity import leads
from .wal_name import position

MARKER = ".auditdb-restoring"
# What a standby that was backed up was told, and what the copy of it must not do: follow, wait, or clean an archive.
NOT_ITS_OWN = {
    "primary_conninfo": "",
    "primary_slot_name": "",
    "recovery_min_apply_delay": "0",
    "archive_cleanup_command": "",
    "recovery_end_command": "",
}
Phase = Callable[[str], AbstractContextManager[None]]
"""A context manager that measures how long its block takes."""
Unpack = Callable[[Sequence[Backup], Request, Path, Phase], None]
"""Makes a data directory of backups, the full one first."""


def choose(
    backups: Mapping[str, Backup | BackupError], request: Request, parents: Mapping[int, tuple[int, int]]
) -> Backup:
    """Return the backup to start from: the newest that ended before the target; raise BackupError where none did.

    ``parents``: the archived timelines, each with its parent and the position at which it left it.
    """
    usable = [
        each
        for each in backups.values()
        if isinstance(each, Backup) and each.kind != "logical" and not broken(backups, each)
    ]
    if not usable:
        raise BackupError("there is no backup to restore", "take one: auditdb-backup backup full")
    usable = _on_timeline(usable, request, parents)
    usable.sort(key=lambda each: each.finished_at)
    window = f"targets from {usable[0].finished_at} ({usable[0].stop_lsn}) on can be restored"
    target = request.target
    fitting = usable
    if target.time:
        if clock.read(target.time) > clock.now():
            raise BackupError(f"the target time {target.time} is in the future", f"{window}, until now")
        fitting = [each for each in usable if clock.read(each.finished_at) < clock.read(target.time)]
    elif target.lsn:
        fitting = [each for each in usable if position(each.stop_lsn) <= position(target.lsn)]
    if request.backup:
        found = [each for each in usable if each.id == request.backup]
        if not found:
            raise BackupError(f"backup {request.backup} cannot be restored", "choose one of: auditdb-backup list")
        if found[0] not in fitting:
            raise BackupError(f"backup {request.backup} ended after the target", f"choose an older one; {window}")
        return found[0]
    if not fitting:
        raise BackupError(f"the target {target.time or target.lsn} is before the oldest backup", window)
    return fitting[-1]


def _on_timeline(usable: list[Backup], request: Request, parents: Mapping[int, tuple[int, int]]) -> list[Backup]:
    """Return the backups from which the wanted timeline can be reached."""
    wanted = request.target.timeline
    if wanted == "current":
        return usable
    if wanted != "latest" and not wanted.isdecimal():
        raise BackupError(f"'{wanted}' is no timeline", "give latest, current or a decimal number")
    newest = max([*parents, *(each.timeline for each in usable)])
    to = newest if wanted == "latest" else int(wanted)
    found = [each for each in usable if leads(each.timeline, each.stop_lsn, to, parents)]
    named = [each for each in usable if each.id == request.backup]
    if not found or (named and named[0] not in found):
        raise BackupError(
            f"{f'backup {request.backup}' if named else 'no backup'} leads to timeline {to}",
            f"give --timeline: there are {', '.join(map(str, sorted({1, *parents} | {e.timeline for e in usable})))}",
        )
    return found


def settings_of(request: Request, own: Sequence[str]) -> dict[str, str]:
    """Return the recovery settings, by name. ``own``: how this program is run with its configuration."""
    target = request.target
    getting = [*own, "get", "--identity", str(request.identity)]
    found = {
        "restore_command": shlex.join(getting).replace("%", "%%") + " %f %p",
        "recovery_target_timeline": target.timeline,
        "archive_mode": "off",  # a restored copy never writes into the archive of the original
        **NOT_ITS_OWN,
    }
    points = {
        "recovery_target_time": clock.read(target.time).strftime("%Y-%m-%d %H:%M:%S.%f+00") if target.time else None,
        "recovery_target_lsn": target.lsn,
        "recovery_target_xid": target.xid,
        "recovery_target_name": target.name,
        "recovery_target": "immediate" if target.immediate else None,
    }
    chosen = {name: value for name, value in points.items() if value}
    if len(chosen) > 1:
        raise BackupError(f"there is more than one target: {', '.join(sorted(chosen))}", "give one of them")
    if chosen:
        found |= {**chosen, "recovery_target_action": target.action, "recovery_target_inclusive": "on"}
    return found


def lines(settings: Mapping[str, str]) -> str:
    """Return the settings as PostgreSQL's configuration files write them."""
    return "".join(f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items())


@contextmanager
def _beside(directory: Path) -> Iterator[Path]:
    """Yield an empty directory that takes the place of this one after the block. What a killed run left is removed."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BackupError(f"{directory} is not an empty directory", "give one that is empty, or none that exists")
    place = directory.with_name(f"{directory.name}.restoring")
    if place.exists():
        if not (place / MARKER).exists() and any(place.iterdir()):
            raise BackupError(f"{place} is in the way", "move it away; no restore made it")
        shutil.rmtree(place)
    place.mkdir(mode=0o700)
    (place / MARKER).touch()
    try:
        yield place
        (place / MARKER).unlink()
        place.rename(directory)
    finally:
        if place.exists():
            shutil.rmtree(place)


def described(request: Request, chosen: Sequence[Backup]) -> dict[str, Any]:
    """Return what a restore is told apart by, and what it is made of."""
    return {
        "request": {"backup": request.backup, **asdict(request.target)},
        "backups": [each.id for each in chosen],
        "made_at": clock.write(clock.now()),
    }


def check(
    settings: Configuration, backups: Mapping[str, Backup | BackupError], request: Request, own: Sequence[str]
) -> list[str]:
    """Return the backups that a restore would use; raise BackupError where it would refuse, and change nothing."""
    settings_of(request, own)
    return [each.id for each in _chain(settings, backups, request)]


def _chain(settings: Configuration, backups: Mapping[str, Backup | BackupError], request: Request) -> Sequence[Backup]:
    return line(backups, choose(backups, request, wal_archive.parents(Repository(settings.repository).wal)))


def unpacking(settings: Configuration) -> Unpack:
    """Return what makes a data directory of backups that the engine basebackup has taken."""
    backups = Repository(settings.repository).backups

    def unpack(chosen: Sequence[Backup], request: Request, data: Path, phase: Phase) -> None:
        parts = [data.with_name(f"part{number}") for number in range(len(chosen))]
        with phase("decrypt"):
            for each, part in zip(chosen, parts, strict=True):
                part.mkdir(mode=0o700)
                for artefact in each.artefacts:
                    check_artefact(backups / each.id, artefact)
                (packed,) = (artefact for artefact in each.artefacts if artefact.name == DATA)
                unpack_directory(backups / each.id, packed, part, request.identity)
        with phase("combine"):
            if len(parts) == 1:
                parts[0].rename(data)
            else:
                run([str(settings.bin / "pg_combinebackup"), f"--output={data}", *map(str, parts)])
        with phase("verify"):
            run([str(settings.bin / "pg_verifybackup"), "--quiet", str(data)])
        for part in parts:
            if part.exists():
                shutil.rmtree(part)

    return unpack


def restore(
    settings: Configuration,
    backups: Mapping[str, Backup | BackupError],
    request: Request,
    own: Sequence[str],
    unpack: Unpack,
) -> Restored:
    """Restore the newest fitting backup; PostgreSQL itself replays the WAL when the directory is started."""
    chosen = _chain(settings, backups, request)
    written = settings_of(request, own)
    spent: dict[str, int] = {}

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        spent[name] = spent.get(name, 0) + round((time.monotonic() - begun) * 1000)

    with _beside(request.directory) as place:
        data = place / "data"
        unpack(chosen, request, data, phase)
        with phase("verify"):
            run([str(settings.bin / "initdb"), "--sync-only", f"--pgdata={data}"])
        with (data / "postgresql.auto.conf").open("a") as file:
            file.write("# Written by auditdb-backup restore.\n" + lines(written))
        # A backup of a standby has its signal, which would win: the copy would wait for ever for more WAL.
        (data / standby.SIGNAL).unlink(missing_ok=True)
        (data / "recovery.signal").touch(mode=0o600)
        for each_file in data.iterdir():
            each_file.rename(place / each_file.name)
        data.rmdir()
        recover.mark(place, described(request, chosen))
    return Restored(request.directory, [each.id for each in chosen], spent)
