# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From module options to a declaration of rights, every fault named at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_model import (
    DEFAULT_KINDS,
    PRIVILEGES,
    SINCE,
    Declaration,
    Grants,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_setting import wanted_settings

OPTION_KINDS = {
    "schema": "schema",
    "tables": "table",
    "columns": "column",
    "sequences": "sequence",
    "functions": "function",
}
# schema.table, schema.*, schema.table.column; a function is schema.name(types), which the server parses.
SHAPES = {
    "schema": (r"[^.]+", "schema"),
    "table": (r"[^.]+\.[^.]+", "schema.table or schema.*"),
    "column": (r"[^.]+\.[^.]+\.[^.]+", "schema.table.column"),
    "sequence": (r"[^.]+\.[^.]+", "schema.sequence or schema.*"),
    "function": (r"[^.]+\.(\*|.+\(.*\))", "schema.function(types) or schema.*"),
}


def privileges(names: Sequence[str], kind: str, version: int, where: str, faults: list[str]) -> tuple[str, ...]:
    """Return the privileges in their order; ALL means all that this version has."""
    known = [name for name in PRIVILEGES[kind] if SINCE.get(name, 0) <= version]
    wanted = {{"TEMP": "TEMPORARY"}.get(name.upper(), name.upper()) for name in names}
    if wanted & {"ALL", "ALL PRIVILEGES"}:
        return tuple(known)
    for name in sorted(wanted - set(known)):
        if name in PRIVILEGES[kind]:
            faults.append(f"{where}: {name} needs PostgreSQL {SINCE[name]}, this is {version}")
        else:
            faults.append(f"{where}: {name} is no privilege of a {kind}; these are: {', '.join(known)}")
    return tuple(name for name in known if name in wanted)


def _one(option: Mapping[str, Any], schemas: Sequence[str], version: int, faults: list[str]) -> Grants:
    role = option["role"]
    rights: dict[str, dict[str, tuple[str, ...]]] = {}
    names = privileges(option.get("database") or (), "database", version, f"database of {role}", faults)
    if names:
        rights["database"] = {"": names}
    for word, kind in OPTION_KINDS.items():
        pattern, shape = SHAPES[kind]
        for name, listed in (option.get(word) or {}).items():
            where = f"{word} of {role}"
            if not re.fullmatch(pattern, name):
                faults.append(f"{where}: {name!r} is not {shape}")
            elif name.split(".")[0] not in schemas:
                faults.append(f"{where}: the schema of {name!r} is not one of the option schemas")
            elif not isinstance(listed, list):
                faults.append(f"{where}: {name!r} needs a list of privileges, not {listed!r}")
            else:
                # An empty list is kept: it overrides schema.*
                found = privileges([str(entry) for entry in listed], kind, version, f"{where}, {name}", faults)
                rights.setdefault(kind, {})[name] = found
    defaults = {
        DEFAULT_KINDS[word]: privileges(listed, DEFAULT_KINDS[word], version, f"default {word} of {role}", faults)
        for word, listed in (option.get("default") or {}).items()
        if listed
    }
    return Grants("PUBLIC" if role.upper() == "PUBLIC" else role, rights, defaults)


def parse(options: Mapping[str, Any], version: int) -> Declaration:
    """Return the declaration, or raise an error that names all of its faults."""
    faults: list[str] = []
    schemas = tuple(dict.fromkeys(options["schemas"]))
    grants = None
    if options["grants"] is not None:
        grants = tuple(_one(option, schemas, version, faults) for option in options["grants"])
        if any(entry.defaults for entry in grants) and not options["owner_role"]:
            faults.append("default rights need owner_role: the role that creates the objects to come")
    if options["create_schemas"] and not options["owner_role"]:
        faults.append("create_schemas needs owner_role")
    if faults:
        raise PostgresqlError("; ".join(faults), remedy="correct the declaration", faults=faults)
    return Declaration(
        schemas=schemas,
        grants=grants,
        owner=options["owner_role"],
        create_schemas=options["create_schemas"],
        revoke_public=options["public"] == "revoke",
        database_settings=wanted_settings(options["database_settings"]),
    )
