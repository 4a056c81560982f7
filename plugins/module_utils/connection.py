# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One connection to PostgreSQL, in community.postgresql's option words, that remembers what it executed."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError

try:
    import psycopg2
    import psycopg2.extensions
    import psycopg2.extras

    PSYCOPG2_IMPORT_ERROR: str | None = None
except ImportError:
    PSYCOPG2_IMPORT_ERROR = traceback.format_exc()

try:
    import tenacity

    TENACITY_IMPORT_ERROR: str | None = None
except ImportError:
    TENACITY_IMPORT_ERROR = traceback.format_exc()

if TYPE_CHECKING:
    from typing import TypeAlias

    from ansible.module_utils.basic import AnsibleModule
    from psycopg2 import sql

    Statement: TypeAlias = "str | sql.Composable"

T = TypeVar("T")
Row = dict[str, Any]

CONNECTION_ARGUMENTS: dict[str, dict[str, Any]] = {
    "login_db": {"type": "str", "default": "postgres"},
    "login_user": {"type": "str", "default": "postgres"},
    "login_password": {"type": "str", "default": "", "no_log": True},
    "login_host": {"type": "str", "default": ""},
    "login_unix_socket": {"type": "str", "default": ""},
    "login_port": {"type": "int", "default": 5432},
    "ssl_mode": {
        "type": "str",
        "default": "prefer",
        "choices": ["allow", "disable", "prefer", "require", "verify-ca", "verify-full"],
    },
    "ca_cert": {"type": "str"},
    "ssl_cert": {"type": "path"},
    "ssl_key": {"type": "path"},
    "connect_params": {"type": "dict", "default": {}},
    "session_role": {"type": "str"},
}

LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"
POLL_SECONDS = 0.2


def connection_parameters(options: Mapping[str, Any]) -> dict[str, Any]:
    """Translate module options into libpq connection parameters; empty options are left to libpq."""
    host = options.get("login_host") or options.get("login_unix_socket")
    parameters = {
        "dbname": options.get("login_db"),
        "user": options.get("login_user"),
        "password": options.get("login_password"),
        "host": None if host == "localhost" and options.get("login_unix_socket") else host,
        "port": options.get("login_port"),
        "sslmode": options.get("ssl_mode"),
        "sslrootcert": options.get("ca_cert"),
        "sslcert": options.get("ssl_cert"),
        "sslkey": options.get("ssl_key"),
        "connect_timeout": 10,
        "application_name": "auditdb.postgresql",
        # Said at the login: psycopg2 then encodes text as the server reads it, whatever the encoding of the database.
        "client_encoding": "UTF8",
    }
    parameters = {name: value for name, value in parameters.items() if value not in (None, "")}
    return {**parameters, **(options.get("connect_params") or {})}


def database_error(error: psycopg2.Error, statement: str | None = None) -> PostgresqlError:
    """Wrap a psycopg2 error, keeping SQLSTATE, detail and hint, which the bare message lacks."""
    diagnostics = getattr(error, "diag", None)
    message = getattr(diagnostics, "message_primary", None) or str(error).strip() or type(error).__name__
    for part in ("message_detail", "message_hint"):
        extra = getattr(diagnostics, part, None)
        if extra:
            message += f" - {extra}"
    sqlstate = error.pgcode
    if sqlstate is None and isinstance(error, psycopg2.OperationalError):
        # A refused login carries no SQLSTATE in libpq: tell a wrong password from an unreachable server.
        # With sslmode=prefer the message also holds the second, unencrypted attempt: the first word counts.
        if "password authentication failed" in message:
            sqlstate = "28P01"
        elif "no pg_hba.conf entry" in message or "is not permitted to log in" in message:
            sqlstate = "28000"
        elif "does not exist" in message and "database" in message:
            sqlstate = "3D000"
        else:
            sqlstate = "08006"
    position = getattr(diagnostics, "statement_position", None)
    details: dict[str, Any] = {"position": int(position)} if position else {}
    return PostgresqlError(message, sqlstate=sqlstate, statement=statement, **details)


