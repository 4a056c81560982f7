# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide, without a database, which partitions a table lacks. A partition is known by its bounds, never by its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import (
    EARLIEST,
    LATEST,
    floor,
    following,
    intervals,
    step,
    suffix,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_names import (
    NAME_BYTES,
    checked,
    interval_name,
)

MOST_AT_ONCE = 5000


@dataclass(frozen=True)
class Partition:
    """A partition that exists; MINVALUE and MAXVALUE are EARLIEST and LATEST."""

    name: str
    lower: datetime
    upper: datetime
    default: bool = False
    detach_pending: bool = False
    schema: str = ""
    rows: int = -1
    """Estimated; -1 where it was never analysed."""
    size: int | None = None
    """Bytes with indexes and TOAST, where that was asked for."""


@dataclass(frozen=True)
class Range:
    """A range of time that a partition is to cover: from ``lower`` up to, and without, ``upper``."""

    name: str
    lower: datetime
    upper: datetime
    default: bool = False
    """Whether it is to hold whatever no other partition does."""
    rows: int = 0
    """Rows that the default partition holds for it, and that move."""
    detached: Partition | None = None
    """The table that held this very range until its detaching was ended, and is attached again."""


@dataclass(frozen=True)
class Declaration:
    """What is wanted for one table."""

    interval: str
    premake: int
    start: datetime | None = None
    default_partition: bool = False
    """Whether the table is to have a default partition. One that exists is never removed."""
    earliest: datetime | None = None
    """What ends before it has left, or is to leave, and is never made again."""
    names: str | None = None
    """A template for names; None: after their interval."""


@dataclass(frozen=True)
class Plan:
    """What there is and what is lacking."""

    create: list[Range] = field(default_factory=list)
    gaps: list[Range] = field(default_factory=list)
    misnamed: list[tuple[str, str]] = field(default_factory=list)
    """(name, name that its bounds would have)."""
    covered_until: datetime | None = None
    headroom: int = 0
    """Whole intervals after the current one that are covered without a gap."""


def attach_again(create: Sequence[Range], detached: Sequence[Partition]) -> list[Range]:
    """Return the new ranges; one whose detaching was ended, and that is declared all the same, gets its table back."""
    by_bounds = {(each.lower, each.upper): each for each in detached}
    return [
        replace(new, name=found.name, detached=found) if (found := by_bounds.get((new.lower, new.upper))) else new
        for new in create
    ]


def uncovered(lower: datetime, upper: datetime, existing: Sequence[Partition]) -> list[tuple[datetime, datetime]]:
    """Return the parts of the range that no partition covers, in order."""
    parts = []
    at = lower
    for partition in sorted((each for each in existing if not each.default), key=lambda each: each.lower):
        if partition.upper <= at or partition.lower >= upper:
            continue
        if partition.lower > at:
            parts.append((at, partition.lower))
        at = max(at, partition.upper)
    if at < upper:
        parts.append((at, upper))
    return parts


def plan(table: str, existing: Sequence[Partition], declaration: Declaration, now: datetime) -> Plan:
    """Return the plan for a table: cover every interval from the start to ``premake`` intervals after the current one.

    Where no start is declared, what lies between the oldest partition and now is covered too.
    """
    interval = declaration.interval
    current = floor(now, interval)
    end = following(current, interval, declaration.premake + 1)
    bounded = [each for each in existing if not each.default]
    lowest = [each.lower for each in bounded if EARLIEST < each.lower < LATEST]
    highest = [each.upper for each in bounded if EARLIEST < each.upper < LATEST]
    begin = min(current, floor(declaration.start, interval)) if declaration.start else current
    first = begin if declaration.start else min([begin, *lowest])
    if declaration.earliest:
        begin, first = (max(each, floor(declaration.earliest, interval)) for each in (begin, first))
    pieces = _pieces(first, end, interval, bounded)
    if len(pieces) > MOST_AT_ONCE:  # a stray partition in the far past is reported among the gaps, and no more
        pieces = _pieces(begin, end, interval, bounded)
    if len(pieces) > MOST_AT_ONCE:
        raise PostgresqlError(
            f"more than {MOST_AT_ONCE} partitions of {table} would be created at once",
            remedy="choose a later start, a smaller premake or a longer interval",
        )
    covered = _covered_until(current, bounded)
    create = [
        Range(checked(partition_name(table, part, cell, interval, declaration.names)), *part) for part, cell in pieces
    ]
    if declaration.default_partition and len(bounded) == len(existing):
        create.append(Range(checked(f"{table}_default"), EARLIEST, LATEST, default=True))
    return Plan(
        create=create,
        gaps=[Range("", *part) for part in uncovered(min(lowest, default=begin), max(highest, default=begin), bounded)],
        misnamed=[
            (each.name, wanted)
            for each in bounded
            for wanted in [_wanted_name(table, each, interval, declaration.names)]
            if wanted and wanted != each.name
        ],
        covered_until=covered,
        headroom=_whole(current, covered, interval),
    )


Piece = tuple[tuple[datetime, datetime], tuple[datetime, datetime]]


def _pieces(first: datetime, end: datetime, interval: str, bounded: Sequence[Partition]) -> list[Piece]:
    """Return (range without a partition, interval that it lies in) from ``first`` on; too many are not all counted."""

    def each() -> Iterator[Piece]:
        for lower, upper in uncovered(first, end, bounded):
            for cell in intervals(floor(lower, interval), upper, interval):
                yield (max(lower, cell[0]), min(upper, cell[1])), cell

    return list(islice(each(), MOST_AT_ONCE + 1))


def _whole(current: datetime, covered: datetime, interval: str) -> int:
    """Return how many whole intervals after the current one end before ``covered``; MOST_AT_ONCE are counted."""
    count = 0
    at = following(current, interval)
    while count < MOST_AT_ONCE and following(at, interval) <= covered:
        at = following(at, interval)
        count += 1
    return count


def _covered_until(current: datetime, bounded: Sequence[Partition]) -> datetime:
    at = current
    for partition in sorted(bounded, key=lambda each: each.lower):
        # A partition whose detaching was interrupted still holds its range, so nothing can be put there, but no rows.
        if partition.lower <= at < partition.upper and not partition.detach_pending:
            at = partition.upper
    return at


def _wanted_name(table: str, partition: Partition, interval: str, names: str | None) -> str | None:
    """Return the name that a partition of exactly one interval would have; None for any other."""
    if partition.lower == EARLIEST or partition.upper == LATEST:
        return None
    cell = (partition.lower, following(floor(partition.lower, interval), interval))
    if floor(partition.lower, interval) != partition.lower or cell[1] != partition.upper:
        return None
    name = interval_name(names, table, cell[0], interval)
    return name if len(name.encode("utf-8")) <= NAME_BYTES else None


def partition_name(
    table: str, part: tuple[datetime, datetime], cell: tuple[datetime, datetime], interval: str, names: str | None
) -> str:
    """Return the partition's name: the interval's, and where it covers only a part of it, from when on as well."""
    name = interval_name(names, table, cell[0], interval)
    if part != cell and step(interval):
        name += f"_from_{suffix(part[0], interval)}"
    elif part != cell:
        lower = part[0]
        name += f"_from_{lower.year:04d}{lower:%m%d%H%M%S}" + (f"{lower:%f}" if lower.microsecond else "")
    return name
