# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Intervals of the calendar in UTC, or of so many numbers: where one begins, where the next, and what it is called.

A key that is a number is counted as an instant, a microsecond after 1970 each. So all that plans partitions knows
instants alone, and numbers are written as such where they come from and where they go: to the server and to people.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError

INTERVALS = ("hour", "day", "week", "month", "quarter", "year")
MONTHS = {"month": 1, "quarter": 3, "year": 12}
HOURS = {"hour": 1, "day": 24, "week": 7 * 24}
NUMBERS = ("smallint", "integer", "bigint")
ZERO = datetime(1970, 1, 1, tzinfo=UTC)
UNIT = timedelta(microseconds=1)

EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)


def step(interval: str) -> int | None:
    """Return how many numbers an interval holds; None for one of the calendar."""
    return int(interval) if interval.isdigit() else None


def place(number: int) -> datetime:
    """Return the instant that stands for a number; EARLIEST or LATEST beyond those that can be planned with."""
    try:
        return ZERO + number * UNIT
    except OverflowError:
        return LATEST if number > 0 else EARLIEST


def number(instant: datetime) -> int:
    """Return the number that an instant stands for."""
    return (instant - ZERO) // UNIT


def shown(instant: datetime, key_type: str) -> str | int:
    """Return a bound as people read it: ISO 8601, or the number."""
    return number(instant) if key_type in NUMBERS and EARLIEST < instant < LATEST else instant.isoformat()


def floor(instant: datetime, interval: str) -> datetime:
    """Return the beginning of the interval that holds the instant. Weeks begin on Monday (ISO 8601)."""
    if length := step(interval):
        return place(number(instant) // length * length)
    hour = instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if interval == "hour":
        return hour
    day = hour.replace(hour=0)
    if interval == "day":
        return day
    if interval == "week":
        return day - timedelta(days=day.weekday())
    months = MONTHS[interval]
    return day.replace(month=(day.month - 1) // months * months + 1, day=1)


def following(beginning: datetime, interval: str, count: int = 1) -> datetime:
    """Return the beginning of the interval that comes ``count`` after the one that begins here, LATEST at most."""
    try:
        if length := step(interval):
            return beginning + length * count * UNIT
        if interval in HOURS:
            return beginning + timedelta(hours=HOURS[interval] * count)
        month = beginning.year * 12 + beginning.month - 1 + MONTHS[interval] * count
        return beginning.replace(year=month // 12, month=month % 12 + 1)
    except (ValueError, OverflowError):  # after the year 9999
        return LATEST


def intervals(begin: datetime, end: datetime, interval: str) -> Iterator[tuple[datetime, datetime]]:
    """Yield the (beginning, end) of each interval from ``begin``, which is a beginning, up to ``end``."""
    while begin < end:
        after = following(begin, interval)
        yield begin, after
        begin = after


def suffix(beginning: datetime, interval: str) -> str:
    """Return what is added to the table's name: 2026_11_23_05, 2026_11_23, 2026_w47, 2026_11, 2026_q4, 2026 or 1000."""
    if step(interval):
        return str(number(beginning)).replace("-", "minus_")
    if interval == "week":
        year, week, _weekday = beginning.isocalendar()
        return f"{year:04d}_w{week:02d}"
    if interval == "quarter":
        return f"{beginning.year:04d}_q{(beginning.month + 2) // 3}"
    year, *parts = beginning.timetuple()[: {"hour": 4, "day": 3, "month": 2, "year": 1}[interval]]
    return "_".join([f"{year:04d}", *(f"{part:02d}" for part in parts)])


def parse_instant(text: str, option: str) -> datetime:
    """Return the instant that an option gives as an ISO 8601 date or timestamp; without a zone it is UTC."""
    try:
        return instant_of(text.strip())
    except (ValueError, OverflowError):
        raise PostgresqlError(
            f"{option}: '{text}' is not an ISO 8601 date or timestamp", remedy="write e.g. 2026-11-01"
        ) from None


def instant_of(text: str) -> datetime:
    """Return the instant of an ISO 8601 text; without a zone it is UTC."""
    value = datetime.fromisoformat(text)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def parse_bound(text: str, key_type: str = "") -> datetime:
    """Return the instant of a bound as PostgreSQL writes it; EARLIEST or LATEST beyond a calendar of 9999 years."""
    if key_type in NUMBERS and text not in ("MINVALUE", "MAXVALUE"):
        return place(int(text.strip("'")))
    if text in ("MINVALUE", "'-infinity'") or text.endswith(" BC'"):
        return EARLIEST
    if text in ("MAXVALUE", "'infinity'"):
        return LATEST
    try:
        return instant_of(text.strip("'"))
    except (ValueError, OverflowError):
        return LATEST  # a year after 9999


def bound_literal(instant: datetime, key_type: str) -> str:
    """Return the text of a partition bound for a key of this type, with its zone where the type has one."""
    if key_type in NUMBERS:
        return str(number(instant))
    if key_type == "date":
        if instant.timetz() != datetime.min.replace(tzinfo=UTC).timetz():
            raise PostgresqlError(f"a partition bound at {instant} does not fit a key of type date")
        return date(instant.year, instant.month, instant.day).isoformat()
    text = instant.replace(tzinfo=None).isoformat(sep=" ")
    return f"{text}+00" if key_type == "timestamp with time zone" else text
