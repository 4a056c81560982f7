"""The checks of role audit_health, as its template renders them: all hold on what the roles make, and each can fail."""

from __future__ import annotations

import secrets
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import psycopg2
import pytest
import tenacity
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_files import load_directory

from .conftest import call_module
from .declarations import declared

# The names of the roles are fixed, and all databases of a server share them: one at a time.
pytestmark = pytest.mark.xdist_group("audit-roles")

ROLES = Path(__file__).resolve().parents[2] / "roles"
# In these the throwaway server is not as the role postgresql_server makes one. They hold in molecule's scenario.
OF_THE_SERVER = [
    "client authentication: nobody is trusted, nothing is open to the world, TLS everywhere",
    "no setting waits for a restart, no file has an error",
]
LOGGED = "log_connections=on log_disconnections=on log_lock_waits=on log_min_duration_statement=1000"


class Audit:
    """A database that the modules made from the roles' own declarations, and the checks on it."""

    def __init__(self, server: Any, authority: Path) -> None:
        self.server = server
        authority.write_text(server.certificate)
        self.role_login = {
            "login_host": "localhost",  # as in the certificate
            "ssl_mode": "verify-full",
            "ca_cert": str(authority),
            "connect_params": {"hostaddr": server.host},
        }
        self.name = f"health_{uuid.uuid4().hex[:12]}"
        self.login = {"login_host": server.host, "login_user": "postgres", "login_password": server.password}

    def query(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        connection = self.server.connect(database or self.name)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(psycopg2.errors.DependentObjectsStillExist),
        stop=tenacity.stop_after_delay(90),
        wait=tenacity.wait_fixed(1),
        reraise=True,
    )
    def clean(self) -> None:
        """Drop what there is; where a test that ends soon still has something of it, when that is gone."""
        for (name,) in self.query("SELECT datname FROM pg_database WHERE datname ~ '^health_'", "postgres"):
            self.query(f'DROP DATABASE "{name}" WITH (FORCE)', "postgres")
        roles = "SELECT rolname FROM pg_roles WHERE rolname ~ '^(audit|health)_' ORDER BY rolname"
        for (name,) in self.query(roles, "postgres"):
            self.query(f'DROP OWNED BY "{name}" CASCADE; DROP ROLE "{name}"', "postgres")

    def make(self) -> None:
        names = ["migrator", "partitioner", "writer", "reader", "verifier", "backup", "monitor"]
        self.passwords = {f"audit_{name}": secrets.token_hex(16) for name in names}
        self.of = of = declared(
            "audit_database_roles",
            "audit_database_extensions",
            "audit_database_search_path",
            "audit_schema_migrations",
            "audit_partitions_tables",
            "audit_access_grants",
            audit_passwords=self.passwords,
        )
        call_module("postgresql_roles", **self.login, roles=of["audit_database_roles"], passwords=self.passwords)
        self.query(f"CREATE DATABASE {self.name} OWNER audit_owner TEMPLATE template0", "postgres")
        here = {**self.login, "login_db": self.name}
        for extension in of["audit_database_extensions"]:
            self.query(f"CREATE EXTENSION {extension} SCHEMA public")
        owned = {"owner_role": "audit_owner", "schemas": ["audit"]}
        search_path = {"search_path": of["audit_database_search_path"]}
        call_module("postgresql_grants", **here, **owned, create_schemas=True, database_settings=search_path)
        path = of["audit_schema_migrations"]
        migrations = [each.as_dict() for each in load_directory(Path(path), "auto")]
        as_owner = {**here, "session_role": "audit_owner"}
        call_module("postgresql_migration", **as_owner, schema="audit", path=path, migrations=migrations)
        for table in of["audit_partitions_tables"]:
            call_module("postgresql_partition", **as_owner, **table)
        call_module("postgresql_grants", **here, **owned, grants=of["audit_access_grants"])
        found = call_module("postgresql_partition_info", **here, tables=of["audit_partitions_tables"])
        self.partitions = [part["name"] for part in found["tables"][0]["partitions"]]
        given = {"__audit_health_found_partitions": found, "audit_passwords": self.passwords}
        checks = declared("__audit_health_checks", **given)
        self.checks = {check["name"]: check for check in checks["__audit_health_checks"]}

    def results(self, *names: str, options: str = LOGGED, **login: Any) -> dict[str, dict[str, Any]]:
        """Run the checks of these names, or all but those of a real host, and return their results by name."""
        wanted = [check for name, check in self.checks.items() if name in (names or self.checks)]
        result = call_module(
            "postgresql_check",
            **{**self.login, "login_db": self.name, **login},
            connect_params={"options": " ".join(f"-c {option}" for option in options.split())},
            checks=wanted,
            role_logins={"passwords": self.passwords, **self.role_login},
        )
        assert result["changed"] is False
        return {each["name"]: each for each in result["results"]}


