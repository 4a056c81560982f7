# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a default partition holds: rows that are to move into new partitions, and rows that belong to none."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import bound_literal
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Range

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

INSUFFICIENT_PRIVILEGE = "42501"

# width_bucket counts the bounds that are not above the key: an odd number is within a range, an even one between two.
QUERY = """
SELECT pg_catalog.width_bucket({key}, {bounds}::{type}[]) AS place, count(*) AS rows,
    min({key})::text AS first, max({key})::text AS last
FROM ONLY {partition} GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True)
class Stray:
    """Rows of the default partition that belong to no range that is declared."""

    rows: int
    first: str
    last: str


def look_into_default(
    session: Session, table: Table, create: Sequence[Range]
) -> tuple[list[Range], list[Stray] | None]:
    """Return the new ranges with the rows that move into each, and the rows that stay; None where it may not look."""
    if table.default is None:
        return list(create), []
    bounded = sorted((new for new in create if not new.default), key=lambda new: new.lower)
    bounds = [bound_literal(at, table.key_type) for new in bounded for at in (new.lower, new.upper)]
    query = sql.SQL(QUERY).format(
        key=sql.Identifier(table.key),
        bounds=sql.Literal(bounds),
        type=sql.SQL(table.key_type),
        partition=sql.Identifier(table.default.schema, table.default.name),
    )
    try:
        found = session.query(query)
    except PostgresqlError as error:
        if error.sqlstate != INSUFFICIENT_PRIVILEGE:
            raise
        return list(create), None
    moving = {bounded[row["place"] // 2].name: row["rows"] for row in found if row["place"] % 2}
    strays = [Stray(row["rows"], row["first"], row["last"]) for row in found if not row["place"] % 2]
    return [replace(new, rows=moving.get(new.name, 0)) for new in create], strays


def describe_strays(strays: Sequence[Stray] | None) -> dict[str, Any]:
    """Return what stays in the default partition, as data."""
    if strays is None:
        return {"default_rows": None, "default_ranges": []}
    return {
        "default_rows": sum(each.rows for each in strays),
        "default_ranges": [{"rows": each.rows, "first": each.first, "last": each.last} for each in strays],
    }
