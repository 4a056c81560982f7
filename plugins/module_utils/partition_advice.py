# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person should do about a table's partitions: each with its reason and the exact remedy. Without a database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_insight import Insight

EMPTY_MANY = 5
RUN = "run postgresql_partition with this declaration (playbooks/maintenance.yml)"


@dataclass(frozen=True)
class Advice:
    """One recommendation."""

    about: str
    reason: str
    remedy: str
    partitions: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as data."""
        return {**vars(self), "partitions": list(self.partitions)}


@dataclass(frozen=True)
class Limits:
    """From when on a table has many partitions, and large ones."""

    many: int
    large_bytes: int


def advise(report: Mapping[str, Any], known: Insight, limits: Limits, lock_slots: int) -> list[Advice]:
    """Return the recommendations for one table, from its report and what is known of it, the urgent ones first."""
    parts = report["partitions"]
    return [
        *_coverage(report),
        *_health(report, parts, known),
        *_shape(report, parts, limits),
        *_planner(report, parts, known, lock_slots),
        *_evidence(report, parts),
    ]


def _coverage(report: Mapping[str, Any]) -> Iterator[Advice]:
    if report["detach_pending"]:
        yield Advice(
            "detach_pending",
            "a concurrent detaching was interrupted: rows of this range are refused until it is finalized",
            RUN,
            tuple(report["detach_pending"]),
        )
    if report["missing"]:
        names = [each["name"] for each in report["missing"]]
        yield Advice("missing", f"{len(names)} declared partitions are lacking, {names[0]} first", RUN, tuple(names))
    if report.get("default_rows"):
        yield Advice(
            "default_rows",
            f"{report['default_rows']} rows are of no declared range, so that they never leave by age",
            "look at default_ranges: correct the clock that wrote them, or declare start so that their months are made",
        )
    if report["misnamed"]:
        names = [each["name"] for each in report["misnamed"]]
        first = report["misnamed"][0]
        yield Advice(
            "misnamed", "names say other times than bounds do, and mislead people",
            f"ALTER TABLE {first['name']} RENAME TO {first['expected']}", tuple(names),
        )  # fmt: skip


def _health(report: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], known: Insight) -> Iterator[Advice]:
    invalid = [(each["name"], index) for each in parts for index in each["invalid_indexes"]]
    if invalid:
        yield Advice(
            "invalid_index",
            f"{len(invalid)} indexes of partitions are invalid: they cost writes and serve no query",
            "; ".join(f"REINDEX INDEX CONCURRENTLY {index}" for _name, index in invalid),
            tuple(dict.fromkeys(name for name, _index in invalid)),
        )
    if known.invalid_indexes:
        yield Advice(
            "missing_index",
            f"some partitions lack {', '.join(known.invalid_indexes)}",
            "CREATE INDEX CONCURRENTLY on each partition that lacks it, then ALTER INDEX ... ATTACH PARTITION",
        )
    old = [each["name"] for each in parts if (each["xid_age"] or 0) > known.freeze_max_age]
    if old:
        yield Advice(
            "xid_age",
            f"autovacuum should have frozen these: older than autovacuum_freeze_max_age, {known.freeze_max_age}",
            "; ".join(f"VACUUM (FREEZE) {report['schema']}.{name}" for name in old),
            tuple(old),
        )


def _shape(report: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], limits: Limits) -> Iterator[Advice]:
    if len(parts) > limits.many:
        yield Advice(
            "many_partitions",
            f"there are {len(parts)}, more than {limits.many}: planning and locking take time for each",
            "declare a longer interval for the partitions to come, or a retention",
        )
    filled = [each["size_bytes"] for each in parts if each["size_bytes"] and "empty" not in each["states"]]
    if filled and sum(filled) / len(filled) > limits.large_bytes:
        yield Advice(
            "large_partitions",
            f"they have {sum(filled) // len(filled)} bytes on average, more than {limits.large_bytes}",
            "declare a shorter interval for the partitions to come",
        )
    empty = [each["name"] for each in parts if {"empty", "closed"} <= set(each["states"])]
    if len(empty) > EMPTY_MANY:
        yield Advice(
            "empty_partitions", f"{len(empty)} partitions have ended and hold no rows",
            f"declare a later start; ALTER TABLE {report['table']} DETACH PARTITION {report['schema']}.{empty[0]}, and "
            "drop it once SELECT count(*) of it is 0; and so on",
            tuple(empty),
        )  # fmt: skip


def _planner(
    report: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], known: Insight, lock_slots: int
) -> Iterator[Advice]:
    if not known.analyzed and any("empty" not in each["states"] for each in parts):
        yield Advice(
            "never_analyzed",
            "autovacuum analyzes partitions and never the table itself: the planner guesses over all of them",
            f"ANALYZE {report['table']}",
        )
    locks = sum(1 + each["indexes"] for each in parts)
    if locks > lock_slots // 2:
        wanted = -(-known.max_locks * 2 * locks // lock_slots)
        yield Advice(
            "lock_budget",
            f"one query that cannot prune takes {locks} locks, of {lock_slots} that the server has",
            f"ALTER SYSTEM SET max_locks_per_transaction = {wanted}, and restart; or fewer partitions or indexes",
        )
    for each in known.statements:
        yield Advice(
            "cannot_prune",
            f"statement {each['queryid']} reads all {len(parts)} partitions: {each['calls']} calls, "
            f"{each['mean_ms']:.1f} ms each: {' '.join(each['query'].split())[:200]}",
            f"add a condition on {report['key']}",
        )


def _evidence(report: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> Iterator[Advice]:
    free = [each["name"] for each in parts if "expired" in each["states"] and "held" not in each["states"]]
    if free:
        yield Advice("expired", "these are old enough to leave, and no hold keeps them", RUN, tuple(free))
    unsealed = [each["name"] for each in parts if "unsealed" in each["states"]]
    if unsealed:
        yield Advice(
            "unsealed",
            "these have ended and have no seal: a row that changes is not found",
            "run postgresql_partition_seal (playbooks/maintenance.yml)",
            tuple(unsealed),
        )
