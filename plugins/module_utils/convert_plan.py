# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide, without a database, how a plain table becomes a partitioned one: where it is cut, what remains to be done."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import (
    EARLIEST,
    LATEST,
    floor,
    following,
    parse_bound,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_names import NAME_BYTES
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_retention import Period

# An application reads this name where it writes a row beyond the boundary between the check and the swap.
CHECK = "legacy_range"
MARK = "auditdb.postgresql.postgresql_partition_convert"
UPPER = r"""CHECK \(\(\("?{key}"? IS NOT NULL\) AND \("?{key}"? < '(?P<upper>[^']+)'::(timestamp|date).*"""


@dataclass(frozen=True)
class Origin:
    """What a converted table was before, as its legacy partition's comment keeps it for the way back."""

    boundary: str
    """First instant that the legacy partition does not hold, ISO 8601."""
    key: str
    """The partition key."""
    nullable: bool = False
    """Whether the key could be null."""
    key_name: str | None = None
    """Name of the primary key that was replaced; None where it stayed, or there was none."""
    key_columns: tuple[str, ...] = ()
    key_included: tuple[str, ...] = ()

    def comment(self) -> str:
        """Return the text of the comment."""
        return json.dumps({"made_by": MARK, **vars(self)}, sort_keys=True)


@dataclass(frozen=True)
class Names:
    """What the parts of a conversion are called."""

    legacy: str
    """The old table, once it is a partition."""
    index: str
    """The unique index that becomes its primary key."""
    back: str
    """The unique index that becomes the primary key again on the way back."""
    gone: str
    """The partitioned table on the way back, before it is dropped."""
    aside: str
    """Where rows from beyond the boundary are put until the swap."""
    trigger: str
    """What puts them there, and its function: the last of the table's triggers, after others that set the time."""
    default: str
    """The default partition, which they go to."""


def check_options(options: Mapping[str, Any]) -> None:
    """Raise where an option would only be found wrong once something was changed."""
    if not re.fullmatch(r"\s*\d+(\.\d+)?\s*(us|ms|s|min|h|d)?\s*", options["lock_timeout"]):
        raise PostgresqlError(
            f"lock_timeout: '{options['lock_timeout']}' is not a duration", remedy="write e.g. 500ms or 2s"
        )
    if options["lock_attempts"] < 1:
        raise PostgresqlError(f"lock_attempts: {options['lock_attempts']} is less than 1", remedy="give 1 or more")
    if options["batch_rows"] < 0:
        raise PostgresqlError(f"batch_rows: {options['batch_rows']} is negative", remedy="give 0 or more")


def names(table: str) -> Names:
    """Return the names; raise where PostgreSQL would cut one."""
    found = Names(
        f"{table}_legacy", f"{table}_legacy_pkey", f"{table}_reverted_pkey", f"{table}_reverted",
        f"{table}_aside", f"zzz_{table}_aside", f"{table}_default",
    )  # fmt: skip
    if any(len(each.encode("utf-8")) > NAME_BYTES for each in vars(found).values()):
        raise PostgresqlError(
            f"table: '{table}' is too long for the names that are made of it, such as {found.back}",
            remedy="give the table a shorter name",
        )
    return found


def legacy_name(name: str, table: str) -> str:
    """Return the name that something of the old table takes, so that the new one's has the one it had."""
    new = f"{table}_legacy{name[len(table) :]}" if name.startswith(f"{table}_") else f"{name}_legacy"
    if len(new.encode("utf-8")) <= NAME_BYTES:
        return new
    digest = hashlib.sha256(name.encode("utf-8")).hexdigest()[:8]
    return f"{new.encode('utf-8')[: NAME_BYTES - 9].decode('utf-8', 'ignore')}_{digest}"


def is_aside(subject: Subject) -> bool:
    """Return whether rows from beyond the boundary are being put aside."""
    trigger = names(subject.name).trigger
    return any(each["name"] == trigger for each in subject.triggers)


