# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps a table from being converted, everything at once, each with what can be done about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_catalog import Subject
from ansible_collections.auditdb.postgresql.plugins.module_utils.convert_plan import CHECK, check_upper, names
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import KEY_TYPES, KINDS

STAYS = "stays beside the partitions with a copy of its rows: drop it once you have seen that all is there"


@dataclass(frozen=True)
class Obstacle:
    """Something that a conversion cannot carry over."""

    what: str
    remedy: str


def refuse(subject: Subject, obstacles: list[Obstacle]) -> None:
    """Raise where there are obstacles, naming all of them."""
    if obstacles:
        raise PostgresqlError(
            f"{subject.label} cannot be converted as it is: "
            + "; ".join(f"({number}) {each.what}" for number, each in enumerate(obstacles, 1)),
            remedy="; ".join(f"({number}) {each.remedy}" for number, each in enumerate(obstacles, 1)),
            obstacles=[vars(each) for each in obstacles],
        )


def obstacles(subject: Subject, key: str) -> list[Obstacle]:
    """Return all that hangs on the plain table and cannot be carried over."""
    return [
        *_of_kind(subject),
        *of_rights(subject),
        *of_key(subject, key),
        *_of_indexes(subject, key),
        *_of_constraints(subject),
        *of_dependents(subject),
        *_of_replication(subject),
    ]


def _of_kind(subject: Subject) -> Iterator[Obstacle]:
    if subject.kind != "r":
        yield Obstacle(f"it is {KINDS.get(subject.kind, 'something else')}", "name a plain table")
    if subject.partition:
        yield Obstacle("it is a partition itself", "name the partitioned table")
    if subject.persistence != "p":
        yield Obstacle("it is unlogged or temporary", f"ALTER TABLE {subject.label} SET LOGGED, or make it anew")
    if subject.access_method not in ("heap", None):
        yield Obstacle(f"its access method is {subject.access_method}", "ALTER TABLE ... SET ACCESS METHOD heap")
    if subject.typed:
        yield Obstacle("it is a typed table", "ALTER TABLE ... NOT OF")
    if subject.inherits:
        yield Obstacle("it inherits, or others inherit from it", "ALTER TABLE ... NO INHERIT ...")
    if subject.labelled:
        yield Obstacle("it has a security label", "remove the label, and set it again afterwards")
    if subject.extension:
        yield Obstacle(
            f"it belongs to extension {subject.extension}",
            f"ALTER EXTENSION {subject.extension} DROP TABLE {subject.label}",
        )
    for each in subject.rules:
        yield Obstacle(f"rule {each['name']}", f"DROP RULE {each['name']}; a trigger does the same")


def of_rights(subject: Subject) -> Iterator[Obstacle]:
    """Yield what the login may not do."""
    if not subject.owned:
        yield Obstacle(f"{subject.creator} has not the rights of its owner", f"give session_role: {subject.owner}")
    if not subject.may_create:
        yield Obstacle(
            f"{subject.creator} may not create tables in schema {subject.schema}",
            f"GRANT CREATE ON SCHEMA {subject.schema} TO {subject.creator}",
        )


def of_key(subject: Subject, key: str) -> Iterator[Obstacle]:
    """Yield what keeps the column from being a partition key."""
    column = subject.column(key)
    if column is None:
        yield Obstacle(f"it has no column {key}", "give a column of it as key")
    elif column["type"] not in KEY_TYPES:
        yield Obstacle(f"key {key} is of type {column['type']}", f"give a column of type {', '.join(KEY_TYPES)}")
    elif column["generated"]:
        yield Obstacle(f"key {key} is a generated column", "give a column that is written")
    check = subject.constraint(CHECK)
    if check and (check["type"] != "c" or check_upper(check, key) is None):
        yield Obstacle(f"a constraint is named {CHECK}", "rename it")


