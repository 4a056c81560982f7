# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which backups go: a pure plan over chains. Counted, never by age, so that a wrong clock removes nothing early."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from .configuration import Retention
from .wal_name import SEGMENT_BYTES, Segment, segment


@dataclass(frozen=True)
class Chain:
    """A full backup and the incremental ones that rest on it; or one logical backup."""

    id: str
    started_at: datetime
    members: tuple[str, ...]
    usable: bool = True
    """Whether each member and each parent is there and undamaged."""
    verified: bool = False
    proven: bool = False
    """Whether a restore of it has succeeded."""


@dataclass(frozen=True)
class Plan:
    """What stays, each with its reasons, and what goes."""

    keep: Mapping[str, Sequence[str]]
    """By chain."""
    drop: Sequence[str]
    """Ids of backups, in the order in which they go: what rests on another before that."""
    drop_wal: Sequence[str]
    restorable_from: str | None
    """The oldest backup from which on every moment can be restored."""


PERIODS: tuple[tuple[str, Callable[[datetime], str]], ...] = (
    ("daily", lambda moment: f"{moment:%Y-%m-%d}"),
    ("weekly", lambda moment: f"{moment:%G-W%V}"),
    ("monthly", lambda moment: f"{moment:%Y-%m}"),
)


def keep(chains: Iterable[Chain], policy: Retention) -> dict[str, list[str]]:
    """Return why each chain that stays does so; a chain that is not in the answer goes.

    What is damaged stays, for an inquiry, and counts for nothing. Nothing goes before a newer chain was verified.
    """
    reasons: dict[str, list[str]] = {}
    known = sorted(chains, key=lambda each: (each.started_at, each.id), reverse=True)
    usable = [each for each in known if each.usable]
    for each in known:
        if not each.usable:
            reasons.setdefault(each.id, []).append("damaged")
    for name, period in PERIODS:
        seen: set[str] = set()
        for each in usable:
            key = period(each.started_at)
            if key not in seen and len(seen) < getattr(policy, name):
                seen.add(key)
                reasons.setdefault(each.id, []).append(f"{name} {key}")
    for each in [each for each in usable if each.proven][: policy.proven]:
        reasons.setdefault(each.id, []).append("proven by a restore")
    for each in usable:
        reasons.setdefault(each.id, []).append("no newer one is verified")
        if each.verified:
            break
    return reasons


def daily(chains: Iterable[Chain], kept: Mapping[str, Sequence[str]]) -> list[Chain]:
    """Return the chains of the last days: from the oldest of them on, every moment can be restored."""
    return [each for each in chains if any(why.startswith("daily") for why in kept.get(each.id, ()))]


def dropped(chains: Iterable[Chain], kept: Iterable[str]) -> list[str]:
    """Return the backups that go, the newest of each chain first: killed half-way, no chain has lost its beginning."""
    stay = set(kept)
    return [
        member
        for chain in sorted(chains, key=lambda each: (each.started_at, each.id))
        if chain.id not in stay
        for member in reversed(chain.members)
    ]


@dataclass(frozen=True)
class Need:
    """The WAL that a chain needs to be consistent, and whether every moment since it can be restored."""

    first: Segment
    last: Segment
    onwards: bool


def threshold(timeline: int, needs: Iterable[Need]) -> int | None:
    """Return the number of the first segment on the timeline from which on all are wanted; None where none is.

    A timeline that is newer than all backups is wanted whole, since it may have begun before any of them.
    """
    onwards = [need.first for need in needs if need.onwards]
    if not onwards or timeline > max(onwards).timeline:
        return 0
    return min((each.number for each in onwards if each.timeline <= timeline), default=None)


def dropped_wal(names: Iterable[str], needs: Sequence[Need], size: int = SEGMENT_BYTES) -> list[str]:
    """Return the archived WAL that nothing needs. Histories of timelines are kept for ever."""
    gone = []
    for name in names:
        found = segment(name[:24], size)
        if found is None:
            continue
        begin = threshold(found.timeline, needs)
        if begin is not None and found.number >= begin:
            continue
        if not any(
            need.first.timeline <= found.timeline <= need.last.timeline
            and need.first.number <= found.number <= need.last.number
            for need in needs
        ):
            gone.append(name)
    return gone