def read_origin(comment: str | None) -> Origin | None:
    """Return what a legacy partition's comment keeps; None where the comment is another."""
    try:
        kept = json.loads(comment or "")
        if kept.pop("made_by") != MARK:
            return None
        kept |= {name: tuple(kept[name]) for name in ("key_columns", "key_included")}
        return Origin(**kept)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def origin(subject: Subject, key: str, boundary: datetime) -> Origin:
    """Return what the table is now."""
    column = subject.column(key)
    nullable = bool(column and not column["not_null"])
    primary = subject.primary_key
    if primary is None or key in primary["columns"]:
        return Origin(boundary.isoformat(), key, nullable)
    return Origin(
        boundary.isoformat(), key, nullable, primary["name"], tuple(primary["columns"]), tuple(primary["included"])
    )


def choose_boundary(
    now: datetime, newest: datetime | None, options: Mapping[str, Any], room: Period, found: datetime | None
) -> datetime:
    """Return the first instant that the old table will not hold: the beginning of an interval, ``room`` ahead of now.

    Rows that are ahead of now, within the intervals that get partitions anyway, move it. So does a boundary
    (``found``) of an earlier run that lies later: its check may be validated already. ``newest`` is None where there is
    none, or where rows from beyond the boundary are put aside.
    """
    interval = options["interval"]
    beginning = floor(now, interval)
    boundary = following(beginning, interval)
    while room.before(boundary) < now:
        boundary = following(boundary, interval)
    furthest = max(boundary, following(beginning, interval, options["premake"] + 1))
    if newest is not None and newest >= boundary:
        if newest >= furthest:
            raise PostgresqlError(
                f"rows are in the future: the newest is from {newest.isoformat()}, and partitions end at "
                f"{furthest.isoformat()}",
                remedy="correct their time, or raise premake so that partitions reach further",
            )
        boundary = following(floor(newest, interval), interval)
    return max(boundary, found) if found and found <= furthest else boundary


def check_upper(constraint: Mapping[str, Any] | None, key: str) -> datetime | None:
    """Return the boundary that an earlier run's check has; None where there is no such check on this key."""
    pattern = UPPER.format(key=re.escape(key.replace('"', '""')))
    found = re.match(pattern, constraint["definition"]) if constraint else None
    upper = parse_bound(f"'{found['upper']}'") if found else LATEST
    return None if upper in (EARLIEST, LATEST) else upper


def check_serves(constraint: Mapping[str, Any] | None, key: str, wanted: datetime, now: datetime) -> bool:
    """Return whether an earlier run's check serves: as it is where it is validated, else only where it has room."""
    upper = check_upper(constraint, key)
    if upper is None or constraint is None:
        return False
    return bool(upper > now if constraint["valid"] else upper >= wanted)


def index_serves(index: Mapping[str, Any] | None, columns: list[str]) -> bool:
    """Return whether the unique index of an earlier run is complete."""
    return bool(index and index["valid"] and index["unique"] and index["columns"] == columns)


def partitioned(subject: Subject, key: str, boundary: datetime, *, default: bool) -> Table:
    """Return the table as it will be right after the swap: with one partition, or with one and the default one."""
    found = names(subject.name)
    partitions = [Partition(found.legacy, EARLIEST, boundary, schema=subject.schema)]
    if default:
        partitions.append(Partition(found.default, EARLIEST, LATEST, default=True, schema=subject.schema))
    column = subject.column(key)
    return Table(
        schema=subject.schema,
        name=subject.name,
        owner=subject.owner,
        creator=subject.creator,
        key=key,
        key_type=column["type"] if column else "",
        columns=[each["name"] for each in subject.columns if not each["generated"]],
        partitions=partitions,
        opened_to=sorted(subject.opened_to),
        indexes=len(subject.indexes),
        foreign_keys=any(each["type"] == "f" for each in subject.constraints),
        lock_slots=subject.lock_slots,
        standby=subject.standby,
        now=subject.now,
        tablespace=subject.tablespace,
    )
