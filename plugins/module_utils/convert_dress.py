# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SQL that gives a table what another one of the same name had: rights, row security, triggers, comments and more.

Definitions that the catalog prints (triggers, conditions, views) are run as they are: the table has the name by then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Row
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_plan import legacy_name

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

COMMANDS = {"*": "ALL", "r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}
REPLICA_IDENTITY = {"f": "REPLICA IDENTITY FULL", "n": "REPLICA IDENTITY NOTHING"}
ENABLED = {"O": None, "D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}


def dress(source: Subject, table: Any, strangers: Sequence[str]) -> list[Any]:
    """Return the statements that give ``table`` what ``source`` has; rights of ``strangers`` on it are revoked."""
    return [
        *rights(source, table, strangers),
        *row_security(source, table),
        *triggers(source, table),
        *comments(source, table),
        *publications(source, table),
    ]


def rights(source: Subject, table: Any, strangers: Sequence[str]) -> list[Any]:
    """Return the statements that leave exactly the rights of the source, granted by the owner."""
    texts = []
    if strangers:
        texts.append(sql.SQL("REVOKE ALL ON TABLE {} FROM {}").format(table, roles(strangers)))
    if source.granted:
        texts.append(sql.SQL("REVOKE ALL ON TABLE {} FROM {}").format(table, roles([source.owner])))
    for each in source.grants:
        column = sql.SQL(" ({})").format(sql.Identifier(each["column"])) if each["column"] else sql.SQL("")
        texts.append(
            sql.SQL("GRANT {} ON TABLE {} TO {}{}").format(
                sql.SQL(", ").join(sql.SQL(name) + column for name in each["privileges"]),
                table,
                roles([each["grantee"]]),
                sql.SQL(" WITH GRANT OPTION" if each["grantable"] and each["grantee"] != source.owner else ""),
            )
        )
    return texts


def grantees(subject: Subject) -> list[str]:
    """Return who has rights on the table or a column of it, other than its owner."""
    return sorted({each["grantee"] for each in subject.grants} - {subject.owner})


def roles(wanted: Sequence[str]) -> Any:
    """Return a list of roles; PUBLIC is a word and no name."""
    return sql.SQL(", ").join(sql.SQL("PUBLIC") if name == "PUBLIC" else sql.Identifier(name) for name in wanted)


def row_security(source: Subject, table: Any) -> list[Any]:
    """Return the statements that make the policies, and switch them on as they were."""
    texts = []
    for each in source.policies:
        using = sql.SQL(f" USING ({each['using']})" if each["using"] else "")
        check = sql.SQL(f" WITH CHECK ({each['check']})" if each["check"] else "")
        kind, command = ("PERMISSIVE" if each["permissive"] else "RESTRICTIVE"), COMMANDS[each["command"]]
        name = sql.Identifier(each["name"])
        head = sql.SQL("CREATE POLICY {} ON {} AS " + kind + " FOR " + command + " TO {}")
        texts.append(head.format(name, table, roles(each["roles"])) + using + check)
        if each["comment"]:
            texts.append(sql.SQL("COMMENT ON POLICY {} ON {} IS {}").format(name, table, sql.Literal(each["comment"])))
    if source.row_security:
        texts.append(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(table))
    if source.force_row_security:
        texts.append(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(table))
    return texts


def triggers(source: Subject, table: Any) -> list[Any]:
    """Return the statements that make the triggers, enabled as they were."""
    texts: list[Any] = []
    for each in source.triggers:
        name = sql.Identifier(each["name"])
        texts.append(sql.SQL(each["definition"]))
        if ENABLED[each["enabled"]]:
            texts.append(sql.SQL("ALTER TABLE {} " + str(ENABLED[each["enabled"]]) + " TRIGGER {}").format(table, name))
        if each["comment"]:
            texts.append(sql.SQL("COMMENT ON TRIGGER {} ON {} IS {}").format(name, table, sql.Literal(each["comment"])))
    return texts


def comments(source: Subject, table: Any) -> list[Any]:
    """Return the statements that comment the table, and that give it its replica identity and statistics targets."""
    texts = [sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(source.comment))] if source.comment else []
    if source.replica_identity in REPLICA_IDENTITY:
        texts.append(sql.SQL("ALTER TABLE {} " + REPLICA_IDENTITY[source.replica_identity]).format(table))
    for each in source.columns:
        if each["statistics"] is not None:
            texts.append(
                sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET STATISTICS {}").format(
                    table, sql.Identifier(each["name"]), sql.Literal(each["statistics"])
                )
            )
    return texts


