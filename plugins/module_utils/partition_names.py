# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What partitions are called: after their interval, or by a declared template."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import (
    floor,
    following,
    number,
    place,
    step,
    suffix,
)

NAME_BYTES = 63
# Of strftime, what is the same on every system and in every locale.
DIRECTIVES = "YmdHGVju"
TIMES = ("from", "to")
FIELDS = ("table", *TIMES, "quarter")
EXAMPLE = "write e.g. '{table}_p{from:%Y%m%d}'"


def check_template(template: str | None, table: str, interval: str) -> None:
    """Raise where a template is wrong, or would give two intervals one name."""
    if template is None:
        return
    numeric = bool(step(interval))
    for field, spec in _fields(template):
        if field not in FIELDS:
            raise PostgresqlError(
                f"names: '{template}' has a field {{{field}}}, and known are {', '.join(FIELDS)}", remedy=EXAMPLE
            )
        if field in TIMES and numeric:
            if not re.fullmatch(r"(0[0-9]+)?d?", spec):
                raise PostgresqlError(
                    f"names: '{template}' wants the number {{{field}}} as '{spec}'",
                    remedy="write e.g. '{table}_{from:012d}'",
                )
        elif field in TIMES and (not spec or re.sub(f"%[{DIRECTIVES}]", "", spec).count("%")):
            raise PostgresqlError(
                f"names: '{template}' wants {{{field}}} as '{spec}'",
                remedy=f"{EXAMPLE}, with any of {', '.join('%' + each for each in DIRECTIVES)}",
            )
        if field not in TIMES and spec:
            raise PostgresqlError(f"names: '{template}' has a format for {{{field}}}", remedy=EXAMPLE)
    seen: dict[str, datetime] = {}
    for beginning in _sample(interval):
        name = _render(template, table, beginning, interval)
        if name in seen:
            raise PostgresqlError(
                f"names: '{template}' calls the partitions from {seen[name].isoformat()} and from "
                f"{beginning.isoformat()} both {name}",
                remedy=f"have it name the whole beginning of a {interval}: {EXAMPLE}",
            )
        seen[name] = beginning


def _fields(template: str) -> Iterator[tuple[str, str]]:
    try:
        for _text, field, spec, conversion in string.Formatter().parse(template):
            if conversion or "{" in (spec or ""):
                raise ValueError("conversions and nested fields mean nothing here")
            if field is not None:
                yield field, spec or ""
    except ValueError as error:
        raise PostgresqlError(f"names: '{template}' is not a template: {error}", remedy=EXAMPLE) from error


def _sample(interval: str) -> Iterator[datetime]:
    """Yield beginnings of intervals that differ in hour, day, month, year or century alone."""
    if length := step(interval):
        yield from (place(count * length) for count in (*range(60), *(10**power for power in range(2, 9))))
        return
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    found = {following(floor(begin, interval), interval, count) for count in range(60)}
    # Six years, whose first days are of weeks of both years: %Y%V calls two weeks alike, once in a while.
    found |= {floor(following(begin, "day", count), interval) for count in range(6 * 366)}
    found |= {floor(following(begin, "year", count), interval) for count in (1, 10, 100)}
    yield from sorted(found)


def interval_name(template: str | None, table: str, beginning: datetime, interval: str) -> str:
    """Return the name of the partition that holds the whole interval that begins here."""
    if template is None:
        return f"{table}_{suffix(beginning, interval)}"
    return _render(template, table, beginning, interval)


def _render(template: str, table: str, beginning: datetime, interval: str) -> str:
    end = following(beginning, interval)
    values: dict[str, Any] = {"from": beginning, "to": end}
    if step(interval):
        values = {name: number(at) for name, at in values.items()}
    return template.format(**values, table=table, quarter=(beginning.month + 2) // 3)


def checked(name: str) -> str:
    """Return the name; raise where PostgreSQL would cut it, for two names that are cut alike are one."""
    if len(name.encode("utf-8")) > NAME_BYTES:
        raise PostgresqlError(
            f"table: the partition name '{name}' is longer than PostgreSQL's {NAME_BYTES} bytes",
            remedy="give the table a shorter name",
        )
    return name
