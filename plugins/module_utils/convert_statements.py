# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SQL of a conversion: what is prepared while everybody works, and the one transaction in which tables change."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils import convert_aside
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Row
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_dress import (
    dress,
    grantees,
    roles,
    sequences,
    views,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_plan import (
    CHECK,
    Origin,
    legacy_name,
    names,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import bound_literal, instant_of

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql


def build_index(schema: str, table: str, index: str, columns: Sequence[str], included: Sequence[str]) -> Any:
    """Return the statement that builds a unique index while others write; one transaction of its own."""
    text = sql.SQL("CREATE UNIQUE INDEX CONCURRENTLY {} ON {} ({})").format(
        sql.Identifier(index), sql.Identifier(schema, table), _list(columns)
    )
    return text + sql.SQL(" INCLUDE ({})").format(_list(included)) if included else text


def drop_index(schema: str, index: str) -> Any:
    """Return the statement that drops an index while others read and write."""
    return sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(schema, index))


def drop_check(schema: str, table: str) -> Any:
    """Return the statement that drops the check."""
    return sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.Identifier(schema, table), sql.Identifier(CHECK))


def add_check(subject: Subject, key: str, boundary: datetime) -> Any:
    """Return the statement that checks new rows, without a look at those that are there."""
    column = subject.column(key)
    return sql.SQL(
        "ALTER TABLE {table} ADD CONSTRAINT {check} CHECK ({key} IS NOT NULL AND {key} < {upper}) NOT VALID"
    ).format(
        table=sql.Identifier(subject.schema, subject.name),
        check=sql.Identifier(CHECK),
        key=sql.Identifier(key),
        upper=sql.Literal(bound_literal(boundary, column["type"] if column else "")),
    )


def validate_check(subject: Subject) -> Any:
    """Return the statement that looks at the rows that are there, while others read and write."""
    return sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
        sql.Identifier(subject.schema, subject.name), sql.Identifier(CHECK)
    )


def analyze(subject: Subject) -> Any:
    """Return the statement that counts the rows of a partitioned table, which autovacuum never does."""
    return sql.SQL("ANALYZE {}").format(sql.Identifier(subject.schema, subject.name))


def swap(subject: Subject, origin: Origin, *, aside: bool) -> list[Any]:
    """Return the statements of the transaction after which a partitioned table has the name.

    The old table becomes its first partition. The check, validated before, spares the reading of its rows; its indexes
    match those of the new table, so that none is built. Rows that were put ``aside`` come back last.
    """
    trigger = names(subject.name).trigger
    subject = replace(subject, triggers=[each for each in subject.triggers if each["name"] != trigger])
    mine = names(subject.name)
    table, legacy = sql.Identifier(subject.schema, subject.name), sql.Identifier(subject.schema, mine.legacy)
    upper = bound_literal(instant_of(origin.boundary), str((subject.column(origin.key) or {}).get("type")))
    values: dict[str, Any] = {"table": table, "legacy": legacy, "name": sql.Identifier(mine.legacy)}
    values["key"] = sql.Identifier(origin.key)
    values |= {"upper": sql.Literal(upper), "check": sql.Identifier(CHECK), "owner": sql.Identifier(subject.owner)}

    def text(template: str) -> Any:
        return sql.SQL(template).format(**values)

    return [
        *(convert_aside.forget(subject) if aside else []),
        *([text("ALTER TABLE {table} ALTER COLUMN {key} SET NOT NULL")] if origin.nullable else []),
        *_drop_triggers(subject, table),
        *_leave_publications(subject, table),
        text("ALTER TABLE {table} RENAME TO {name}"),
        *_rename_indexes(subject, legacy, origin),
        *_replace_key(legacy, origin, mine.index),
        text(
            "CREATE TABLE {table} (LIKE {legacy} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED "
            "INCLUDING COMMENTS INCLUDING STORAGE INCLUDING COMPRESSION) PARTITION BY RANGE ({key})"
        )
        + sql.SQL(" TABLESPACE {}" if subject.tablespace else "").format(
            *([sql.Identifier(subject.tablespace)] if subject.tablespace else [])
        ),
        *([text("ALTER TABLE {table} OWNER TO {owner}")] if subject.owner != subject.creator else []),
        text("ALTER TABLE {table} DROP CONSTRAINT {check}"),
        *_indexes(subject, table, origin),
        *foreign_keys(subject, table),
        *sequences(subject, legacy, table),
        text("ALTER TABLE {table} ATTACH PARTITION {legacy} FOR VALUES FROM (MINVALUE) TO ({upper})"),
        text("ALTER TABLE {legacy} DROP CONSTRAINT {check}"),
        *dress(subject, table, subject.opened_to),
        *_close(subject, legacy),
        sql.SQL("COMMENT ON TABLE {} IS {}").format(legacy, sql.Literal(origin.comment())),
        *views(subject),
        *([*convert_aside.make_default(subject), *convert_aside.put_back(subject)] if aside else []),
    ]


