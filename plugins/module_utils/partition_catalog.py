# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read what the catalog knows of a partitioned table, in one query."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Row, Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import EARLIEST, LATEST, Partition

KEY_TYPES = ("timestamp with time zone", "timestamp without time zone", "date")
BOUND = re.compile(r"FOR VALUES FROM \((?P<lower>.+?)\) TO \((?P<upper>.+?)\)")

# The default privileges that would open a new partition are those of the role that creates it (current_user).
QUERY = """
SELECT n.nspname AS schema, c.relname AS table, c.relkind, c.relowner::regrole::text AS owner,
    (SELECT rolname FROM pg_catalog.pg_roles WHERE oid = c.relowner) AS owner_name, current_user AS creator,
    p.partstrat, p.partnatts, p.partattrs[0] AS key_number, a.attname AS key,
    pg_catalog.format_type(a.atttypid, NULL) AS key_type,
    pg_catalog.pg_is_in_recovery() AS standby, pg_catalog.now() AS now,
    (SELECT count(*) FROM pg_catalog.pg_index WHERE indrelid = c.oid) AS indexes,
    pg_catalog.current_setting('max_locks_per_transaction')::int
        * (pg_catalog.current_setting('max_connections')::int
           + pg_catalog.current_setting('max_prepared_transactions')::int) AS lock_slots,
    (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
        'name', k.relname, 'schema', kn.nspname, 'bound', pg_catalog.pg_get_expr(k.relpartbound, k.oid),
        'detach_pending', i.inhdetachpending, 'rows', k.reltuples) ORDER BY k.relname), '[]')
     FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class k ON k.oid = i.inhrelid
     JOIN pg_catalog.pg_namespace kn ON kn.oid = k.relnamespace
     WHERE i.inhparent = c.oid) AS partitions,
    (SELECT coalesce(pg_catalog.jsonb_agg(t.relname), '[]') FROM pg_catalog.pg_class t
     WHERE t.relnamespace = c.relnamespace AND pg_catalog.starts_with(t.relname, c.relname || '_')
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = t.oid AND i.inhparent = c.oid)) AS taken,
    (SELECT coalesce(pg_catalog.jsonb_agg(DISTINCT CASE WHEN x.grantee = 0 THEN 'PUBLIC'
        ELSE (SELECT rolname FROM pg_catalog.pg_roles WHERE oid = x.grantee) END), '[]')
     FROM pg_catalog.pg_default_acl d, pg_catalog.aclexplode(d.defaclacl) x
     WHERE d.defaclobjtype = 'r' AND d.defaclnamespace IN (0, c.relnamespace)
     AND d.defaclrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
     AND x.grantee NOT IN (c.relowner, d.defaclrole)) AS opened_to
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
WHERE c.oid = pg_catalog.to_regclass(%s)
"""


@dataclass(frozen=True)
class Table:
    """A table that is partitioned by a range of time."""

    schema: str
    name: str
    owner: str
    creator: str
    key_type: str
    partitions: list[Partition]
    rows: dict[str, float]
    """Estimated rows by partition; -1 where it was never analysed."""
    taken: list[str]
    """Other relations whose name begins like a partition's."""
    opened_to: list[str]
    """Whom the creator's default privileges would give rights on a new table."""
    indexes: int
    lock_slots: int
    standby: bool
    now: datetime

    @property
    def label(self) -> str:
        """Return schema and name."""
        return f"{self.schema}.{self.name}"


def read_table(session: Session, table: str) -> Table:
    """Return what the catalog says; raise where the table is not one that has partitions by time."""
    rows = session.query(QUERY, (table,))
    if not rows:
        raise PostgresqlError(f"table: '{table}' does not exist", sqlstate="42P01")
    row = rows[0]
    label = f"{row['schema']}.{row['table']}"
    if row["relkind"] != "p":
        kind = {"r": "a plain table", "v": "a view", "m": "a materialized view", "f": "a foreign table"}
        raise PostgresqlError(
            f"table: '{label}' is not partitioned, it is {kind.get(row['relkind'], 'something else')}",
            sqlstate="42P17",
        )
    _refuse_other_keys(row, label)
    return Table(
        schema=row["schema"],
        name=row["table"],
        owner=row["owner_name"],
        creator=row["creator"],
        key_type=row["key_type"],
        partitions=[_partition(each) for each in row["partitions"]],
        rows={each["name"]: each["rows"] for each in row["partitions"]},
        taken=row["taken"],
        opened_to=sorted(row["opened_to"]),
        indexes=row["indexes"],
        lock_slots=row["lock_slots"],
        standby=row["standby"],
        now=row["now"].astimezone(UTC),
    )


def _refuse_other_keys(row: Row, label: str) -> None:
    if row["partstrat"] != "r":
        strategy = {"l": "LIST", "h": "HASH"}.get(row["partstrat"], row["partstrat"])
        raise PostgresqlError(
            f"table: '{label}' is partitioned by {strategy}", remedy="name a table that is partitioned by RANGE"
        )
    if row["partnatts"] != 1 or not row["key_number"]:
        raise PostgresqlError(
            f"table: the partition key of '{label}' is not a single column", remedy="partition by one column of time"
        )
    if row["key_type"] not in KEY_TYPES:
        raise PostgresqlError(
            f"table: the partition key '{row['key']}' of '{label}' is of type {row['key_type']}",
            remedy=f"partition by a column of type {', '.join(KEY_TYPES)}",
        )


def _partition(row: Row) -> Partition:
    if row["bound"] == "DEFAULT":
        return Partition(row["name"], EARLIEST, LATEST, default=True, detach_pending=row["detach_pending"])
    bound = BOUND.fullmatch(row["bound"] or "")
    if bound is None:
        raise PostgresqlError(f"partition '{row['name']}' has bounds that are not understood: {row['bound']}")
    return Partition(
        row["name"],
        _instant(bound["lower"], EARLIEST),
        _instant(bound["upper"], LATEST),
        detach_pending=row["detach_pending"],
    )


def _instant(text: str, otherwise: datetime) -> datetime:
    """Return a bound as an instant; ``otherwise`` where it lies outside what a calendar of 9999 years holds."""
    if not text.startswith("'"):
        return EARLIEST if text == "MINVALUE" else LATEST
    try:
        value = datetime.fromisoformat(text.strip("'"))
    except ValueError:
        return otherwise
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
