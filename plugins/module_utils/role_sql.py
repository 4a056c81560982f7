# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The changes between declared and actual roles as SQL. No statement that is shown contains a password or verifier."""

from __future__ import annotations

import contextlib

from ansible_collections.auditdb.postgresql.plugins.module_utils.role_model import (
    AlterRole,
    Change,
    Comment,
    CreateRole,
    DropRole,
    Grant,
    Revoke,
    SetPassword,
    Setting,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_rights import flag_word
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_setting import set_clause

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

MASK = "********"


def statement(change: Change, verifier: str = MASK) -> sql.Composable:
    """Return the statement that makes the change. Without ``verifier``, that of a password is only to be shown."""
    if isinstance(change, Grant | Revoke):
        return _membership(change)
    name = sql.Identifier(change.name)
    match change:
        case CreateRole():
            result = sql.SQL("CREATE ROLE {}{}").format(name, _attributes(change))
        case AlterRole():
            result = sql.SQL("ALTER ROLE {}{}").format(name, _attributes(change))
        case SetPassword():
            result = sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(verifier))
        case Setting(parameter=parameter, value=value):
            result = sql.SQL("ALTER ROLE {} {}").format(name, set_clause(parameter, value))
        case Comment(text=text):
            result = sql.SQL("COMMENT ON ROLE {} IS {}").format(name, sql.Literal(text))
        case DropRole():
            result = sql.SQL("DROP ROLE {}").format(name)
    return result


def _membership(change: Grant | Revoke) -> sql.Composable:
    role, member = sql.Identifier(change.role), sql.Identifier(change.member)
    if isinstance(change, Revoke):
        clause = sql.SQL("REVOKE {} FROM {}").format(role, member)
        by = change.grantor
        return clause if by is None else clause + sql.SQL(" GRANTED BY {}").format(sql.Identifier(by))
    clause = sql.SQL("GRANT {} TO {}").format(role, member)
    if change.inherit is None:
        return clause
    return clause + sql.SQL(" WITH INHERIT {}, SET TRUE").format(sql.SQL("TRUE" if change.inherit else "FALSE"))


def _attributes(change: CreateRole | AlterRole) -> sql.Composable:
    words: list[sql.Composable] = [sql.SQL(" " + flag_word(flag, on)) for flag, on in change.flags.items()]
    new_and_unlimited = isinstance(change, CreateRole) and change.connection_limit < 0
    if change.connection_limit is not None and not new_and_unlimited:
        words.append(sql.SQL(" CONNECTION LIMIT {}").format(sql.Literal(change.connection_limit)))
    if change.valid_until is not None:
        words.append(sql.SQL(" VALID UNTIL {}").format(sql.Literal(change.valid_until)))
    return sql.Composed(words)
