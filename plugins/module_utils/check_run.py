# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run checks: queries read-only, statements in transactions that are always rolled back.

Each login has one connection, and the logins work side by side: the checks are many short statements, so that most of
their time is spent waiting for the server.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.check_plan import (
    FAILED,
    INSUFFICIENT_PRIVILEGE,
    UNKNOWN,
    Verdict,
    judge_attempts,
    judge_certificate,
    judge_error,
    judge_rows,
    told,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Row, Session, connect
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.server_certificate import certificate_end


class RoleUnusableError(Exception):
    """The check could not be run as its role; ``verdict`` says why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__()
        self.verdict = verdict


def run_checks(
    checks: Sequence[Mapping[str, Any]], session: Session, options: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the results of checks, in their order, and how each role was acted as.

    ``session`` is that of the module's login, ``options`` the module's. Roles whose password is among
    ``role_logins.passwords`` log in; the others are taken on with SET ROLE.
    """
    role_logins = options["role_logins"]
    passwords = {role: str(password) for role, password in (role_logins.get("passwords") or {}).items() if password}
    role_options = {name: value for name, value in role_logins.items() if name != "passwords" and value is not None}
    logins = {"": Login(options, session=session)}
    for role in passwords.keys() & {check.get("role") for check in checks}:
        as_role = {"login_user": role, "login_password": passwords[role], "session_role": None, **role_options}
        logins[role] = Login({**options, **as_role}, role)
    todo: dict[str, dict[int, Mapping[str, Any]]] = {key: {} for key in logins}
    for place, check in enumerate(checks):
        role = check.get("role") or ""
        todo[role if role in logins else ""][place] = check

    def run_all_of(key: str) -> dict[int, dict[str, Any]]:
        try:
            return {place: logins[key].run(check) for place, check in todo[key].items()}
        finally:
            logins[key].close()

    with ThreadPoolExecutor(len(logins)) as pool:
        results = {place: result for done in pool.map(run_all_of, logins) for place, result in done.items()}
    acted_as = {role: how for login in logins.values() for role, how in login.acted_as.items()}
    return [results[place] for place in range(len(checks))], dict(sorted(acted_as.items()))


class Login:
    """Runs checks over one connection, made when first needed and made again when it breaks."""

    def __init__(self, options: Mapping[str, Any], role: str = "", session: Session | None = None) -> None:
        self.options = options
        self.role = role
        self.session = self._prepared(session) if session else None
        self.refused: PostgresqlError | None = None
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
        """Close the connection."""
        if self.session:
            self.session.connection.close()

    def _verdict(self, check: Mapping[str, Any]) -> Verdict:
        role = check.get("role") or ""
        if check.get("certificate_days"):
            return judge_certificate(certificate_end(self.options), datetime.now(UTC), check["certificate_days"])
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
        session = self._connected()
        with session.discarded():
            if role != self.role:
                self._become(session, role)
            if read_only:
                session.query("SET TRANSACTION READ ONLY")
            try:
                return session.query(text, parameters or None), None
            except PostgresqlError as error:
                return [], error

    def _connected(self) -> Session:
        if self.refused:
            raise RoleUnusableError(Verdict(UNKNOWN, (f"not tried, for the login failed: {told(self.refused)}",)))
        if self.session is None or self.session.connection.closed:
            try:
                self.session = self._prepared(connect(self.options))
            except PostgresqlError as error:
                self.refused = error
                self.acted_as[self.role] = "the login failed"
                raise RoleUnusableError(Verdict(FAILED, (f"the login failed: {told(error)}",))) from error
            if self.role:
                self.acted_as[self.role] = "login"
        return self.session

    def _become(self, session: Session, role: str) -> None:
        try:
            session.query("SELECT pg_catalog.set_config('role', %s, true)", (role,))
        except PostgresqlError as error:
            status = UNKNOWN if error.sqlstate == INSUFFICIENT_PRIVILEGE else FAILED
            raise RoleUnusableError(Verdict(status, (f"not tried: {told(error)}",))) from error
        self.acted_as[role] = "SET ROLE"

    def _prepared(self, session: Session) -> Session:
        # Checks name schemas, so that nobody can put a function of their own before the one that is meant.
        settings = {name: self.options[name] for name in ("statement_timeout", "lock_timeout")}
        for name, value in {**settings, "search_path": "pg_catalog, pg_temp"}.items():
            session.query("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
        return session
