# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SQL of the one transaction in which a converted table becomes the plain one again."""

from __future__ import annotations

import contextlib
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_dress import (
    dress,
    grantees,
    sequences,
    views,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_plan import Origin, legacy_name, names

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql


def detach(subject: Subject, legacy: Subject) -> list[Any]:
    """Return the statements that take the old table out. Row security would hide rows from an owner under it."""
    table, old = sql.Identifier(subject.schema, subject.name), sql.Identifier(legacy.schema, legacy.name)
    return [
        *(
            sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY").format(name)
            for each, name in ((subject, table), (legacy, old))
            if each.force_row_security
        ),
        sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(table, old),
    ]


def move(subject: Subject, legacy: Subject) -> Any:
    """Return the statement that puts the rows of the other partitions into the old table."""
    columns = sql.SQL(", ").join(sql.Identifier(each["name"]) for each in subject.columns if not each["generated"])
    return sql.SQL("INSERT INTO {} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {}").format(
        sql.Identifier(legacy.schema, legacy.name), sql.Identifier(subject.schema, subject.name), columns=columns
    )


def replace(subject: Subject, legacy: Subject, before: Origin) -> list[Any]:
    """Return the statements that give the old table its name, and what the partitioned one has; that one is dropped."""
    mine = names(subject.name)
    table = sql.Identifier(subject.schema, subject.name)
    gone = sql.Identifier(subject.schema, mine.gone)
    values = {"table": table, "gone": gone, "old": sql.Identifier(legacy.schema, legacy.name)}
    values |= {"gone_name": sql.Identifier(mine.gone), "name": sql.Identifier(subject.name)}

    def text(template: str) -> Any:
        return sql.SQL(template).format(**values)

    strangers = grantees(legacy)
    deferred = any("DEFERRABLE" in each["definition"] for each in subject.constraints)
    return [
        # What moved is checked now: a table with checks to come cannot be altered.
        *([sql.SQL("SET CONSTRAINTS ALL IMMEDIATE")] if deferred else []),
        *(
            sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(each["name"]), values["old"])
            for each in legacy.policies
        ),
        *([text("ALTER TABLE {old} DISABLE ROW LEVEL SECURITY")] if legacy.row_security else []),
        text("ALTER TABLE {table} RENAME TO {gone_name}"),
        text("ALTER TABLE {old} RENAME TO {name}"),
        text("COMMENT ON TABLE {table} IS NULL"),
        *sequences(subject, gone, table),
        *dress(subject, table, strangers),
        *views(subject),
        text("DROP TABLE {gone}"),
        *_restore_key(subject, table, before),
        *_rename_indexes(subject, legacy, table, before),
        *(
            [sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(table, sql.Identifier(before.key))]
            if before.nullable
            else []
        ),
    ]


def _restore_key(subject: Subject, table: Any, before: Origin) -> list[Any]:
    if before.key_name is None:
        return []
    mine = names(subject.name)
    name = sql.Identifier(before.key_name)
    texts = [
        sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, sql.Identifier(mine.index)),
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY USING INDEX {}").format(
            table, name, sql.Identifier(mine.back)
        ),
    ]
    comment = (subject.primary_key or {}).get("comment")
    if comment:
        texts.append(sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(name, table, sql.Literal(comment)))
    return texts


def _rename_indexes(subject: Subject, legacy: Subject, table: Any, before: Origin) -> list[Any]:
    """Return the statements that give each index the name of the one it belonged to."""
    texts = []
    for each in legacy.indexes:
        if not each["parent"] or (before.key_name and each["primary"]):
            continue
        old, new = sql.Identifier(each["name"]), sql.Identifier(each["parent"])
        if each["constraint"]:
            texts.append(sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(table, old, new))
        else:
            texts.append(
                sql.SQL("ALTER INDEX {} RENAME TO {}").format(sql.Identifier(legacy.schema, each["name"]), new)
            )
    kept = {(each["schema"], each["name"]) for each in legacy.statistics}
    for each in subject.statistics:
        renamed = legacy_name(each["name"], subject.name)
        if (each["schema"], renamed) in kept:
            texts.append(
                sql.SQL("ALTER STATISTICS {} RENAME TO {}").format(
                    sql.Identifier(each["schema"], renamed), sql.Identifier(each["name"])
                )
            )
    return texts
