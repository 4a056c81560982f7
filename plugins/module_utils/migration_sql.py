# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Split SQL into statements on the control node, and refuse what could not run as announced."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError

try:
    import pglast
    from pglast import ast, enums

    HAS_PGLAST = True
except ImportError:
    HAS_PGLAST = False

META_COMMAND = re.compile(r"^\\\S+", re.MULTILINE)


def line_of(text: str, position: int) -> int:
    """Return the number of the line that holds this position."""
    return text.count("\n", 0, position) + 1


def split(sql: str, file: str, *, transactional: bool) -> list[dict[str, Any]]:
    """Return the statements of the text, or raise PostgresqlError naming the file and the line of what is wrong.

    Each is {sql, line, index, alone, setting}: ``index`` is the quoted name of what CREATE INDEX CONCURRENTLY makes,
    ``alone`` whether it must not be put into a transaction, ``setting`` whether it only sets something of the session.

    The parser is PostgreSQL's own (pglast). Its grammar may be newer than the server's, so only what no version
    knows stops here; the server has the last word.
    """
    if not HAS_PGLAST:
        raise PostgresqlError(
            "the Python package pglast is missing on the control node", remedy="pip install -r requirements.txt"
        )
    try:
        parsed = pglast.parse_sql(sql)
    except pglast.parser.ParseError as error:
        location = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], int) else 0
        command = META_COMMAND.search(sql)
        if command is not None:
            raise PostgresqlError(
                f"{file} line {line_of(sql, command.start())}: '{command.group()}' is a command of psql, not SQL",
                remedy="write SQL only",
            ) from error
        raise PostgresqlError(f"{file} line {line_of(sql, location)}: {error.args[0]}", sqlstate="42601") from error
    statements = []
    for raw in parsed:
        begin = raw.stmt_location or 0
        text = sql[begin : begin + raw.stmt_len if raw.stmt_len else None]
        line = line_of(sql, begin + len(text) - len(text.lstrip()))
        problem = _problem(raw.stmt) or (_in_transaction if transactional else _outside_transaction)(raw.stmt)
        if problem:
            raise PostgresqlError(f"{file} line {line}: {problem[0]}", remedy=problem[1])
        statements.append(
            {
                "sql": text.strip(),
                "line": line,
                "index": _index_name(raw.stmt),
                "alone": _refuses_transaction(raw.stmt) or isinstance(raw.stmt, _may_commit()),
                "setting": isinstance(raw.stmt, ast.VariableSetStmt) and not raw.stmt.is_local,
            }
        )
    if not statements:
        raise PostgresqlError(f"{file} holds no statement", remedy="write it or remove it")
    return statements


def _problem(statement: Any) -> tuple[str, str] | None:
    """Return what is wrong with the statement in any migration, and the remedy."""
    if isinstance(statement, ast.TransactionStmt):
        return (
            "transaction control in a migration",
            "remove it: a migration is one transaction already, or none with '-- migrate: no-transaction'",
        )
    if isinstance(statement, ast.CopyStmt) and not statement.filename:
        return ("COPY from or to the client", "write the rows as INSERT")
    return None


def _in_transaction(statement: Any) -> tuple[str, str] | None:
    if _refuses_transaction(statement):
        return (
            "this statement cannot run in a transaction",
            "put it in a migration of its own that says '-- migrate: no-transaction'; in a way back, which is always "
            "a transaction, use the form without CONCURRENTLY",
        )
    return None


def _outside_transaction(statement: Any) -> tuple[str, str] | None:
    if isinstance(statement, ast.VariableSetStmt) and statement.name in ("role", "session_authorization"):
        return (
            "a change of role outside a transaction, which would also write the ledger",
            "the option session_role says who runs migrations",
        )
    if isinstance(statement, ast.DiscardStmt) and statement.target == enums.DiscardMode.DISCARD_ALL:
        return ("DISCARD ALL, which gives the lock of the migrations away", "discard what you need to, by name")
    if isinstance(statement, ast.IndexStmt) and statement.concurrent and not statement.idxname:
        return (
            "CREATE INDEX CONCURRENTLY without a name",
            "name the index, so that what a failure leaves of it can be found and dropped",
        )
    return None


def _may_commit() -> tuple[type, ...]:
    """Return the kinds of statement that may end the transaction they are in, or refuse one in some of their forms."""
    return (
        ast.DoStmt,
        ast.CallStmt,
        ast.ClusterStmt,
        ast.ReindexStmt,
        ast.AlterDatabaseStmt,
        ast.CreateSubscriptionStmt,
        ast.AlterSubscriptionStmt,
        ast.DropSubscriptionStmt,
    )


def _refuses_transaction(statement: Any) -> bool:
    if isinstance(statement, ast.VacuumStmt):
        return bool(statement.is_vacuumcmd)
    if isinstance(statement, ast.IndexStmt | ast.DropStmt):
        return bool(statement.concurrent)
    if isinstance(statement, ast.ReindexStmt):
        whole = statement.kind not in (
            enums.ReindexObjectType.REINDEX_OBJECT_INDEX,
            enums.ReindexObjectType.REINDEX_OBJECT_TABLE,
        )
        return whole or any(map(_says_concurrently, statement.params or ()))
    if isinstance(statement, ast.AlterTableStmt):
        return any(map(_detaches_concurrently, statement.cmds or ()))
    return isinstance(
        statement,
        ast.CreatedbStmt | ast.DropdbStmt | ast.AlterSystemStmt | ast.CreateTableSpaceStmt | ast.DropTableSpaceStmt,
    )


def _says_concurrently(parameter: Any) -> bool:
    if parameter.defname != "concurrently":
        return False
    value = getattr(parameter.arg, "sval", getattr(parameter.arg, "ival", True))
    return str(value).lower() not in ("false", "off", "0")


def _detaches_concurrently(command: Any) -> bool:
    detach = command.subtype == enums.AlterTableType.AT_DetachPartition
    return bool(detach and command.def_ is not None and getattr(command.def_, "concurrent", False))


def _index_name(statement: Any) -> str:
    if not (isinstance(statement, ast.IndexStmt) and statement.concurrent and statement.idxname and statement.relation):
        return ""
    parts = [statement.relation.schemaname, statement.idxname]
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts if part)
