# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run checks: queries read-only, statements in transactions that are always rolled back."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.check_plan import (
    UNKNOWN,
    Verdict,
    judge_query,
    judge_statements,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, connect
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError


class Checker:
    """Runs checks over one connection a role, opened when it is first needed."""

    def __init__(self, login: Mapping[str, Any], role_logins: Mapping[str, Any], timeouts: Mapping[str, str]) -> None:
        self.login = login
        self.role_logins = role_logins
        self.timeouts = timeouts
        self.sessions: dict[str, Session] = {}

    def run(self, check: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result of one check; whatever goes wrong is a result too."""
        begun = time.monotonic()
        try:
            verdict = self._verdict(check)
        except PostgresqlError as error:  # the login itself, or the change of role
            told = error.as_failure()["msg"]
            verdict = Verdict(UNKNOWN if self._cannot_become(check, error) else "failed", [told])
        return {
            "name": check["name"],
            "group": check["group"],
            "status": verdict.status,
            "findings": verdict.findings,
            "remedy": check["remedy"],
            "duration_ms": round((time.monotonic() - begun) * 1000),
        }

    def close(self) -> None:
        """Close every connection."""
        for session in self.sessions.values():
            session.connection.close()

    def _cannot_become(self, check: Mapping[str, Any], error: PostgresqlError) -> bool:
        return bool(check.get("role")) and not self._password(check["role"]) and error.sqlstate == "42501"

    def _password(self, role: str | None) -> str | None:
        passwords: Mapping[str, str] = self.role_logins.get("passwords") or {}
        return passwords.get(role) if role else None

    def _verdict(self, check: Mapping[str, Any]) -> Verdict:
        session = self._session(check)
        role = check.get("role")
        become = role if role and not self._password(role) else None
        if check.get("query"):
            return judge_query(*self._attempt(session, check["query"], check, become, read_only=True))
        return judge_statements(
            check,
            {text: self._attempt(session, text, check, become, read_only=False)[1] for text in check["statements"]},
        )

    @staticmethod
    def _attempt(
        session: Session, text: str, check: Mapping[str, Any], become: str | None, *, read_only: bool
    ) -> tuple[Sequence[Mapping[str, Any]] | None, PostgresqlError | None]:
        """Run SQL in a transaction that is rolled back; only the error of the SQL itself is returned."""
        with session.discarded():
            if become:
                session.query("SELECT pg_catalog.set_config('role', %s, true)", (become,))
            if read_only:
                session.query("SET TRANSACTION READ ONLY")
            try:
                return session.query(text, check.get("parameters") or None), None
            except PostgresqlError as error:
                return None, error

    def _session(self, check: Mapping[str, Any]) -> Session:
        role = check.get("role")
        password = self._password(role)
        key = role if password else ""
        session = self.sessions.get(key or "")
        if session is None or session.connection.closed:
            options = dict(self.login)
            if password:
                options |= {name: value for name, value in self.role_logins.items() if name != "passwords"}
                options |= {"login_user": role, "login_password": password, "session_role": None}
            session = self.sessions[key or ""] = connect(options)
            for name, value in self.timeouts.items():
                session.query("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
        return session
