"""playbooks/database.yml with inventories/existing: somebody else's server, over TLS, by an ordinary login."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import psycopg2
import pytest
import tenacity
import yaml
from psycopg2.errors import DependentObjectsStillExist, InsufficientPrivilege

# The names of the roles are fixed, and all databases of a server share them: one at a time.
pytestmark = [pytest.mark.xdist_group("audit-roles"), pytest.mark.newest]

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ROLES = ["migrator", "writer", "reader", "verifier", "partitioner", "backup", "monitor"]
WORD = "canary-"


class Existing:
    """One server, a provisioner's login, and a copy of the inventory that was filled in."""

    def __init__(self, server: Any, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.database = f"existing_{uuid.uuid4().hex[:12]}"
        self.provisioner = f"{self.database}_provisioner"
        self.passwords = {f"audit_{role}": WORD + secrets.token_urlsafe(16) for role in ROLES}
        self.login_password = WORD + secrets.token_urlsafe(16)
        self.inventory = folder / "inventory"

    def query(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        connection = self.server.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def prepare(self) -> None:
        self.query(f"CREATE ROLE {self.provisioner} LOGIN CREATEDB CREATEROLE PASSWORD '{self.login_password}'")
        (self.folder / "ca.crt").write_text(self.server.certificate)
        shutil.copytree(ROOT / "inventories/existing", self.inventory)
        variables = self.inventory / "group_vars/all"
        connection = yaml.safe_load((variables / "connection.yml").read_text())
        connection["audit_login"] |= {
            "login_host": "localhost",  # as in the certificate
            "login_user": self.provisioner,
            "ca_cert": str(self.folder / "ca.crt"),
            "connect_params": {"hostaddr": self.server.host},
        }
        (variables / "connection.yml").write_text(yaml.safe_dump(connection))
        audit = yaml.safe_load((variables / "audit.yml").read_text())
        (variables / "audit.yml").write_text(yaml.safe_dump(audit | {"audit_database": self.database}))
        self.fill_in_vault()

    def fill_in_vault(self, **changed: Any) -> None:
        """Write the vault as a user does: edited, then encrypted."""
        path = self.inventory / "group_vars/all/vault.yml"
        secret = {"audit_login_password": self.login_password, "audit_passwords": self.passwords}
        path.write_text(yaml.safe_dump(secret | changed))
        key = self.folder / "vault-password"
        key.write_text("opens the vault of this test\n")
        subprocess.run(
            [BIN / "ansible-vault", "encrypt", "--vault-password-file", key, path], check=True, capture_output=True
        )

    def clean(self) -> None:
        for (name,) in self.query("SELECT datname FROM pg_database WHERE starts_with(datname, 'existing_')"):
            self.query(f'DROP DATABASE "{name}" WITH (FORCE)')
        for (name,) in self.query("SELECT rolname FROM pg_roles WHERE rolname ~ '^(audit|existing)_' ORDER BY rolname"):
            self.drop_role(name)

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(DependentObjectsStillExist),
        stop=tenacity.stop_after_delay(90),
        wait=tenacity.wait_fixed(1),
        reraise=True,
    )
    def drop_role(self, name: str) -> None:
        """Drop a role; where a test that ends soon still has a database with something of it, when that is gone."""
        self.query(f'DROP OWNED BY "{name}" CASCADE; DROP ROLE "{name}"')

    def play(self, *arguments: str, playbook: str = "database") -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment |= {
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
            "ANSIBLE_NOCOLOR": "1",
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        command = [
            BIN / "ansible-playbook",
            "-i",
            self.inventory,
            "--vault-password-file",
            self.folder / "vault-password",
        ]
        return subprocess.run(
            [*command, *arguments, ROOT / f"playbooks/{playbook}.yml"],
            check=False,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def succeeds(self, *arguments: str, playbook: str = "database") -> str:
        done = self.play(*arguments, playbook=playbook)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fails(self, *arguments: str, playbook: str = "database") -> str:
        done = self.play(*arguments, playbook=playbook)
        assert done.returncode != 0, done.stdout
        return " ".join((done.stdout + done.stderr).split())

    def run_as(self, role: str, statement: str) -> None:
        connection = self.server.connect(self.database, f"audit_{role}", self.passwords[f"audit_{role}"])
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


@pytest.fixture(scope="module")
def existing(server, tmp_path_factory) -> Iterator[Existing]:
    # The names of the roles are fixed, and all databases of a server share them: one at a time.
    with filelock.FileLock(Path(tempfile.gettempdir()) / f"auditdb-roles-{server.version}.lock"):
        existing = Existing(server, tmp_path_factory.mktemp("existing"))
        existing.clean()  # what an earlier run left when it was killed
        existing.prepare()
        yield existing
        existing.clean()


def made(existing: Existing) -> tuple[list[Any], list[Any]]:
    return (
        existing.query("SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'audit_') ORDER BY 1"),
        existing.query(f"SELECT datname FROM pg_database WHERE datname = '{existing.database}'"),
    )


def recap(output: str) -> dict[str, int]:
    line = next(line for line in output.splitlines() if line.startswith("audit ") and "ok=" in line)
    return {name: int(value) for name, value in (pair.split("=") for pair in line.split(":", 1)[1].split())}


def what_is_wrong_is_told_at_once_and_nothing_changes(existing: Existing) -> None:
    existing.fill_in_vault(
        audit_login_password="wrong", audit_passwords={**existing.passwords, "audit_writer": "", "audit_reader": None}
    )
    output = existing.fails()
    assert "password authentication failed" in output and "login_password in the vault" in output
    assert "audit_passwords.audit_writer, audit_passwords.audit_reader" in output
    assert made(existing) == ([], [])

    existing.fill_in_vault()
    existing.query(f"ALTER ROLE {existing.provisioner} NOCREATEDB NOCREATEROLE")
    output = existing.fails()
    assert "may not create roles" in output and "may not create databases" in output and "CREATEDB" in output
    assert made(existing) == ([], [])
    existing.query(f"ALTER ROLE {existing.provisioner} CREATEDB CREATEROLE")


def a_database_of_another_encoding_is_refused(existing: Existing) -> None:
    existing.query(f"CREATE DATABASE {existing.database} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    output = existing.fails()
    assert "SQL_ASCII, LC_COLLATE C, LC_CTYPE C; wanted is UTF8, LC_COLLATE en_US.UTF-8" in output
    assert "pg_dump" in output
    assert made(existing)[0] == []
    existing.query(f"DROP DATABASE {existing.database}")


def check_mode_makes_nothing(existing: Existing) -> None:
    assert recap(existing.succeeds("--check", "--diff"))["changed"] > 0
    assert made(existing) == ([], [])


def it_is_made_and_made_again_without_change(existing: Existing) -> None:
    output = existing.succeeds("-vvv", "--diff")
    assert WORD not in output and "SCRAM-SHA-256$" not in output
    assert "PASSWORD '********'" in output
    facts = existing.query(
        f"SELECT pg_encoding_to_char(encoding), datcollate, datctype, pg_get_userbyid(datdba) FROM pg_database "
        f"WHERE datname = '{existing.database}'"
    )
    assert facts == [("UTF8", "en_US.UTF-8", "en_US.UTF-8", "audit_owner")]
    assert existing.query("SELECT extname FROM pg_extension WHERE extname = 'pgcrypto'", existing.database)
    assert existing.query(
        "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'audit'", existing.database
    ) == [("audit_owner",)]
    second = existing.succeeds("-v")
    assert recap(second)["changed"] == 0, second
    # What was left out is named.
    notes = second[second.index("audit_database_notes") :]
    assert "make role audit_backup REPLICATION" in notes and "ALTER ROLE audit_backup REPLICATION" in notes
    assert "create extension pg_stat_statements" in notes
    assert ("make audit_monitor a member of pg_monitor" in notes) == (existing.server.version >= 16)


def nobody_but_the_owner_can_change_what_is_written(existing: Existing) -> None:
    month = existing.query(
        "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'), to_regclass('audit.audit_log_' || "
        "to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')) IS NOT NULL",
        existing.database,
    )[0]
    existing.run_as(
        "writer",
        "INSERT INTO audit.audit_log (\"timestamp\", action, status) VALUES (now(), 'x', 'success') RETURNING id",
    )
    existing.run_as("reader", "SELECT * FROM audit.audit_log")
    assert month[1], "no partition of this month"
    for table in ("audit_log", "audit_integrity_log"):
        for name in (table, f"{table}_{month[0]}"):
            for role in ROLES:
                for statement in ("UPDATE {} SET id = DEFAULT", "DELETE FROM {}", "TRUNCATE {}"):
                    with pytest.raises(InsufficientPrivilege):
                        existing.run_as(role, statement.format(f"audit.{name}"))


def a_changed_password_and_a_right_given_by_hand_are_put_right(existing: Existing) -> None:
    existing.query("ALTER ROLE audit_reader PASSWORD 'set by hand'")
    existing.query("GRANT DELETE ON audit.audit_log TO audit_writer", existing.database)
    output = existing.succeeds("--diff")
    assert recap(output)["changed"] == 2
    assert 'REVOKE DELETE ON TABLE "audit"."audit_log" FROM "audit_writer"' in output
    existing.run_as("reader", "SELECT")
    with pytest.raises(psycopg2.OperationalError):
        existing.server.connect(existing.database, "audit_reader", "set by hand")


def health_proves_what_it_can_and_says_what_was_left_out(existing: Existing) -> None:
    output = existing.succeeds(playbook="health")
    assert WORD not in output
    assert "FAILED" not in output
    skipped = [" ".join(line.split()) for line in output.splitlines() if line.strip().startswith("skipped")]
    assert any("make role audit_backup REPLICATION" in line for line in skipped), output
    assert any("extensions" in line for line in skipped), output
    assert any("a server that somebody else manages" in line for line in skipped), output
    assert "audit_writer tried to change, delete, truncate and drop events" in output
    existing.query("GRANT TRUNCATE ON audit.audit_log TO audit_writer", existing.database)
    assert "append-only in the catalog" in existing.fails(playbook="health")
    existing.query("REVOKE TRUNCATE ON audit.audit_log FROM audit_writer", existing.database)


def the_certificate_is_verified(existing: Existing) -> None:
    path = existing.inventory / "group_vars/all/connection.yml"
    good = path.read_text()
    variables = yaml.safe_load(good)
    variables["audit_login"]["login_host"] = "elsewhere"
    path.write_text(yaml.safe_dump(variables))
    try:
        assert 'server certificate for "localhost" does not match host name "elsewhere"' in existing.fails()
    finally:
        path.write_text(good)
    assert json.dumps(variables).count(WORD) == 0


def test_a_server_of_somebody_else(existing):
    """One story, each step on what the last one left; so it is one test, and the two servers run side by side."""
    what_is_wrong_is_told_at_once_and_nothing_changes(existing)
    a_database_of_another_encoding_is_refused(existing)
    check_mode_makes_nothing(existing)
    it_is_made_and_made_again_without_change(existing)
    nobody_but_the_owner_can_change_what_is_written(existing)
    a_changed_password_and_a_right_given_by_hand_are_put_right(existing)
    health_proves_what_it_can_and_says_what_was_left_out(existing)
    the_certificate_is_verified(existing)