@pytest.fixture(scope="module")
def audit(server, tmp_path_factory) -> Iterator[Audit]:
    # The names of the roles are fixed, and all databases of a server share them: one at a time.
    with filelock.FileLock(Path(tempfile.gettempdir()) / f"auditdb-roles-{server.version}.lock"):
        audit = Audit(server, tmp_path_factory.mktemp("authority") / "ca.crt")
        audit.clean()  # what an earlier run left when it was killed
        audit.make()
        yield audit
        audit.clean()


TRIED = "{role} tried to change, delete, truncate and drop events, also in a partition, and was refused"
OTHERS = "{role} tried what is others' work, and was refused"
CATALOG = "append-only in the catalog, partitions included"
PUBLIC = "PUBLIC has no rights on the database, its schemas and what is in them"
POWER = "it is known who can act as audit_owner or as the server"
MEMBERS = "nobody undeclared has a component's rights"
SCHEMA = "columns, constraints, indexes and functions are those of the migrations"
DEPENDENCY = "dependency ordering: every table is there, every foreign key is validated"
OWNER = "database, schema and everything in it belong to audit_owner"
WRITER, READER = "audit_writer", "audit_reader"
# What somebody does by hand, how it is undone, the checks that must see it, and what one of their findings says.
BREAKS: list[tuple[str, str, list[str], str]] = [
    (
        "GRANT UPDATE ON audit.audit_log TO audit_writer",
        "REVOKE UPDATE ON audit.audit_log FROM audit_writer",
        [CATALOG, TRIED.format(role=WRITER)],
        "UPDATE audit.audit_log SET id = DEFAULT WHERE false: accepted",
    ),
    (
        "GRANT UPDATE (archived_at) ON audit.audit_log TO audit_verifier",
        "REVOKE UPDATE (archived_at) ON audit.audit_log FROM audit_verifier",
        [CATALOG, TRIED.format(role="audit_verifier")],
        "archived_at",
    ),
    (
        "GRANT DELETE ON audit.audit_integrity_log TO audit_verifier",
        "REVOKE DELETE ON audit.audit_integrity_log FROM audit_verifier",
        [CATALOG, TRIED.format(role="audit_verifier")],
        "DELETE FROM audit.audit_integrity_log WHERE false: accepted",
    ),
    (
        "GRANT TRUNCATE ON audit.{partition} TO audit_reader",
        "REVOKE TRUNCATE ON audit.{partition} FROM audit_reader",
        [
            CATALOG,
            TRIED.format(role=READER),
            "nobody but the owner has rights on a partition directly",
        ],
        "TRUNCATE audit.{partition}: ",
    ),
    (
        "GRANT SELECT ON audit.{partition} TO audit_reader",
        "REVOKE SELECT ON audit.{partition} FROM audit_reader",
        ["nobody but the owner has rights on a partition directly"],
        "{partition}",
    ),
    (
        "GRANT DELETE ON audit.audit_log TO PUBLIC",
        "REVOKE DELETE ON audit.audit_log FROM PUBLIC",
        [CATALOG, PUBLIC],
        "",
    ),
    ("GRANT pg_write_all_data TO audit_monitor", "REVOKE pg_write_all_data FROM audit_monitor", [CATALOG, MEMBERS], ""),
    (
        "GRANT SELECT ON audit.audit_log TO audit_monitor",
        "REVOKE SELECT ON audit.audit_log FROM audit_monitor",
        [OTHERS.format(role="audit_monitor")],
        "SELECT details FROM audit.audit_log WHERE false: accepted",
    ),
    (
        "GRANT INSERT ON audit.audit_log TO audit_reader",
        "REVOKE INSERT ON audit.audit_log FROM audit_reader",
        [OTHERS.format(role=READER)],
        "accepted, and must be refused",
    ),
    (
        "GRANT CREATE ON SCHEMA public TO audit_backup",
        "REVOKE CREATE ON SCHEMA public FROM audit_backup",
        [OTHERS.format(role="audit_backup")],
        "CREATE TABLE public.health_attempt (): accepted",
    ),
    (
        "GRANT TEMPORARY ON DATABASE {database} TO PUBLIC",
        "REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
        [PUBLIC, OTHERS.format(role="audit_migrator"), OTHERS.format(role="audit_partitioner")],
        "TEMPORARY",
    ),
    (
        "GRANT SELECT (action) ON audit.audit_log TO PUBLIC",
        "REVOKE SELECT (action) ON audit.audit_log FROM PUBLIC",
        [PUBLIC],
        "audit.audit_log.action: SELECT",
    ),
    (
        "GRANT EXECUTE ON FUNCTION audit.mark_archived TO audit_verifier",
        "REVOKE EXECUTE ON FUNCTION audit.mark_archived FROM audit_verifier",
        [OTHERS.format(role="audit_verifier")],
        "mark_archived",
    ),
    (
        "REVOKE EXECUTE ON FUNCTION audit.mark_archived FROM audit_partitioner",
        "SET ROLE audit_owner; GRANT EXECUTE ON FUNCTION audit.mark_archived TO audit_partitioner",
        ["permission: audit_partitioner can do its work"],
        "permission denied for function mark_archived",
    ),
    (
        "REVOKE INSERT ON audit.audit_log FROM audit_writer",
        "SET ROLE audit_owner; GRANT INSERT ON audit.audit_log TO audit_writer",
        ["permission: audit_writer can do its work"],
        "refused, permission denied for table audit_log (SQLSTATE 42501)",
    ),
    (
        "REVOKE USAGE ON SCHEMA audit FROM audit_reader",
        "SET ROLE audit_owner; GRANT USAGE ON SCHEMA audit TO audit_reader",
        ["permission: audit_reader can do its work", "the four retention policies are there"],
        "permission denied for schema audit",
    ),
    (
        "REVOKE SELECT ON audit.audit_log FROM audit_verifier",
        "SET ROLE audit_owner; GRANT SELECT ON audit.audit_log TO audit_verifier",
        ["permission: audit_verifier can do its work"],
        "permission denied",
    ),
    (
        "REVOKE audit_owner FROM audit_migrator",
        "GRANT audit_owner TO audit_migrator",
        ["permission: audit_migrator can do its work"],
        "permission denied to set role",
    ),
    (
        "GRANT audit_owner TO audit_backup",
        "REVOKE audit_owner FROM audit_backup",
        [POWER, MEMBERS, TRIED.format(role="audit_backup"), OTHERS.format(role="audit_backup")],
        "audit_backup can become audit_owner",
    ),
    (
        "GRANT audit_owner TO audit_reader",
        "REVOKE audit_owner FROM audit_reader",
        [POWER, TRIED.format(role=READER), OTHERS.format(role=READER)],
        "",
    ),
    (
        "CREATE ROLE health_boss SUPERUSER",
        "DROP ROLE health_boss",
        [POWER],
        "health_boss is a superuser",
    ),
    (
        "CREATE ROLE health_one; GRANT audit_writer TO health_one; GRANT pg_execute_server_program TO health_one",
        "DROP ROLE health_one",
        [POWER, MEMBERS],
        "health_one can run programs as the server",
    ),
    (
        "ALTER ROLE audit_writer BYPASSRLS",
        "ALTER ROLE audit_writer NOBYPASSRLS",
        ["the component roles exist, and none has a superuser's rights"],
        "audit_writer",
    ),
    (
        "ALTER ROLE audit_monitor CREATEROLE",
        "ALTER ROLE audit_monitor NOCREATEROLE",
        ["the component roles exist, and none has a superuser's rights", OTHERS.format(role="audit_monitor")],
        "",
    ),
    *(
        (
            f"ALTER ROLE audit_{name} NOLOGIN",
            f"ALTER ROLE audit_{name} LOGIN",
            [f"permission: audit_{name} logs in with the vault's password"],
            "is not permitted to log in",
        )
        for name in ("migrator", "partitioner", "writer", "reader", "verifier", "backup", "monitor")
    ),
    (
        "ALTER ROLE audit_backup PASSWORD NULL",
        "",
        ["every password is stored as SCRAM-SHA-256"],
        "audit_backup has no password",
    ),
    (
        "CREATE ROLE health_md5 LOGIN; UPDATE pg_authid SET rolpassword = 'md5' WHERE rolname = 'health_md5'",
        "DROP ROLE health_md5",
        ["every password is stored as SCRAM-SHA-256"],
        "health_md5 has another kind",
    ),
    (
        "ALTER FUNCTION audit.mark_archived RESET search_path",
        "ALTER FUNCTION audit.mark_archived SET search_path = pg_catalog, pg_temp",
        ["what runs with its owner's rights cannot be fooled by the caller's search_path", SCHEMA],
        "mark_archived",
    ),
    (
        "ALTER DATABASE {database} OWNER TO postgres",
        "ALTER DATABASE {database} OWNER TO audit_owner",
        [OWNER],
        "database",
    ),
    (
        "ALTER TABLE audit.{partition} OWNER TO postgres",
        "ALTER TABLE audit.{partition} OWNER TO audit_owner",
        [OWNER],
        "what=audit.{partition}, owner=postgres",
    ),
    (
        "ALTER DATABASE {database} SET search_path = public",
        "ALTER DATABASE {database} SET search_path = audit, public",
        ["names are looked up in audit, public"],
        "is public",
    ),
    (
        "ALTER DATABASE {database} RESET search_path",
        "ALTER DATABASE {database} SET search_path = audit, public",
        ["names are looked up in audit, public"],
        "not set",
    ),
    (
        "ALTER ROLE audit_reader SET client_encoding = LATIN1",
        "ALTER ROLE audit_reader RESET client_encoding",
        ["charset: no role or database makes clients speak another encoding"],
        "client_encoding=latin1",
    ),
    (
        "UPDATE pg_database SET datcollversion = '0.1' WHERE datname = current_database()",
        "ALTER DATABASE {database} REFRESH COLLATION VERSION",
        ["charset: text is sorted as when its indexes were made"],
        "collation version 0.1",
    ),
    (
        "UPDATE pg_database SET datctype = 'C' WHERE datname = current_database()",
        "UPDATE pg_database SET datctype = 'en_US.UTF-8' WHERE datname = current_database()",
        ["charset: the database is UTF8, en_US.UTF-8"],
        "datctype=C",
    ),
    (
        "DROP EXTENSION pgcrypto",
        "CREATE EXTENSION pgcrypto SCHEMA public",
        ["extensions (only a superuser may create some): pgcrypto, pg_stat_statements"],
        "pgcrypto",
    ),
    ("DROP TABLE audit.report_executions", "MIGRATION 0005", [DEPENDENCY, SCHEMA], "does not exist"),
    (
        "ALTER TABLE audit.report_executions ADD CONSTRAINT probe FOREIGN KEY (organization_id) "
        "REFERENCES audit.scheduled_reports (id) NOT VALID",
        "ALTER TABLE audit.report_executions DROP CONSTRAINT probe",
        [DEPENDENCY],
        "probe is not validated",
    ),
    (
        "ALTER TABLE audit.report_executions ADD COLUMN other varchar REFERENCES audit.scheduled_reports",
        "ALTER TABLE audit.report_executions DROP COLUMN other",
        ["every foreign key has an index"],
        "other_fkey",
    ),
    (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit.error_log_code'::regclass",
        "DROP INDEX audit.error_log_code",
        ["every index is valid"],
        "error_log_code",
    ),
    (
        "DROP INDEX audit.audit_log_hash_idx",
        "SET ROLE audit_owner; CREATE INDEX audit_log_hash_idx ON audit.audit_log USING hash (hash)",
        [SCHEMA],
        "missing in schema audit: indexes: audit_log audit_log_hash_idx",
    ),
    (
        "ALTER TABLE audit.audit_log ALTER action DROP NOT NULL",
        "ALTER TABLE audit.audit_log ALTER action SET NOT NULL",
        [SCHEMA],
        "action",
    ),
    (
        "ALTER TABLE audit.audit_integrity_log DISABLE TRIGGER ALL",
        "ALTER TABLE audit.audit_integrity_log ENABLE TRIGGER ALL",
        ["no trigger was switched off, and no rule was added"],
        "audit.audit_integrity_log: trigger",
    ),
    (
        "CREATE RULE quiet AS ON INSERT TO audit.scheduled_reports DO INSTEAD NOTHING",
        "DROP RULE quiet ON audit.scheduled_reports",
        ["no trigger was switched off, and no rule was added"],
        "rule quiet",
    ),
    (
        "UPDATE audit.audit_retention_policy SET policy_name = 'gone' WHERE policy_name = 'minimal'",
        "UPDATE audit.audit_retention_policy SET policy_name = 'minimal' WHERE policy_name = 'gone'",
        ["the four retention policies are there"],
        "minimal is missing",
    ),
    (
        "SELECT setval('audit.audit_retention_policy_id_seq', 2147483640)",
        "SELECT setval('audit.audit_retention_policy_id_seq', 100)",
        ["no sequence and no transaction number is about to run out"],
        "100 percent",
    ),
]
# Broken by the options of the login, for the server is shared: (options, check, finding).
SESSIONS = [
    (LOGGED.replace("log_connections=on", "log_connections=off"), "log_connections"),
    (LOGGED.replace("1000", "-1"), "log_min_duration_statement"),
    (LOGGED.replace("log_lock_waits=on", "log_lock_waits=off"), "log_lock_waits"),
]
WHAT_IS_LOGGED = "what is logged: slow statements, checkpoints, connections, lock waits"
ENCRYPTED = "TLS 1.2 or later is offered, passwords are stored as SCRAM"
ARRIVES = "charset: Thai, emoji and combining marks arrive as they were sent"
CERTIFICATE = "the certificate that the server shows is trusted, and valid for 14 days more"
# Seen red by other tests below, or by nothing that a test can do to a server that others share.
ELSEWHERE = {
    WHAT_IS_LOGGED,
    ENCRYPTED,
    "retention policies: what an operator changed, as they may, is said",
    ARRIVES,
    CERTIFICATE,
    "pg_stat_statements is preloaded",  # takes a restart: molecule's scenario does it
    "data checksums are on, and none has failed",  # likewise
    OTHERS.format(role="audit_writer"),  # the same statements as for audit_reader
    TRIED.format(role="audit_migrator"),
    TRIED.format(role="audit_partitioner"),
    TRIED.format(role="audit_monitor"),
    *OF_THE_SERVER,
}


