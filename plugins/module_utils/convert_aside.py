# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put rows of absurd times aside while a table is converted, so that none is refused; the swap puts them back."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_dress import roles
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_obstacles import Obstacle
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_plan import is_aside, names
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_steps import Step, Tell, together
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import bound_literal

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

BODY = """
BEGIN
    IF NEW.{key} >= {upper} THEN
        INSERT INTO {aside} ({columns}) VALUES ({values});
        RETURN NULL;
    END IF;
    RETURN NEW;
END
"""


def _values(subject: Subject) -> dict[str, Any]:
    mine = names(subject.name)
    columns = [each["name"] for each in subject.columns if not each["generated"]]
    return {
        "table": sql.Identifier(subject.schema, subject.name),
        "aside": sql.Identifier(subject.schema, mine.aside),
        "function": sql.Identifier(subject.schema, mine.trigger),
        "trigger": sql.Identifier(mine.trigger),
        "default": sql.Identifier(subject.schema, mine.default),
        "owner": sql.Identifier(subject.owner),
        "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
        "values": sql.SQL(", ").join(sql.SQL("NEW.") + sql.Identifier(each) for each in columns),
    }


def _beyond(subject: Subject, key: str, boundary: datetime) -> dict[str, Any]:
    kind = str((subject.column(key) or {}).get("type"))
    return {"key": sql.Identifier(key), "upper": sql.Literal(bound_literal(boundary, kind))}


def obstacles(
    session: Session, options: Mapping[str, Any], subject: Subject, boundary: datetime | None
) -> list[Obstacle]:
    """Return what keeps rows from being put aside; with ``default_partition`` alone are they."""
    if not options["default_partition"]:
        if not is_aside(subject):
            return []
        what = "a run with default_partition: true was interrupted, and has put rows aside"
        return [Obstacle(what, "give default_partition: true again, or go back with state: reverted")]
    found = [
        Obstacle(
            f"publication {each['name']} of all tables would publish rows that are put aside",
            f"name the tables in publication {each['name']}, or convert with default_partition: false",
        )
        for each in subject.publications
        if not each["listed"]
    ]
    if boundary is None or is_aside(subject):
        return found
    query = sql.SQL("SELECT count(*) AS n FROM (SELECT FROM {table} WHERE {key} >= {upper} LIMIT {most}) AS t")
    most = sql.Literal(options["batch_rows"] + 1)
    values = {"table": sql.Identifier(subject.schema, subject.name), "most": most}
    rows = session.query(query.format(**values, **_beyond(subject, key=options["key"], boundary=boundary)))[0]["n"]
    if rows > options["batch_rows"]:
        found.append(
            Obstacle(
                f"more than {options['batch_rows']} rows are from {boundary.isoformat()} or later, and would move "
                "while the table is locked",
                "raise room, so that the old table reaches beyond them, or batch_rows",
            )
        )
    if rows:
        found += [
            Obstacle(
                f"trigger {each['name']} acts on DELETE, and {rows} rows from {boundary.isoformat()} or later are to "
                "be put aside",
                f"correct their time, or disable trigger {each['name']} until the table is converted",
            )
            for each in subject.triggers
            if each["on_delete"] and each["enabled"] != "D"
        ]
    return found


def prepare_steps(session: Session, options: Mapping[str, Any], subject: Subject, boundary: datetime) -> list[Step]:
    """Return what puts rows from the boundary on aside: those to come, then those that are there."""
    move = sql.SQL(
        "WITH gone AS (DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE {key} >= {upper} "
        "LIMIT {most})) RETURNING {columns}) INSERT INTO {aside} ({columns}) SELECT {columns} FROM gone"
    ).format(
        **_values(subject),
        **_beyond(subject, options["key"], boundary),
        most=sql.Literal(max(1, options["batch_rows"])),
    )
    text = session.render(move)

    def work(tell: Tell) -> None:
        moved = 0
        while rows := session.execute(text):
            moved += rows
            tell(moved, None)

    return [
        together(session, options, "set aside", set_aside(session, subject, options["key"], boundary)),
        Step("move aside", [text], work),
    ]


def set_aside(session: Session, subject: Subject, key: str, boundary: datetime) -> list[Any]:
    """Return the statements from which on rows from the boundary on are put aside, and not refused."""
    values = _values(subject)
    body = sql.SQL(BODY).format(**values, **_beyond(subject, key, boundary)).as_string(session.connection)
    values |= {"body": sql.Literal(body), "others": roles(subject.opened_to)}
    texts = [
        "CREATE TABLE IF NOT EXISTS {aside} AS SELECT {columns} FROM {table} WITH NO DATA",
        *(["REVOKE ALL ON TABLE {aside} FROM {others}"] if subject.opened_to else []),
        "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
        "SET search_path = pg_catalog, pg_temp AS {body}",
        "REVOKE ALL ON FUNCTION {function}() FROM PUBLIC",
        *(
            ["ALTER TABLE {aside} OWNER TO {owner}", "ALTER FUNCTION {function}() OWNER TO {owner}"]
            if subject.owner != subject.creator
            else []
        ),
        "CREATE OR REPLACE TRIGGER {trigger} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()",
        "ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}",
    ]
    return [sql.SQL(text).format(**values) for text in texts]


def forget(subject: Subject) -> list[Any]:
    """Return the statements after which rows are no longer put aside. Those that are stay there."""
    texts = ("DROP TRIGGER IF EXISTS {trigger} ON {table}", "DROP FUNCTION IF EXISTS {function}()")
    return [sql.SQL(text).format(**_values(subject)) for text in texts]


def make_default(subject: Subject) -> list[Any]:
    """Return the statements that make the default partition, closed to everybody but its owner."""
    values = _values(subject) | {"others": roles(subject.opened_to)}
    texts = [
        "CREATE TABLE {default} PARTITION OF {table} DEFAULT",
        *(["REVOKE ALL ON TABLE {default} FROM {others}"] if subject.opened_to else []),
        *(["ALTER TABLE {default} OWNER TO {owner}"] if subject.owner != subject.creator else []),
    ]
    return [sql.SQL(text).format(**values) for text in texts]


def put_back(subject: Subject) -> list[Any]:
    """Return the statements that put the rows that are aside into the table. Row security would refuse its owner."""
    deferred = any("DEFERRABLE" in each["definition"] for each in [*subject.constraints, *subject.triggers])
    texts = [
        *(["ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"] if subject.force_row_security else []),
        "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {aside}",
        "DROP TABLE {aside}",
        # What is checked at the end is checked now: a table with checks to come cannot be altered.
        *(["SET CONSTRAINTS ALL IMMEDIATE"] if deferred else []),
        *(["ALTER TABLE {table} FORCE ROW LEVEL SECURITY"] if subject.force_row_security else []),
    ]
    return [sql.SQL(text).format(**_values(subject)) for text in texts]
