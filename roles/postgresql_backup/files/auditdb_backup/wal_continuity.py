# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the archived WAL is whole: no segment is missing on any timeline from the oldest backup on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .wal_name import SEGMENT_BYTES, Segment, position, segment


@dataclass(frozen=True)
class WalState:
    """What is archived."""

    segments: int
    oldest: str | None
    newest: str | None
    """The last segment on the newest timeline up to which nothing is missing."""
    missing: tuple[str, ...]
    """Names of segments that lie between archived ones and are not there; at most a hundred."""


def history(text: str) -> dict[int, int]:
    """Return, of a timeline's history file, each ancestor and the position at which it was left."""
    found = {}
    for line in text.splitlines():
        entry = re.match(r"\s*(\d+)\s+([0-9A-Fa-f]+/[0-9A-Fa-f]+)", line)
        if entry:
            found[int(entry[1])] = position(entry[2])
    return found


def gaps(
    names: Iterable[str],
    first: Mapping[int, Segment] | None = None,
    parents: Mapping[int, tuple[int, int]] | None = None,
    size: int = SEGMENT_BYTES,
) -> list[Segment]:
    """Return the segments that are missing, sorted.

    ``first``: by timeline, the segment from which on a backup needs it; those before do not count. ``parents``: by
    timeline, its parent and the position at which it left it; up to there, the parent is needed.
    """
    there: dict[int, set[int]] = {}
    for name in names:
        found = segment(name, size)
        if found:
            there.setdefault(found.timeline, set()).add(found.number)
    begin = {timeline: each.number for timeline, each in (first or {}).items()}
    left = parents or {}
    missing: list[Segment] = []
    for timeline in {*there, *begin}:
        numbers = there.get(timeline, set())
        ends = set(numbers)
        # The segment in which a timeline was left is the new timeline's; the parent's may never be complete.
        ends |= {at // size - 1 for child, (parent, at) in left.items() if parent == timeline and child in there}
        if timeline in begin:
            lowest = begin[timeline]
        elif timeline in left:
            lowest = left[timeline][1] // size
        else:
            lowest = min(numbers)
        wanted = range(lowest, max(ends, default=lowest - 1) + 1)
        missing += [Segment(timeline, number) for number in wanted if number not in numbers]
    return sorted(missing)


def leads(timeline: int, lsn: str, to: int, parents: Mapping[int, tuple[int, int]]) -> bool:
    """Return whether the WAL from this position on a timeline leads to the other timeline."""
    if to == timeline:
        return True
    after = successor(timeline, to, parents)
    return after is not None and position(lsn) <= after[1]


def successor(timeline: int, to: int, parents: Mapping[int, tuple[int, int]]) -> tuple[int, int] | None:
    """Return which timeline followed on the way to the other one, and the position at which; None where none did."""
    while to in parents:
        parent, left_at = parents[to]
        if parent == timeline:
            return to, left_at
        to = parent
    return None


def state(names: Iterable[str], missing: Iterable[Segment], size: int = SEGMENT_BYTES) -> WalState:
    """Return what is archived, in short."""
    known = sorted(found for name in names if (found := segment(name, size)))
    lost = sorted(missing)
    newest = known[-1] if known else None
    if newest:
        broken = [each for each in lost if each.timeline == newest.timeline]
        before = [each for each in known if each.timeline == newest.timeline and not (broken and each > broken[0])]
        newest = before[-1] if before else None
    return WalState(
        segments=len(known),
        oldest=known[0].name(size) if known else None,
        newest=newest.name(size) if newest else None,
        missing=tuple(each.name(size) for each in lost[:100]),
    )
