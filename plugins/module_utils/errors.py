# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors that modules raise: each names its cause and its remedy."""

from __future__ import annotations

from typing import Any

# SQLSTATE -> what the operator can do. Codes: PostgreSQL manual, appendix A.
REMEDIES: dict[str, str] = {
    "08001": "check login_host, login_port and that the server runs and listens there",
    "08006": "check login_host, login_port and that the server runs and listens there",
    "25006": "this server is read-only (a standby): run against the primary",
    "28000": "check pg_hba.conf, and that the role may log in from here",
    "28P01": "check login_password in the vault",
    "2BP01": "other objects depend on this one: remove them first",
    "3D000": "check login_db, or create the database first (role audit_database)",
    "3F000": "create the schema first (role audit_database)",
    "42501": "grant the missing right, or log in as a role that has it",
    "42704": "create the missing role or object first",
    "42P01": "create the table first (role audit_schema)",
    "42P17": "the table is not partitioned: convert it first (playbooks/convert_to_partitioned.yml)",
    "53300": "too many connections: close some or raise max_connections",
    "55P03": "another session holds the lock: try again later, or raise lock_timeout or lock_attempts",
    "57014": "the statement took longer than statement_timeout: raise it",
    "57P03": "the server is starting up or shutting down: try again",
}


class PostgresqlError(Exception):
    """An error that a module reports: message, remedy, and SQLSTATE where the server gave one."""

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        sqlstate: str | None = None,
        statement: str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.message = message.strip()
        self.remedy = remedy or REMEDIES.get(sqlstate or "", "")
        self.sqlstate = sqlstate
        self.statement = statement
        self.details = details

    def as_failure(self) -> dict[str, Any]:
        """Return the arguments for ``AnsibleModule.fail_json``."""
        msg = self.message
        if self.sqlstate:
            msg += f" (SQLSTATE {self.sqlstate})"
        if self.remedy:
            msg += f". Remedy: {self.remedy}"
        failure: dict[str, Any] = {"msg": msg, "sqlstate": self.sqlstate, "remedy": self.remedy, **self.details}
        if self.statement:
            failure["failed_statement"] = self.statement
        return failure
