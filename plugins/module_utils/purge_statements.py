# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SQL that finds expired rows of a partition and takes them out of it, with what refers to them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import bound_literal
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition
from ansible_collections.auditdb.postgresql.plugins.module_utils.purge_plan import Expiry

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

EXPIRED = "(r.{policy}, r.{classification}) IN ({pairs}) AND NOT EXISTS ({held})"
# Row by row: a hold keeps what it is about, and no more. Without a column of organizations it keeps everything.
HELD = """SELECT FROM {holds} AS h WHERE h.released_at IS NULL
AND (h.table_name IS NULL OR pg_catalog.to_regclass(h.table_name) IN ({parent}::regclass, {partition}::regclass))
AND coalesce(h.time_from, '-infinity') <= r.{key} AND coalesce(h.time_to, 'infinity') > r.{key}
AND {organization}"""
# One statement a batch: PostgreSQL checks foreign keys at its end, when what refers to the rows has moved, too.
TAKE = """WITH gone AS (DELETE FROM ONLY {partition} WHERE ctid = ANY (ARRAY(
SELECT r.ctid FROM ONLY {partition} AS r WHERE {expired} LIMIT {most})) RETURNING {columns}){referring}
"""
TAKE_REFERRING = """, {gone} AS (DELETE FROM {table} AS f USING gone WHERE {match}
AND f.{key} >= {lower} AND f.{key} < {upper} RETURNING {returned})"""
KEEP = "INSERT INTO {aside} ({columns}) SELECT {columns} FROM {gone}"


@dataclass(frozen=True)
class Columns:
    """Names of the columns that decide."""

    policy: str
    classification: str


@dataclass(frozen=True)
class Referring:
    """A table with a foreign key to the purged one."""

    schema: str
    name: str
    key: str
    """The column that holds the partition key of the purged table."""
    match: tuple[tuple[str, str], ...]
    """Its column, and the column of the purged table, of each pair of the foreign key."""
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Aside:
    """A table that expired rows are moved into, and those for what refers to them."""

    schema: str
    name: str
    referring: tuple[tuple[Referring, str], ...] = ()
    """Each with the name of its table aside."""


def expired(table: Table, each: Expiry, columns: Columns, holds: str) -> Any:
    """Return the condition on rows ``r`` that have expired and are not held."""
    known = "organization_id" in table.columns
    held = sql.SQL(HELD if holds else "SELECT WHERE false").format(
        holds=sql.Identifier(*(holds or "none").split(".")),
        parent=_text(table.schema, table.name),
        partition=_text(each.partition.schema, each.partition.name),
        key=sql.Identifier(table.key),
        organization=sql.SQL(
            "(h.organization_id IS NULL OR h.organization_id = r.organization_id)" if known else "true"
        ),
    )
    pairs = [
        sql.SQL("({}, {})").format(sql.Literal(rule.policy), sql.Literal(rule.classification)) for rule in each.rules
    ]
    return sql.SQL(EXPIRED).format(
        policy=sql.Identifier(columns.policy),
        classification=sql.Identifier(columns.classification),
        pairs=sql.SQL(", ").join(pairs),
        held=held,
    )


def _text(schema: str, name: str) -> Any:
    """Return an expression of the quoted name as text, for a cast to regclass."""
    return sql.SQL("pg_catalog.format('%I.%I', {}, {})").format(sql.Literal(schema), sql.Literal(name))


def count(table: Table, each: Expiry, columns: Columns, holds: str, number: int) -> Any:
    """Return the query of the expired rows of one partition by policy and class; ``number`` tells it from others."""
    return sql.SQL(
        "SELECT {number} AS number, r.{policy}::text AS policy, r.{classification}::text AS classification, "
        "count(*) AS rows FROM ONLY {partition} AS r WHERE {expired} GROUP BY 2, 3"
    ).format(
        number=sql.Literal(number),
        policy=sql.Identifier(columns.policy),
        classification=sql.Identifier(columns.classification),
        partition=sql.Identifier(each.partition.schema, each.partition.name),
        expired=expired(table, each, columns, holds),
    )


def create(table: Table, part: Partition, aside: Aside) -> list[Any]:
    """Return what makes the tables aside: columns as there, no index, open to nobody."""
    like = "CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING IDENTITY EXCLUDING INDEXES EXCLUDING STATISTICS)"
    made = [(aside.name, (part.schema, part.name))]
    made += [(name, (each.schema, each.name)) for each, name in aside.referring]
    texts = []
    for name, source in made:
        new = sql.Identifier(aside.schema, name)
        texts.append(sql.SQL(like).format(new, sql.Identifier(*source)))
        if table.opened_to:
            others = [sql.SQL("PUBLIC") if who == "PUBLIC" else sql.Identifier(who) for who in table.opened_to]
            texts.append(sql.SQL("REVOKE ALL ON TABLE {} FROM {}").format(new, sql.SQL(", ").join(others)))
        if table.owner != table.creator:
            texts.append(sql.SQL("ALTER TABLE {} OWNER TO {}").format(new, sql.Identifier(table.owner)))
        texts.append(
            sql.SQL("COMMENT ON TABLE {} IS {}").format(new, sql.Literal(f"Expired rows of {source[0]}.{source[1]}"))
        )
    return texts


def move(table: Table, each: Expiry, aside: Aside, condition: Any, batch_rows: int) -> Any:
    """Return the statement that takes a batch of expired rows out, and what refers to them: away, or aside."""
    part = each.partition
    lower, upper = (sql.Literal(bound_literal(at, table.key_type)) for at in (part.lower, part.upper))
    referring = []
    for number, (other, name) in enumerate(aside.referring, 1):
        gone = sql.Identifier(f"gone_{number}")
        referring.append(
            sql.SQL(TAKE_REFERRING).format(
                gone=gone,
                table=sql.Identifier(other.schema, other.name),
                match=sql.SQL(" AND ").join(
                    sql.SQL("f.{} = gone.{}").format(sql.Identifier(own), sql.Identifier(theirs))
                    for own, theirs in other.match
                ),
                key=sql.Identifier(other.key),
                lower=lower,
                upper=upper,
                returned=sql.SQL(", ").join(sql.SQL("f.{}").format(sql.Identifier(own)) for own in other.columns),
            )
        )
        if not each.delete:
            kept = sql.SQL(KEEP).format(
                aside=sql.Identifier(aside.schema, name), columns=_list(other.columns), gone=gone
            )
            referring.append(sql.SQL(", {} AS ({})").format(sql.Identifier(f"kept_{number}"), kept))
    taken = sql.SQL(TAKE).format(
        partition=sql.Identifier(part.schema, part.name),
        expired=condition,
        most=sql.Literal(batch_rows),
        columns=_list(table.columns),
        referring=sql.SQL("").join(referring),
    )
    if each.delete:
        return taken + sql.SQL("SELECT FROM gone")
    return taken + sql.SQL(KEEP).format(
        aside=sql.Identifier(aside.schema, aside.name), columns=_list(table.columns), gone=sql.Identifier("gone")
    )


def _list(names: Sequence[str]) -> Any:
    return sql.SQL(", ").join(map(sql.Identifier, names))
