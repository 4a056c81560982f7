# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SQL that makes a plain table a partition of a new table of its name, and back."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Row
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Attached
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import bound_literal
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import NAME_BYTES

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

RANGE_CHECK = "convert_range"
KEY_WAS = "auditdb.postgresql: the primary key was "
ENABLED = {"D": "DISABLE TRIGGER", "A": "ENABLE ALWAYS TRIGGER", "R": "ENABLE REPLICA TRIGGER"}
COMMANDS = {"*": "ALL", "r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}
IDENTITY = {"a": "ALWAYS", "d": "BY DEFAULT"}


@dataclass(frozen=True)
class Names:
    """What the tables and helpers of a conversion are called."""

    schema: str
    table: str

    def __post_init__(self) -> None:
        long = [each for each in (self.aside, self.trigger) if len(each.encode()) > NAME_BYTES]
        if long:
            raise PostgresqlError(f"the name {long[0]} is longer than {NAME_BYTES} bytes", remedy="shorten the table's")

    @property
    def legacy(self) -> str:
        """Return the name of the old table, which becomes a partition."""
        return f"{self.table}_legacy"

    @property
    def key(self) -> str:
        """Return the name of the unique index that becomes the primary key."""
        return f"{self.table}_convert_key"

    @property
    def aside(self) -> str:
        """Return the name of the table that takes rows of absurd times while the conversion goes on."""
        return f"{self.table}_convert_aside"

    @property
    def trigger(self) -> str:
        """Return the name of the trigger that puts them there; it comes last, after others that set the time."""
        return f"zzz_{self.table}_convert_aside"

    @property
    def old(self) -> str:
        """Return the name that the partitioned table has for a moment while it is reverted."""
        return f"{self.table}_convert_old"

    def identifier(self, name: str) -> Any:
        """Return a name in the table's schema."""
        return sql.Identifier(self.schema, name)


def bound(at: datetime, key_type: str) -> Any:
    """Return the literal of the upper bound."""
    return sql.Literal(bound_literal(at, key_type))


def set_aside(names: Names, found: Attached, key: str, upper: Any) -> list[Any]:
    """Return what makes a table aside, and a trigger that puts rows there whose time is not before ``upper``."""
    columns = _list(found.columns)
    return [
        sql.SQL("CREATE TABLE IF NOT EXISTS {} AS SELECT {} FROM {} WITH NO DATA").format(
            names.identifier(names.aside), columns, names.identifier(names.table)
        ),
        sql.SQL(
            "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
            "SET search_path = pg_catalog, pg_temp AS $convert$ BEGIN IF NEW.{} >= {} THEN "
            "INSERT INTO {} ({}) VALUES ({}); RETURN NULL; END IF; RETURN NEW; END $convert$"
        ).format(
            names.identifier(names.trigger),
            sql.Identifier(key),
            upper,
            names.identifier(names.aside),
            columns,
            sql.SQL(", ").join(sql.SQL("NEW.{}").format(sql.Identifier(each)) for each in found.columns),
        ),
        sql.SQL("REVOKE ALL ON FUNCTION {}() FROM PUBLIC").format(names.identifier(names.trigger)),
        sql.SQL("CREATE OR REPLACE TRIGGER {} BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION {}()").format(
            sql.Identifier(names.trigger), names.identifier(names.table), names.identifier(names.trigger)
        ),
    ]


def no_longer_aside(names: Names) -> list[Any]:
    """Return what removes the trigger and its function; the table and its rows stay."""
    return [
        sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(names.trigger), names.identifier(names.table)),
        sql.SQL("DROP FUNCTION IF EXISTS {}()").format(names.identifier(names.trigger)),
    ]


def take_back(names: Names, found: Attached) -> list[Any]:
    """Return what puts the rows aside into the table of the name, and removes the table aside."""
    columns = _list(found.columns)
    return [
        sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
            names.identifier(names.table), columns, columns, names.identifier(names.aside)
        ),
        sql.SQL("DROP TABLE {}").format(names.identifier(names.aside)),
    ]


def key_index(names: Names, table: str, columns: Sequence[str]) -> Any:
    """Return what builds the unique index of the new primary key, with nobody locked out."""
    return sql.SQL("CREATE UNIQUE INDEX CONCURRENTLY {} ON {} ({})").format(
        sql.Identifier(names.key), names.identifier(table), _list(columns)
    )


