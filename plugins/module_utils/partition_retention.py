# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide, without a database, which partitions are old enough to leave, and which of them may not."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import (
    EARLIEST,
    HOURS,
    INTERVALS,
    MONTHS,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition

ACTIONS = ("keep", "detach", "archive", "drop")
PERIOD = re.compile(rf"\s*(?P<count>[0-9]{{1,6}})\s*(?P<unit>{'|'.join(INTERVALS)})s?\s*")


@dataclass(frozen=True)
class Period:
    """A length of time in the calendar, such as 7 years."""

    count: int
    unit: str

    def before(self, instant: datetime) -> datetime:
        """Return the instant so much earlier; the last day of a month that has no such day; EARLIEST at least."""
        try:
            if self.unit in HOURS:
                return instant - timedelta(hours=HOURS[self.unit] * self.count)
            month = instant.year * 12 + instant.month - 1 - MONTHS[self.unit] * self.count
            year, month = month // 12, month % 12 + 1
            return instant.replace(year=year, month=month, day=min(instant.day, monthrange(year, month)[1]))
        except (ValueError, OverflowError):
            return EARLIEST


@dataclass(frozen=True)
class Retention:
    """How long partitions stay, and what becomes of them."""

    period: Period
    action: str
    keep_at_least: int
    """Partitions that stay whatever their age, the one of now and those before it."""
    most: int
    """Partitions that may leave in one run."""
    clock_lead: Period
    """How far the clock may be ahead of the newest row."""


@dataclass(frozen=True)
class Hold:
    """A legal hold that a partition is under."""

    partition: str
    number: int
    reason: str
    owner: str


def period(text: str, option: str) -> Period:
    """Return the length of time that an option gives, e.g. ``7 years``."""
    found = PERIOD.fullmatch(text)
    if found is None or int(found["count"]) == 0:
        raise PostgresqlError(
            f"{option}: '{text}' is not a length of time",
            remedy=f"write e.g. 90 days or 7 years ({', '.join(INTERVALS)})",
        )
    return Period(int(found["count"]), found["unit"])


def retention(options: Mapping[str, Any]) -> Retention | None:
    """Return the checked declaration; None where everything stays."""
    if options["retention_action"] == "keep":
        return None
    if not options["retention"]:
        raise PostgresqlError(
            f"retention_action: {options['retention_action']} without a retention",
            remedy="say how long partitions stay",
        )
    for name in ("keep_at_least", "max_leaving"):
        if options[name] < 1:
            raise PostgresqlError(f"{name}: {options[name]} is less than 1", remedy="give 1 or more")
    return Retention(
        period(options["retention"], "retention"),
        options["retention_action"],
        options["keep_at_least"],
        options["max_leaving"],
        period(options["clock_lead"], "clock_lead"),
    )


def expired(existing: Sequence[Partition], wanted: Retention, now: datetime) -> list[Partition]:
    """Return the partitions whose every instant is older than the retention, oldest first.

    Never the one of now, a later one, the default partition, or one of the newest ``keep_at_least``.
    """
    cutoff = wanted.period.before(now)
    past = sorted((each for each in existing if not each.default and each.lower <= now), key=lambda each: each.lower)
    return [each for each in past[: -wanted.keep_at_least] if each.upper <= cutoff and each.upper <= now]


def leaving(
    old: Sequence[Partition], holds: Sequence[Hold], wanted: Retention, now: datetime, newest: datetime | None
) -> list[Partition]:
    """Return those that leave in this run: the expired ones that are not held. Raise where it looks like a mistake."""
    held = {each.partition for each in holds}
    free = [each for each in old if each.name not in held]
    if not free:
        return []
    # Where there are no rows at all, none can be lost.
    if newest is not None and newest < wanted.clock_lead.before(now):
        raise PostgresqlError(
            f"now is {now.isoformat()}, and the newest row is from {newest.isoformat()}: with a wrong clock, "
            "partitions leave too early",
            remedy="correct the clock; or, where no rows came for so long, raise clock_lead",
        )
    if len(free) > wanted.most:
        raise PostgresqlError(
            f"{len(free)} partitions would leave at once ({free[0].name} to {free[-1].name}), more than {wanted.most}",
            remedy=f"see that retention is what you mean; then let them go with max_leaving: {len(free)}, for one run",
        )
    return free
