# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SQL that copies the old table into partitions of one interval beside it, and exchanges it for them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_dress import locks, roles
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_statements import foreign_keys
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_carry import new_statements
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import EARLIEST, bound_literal
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Range

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

CHECK = "split_range"
NUMBER = "split_number"
TRIGGERS = ("split_note", "split_guard")
# The keys of all rows that changed: what became of them is looked up when they are copied anew.
NOTE = """
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION 'the rows are being copied: truncate the table before or afterwards';
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO {log} ({columns}) VALUES ({old});
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO {log} ({columns}) VALUES ({new});
    END IF;
    RETURN NULL;
END
"""


class Splitting:
    """Writes the SQL for one table; ``context`` is the connection that quotes for it."""

    def __init__(self, subject: Subject, legacy: Subject, key: str, context: Any) -> None:
        self.subject, self.legacy, self.key, self.context = subject, legacy, key, context
        self.columns = [each["name"] for each in legacy.columns if not each["generated"]]
        self.primary = list((legacy.primary_key or {}).get("columns", []))
        self.names = {name: f"{subject.name}{end}" for name, end in PARTS.items()}

    def text(self, template: str, **more: Any) -> Any:
        """Return the statement with the names of the tables in it."""
        schema = self.subject.schema
        values = {name: sql.Identifier(schema, value) for name, value in self.names.items()}
        values |= {
            "parent": sql.Identifier(schema, self.subject.name),
            "legacy": sql.Identifier(self.legacy.schema, self.legacy.name),
            "owner": sql.Identifier(self.subject.owner),
            "key": sql.Identifier(self.key),
            "columns": _list(self.columns),
            "primary": _list(self.primary),
            "number": sql.Identifier(NUMBER),
            "check": sql.Identifier(CHECK),
            "note": sql.Identifier(TRIGGERS[0]),
            "guard": sql.Identifier(TRIGGERS[1]),
        }
        return sql.SQL(template).format(**(values | more))

    def prepare(self, create: Sequence[Range], state: str) -> list[Any]:
        """Return the statements that make the new partitions beside the table, and note what changes in it from now."""
        owned = self.subject.owner != self.subject.creator
        others = roles(self.subject.opened_to) if self.subject.opened_to else None
        texts = [
            self.text(
                "CREATE TABLE {staging} (LIKE {parent} INCLUDING ALL EXCLUDING IDENTITY) PARTITION BY RANGE ({key})"
            ),
            *([self.text("ALTER TABLE {staging} OWNER TO {owner}")] if owned else []),
            *([self.text("REVOKE ALL ON TABLE {staging} FROM {others}", others=others)] if others else []),
            *foreign_keys(self.subject, self.text("{staging}")),
        ]
        tablespace = self.subject.tablespace
        place = sql.SQL(" TABLESPACE {}").format(sql.Identifier(tablespace)) if tablespace else sql.SQL("")
        for each in create:
            new = sql.Identifier(self.subject.schema, each.name)
            texts.append(
                self.text("CREATE TABLE {new} (LIKE {parent} INCLUDING ALL EXCLUDING IDENTITY)", new=new) + place
            )
            if others:
                texts.append(self.text("REVOKE ALL ON TABLE {new} FROM {others}", new=new, others=others))
            if owned:
                texts.append(self.text("ALTER TABLE {new} OWNER TO {owner}", new=new))
            texts.append(self.text("ALTER TABLE {new} ADD CONSTRAINT {check} CHECK ", new=new) + self._range(each))
            texts.append(self.text("ALTER TABLE {staging} ATTACH PARTITION {new} ", new=new) + self._bounds(each))
        return [*texts, *self._notes(owned, others), self.remember(state)]

    def _notes(self, owned: bool, others: Any) -> list[Any]:
        record = {name: sql.SQL(", ").join(sql.SQL(name.upper() + ".") + sql.Identifier(each) for each in self.primary)
                  for name in ("old", "new")}  # fmt: skip
        body = sql.Literal(self.text(NOTE, **(record | {"columns": _list(self.primary)})).as_string(self.context))
        return [
            self.text("CREATE TABLE {log} AS SELECT {primary} FROM {legacy} WITH NO DATA"),
            self.text("ALTER TABLE {log} ADD COLUMN {number} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
            *([self.text("REVOKE ALL ON TABLE {log} FROM {others}", others=others)] if others else []),
            *([self.text("ALTER TABLE {log} OWNER TO {owner}")] if owned else []),
            self.text(
                "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
                "SET search_path = pg_catalog AS {body}",
                body=body,
            ),
            *([self.text("ALTER FUNCTION {function}() OWNER TO {owner}")] if owned else []),
            self.text(
                "CREATE TRIGGER {note} AFTER INSERT OR UPDATE OR DELETE ON {legacy} "
                "FOR EACH ROW EXECUTE FUNCTION {function}()"
            ),
            self.text("CREATE TRIGGER {guard} BEFORE TRUNCATE ON {legacy} EXECUTE FUNCTION {function}()"),
            self.text("ALTER TABLE {legacy} ENABLE ALWAYS TRIGGER {note}"),
        ]

    def remember(self, state: str) -> Any:
        """Return the statement that keeps how far copying is."""
        return self.text("COMMENT ON TABLE {staging} IS {state}", state=sql.Literal(state))

    def copy(self, begin: int, end: int) -> Any:
        """Return the statement that copies the rows of these blocks; a row that is there already stays."""
        return self.text(
            "INSERT INTO {staging} ({columns}) SELECT {columns} FROM ONLY {legacy} "
            "WHERE ctid >= {begin}::tid AND ctid < {end}::tid ON CONFLICT ({primary}) DO NOTHING",
            begin=sql.Literal(f"({begin},0)"),
            end=sql.Literal(f"({end},0)"),
        )

    def first_noted(self, rows: int) -> Any:
        """Return the query for the first ``rows`` changes that were noted: the last of them, and from when to when."""
        return self.text(
            "SELECT max({number}) AS last, min({key})::text AS earliest, max({key})::text AS latest "
            "FROM (SELECT {number}, {key} FROM {log} ORDER BY {number} LIMIT {rows}) AS g",
            rows=sql.Literal(rows),
        )

    def catch_up(self, last: int, earliest: str, latest: str) -> list[Any]:
        """Return the statements that copy rows anew whose keys were noted up to this one.

        They look each key up by the other columns of the primary key. An index on time alone, which the planner might
        take for as good, would find all rows of an instant, a whole bulk load. The range leaves partitions out instead.
        """
        qualified = sql.SQL(", ").join(sql.SQL("l.") + sql.Identifier(each) for each in self.columns)
        until = self.text("{number} <= {last}", last=sql.Literal(last))
        noted = self.text("(SELECT DISTINCT {primary} FROM {log} WHERE {until}) AS noted", until=until)
        return [
            *(sql.SQL(f"SET LOCAL enable_{each} = off") for each in ("hashjoin", "mergejoin", "seqscan")),
            self.text(
                "DELETE FROM {staging} AS s USING {noted} WHERE {same} AND s.{key} BETWEEN {earliest} AND {latest}",
                noted=noted,
                same=self._same("s"),
                earliest=sql.Literal(earliest),
                latest=sql.Literal(latest),
            ),
            self.text(
                "INSERT INTO {staging} ({columns}) SELECT {qualified} FROM ONLY {legacy} AS l JOIN {noted} ON {same}",
                noted=noted,
                same=self._same("l"),
                qualified=qualified,
            ),
            self.text("DELETE FROM {log} WHERE {until}", until=until),
        ]

    def _same(self, side: str) -> Any:
        return sql.SQL(" AND ").join(
            self.text(
                "{side}.{column} {equals} noted.{column}",
                side=sql.SQL(side),
                column=sql.Identifier(each),
                equals=sql.SQL("IS NOT DISTINCT FROM" if each == self.key and len(self.primary) > 1 else "="),
            )
            for each in self.primary
        )

    def compare(self) -> Any:
        """Return the query that counts the rows of both whose keys are not noted."""
        counts = [
            self.text(
                "(SELECT count(*) FROM {table} AS t WHERE NOT EXISTS (SELECT FROM {log} AS g WHERE {same})) AS {name}",
                table=self.text("{" + name + "}"),
                name=sql.Identifier(name),
                same=sql.SQL(" AND ").join(
                    self.text("t.{column} = g.{column}", column=sql.Identifier(each)) for each in self.primary
                ),
            )
            for name in ("legacy", "staging")
        ]
        return sql.SQL("SELECT ") + sql.SQL(", ").join(counts)

    def exchange(self, create: Sequence[Range], table: Table) -> list[Any]:
        """Return the statements that put the new partitions in the place of the old table, which stays beside.

        ``table`` knows what they are to be given that PostgreSQL does not pass on.
        """
        texts = [*self.forget(), self.text("ALTER TABLE {parent} DETACH PARTITION {legacy}")]
        for each in create:
            new = sql.Identifier(self.subject.schema, each.name)
            texts.append(self.text("ALTER TABLE {staging} DETACH PARTITION {new}", new=new))
            texts += new_statements(table, each, new, like=True)
            texts.append(self.text("ALTER TABLE {parent} ATTACH PARTITION {new} ", new=new) + self._bounds(each))
            texts.append(self.text("ALTER TABLE {new} DROP CONSTRAINT {check}", new=new))
        return [*texts, self.text("DROP TABLE {staging}")]

    def forget(self) -> list[Any]:
        """Return the statements after which changes are no longer noted."""
        return [
            self.text("DROP TRIGGER {note} ON {legacy}"),
            self.text("DROP TRIGGER {guard} ON {legacy}"),
            self.text("DROP FUNCTION {function}()"),
            self.text("DROP TABLE {log}"),
        ]

    def undo(self) -> list[Any]:
        """Return the statements that remove what was copied. The table itself has every row."""
        return [*locks(self.subject), *self.forget(), self.text("DROP TABLE {staging}")]

    def _range(self, each: Range) -> Any:
        text = "({key} IS NOT NULL AND {key} < {upper})"
        if each.lower != EARLIEST:
            text = "({key} IS NOT NULL AND {key} >= {lower} AND {key} < {upper})"
        return self.text(text, **self._literals(each))

    def _bounds(self, each: Range) -> Any:
        return self.text("FOR VALUES FROM ({lower}) TO ({upper})", **self._literals(each))

    def _literals(self, each: Range) -> dict[str, Any]:
        kind = str((self.subject.column(self.key) or {}).get("type"))
        lower = sql.SQL("MINVALUE") if each.lower == EARLIEST else sql.Literal(bound_literal(each.lower, kind))
        return {"lower": lower, "upper": sql.Literal(bound_literal(each.upper, kind))}


PARTS = {"staging": "_split", "log": "_split_log", "function": "_split_note"}


def _list(columns: Sequence[str]) -> Any:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