def swap(names: Names, found: Attached, key: str, upper: Any, *, aside: bool, restart: int | None) -> list[Any]:
    """Return the statements of the one short transaction. ``restart`` is the identity's next value."""
    table, legacy = names.identifier(names.table), names.identifier(names.legacy)
    texts = no_longer_aside(names) if aside else []
    texts += [
        sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(each["name"]), table)
        for each in found.triggers
        if each["name"] != names.trigger
    ]
    texts += [_publication(each, "DROP", table) for each in found.publications]
    if found.identity:
        texts.append(sql.SQL("ALTER TABLE {} ALTER {} DROP IDENTITY").format(table, _name(found.identity)))
    texts += _legacy_key(names, found, key)
    texts.append(sql.SQL("ALTER TABLE {} RENAME TO {}").format(table, sql.Identifier(names.legacy)))
    texts += _rename_indexes(names, found)
    texts += _parent(names, found, key)
    texts += dress(names, found, restart)
    for grantee in sorted({each["grantee"] for each in found.grants}, key=str):
        texts.append(sql.SQL("REVOKE ALL ON {} FROM {}").format(legacy, _role(grantee)))
    texts.append(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM (MINVALUE) TO ({})").format(table, legacy, upper)
    )
    texts.append(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(legacy, sql.Identifier(RANGE_CHECK)))
    if aside:
        default = names.identifier(f"{names.table}_default")
        texts.append(sql.SQL("CREATE TABLE {} PARTITION OF {} DEFAULT").format(default, table))
        texts += _close(default, found)
        texts += take_back(names, found)
    return texts


def _legacy_key(names: Names, found: Attached, key: str) -> list[Any]:
    primary = found.primary_key
    if primary is None:
        return []
    table = names.identifier(names.table)
    new = sql.Identifier(f"{names.legacy}_pkey")
    if key in primary["columns"]:
        return [
            sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(table, sql.Identifier(primary["name"]), new)
        ]
    return [
        sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, sql.Identifier(primary["name"])),
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY USING INDEX {}").format(
            table, new, sql.Identifier(names.key)
        ),
        sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(
            new, table, sql.Literal(KEY_WAS + ",".join(primary["columns"]))
        ),
    ]


def _rename_indexes(names: Names, found: Attached) -> list[Any]:
    """Return what frees the names of indexes for the new table's."""
    primary = found.primary_key
    texts = []
    for each in found.indexes:
        if each["name"] == names.key or (primary and each["oid"] == primary["index"]):
            continue
        new = f"{names.legacy}_{each['name'].removeprefix(names.table + '_')}"
        if len(new.encode()) > NAME_BYTES:
            new = f"{names.legacy}_{each['oid']}"
        texts.append(sql.SQL("ALTER INDEX {} RENAME TO {}").format(names.identifier(each["name"]), sql.Identifier(new)))
    return texts


def _parent(names: Names, found: Attached, key: str) -> list[Any]:
    """Return what creates the partitioned table with the constraints and indexes of the old one."""
    table = names.identifier(names.table)
    like = "CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION "
    like += "INCLUDING COMMENTS) PARTITION BY RANGE ({})"
    create = sql.SQL(like).format(table, names.identifier(names.legacy), sql.Identifier(key))
    if found.shape["tablespace"]:
        create += sql.SQL(" TABLESPACE {}").format(sql.Identifier(found.shape["tablespace"]))
    texts = [create, *_close(table, found)]
    for each in found.constraints:
        name = sql.Identifier(each["name"])
        if each["type"] == "p":
            columns = [*each["columns"], *([] if key in each["columns"] else [key])]
            texts.append(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY ({})").format(table, name, _list(columns))
            )
        elif each["name"] != RANGE_CHECK:
            definition = sql.SQL(each["definition"])
            texts.append(sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(table, name, definition))
        if each["comment"]:
            texts.append(
                sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(name, table, sql.Literal(each["comment"]))
            )
    backing = {each["index"] for each in found.constraints}
    for each in found.indexes:
        if each["oid"] in backing or each["name"] == names.key:
            continue
        texts.append(sql.SQL(each["definition"]))
        if each["comment"]:
            texts.append(
                sql.SQL("COMMENT ON INDEX {} IS {}").format(
                    names.identifier(each["name"]), sql.Literal(each["comment"])
                )
            )
    if found.shape["row_security"]:
        texts.append(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(table))
    if found.shape["forced_row_security"]:
        texts.append(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(table))
    return texts + [_policy(table, each) for each in found.policies]


def dress(names: Names, found: Attached, restart: int | None) -> list[Any]:
    """Return what gives the table of the name what hung on the one before: sequences, triggers, rights, views."""
    table = names.identifier(names.table)
    texts: list[Any] = []
    if found.shape["comment"]:
        texts.append(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(found.shape["comment"])))
    if found.identity and found.sequence:
        sequence = found.sequence
        options = "INCREMENT BY {increment} MINVALUE {minimum} MAXVALUE {maximum} START WITH {start} CACHE {cache}"
        texts.append(
            sql.SQL(
                f"ALTER TABLE {{}} ALTER {{}} ADD GENERATED {IDENTITY[found.identity['identity']]} AS IDENTITY ("
            ).format(table, _name(found.identity))
            + sql.SQL(options.format(**sequence) + (" CYCLE)" if sequence["cycle"] else ")"))
        )
        if restart is not None:
            texts.append(
                sql.SQL("ALTER TABLE {} ALTER {} RESTART WITH {}").format(
                    table, _name(found.identity), sql.Literal(restart)
                )
            )
    for each in found.shape["columns"]:
        if each["sequence"] and not each["identity"]:
            owned = sql.SQL(each["sequence"])
            texts.append(sql.SQL("ALTER SEQUENCE {} OWNED BY {}.{}").format(owned, table, _name(each)))
    for each in found.triggers:
        if each["name"] == names.trigger:
            continue
        texts.append(sql.SQL(each["definition"]))
        if each["enabled"] in ENABLED:
            texts.append(
                sql.SQL(f"ALTER TABLE {{}} {ENABLED[each['enabled']]} {{}}").format(table, sql.Identifier(each["name"]))
            )
    texts += [_grant(table, each) for each in found.grants]
    texts += [_view(each) for each in found.dependents if each["kind"] == "v"]
    texts += [_publication(each, "ADD", table) for each in found.publications]
    if found.shape["replica_identity"] in ("f", "n"):
        kind = {"f": "FULL", "n": "NOTHING"}[found.shape["replica_identity"]]
        texts.append(sql.SQL(f"ALTER TABLE {{}} REPLICA IDENTITY {kind}").format(table))
    return texts


