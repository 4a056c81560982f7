# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run checks: queries read-only, statements in transactions that are always rolled back."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.check_plan import (
    FAILED,
    INSUFFICIENT_PRIVILEGE,
    UNKNOWN,
    Verdict,
    judge_attempts,
    judge_error,
    judge_rows,
    told,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Row, Session, connect
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError


class RoleUnusableError(Exception):
    """The check could not be run as its role; ``verdict`` says why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__()
        self.verdict = verdict


class Checker:
    """Runs checks over one connection a login, made when first needed and made again when it breaks."""

    def __init__(self, session: Session, login: Mapping[str, Any], role_logins: Mapping[str, Any]) -> None:
        self.login = login
        self.passwords: Mapping[str, str] = {
            role: str(password) for role, password in (role_logins.get("passwords") or {}).items() if password
        }
        self.role_options = {
            name: value for name, value in role_logins.items() if name != "passwords" and value is not None
        }
        self.sessions: dict[str, Session] = {"": self._prepared(session)}
        self.refused: dict[str, PostgresqlError] = {}
        self.acted_as: dict[str, str] = {}

    def run(self, check: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result of one check; whatever goes wrong is a result too."""
        begun = time.monotonic()
        try:
            verdict = self._verdict(check)
        except PostgresqlError as error:
            verdict = judge_error(error)
        except RoleUnusableError as refusal:
            verdict = refusal.verdict
        return {
            "name": check["name"],
            "group": check["group"],
            "status": verdict.status,
            "findings": list(verdict.findings),
            "remedy": check["remedy"],
            "duration_ms": round((time.monotonic() - begun) * 1000),
        }

    def close(self) -> None:
        """Close every connection."""
        for session in self.sessions.values():
            session.connection.close()

    def _verdict(self, check: Mapping[str, Any]) -> Verdict:
        role = check.get("role") or ""
        if check.get("query"):
            rows, error = self._attempt(role, check["query"], check.get("parameters"), read_only=True)
            return judge_error(error) if error else judge_rows(rows, advisory=check["advisory"])
        texts = check["statements"]
        return judge_attempts(
            check, [(text, self._attempt(role, text, check.get("parameters"), read_only=False)[1]) for text in texts]
        )

    def _attempt(
        self, role: str, text: str, parameters: Mapping[str, Any] | None, *, read_only: bool
    ) -> tuple[Sequence[Row], PostgresqlError | None]:
        """Run SQL in a transaction that is rolled back; return its rows, and its own error if it failed."""
        session = self._session(role)
        with session.discarded():
            if role and role not in self.passwords:
                self._become(session, role)
            if read_only:
                session.query("SET TRANSACTION READ ONLY")
            try:
                return session.query(text, parameters or None), None
            except PostgresqlError as error:
                return [], error

    def _session(self, role: str) -> Session:
        """Return the role's own connection where its password is known, else that of the login."""
        key = role if role in self.passwords else ""
        if key in self.refused:
            reason = f"not tried, for the login failed: {told(self.refused[key])}"
            raise RoleUnusableError(Verdict(UNKNOWN, (reason,)))
        session = self.sessions.get(key)
        if session is None or session.connection.closed:
            options = dict(self.login)
            if key:
                options |= {"login_user": role, "login_password": self.passwords[role], "session_role": None}
                options |= self.role_options
            try:
                session = self.sessions[key] = self._prepared(connect(options))
            except PostgresqlError as error:
                self.refused[key] = error
                self.acted_as[role] = "the login failed"
                raise RoleUnusableError(Verdict(FAILED, (f"the login failed: {told(error)}",))) from error
            if key:
                self.acted_as[role] = "login"
        return session

    def _become(self, session: Session, role: str) -> None:
        try:
            session.query("SELECT pg_catalog.set_config('role', %s, true)", (role,))
        except PostgresqlError as error:
            status = UNKNOWN if error.sqlstate == INSUFFICIENT_PRIVILEGE else FAILED
            raise RoleUnusableError(Verdict(status, (f"not tried: {told(error)}",))) from error
        self.acted_as[role] = "SET ROLE"

    def _prepared(self, session: Session) -> Session:
        # Checks name schemas, so that nobody can put a function of their own before the one that is meant.
        settings = {name: self.login[name] for name in ("statement_timeout", "lock_timeout")}
        for name, value in {**settings, "search_path": "pg_catalog, pg_temp"}.items():
            session.query("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
        return session