def test_all_hold_on_what_the_roles_make(audit):
    bad = {name: each for name, each in audit.results().items() if each["status"] != "ok" and name not in OF_THE_SERVER}
    assert not bad
    assert audit.results()["the four retention policies are there"]["findings"] == []


def test_every_check_is_broken_here_or_named(audit):
    broken = {name for _broken, _mended, names, _word in BREAKS for name in names}
    assert set(audit.checks) - broken == ELSEWHERE - broken
    assert broken <= set(audit.checks)


def test_each_break_is_seen_by_its_checks(audit):
    """One test for all, so that the order holds and nothing runs beside it; each failure names its break."""
    audit.query("CREATE INDEX error_log_code ON audit.error_log (code)")
    unseen = []
    for broken, mended, names, word in BREAKS:
        filled = [text.format(database=audit.name, partition=audit.partitions[0]) for text in (broken, mended, word)]
        audit.query(filled[0])
        try:
            results = audit.results(*names)
        finally:
            mend(audit, filled[1])
        unseen += [(filled[0], name, each["status"]) for name, each in results.items() if each["status"] == "ok"]
        findings = [finding for each in results.values() for finding in each["findings"]]
        if not any(filled[2] in finding for finding in findings):
            unseen.append((filled[0], filled[2], findings))
    assert not unseen, "\n".join(map(str, unseen))
    bad = {name: each for name, each in audit.results().items() if each["status"] != "ok" and name not in OF_THE_SERVER}
    assert not bad, "a break was not undone"


