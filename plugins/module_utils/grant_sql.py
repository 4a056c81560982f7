# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The changes between wanted and actual rights as SQL."""

from __future__ import annotations

import contextlib

from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_model import (
    PUBLIC,
    AnyChange,
    Change,
    Default,
    Item,
    SchemaChange,
    SettingChange,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_setting import set_clause

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

# ROUTINE, because a procedure is not a FUNCTION to GRANT.
WORDS = {"database": "DATABASE", "schema": "SCHEMA", "table": "TABLE", "sequence": "SEQUENCE", "function": "ROUTINE"}


def statement(change: AnyChange) -> sql.Composable:
    """Return the one statement that makes the change."""
    if isinstance(change, SchemaChange):
        text = "CREATE SCHEMA {} AUTHORIZATION {}" if change.create else "ALTER SCHEMA {} OWNER TO {}"
        return sql.SQL(text).format(sql.Identifier(change.schema), sql.Identifier(change.owner))
    if isinstance(change, SettingChange):
        return sql.SQL("ALTER DATABASE {} {}").format(
            sql.Identifier(change.database), set_clause(change.parameter, change.value)
        )
    first = change.targets[0]
    if isinstance(first, Default):
        schema = sql.SQL(" IN SCHEMA {}").format(sql.Identifier(first.schema)) if first.schema else sql.SQL("")
        prefix = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}{} ").format(sql.Identifier(first.owner), schema)
        return prefix + _grant(change, sql.SQL(""), sql.SQL(WORDS[first.kind] + "S"))
    if first.kind == "column":
        columns = [sql.Identifier(item.column) for item in change.targets if isinstance(item, Item)]
        listed = sql.SQL(" ({})").format(sql.SQL(", ").join(columns))
        return _grant(change, listed, sql.SQL("TABLE {}").format(sql.Identifier(first.schema, first.name)))
    names = sql.SQL(", ").join(_name(item) for item in change.targets if isinstance(item, Item))
    return _grant(change, sql.SQL(""), sql.SQL(WORDS[first.kind] + " ") + names)


def _grant(change: Change, columns: sql.Composable, objects: sql.Composable) -> sql.Composable:
    return sql.SQL("{} {}{} ON {} {} {}{}").format(
        sql.SQL(change.verb),
        sql.SQL(", ").join(map(sql.SQL, change.privileges)),
        columns,
        objects,
        sql.SQL("TO" if change.verb == "GRANT" else "FROM"),
        sql.SQL(", ").join(sql.SQL(PUBLIC) if name == PUBLIC else sql.Identifier(name) for name in change.grantees),
        sql.SQL(" CASCADE" if change.cascade else ""),
    )


def _name(item: Item) -> sql.Composable:
    if item.kind == "function":
        return sql.SQL(item.name)  # as the server itself wrote it: regprocedure, names quoted, types complete
    return sql.Identifier(item.schema, item.name) if item.schema else sql.Identifier(item.name)