def revert(
    names: Names, found: Attached, indexes: Mapping[str, str], was: Sequence[str] | None, restart: int | None
) -> list[Any]:
    """Return the statements that make the legacy partition the table again, with the rows of the others.

    ``found`` is the partitioned table; ``indexes`` names, for each index of it, the one of the legacy partition;
    ``was`` holds the columns of the primary key that it had, where that changed.
    """
    table, legacy, old = (names.identifier(each) for each in (names.table, names.legacy, names.old))
    columns = _list(found.columns)
    primary = found.primary_key
    texts = [
        sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(table, legacy),
        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(legacy, columns, columns, table),
    ]
    texts += [_publication(each, "DROP", table) for each in found.publications]
    texts += [
        sql.SQL("ALTER SEQUENCE {} OWNED BY NONE").format(sql.SQL(each["sequence"]))
        for each in found.shape["columns"]
        if each["sequence"] and not each["identity"]
    ]
    texts += [
        sql.SQL("ALTER TABLE {} RENAME TO {}").format(table, sql.Identifier(names.old)),
        sql.SQL("ALTER TABLE {} RENAME TO {}").format(legacy, sql.Identifier(names.table)),
    ]
    texts += [_view(each) for each in found.dependents if each["kind"] == "v"]
    texts.append(sql.SQL("DROP TABLE {}").format(old))
    if primary and was:
        texts.append(
            sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, sql.Identifier(indexes[primary["name"]]))
        )
        texts.append(
            sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY USING INDEX {}").format(
                table, sql.Identifier(primary["name"]), sql.Identifier(names.key)
            )
        )
    for name, other in indexes.items():
        if not (primary and was and name == primary["name"]):
            texts.append(sql.SQL("ALTER INDEX {} RENAME TO {}").format(names.identifier(other), sql.Identifier(name)))
    return texts + dress(names, found, restart)


def _close(table: Any, found: Attached) -> list[Any]:
    """Return what undoes default privileges on a new table, and gives it the owner."""
    texts = [sql.SQL("REVOKE ALL ON {} FROM {}").format(table, _role(each)) for each in found.opened_to]
    if found.shape["owner"] != found.shape["creator"]:
        texts.append(sql.SQL("ALTER TABLE {} OWNER TO {}").format(table, sql.Identifier(found.shape["owner"])))
    return texts


def _policy(table: Any, each: Row) -> Any:
    text = f"CREATE POLICY {{}} ON {{}} AS {'PERMISSIVE' if each['permissive'] else 'RESTRICTIVE'} "
    text += f"FOR {COMMANDS[each['command']]} TO {{}}"
    roles = sql.SQL(", ").join(_role(role) for role in each["roles"])
    policy = sql.SQL(text).format(sql.Identifier(each["name"]), table, roles)
    if each["condition"]:
        policy += sql.SQL(f" USING ({each['condition']})")
    if each["checked"]:
        policy += sql.SQL(f" WITH CHECK ({each['checked']})")
    return policy


def _grant(table: Any, each: Row) -> Any:
    column = sql.SQL(" ({})").format(sql.Identifier(each["column"])) if each["column"] else sql.SQL("")
    option = sql.SQL(" WITH GRANT OPTION" if each["grantable"] else "")
    grant = sql.SQL("GRANT {}{} ON {} TO {}").format(sql.SQL(each["privilege"]), column, table, _role(each["grantee"]))
    return grant + option


def _view(each: Row) -> Any:
    """Return what binds a view to the table that has the name now. Its owner, rights and comment stay."""
    options = f" WITH ({', '.join(each['options'])})" if each["options"] else ""
    return sql.SQL(f"CREATE OR REPLACE VIEW {each['name']}{options} AS {each['definition'].rstrip(';')}")


def _publication(each: Row, verb: str, table: Any) -> Any:
    return sql.SQL(f"ALTER PUBLICATION {{}} {verb} TABLE {{}}").format(sql.Identifier(each["name"]), table)


def _role(name: str | None) -> Any:
    return sql.SQL("PUBLIC") if name is None else sql.Identifier(name)


def _name(column: Row) -> Any:
    return sql.Identifier(column["name"])


def _list(names: Sequence[str]) -> Any:
    return sql.SQL(", ").join(map(sql.Identifier, names))