def mend(audit: Audit, statement: str) -> None:
    if statement == "MIGRATION 0005":
        text = (ROLES / "audit_schema/files/migrations/0005_scheduled_reports.sql").read_text()
        audit.query("DROP TABLE audit.scheduled_reports")
        audit.query(f"SET ROLE audit_owner; {text}")
        grants = audit.of["audit_access_grants"]
        options = {"owner_role": "audit_owner", "schemas": ["audit"], "grants": grants, "login_db": audit.name}
        call_module("postgresql_grants", **{**audit.login, **options})
    elif not statement:
        roles = audit.of["audit_database_roles"]
        call_module("postgresql_roles", **audit.login, roles=roles, passwords=audit.passwords)
    else:
        audit.query(statement)


@pytest.mark.parametrize(("options", "word"), SESSIONS)
def test_what_is_not_logged_is_found(audit, options, word):
    (result,) = audit.results(WHAT_IS_LOGGED, options=options).values()
    assert result["status"] == "failed"
    assert [finding for finding in result["findings"] if word in finding]


def test_weak_password_hashing_is_found(audit):
    (result,) = audit.results(ENCRYPTED, options="password_encryption=md5").values()
    assert result["status"] == "failed"
    assert "password_encryption" in result["findings"][0]


def test_settings_and_rules_of_the_server_are_found(audit):
    """Files that the server has not read yet; nobody else's session sees a difference."""
    rules = "COPY (SELECT 'host all all 0.0.0.0/0 trust') TO PROGRAM $$cat >> pg_hba.conf$$"
    saved = "COPY (SELECT '') TO PROGRAM $$cp pg_hba.conf pg_hba.saved && cp postgresql.auto.conf auto.saved$$"
    audit.query(f"{saved}; {rules}; COPY (SELECT 'no_such_setting = 1') TO PROGRAM $$cat >> postgresql.auto.conf$$")
    try:
        results = audit.results(*OF_THE_SERVER)
    finally:
        audit.query("COPY (SELECT '') TO PROGRAM $$mv pg_hba.saved pg_hba.conf && mv auto.saved postgresql.auto.conf$$")
    assert [finding for finding in results[OF_THE_SERVER[0]]["findings"] if "0.0.0.0" in finding and "trust" in finding]
    assert [finding for finding in results[OF_THE_SERVER[1]]["findings"] if "no_such_setting" in finding]