def _of_indexes(subject: Subject, key: str) -> Iterator[Obstacle]:
    mine = names(subject.name)
    for each in subject.indexes:
        if each["name"] in (mine.index, mine.back):
            continue
        name = each["name"]
        if not each["valid"]:
            yield Obstacle(f"index {name} is invalid", f"REINDEX INDEX CONCURRENTLY {name}, or drop it")
        if each["deferrable"]:
            yield Obstacle(f"constraint {name} is deferrable", f"make {name} not deferrable")
        if each["unique"] and not each["primary"] and key not in each["columns"]:
            yield Obstacle(
                f"unique index {name} is without {key}, so partitions could not keep it",
                f"make it unique with {key}, or drop it",
            )

    primary = subject.primary_key
    if primary and key not in primary["columns"]:
        yield from of_key_dependents(subject)


def of_key_dependents(subject: Subject) -> Iterator[Obstacle]:
    """Yield what is in the way of another primary key."""
    for each in subject.key_dependents:
        yield Obstacle(
            f"{each['description']} needs the primary key as it is",
            "drop that, and make it anew afterwards; in GROUP BY, name all columns",
        )


def _of_constraints(subject: Subject) -> Iterator[Obstacle]:
    for each in subject.constraints:
        name = each["name"]
        if each["type"] == "x":
            yield Obstacle(f"exclusion constraint {name}", f"ALTER TABLE {subject.label} DROP CONSTRAINT {name}")
        elif not each["valid"] and name != CHECK:
            yield Obstacle(f"constraint {name} is not valid", f"ALTER TABLE {subject.label} VALIDATE CONSTRAINT {name}")
        elif each["no_inherit"] and each["type"] == "c":
            yield Obstacle(f"check {name} is NO INHERIT", f"make {name} without NO INHERIT")
    for each in subject.triggers:
        if each["transition"] and each["for_row"]:
            yield Obstacle(
                f"trigger {each['name']} is for each row and has transition tables",
                f"make {each['name']} for each statement",
            )


def of_dependents(subject: Subject) -> Iterator[Obstacle]:
    """Yield what is bound to the table from elsewhere."""
    for each in subject.references:
        yield Obstacle(
            f"foreign key {each['name']} of {each['table']} refers to it",
            f"ALTER TABLE {each['table']} DROP CONSTRAINT {each['name']}; it can come back with the key in it",
        )
    for each in subject.views:
        if not each["owned"]:
            yield Obstacle(
                f"view {each['schema']}.{each['name']} belongs to somebody else",
                "log in as a role with the rights of its owner",
            )
    for each in subject.others:
        yield Obstacle(
            f"{each['description']} is bound to it",
            "drop that, and make it anew afterwards: it would go on with the old table alone",
        )


def _of_replication(subject: Subject) -> Iterator[Obstacle]:
    if subject.replica_identity == "i":
        yield Obstacle(
            "its replica identity is an index, which partitions have under other names",
            f"ALTER TABLE {subject.label} REPLICA IDENTITY DEFAULT, or FULL",
        )
    if subject.subscribed:
        yield Obstacle(
            "its rows come from a subscription, which would not know the new table",
            "drop the subscription; make it anew afterwards with copy_data = false, while nobody writes there",
        )
    for each in subject.publications:
        if not each["via_root"]:
            yield Obstacle(
                f"publication {each['name']} would publish each partition under its own name",
                f"ALTER PUBLICATION {each['name']} SET (publish_via_partition_root = true)",
            )
        if each["listed"] and not each["owned"]:
            yield Obstacle(
                f"publication {each['name']} belongs to somebody else", "log in as a role with its owner's rights"
            )


def warnings(subject: Subject, key: str, split: bool) -> list[str]:
    """Return what is carried over, and yet not as it was."""
    found = []
    primary = subject.primary_key
    if primary and key not in primary["columns"]:
        found.append(
            f"the primary key becomes ({', '.join([*primary['columns'], key])}): "
            f"({', '.join(primary['columns'])}) alone is no longer kept unique, and ON CONFLICT must name {key}, too"
        )
    if subject.options:
        found.append(f"storage parameters stay with the legacy partition alone: {', '.join(subject.options)}")
    if any(each["for_row"] for each in subject.triggers):
        found.append("triggers for each row see the name of the partition in TG_TABLE_NAME")
    if any(each["options"] for each in subject.columns):
        found.append("options of columns, such as n_distinct, stay with the legacy partition alone")
    if split:
        found.append(f"{names(subject.name).legacy} {STAYS}")
    return found
