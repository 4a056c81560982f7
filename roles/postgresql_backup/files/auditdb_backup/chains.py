# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The chains that backups make, and whether each can be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from . import clock
from .backup import DAMAGED, Backup
from .errors import BackupError
from .proof import Proof
from .retention import Chain, Need
from .wal_name import ending, holding


def broken(backups: Mapping[str, Backup | BackupError], each: Backup) -> str:
    """Return why the backup cannot be used: a parent that is missing or damaged; nothing where it can."""
    while each.parent:
        parent = backups.get(each.parent)
        if parent is None:
            return f"its parent {each.parent} is missing"
        if isinstance(parent, BackupError):
            return f"its parent {each.parent} is damaged"
        each = parent
    return ""


def trusted(
    backups: Mapping[str, Backup | BackupError], proofs: Mapping[str, Proof]
) -> dict[str, Backup | BackupError]:
    """Return the backups with an error in place of each that was found damaged, so that nothing rests on it."""
    return {
        name: BackupError(found, DAMAGED) if (found := proofs[name].damaged) else each for name, each in backups.items()
    }


def line(backups: Mapping[str, Backup | BackupError], each: Backup) -> list[Backup]:
    """Return the backups that are combined to restore this one, the full one first."""
    found = [each]
    while found[0].parent:
        why = broken(backups, found[0])
        parent = backups.get(found[0].parent)
        if why or not isinstance(parent, Backup):
            raise BackupError(f"backup {each.id} cannot be restored: {why}", "restore an older or newer chain")
        found.insert(0, parent)
    return found


def build(
    backups: Mapping[str, Backup | BackupError], proofs: Mapping[str, Proof], logical: bool = False
) -> list[Chain]:
    """Return the chains of physical or of logical backups, the oldest first."""
    members: dict[str, list[Backup]] = {}
    for each in backups.values():
        if isinstance(each, Backup) and (each.kind == "logical") == logical:
            members.setdefault(each.chain, []).append(each)
    chains = []
    for name, those in members.items():
        ordered = sorted(those, key=lambda each: each.id)
        damaged = any(proofs[each.id].damaged for each in ordered if each.id in proofs)
        chains.append(
            Chain(
                id=name,
                started_at=clock.read(ordered[0].started_at),
                members=tuple(each.id for each in ordered),
                usable=not damaged and not any(broken(backups, each) for each in ordered),
                verified=all(each.id in proofs and proofs[each.id].verified_at is not None for each in ordered),
                proven=any(each.id in proofs and proofs[each.id].restored_at is not None for each in ordered),
            )
        )
    return sorted(chains, key=lambda each: (each.started_at, each.id))


def needs(chains: Iterable[Chain], backups: Mapping[str, Backup | BackupError], onwards: set[str]) -> list[Need]:
    """Return the WAL that each of the chains needs; ``onwards`` names those from which on every moment is kept."""
    found = []
    for chain in chains:
        those = [each for name in chain.members if isinstance(each := backups[name], Backup)]
        size = those[0].wal_segment_bytes
        found.append(
            Need(
                first=min(holding(each.start_lsn, each.timeline, size) for each in those),
                last=max(ending(each.stop_lsn, each.timeline, size) for each in those),
                onwards=chain.id in onwards,
            )
        )
    return found