def test_a_changed_policy_is_said_and_is_no_failure(audit):
    audit.query("UPDATE audit.audit_retention_policy SET retention_days = 3650 WHERE policy_name = 'standard'")
    name = "retention policies: what an operator changed, as they may, is said"
    (result,) = audit.results(name).values()
    audit.query("UPDATE audit.audit_retention_policy SET retention_days = 2555 WHERE policy_name = 'standard'")
    assert result["status"] == "ok"
    assert "standard: INTERNAL, kept 3650 days" in result["findings"][0]


def test_a_login_that_may_not_look_is_never_told_that_all_is_well(audit):
    results = audit.results(login_user=WRITER, login_password=audit.passwords[WRITER], options="")
    for name in (*OF_THE_SERVER, "every password is stored as SCRAM-SHA-256"):
        assert results[name]["status"] == "unknown"


def test_nothing_is_left_behind(audit):
    before = audit.query(
        "SELECT relname, relfilenode FROM pg_class WHERE relnamespace = 'audit'::regnamespace ORDER BY 1"
    )
    sequences = audit.query("SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'audit' ORDER BY 1")
    audit.results()
    assert before == audit.query(
        "SELECT relname, relfilenode FROM pg_class WHERE relnamespace = 'audit'::regnamespace ORDER BY 1"
    )
    assert sequences == audit.query(
        "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'audit' ORDER BY 1"
    )


