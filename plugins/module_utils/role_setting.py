# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings of roles and databases (``ALTER ... SET parameter``): lists, booleans, and how the catalog stores them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql

# Parameters whose value is a list of quoted identifiers (GUC_LIST_QUOTE): 'a, b' as one string would be one name.
LISTS = (
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
)
ELEMENT = re.compile(r'\s*("(?:[^"]|"")*"|[^",]*?)\s*(?:,|$)')


def elements(text: str) -> list[str]:
    """Split a list of identifiers at its commas, and undo their quotes."""
    parts = (match[1] for match in ELEMENT.finditer(text))
    names = (part[1:-1].replace('""', '"') if part.startswith('"') else part for part in parts)
    return [name for name in names if name]


def as_text(parameter: str, value: Any) -> str | None:
    """Return an option's value as one text; None stays None, and means a reset."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(element) for element in value)
    return str(value)


def wanted_settings(option: Mapping[str, Any] | None) -> dict[str, str | None]:
    """Return the declared settings with lower-case names and values as text."""
    return {name.lower(): as_text(name, value) for name, value in (option or {}).items()}


def same(parameter: str, wanted: str | None, stored: str | None) -> bool:
    """Return whether the catalog's value is the wanted one."""
    if wanted is None or stored is None or parameter not in LISTS:
        return wanted == stored
    return elements(wanted) == elements(stored)


def parse_stored(stored: Sequence[str] | None) -> dict[str, str]:
    """Turn ``setconfig`` (name=value ...) into a dictionary."""
    pairs = (entry.partition("=") for entry in stored or ())
    return {name.lower(): value for name, _equals, value in pairs}


def set_clause(parameter: str, value: str | None) -> sql.Composable:
    """Return ``SET parameter = value`` or ``RESET parameter``."""
    # A name with a dot (an extension's parameter) is two identifiers.
    name = sql.SQL(".").join(sql.Identifier(part) for part in parameter.split("."))
    if value is None:
        return sql.SQL("RESET {}").format(name)
    values = elements(value) if parameter in LISTS else [value]
    return sql.SQL("SET {} = {}").format(name, sql.SQL(", ").join(map(sql.Literal, values or [""])))
