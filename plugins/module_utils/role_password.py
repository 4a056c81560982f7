# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a role has the declared password: by its stored verifier, or by logging in as the role."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils import scram
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, connection_parameters
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_model import Catalog, Wanted

try:
    import psycopg2
    import psycopg2.extensions
except ImportError:
    pass  # run_module reports it

REQUIRE_AUTH_SINCE = 160000  # libpq that can insist on SCRAM

# After these refusals the server has accepted the password: it checks them only once the client is authenticated.
AFTER_AUTHENTICATION = (
    "permission denied for database",
    "is not permitted to log in",
    "too many connections",
    "remaining connection slots",
    "is not currently accepting connections",
)
WRONG = ("password authentication failed", "authentication method requirement")


class Passwords:
    """Which passwords must be set, and about which nothing could be proven."""

    def __init__(self) -> None:
        self.wrong: set[str] = set()
        self.unproven: dict[str, str] = {}  # name -> why


def check_passwords(
    session: Session, options: Mapping[str, Any], wanted: Sequence[Wanted], catalog: Catalog
) -> Passwords:
    """Compare the declared passwords with those that the server has. One that cannot be proven must be set."""
    result = Passwords()
    with_password = [role for role in wanted if role.present and role.password is not None]
    there = [role for role in with_password if role.name in catalog.roles]
    result.wrong |= {role.name for role in with_password} - {role.name for role in there}
    if not there:
        return result
    if session.query("SELECT pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT') AS may")[
        0
    ]["may"]:
        rows = session.query(
            "SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = ANY (%s)",
            ([role.name for role in there],),
        )
        stored = {row["rolname"]: row["rolpassword"] for row in rows}
        result.wrong |= {role.name for role in there if not scram.matches(str(role.password), stored.get(role.name))}
        return result
    for role in there:
        proven, why = _log_in(options, role)
        if why:
            result.unproven[role.name] = why
        if not proven:
            result.wrong.add(role.name)
    return result


def _log_in(options: Mapping[str, Any], role: Wanted) -> tuple[bool, str]:
    """Return whether the server accepts the password, and why nothing is proven if nothing is."""
    parameters = {**connection_parameters(options), "user": role.name, "password": role.password}
    for own in ("sslcert", "sslkey", "passfile", "service"):  # the login's own ways in
        parameters.pop(own, None)
    if psycopg2.extensions.libpq_version() >= REQUIRE_AUTH_SINCE:
        parameters["require_auth"] = "scram-sha-256"
    try:
        connection = psycopg2.connect(**parameters)
    except psycopg2.Error as error:
        message = str(error)
        if any(part in message for part in AFTER_AUTHENTICATION):
            return True, ""
        if any(part in message for part in WRONG):
            return False, ""
        return False, message.strip()
    try:
        if connection.info.used_password:
            return True, ""
        return False, "the server let the role in without asking for its password"
    finally:
        connection.close()


@contextmanager
def unlogged(session: Session, superuser: bool) -> Iterator[None]:
    """Keep the statements in the block, which carry verifiers, out of the log and of pg_stat_statements.

    Only a superuser may. The clear password is never sent in any case.
    """
    if not superuser:
        yield
        return
    quiet = {
        "log_statement": "none",
        "log_min_duration_statement": "-1",
        "log_min_duration_sample": "-1",
        "log_transaction_sample_rate": "0",
        "log_min_error_statement": "panic",
        "pg_stat_statements.track_utility": "off",
    }
    query = "SELECT pg_catalog.set_config(name, value, true) FROM unnest(%s, %s) AS t(name, value)"
    before = session.query(
        "SELECT name, pg_catalog.current_setting(name, true) AS value FROM unnest(%s) AS t(name)", (list(quiet),)
    )
    session.query(query, (list(quiet), list(quiet.values())))
    yield
    # After an error the transaction is gone, and the settings with it.
    known = {row["name"]: row["value"] for row in before if row["value"] is not None}
    session.query(query, (list(known), list(known.values())))