class Session:
    """A connection in autocommit mode; ``executed`` holds every changing statement in order."""

    def __init__(self, connection: psycopg2.extensions.connection) -> None:
        self.connection = connection
        self.connection.autocommit = True
        self.executed: list[str] = []

    @property
    def server_version(self) -> int:
        """Return the server's major version, e.g. 17."""
        return self.connection.server_version // 10000

    def render(self, statement: Statement, arguments: Sequence[Any] | Mapping[str, Any] | None = None) -> str:
        """Return the statement's text as it is sent, values bound."""
        with self.connection.cursor() as cursor:
            return str(cursor.mogrify(statement, arguments).decode("utf-8"))

    def query(self, statement: Statement, arguments: Sequence[Any] | Mapping[str, Any] | None = None) -> list[Row]:
        """Run a reading statement and return its rows as dictionaries. Not recorded in ``executed``."""
        with self.connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            self._run(cursor, statement, arguments)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def execute(self, statement: Statement, arguments: Sequence[Any] | Mapping[str, Any] | None = None) -> int:
        """Run a changing statement, record its text in ``executed`` and return the number of rows it touched."""
        with self.connection.cursor() as cursor:
            text = self._run(cursor, statement, arguments)
            self.executed.append(text)
            return int(cursor.rowcount)

    def _run(self, cursor: Any, statement: Statement, arguments: Any) -> str:
        text = statement if isinstance(statement, str) else statement.as_string(self.connection)
        try:
            cursor.execute(text, arguments)
        except psycopg2.Error as error:
            raise database_error(error, text) from error
        return text if arguments is None else self.render(text, arguments)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block in one transaction: committed at its end, rolled back with ``executed`` on any error."""
        before = len(self.executed)
        self.connection.autocommit = False
        try:
            yield
            self.connection.commit()
        except BaseException as error:
            if not self.connection.closed:
                self.connection.rollback()
            del self.executed[before:]
            if isinstance(error, psycopg2.Error):  # raised by COMMIT itself, e.g. a deferred constraint
                raise database_error(error) from error
            raise
        finally:
            if not self.connection.closed:
                self.connection.autocommit = True

    @contextmanager
    def discarded(self) -> Iterator[None]:
        """Run the block in one transaction that is always rolled back."""
        before = len(self.executed)
        self.connection.autocommit = False
        try:
            yield
        finally:
            if not self.connection.closed:
                self.connection.rollback()
                self.connection.autocommit = True
            del self.executed[before:]

    def in_recovery(self) -> bool:
        """Return whether the server is a standby."""
        return bool(self.query("SELECT pg_catalog.pg_is_in_recovery() AS standby")[0]["standby"])


def connect(options: Mapping[str, Any]) -> Session:
    """Log in with the given module options and return a session with predictable settings."""
    try:
        session = Session(psycopg2.connect(**connection_parameters(options)))
    except psycopg2.Error as error:
        raise database_error(error) from error
    settle(session, options.get("session_role"))
    return session


def settle(session: Session, role: str | None) -> None:
    """Give the session the settings and the role that this collection's SQL counts on."""
    # Bounds and timestamps must not depend on the server's, the role's or the client's own settings.
    # To compile a query on the catalog takes seconds where a table has thousands of partitions; running it is quick.
    session.query(
        "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET client_min_messages = 'warning'; SET jit = off"
    )
    if role:
        session.query("SELECT pg_catalog.set_config('role', %s, false)", (role,))


def refuse_hidden_rows(session: Session) -> None:
    """Make a row that a policy hides from this login an error (42501), and not a row that is not there."""
    session.query("SET row_security = off")


def with_lock_retries(work: Callable[[], T], *, attempts: int, base: float = 0.1, ceiling: float = 5.0) -> T:
    """Call ``work`` until it gets its locks, waiting a jittered, growing time between attempts.

    Only lock timeouts (55P03) and deadlocks (40P01) are retried. ``base`` and ``ceiling`` are seconds; full jitter as
    described in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """

    def lost_a_lock(error: BaseException) -> bool:
        return isinstance(error, PostgresqlError) and error.sqlstate in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lost_a_lock),
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_random_exponential(multiplier=base, max=ceiling),
        reraise=True,
    )
    return retrying(work)


@contextmanager
def advisory_lock(session: Session, purpose: str, wait: float) -> Iterator[None]:
    """Hold the advisory lock of this purpose in the current database, or raise after ``wait`` seconds.

    The lock is polled in autocommit: a session that waits inside pg_advisory_lock() holds a snapshot, on which the
    CREATE INDEX CONCURRENTLY of the lock's holder would wait in turn.
    """
    key = f"auditdb.postgresql {purpose}"
    deadline = time.monotonic() + wait
    take = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended(%s, 0)) AS taken"
    while not session.query(take, (key,))[0]["taken"]:
        if time.monotonic() >= deadline:
            raise PostgresqlError(
                f"another run holds the lock for {purpose} (waited {wait:g} s)",
                remedy="wait for the other run to end, or raise wait",
                busy=True,
            )
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        if not session.connection.closed:
            session.query("SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended(%s, 0))", (key,))


def run_module(module: AnsibleModule, work: Callable[[AnsibleModule, Session], dict[str, Any]]) -> NoReturn:
    """Connect, call ``work``, and leave through ``exit_json`` or ``fail_json``.

    ``work`` returns the module's result. What it had executed before an error is reported with the failure.
    """
    # Here, because restore drills use this file on hosts that have no Ansible.
    from ansible.module_utils.basic import missing_required_lib  # noqa: PLC0415

    for library, import_error in (("psycopg2", PSYCOPG2_IMPORT_ERROR), ("tenacity", TENACITY_IMPORT_ERROR)):
        if import_error:
            module.fail_json(msg=str(missing_required_lib(library)), exception=import_error)
    session: Session | None = None
    try:
        session = connect(module.params)
        result = work(module, session)
    except PostgresqlError as error:
        executed = session.executed if session else []
        module.fail_json(changed=bool(executed), executed_queries=executed, **error.as_failure())
    finally:
        if session is not None:
            session.connection.close()
    module.exit_json(**result)
    raise SystemExit(os.EX_OK)  # exit_json does not return; this tells the type checker so


def sql_diff(statements: Sequence[str], header: str) -> dict[str, str]:
    """Return a readable diff of the exact SQL: nothing before, the statements after."""
    text = "".join(f"{statement.rstrip().rstrip(';')};\n" for statement in statements)
    return {"before_header": header, "after_header": header, "before": "", "after": text}