def _close(subject: Subject, legacy: Any) -> list[Any]:
    """Return the statement after which only the owner may go past the partitioned table, to the partition itself."""
    others = grantees(subject)
    return [sql.SQL("REVOKE ALL ON TABLE {} FROM {}").format(legacy, roles(others))] if others else []


def _list(columns: Sequence[str]) -> Any:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _drop_triggers(subject: Subject, table: Any) -> list[Any]:
    # The new table's triggers come down to its partitions under the same names.
    return [sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(each["name"]), table) for each in subject.triggers]


def _leave_publications(subject: Subject, table: Any) -> list[Any]:
    return [
        sql.SQL("ALTER PUBLICATION {} DROP TABLE {}").format(sql.Identifier(each["name"]), table)
        for each in subject.publications
        if each["listed"]
    ]


def kept_indexes(subject: Subject, origin: Origin) -> list[Row]:
    """Return the indexes that only change their names: without the primary key where it is replaced."""
    mine = names(subject.name)
    return [each for each in subject.indexes if each["name"] not in (mine.index, origin.key_name)]


def _rename_indexes(subject: Subject, legacy: Any, origin: Origin) -> list[Any]:
    texts = []
    for each in kept_indexes(subject, origin):
        new = sql.Identifier(legacy_name(each["name"], subject.name))
        if each["constraint"]:
            old = sql.Identifier(each["constraint"])
            texts.append(sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(legacy, old, new))
        else:
            old = sql.Identifier(subject.schema, each["name"])
            texts.append(sql.SQL("ALTER INDEX {} RENAME TO {}").format(old, new))
    for each in subject.statistics:
        texts.append(
            sql.SQL("ALTER STATISTICS {} RENAME TO {}").format(
                sql.Identifier(each["schema"], each["name"]),
                sql.Identifier(legacy_name(each["name"], subject.name)),
            )
        )
    return texts


def _replace_key(legacy: Any, origin: Origin, index: str) -> list[Any]:
    if origin.key_name is None:
        return []
    return [
        sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(legacy, sql.Identifier(origin.key_name)),
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY USING INDEX {}").format(
            legacy, sql.Identifier(index), sql.Identifier(index)
        ),
    ]


def _indexes(subject: Subject, table: Any, origin: Origin) -> list[Any]:
    """Return the statements that make the indexes of the partitioned table, which has no row yet."""
    texts: list[Any] = []
    primary = subject.primary_key
    if origin.key_name and primary:
        text = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY ({})").format(
            table, sql.Identifier(origin.key_name), _list([*origin.key_columns, origin.key])
        )
        if origin.key_included:
            text += sql.SQL(" INCLUDE ({})").format(_list(origin.key_included))
        texts += [text, *_index_comment(primary, subject, table)]
    for each in kept_indexes(subject, origin):
        if each["constraint"]:
            definition = sql.SQL(each["constraint_definition"])
            name = sql.Identifier(each["constraint"])
            texts.append(sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(table, name, definition))
        else:
            texts.append(sql.SQL(each["definition"]))
        if each["tablespace"]:
            texts.append(
                sql.SQL("ALTER INDEX {} SET TABLESPACE {}").format(
                    sql.Identifier(subject.schema, each["name"]), sql.Identifier(each["tablespace"])
                )
            )
        texts += _index_comment(each, subject, table)
    for each in subject.statistics:
        texts.append(sql.SQL(each["definition"]))
        if each["target"] is not None:
            name = sql.Identifier(each["schema"], each["name"])
            texts.append(sql.SQL("ALTER STATISTICS {} SET STATISTICS {}").format(name, sql.Literal(each["target"])))
    return texts


def _index_comment(index: Row, subject: Subject, table: Any) -> list[Any]:
    if not index["comment"]:
        return []
    comment = sql.Literal(index["comment"])
    if index["constraint"]:
        return [
            sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(sql.Identifier(index["constraint"]), table, comment)
        ]
    return [sql.SQL("COMMENT ON INDEX {} IS {}").format(sql.Identifier(subject.schema, index["name"]), comment)]


def foreign_keys(subject: Subject, table: Any) -> list[Any]:
    """Return the statements that give ``table`` the foreign keys."""
    texts = []
    for each in subject.constraints:
        if each["type"] == "f":
            name = sql.Identifier(each["name"])
            texts.append(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(table, name, sql.SQL(each["definition"]))
            )
            if each["comment"]:
                comment = sql.Literal(each["comment"])
                texts.append(sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(name, table, comment))
    return texts