def test_a_database_that_cannot_hold_the_text_is_found(audit):
    name = f"health_{uuid.uuid4().hex[:12]}"
    audit.query(f"CREATE DATABASE {name} ENCODING LATIN1 LOCALE 'C' TEMPLATE template0", "postgres")
    (result,) = audit.results(ARRIVES, login_db=name).values()
    assert result["status"] == "failed"
    assert "22P05" in result["findings"][0]


def test_a_certificate_that_ends_soon_is_found(audit):
    check = audit.checks[CERTIFICATE]
    audit.checks["soon"] = {**check, "name": "soon", "certificate_days": 31}
    (result,) = audit.results("soon").values()
    del audit.checks["soon"]
    assert result["status"] == "failed"
    assert "it ends" in result["findings"][0]


def test_a_login_without_a_password_is_not_said_to_work():
    names = ["audit_migrator", "audit_reader"]
    roles = [{"name": name, "login": True} for name in [*names, "audit_verifier"]]
    given = {"audit_migrator": "a", "audit_reader": "", "audit_other": "b"}
    rows, checks = "__audit_health_untried_rows", "__audit_health_checks"
    more = {"audit_health_roles": roles, "audit_passwords": given, "__audit_health_found_partitions": {"tables": []}}
    found = declared(rows, checks, **more)
    said = "permission: {} logs in with the vault's password".format
    assert [(row["name"], row["status"]) for row in found[rows]] == [
        (said("audit_reader"), "skipped"),
        (said("audit_verifier"), "skipped"),
    ]
    assert [check["name"] for check in found[checks] if "logs in with" in check["name"]] == [said("audit_migrator")]
