# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide, without a database, how long rows stay by their policy and class, and which partitions hold expired ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import EARLIEST
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition


@dataclass(frozen=True)
class Policy:
    """An active policy, as the table of policies has it."""

    name: str
    classification: str
    keep_days: int
    delete_days: int | None = None
    """After which rows are not even kept in an archive; None: never."""


@dataclass(frozen=True)
class Rule:
    """How long the rows stay that name this policy and are of this class."""

    policy: str
    classification: str
    keep_days: int
    delete_days: int | None


@dataclass(frozen=True)
class Expiry:
    """A partition, and the rules by which rows of it have expired. ``delete``: for good, without an archive."""

    partition: Partition
    rules: tuple[Rule, ...]
    delete: bool


def rules(policies: Sequence[Policy]) -> list[Rule]:
    """Return a rule for each pair of a policy and a class that has policies; other rows never expire by class.

    Where a row's class is not the one its policy is for, one of the two is wrong: the longer time counts, of the
    policy and of all policies of the class, so that a mislabelled row is never gone too early.
    """
    found = []
    for policy in policies:
        for classification in sorted({each.classification for each in policies}):
            count = [policy]
            if classification != policy.classification:
                count += [each for each in policies if each.classification == classification]
            deletes = [each.delete_days for each in count]
            keep = max(each.keep_days for each in count)
            delete = None if None in deletes else max([keep, *(days for days in deletes if days is not None)])
            found.append(Rule(policy.name, classification, keep, delete))
    return found


def expiries(partitions: Iterable[Partition], known: Sequence[Rule], now: datetime) -> list[Expiry]:
    """Return what may have expired, oldest first: what is deleted for good apart from what is archived.

    A row's time counts from the end of its partition, as that of the partition itself does: a partition is purged
    once for each length of time, and never row by row every day.
    """
    found = []
    for part in sorted(partitions, key=lambda each: each.lower):
        if part.default or part.detach_pending or part.lower <= EARLIEST or part.upper > now:
            continue
        age = now - part.upper
        due = [rule for rule in known if age >= timedelta(days=rule.keep_days)]
        gone = [rule for rule in due if rule.delete_days is not None and age >= timedelta(days=rule.delete_days)]
        stay = [rule for rule in due if rule not in gone]
        found += [Expiry(part, tuple(some), delete) for some, delete in ((stay, False), (gone, True)) if some]
    return found


def refuse_many(found: Sequence[Partition], most: int) -> None:
    """Raise where more partitions would lose rows in one run than is declared: a mistyped policy does nothing."""
    names = list(dict.fromkeys(each.name for each in found))
    if len(names) > most:
        raise PostgresqlError(
            f"{len(names)} partitions would be purged at once ({names[0]} to {names[-1]}), more than {most}",
            remedy=f"see that the policies are what you mean; then purge with max_leaving: {len(names)}, for one run",
        )