def publications(source: Subject, table: Any) -> list[Any]:
    """Return the statements that publish the table where it was named; those of all tables take it by themselves."""
    texts = []
    for each in source.publications:
        if each["listed"]:
            text = sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(sql.Identifier(each["name"]), table)
            if each["columns"]:
                text += sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, each["columns"])))
            if each["condition"]:
                text += sql.SQL(f" WHERE ({each['condition']})")
            texts.append(text)
    return texts


def locks(source: Subject) -> list[Any]:
    """Return the statements that lock the table and what is bound anew with it, before anything changes.

    In the order of the others, for two that lock the other way round wait for each other: first the tables that foreign
    keys refer to, against those who write both, but not against the check of a key; then views, as whoever reads
    through one does. LOCK TABLE on a view would lock all its tables; giving it to its owner locks the view alone.
    """
    table = sql.Identifier(source.schema, source.name)
    referenced = sorted({tuple(each["lockable"]) for each in source.constraints if each["lockable"]})
    return [
        *(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.Identifier(*name)) for name in referenced),
        *(
            sql.SQL("ALTER VIEW {} OWNER TO {}").format(
                sql.Identifier(each["schema"], each["name"]), sql.Identifier(each["owner"])
            )
            for each in source.views
        ),
        sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table),
    ]


def views(source: Subject) -> list[Any]:
    """Return the statements that bind views to what has the table's name now. Their rights, rules and comments stay."""
    texts = []
    for each in source.views:
        pairs = [option.split("=", 1) for option in each["options"] or []]
        settings = sql.SQL(", ").join(
            sql.SQL("{}={}").format(sql.Identifier(name), sql.Literal(value)) for name, value in pairs
        )
        texts.append(
            sql.SQL("CREATE OR REPLACE VIEW {}{} AS {}").format(
                sql.Identifier(each["schema"], each["name"]),
                sql.SQL(" WITH ({})").format(settings) if pairs else sql.SQL(""),
                sql.SQL(each["definition"].strip().rstrip(";")),
            )
        )
    return texts


def sequences(source: Subject, old: Any, table: Any) -> list[Any]:
    """Return the statements that give the table the sequences of the old one.

    An identity's sequence cannot change hands. A new one takes its name and goes on where it stands; renaming locks the
    old one until the transaction ends, so that nobody draws a number from it meanwhile.
    """
    texts = []
    for each in source.sequences:
        column, sequence = sql.Identifier(each["column"]), sql.Identifier(each["schema"], each["name"])
        if not each["identity"]:
            texts.append(sql.SQL("ALTER SEQUENCE {} OWNED BY {}.{}").format(sequence, table, column))
            continue
        renamed = legacy_name(each["name"], source.name)
        texts.append(sql.SQL("ALTER SEQUENCE {} RENAME TO {}").format(sequence, sql.Identifier(renamed)))
        texts.append(_identity(each, table))
        texts.append(
            sql.SQL(
                "SELECT pg_catalog.setval(pg_catalog.format('%I.%I', {}, {})::regclass, last_value, is_called) FROM {}"
            ).format(sql.Literal(each["schema"]), sql.Literal(each["name"]), sql.Identifier(each["schema"], renamed))
        )
        texts += _sequence_rights(each, sequence, source.sequences_opened_to)
        if source.kind == "r":  # a partition may have no identity of its own (PostgreSQL 17)
            texts.append(sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP IDENTITY").format(old, column))
    return texts


def _identity(each: Row, table: Any) -> Any:
    kind = "ALWAYS" if each["identity"] == "a" else "BY DEFAULT"
    cycle = "CYCLE" if each["cycle"] else "NO CYCLE"
    return sql.SQL(
        "ALTER TABLE {table} ALTER COLUMN {column} ADD GENERATED " + kind + " AS IDENTITY (SEQUENCE NAME {sequence} "
        "START WITH {start} INCREMENT BY {increment} MINVALUE {minimum} MAXVALUE {maximum} CACHE {cache} " + cycle + ")"
    ).format(
        table=table,
        column=sql.Identifier(each["column"]),
        sequence=sql.Identifier(each["schema"], each["name"]),
        **{name: sql.Literal(each[name]) for name in ("start", "increment", "minimum", "maximum", "cache")},
    )


def _sequence_rights(each: Row, sequence: Any, strangers: Sequence[str]) -> list[Any]:
    texts = []
    if strangers:
        texts.append(sql.SQL("REVOKE ALL ON SEQUENCE {} FROM {}").format(sequence, roles(strangers)))
    for grant in each["grants"]:
        option = " WITH GRANT OPTION" if grant["grantable"] else ""
        text = sql.SQL("GRANT " + grant["privilege"] + " ON SEQUENCE {} TO {}" + option)
        texts.append(text.format(sequence, roles([grant["grantee"]])))
    if each["comment"]:
        texts.append(sql.SQL("COMMENT ON SEQUENCE {} IS {}").format(sequence, sql.Literal(each["comment"])))
    return texts
