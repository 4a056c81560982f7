"""Migrations are applied once, recorded, seeded; what is broken or edited is refused and leaves nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

MIGRATE = "auditdb.postgresql.migrate"
FILES = Path(__file__).parents[3] / "roles/audit_schema/files/migrations"
SHIPPED = sorted(path for path in FILES.glob("*.sql") if path.name.count(".") == 1)


@pytest.fixture
def own(tmp_path, database_host):
    """Return a directory of own migrations and the arguments that make the role apply it; its traces are removed."""
    directory = tmp_path / "own"
    directory.mkdir()
    wanted = {"audit_schema_extra_migrations": [{"path": str(directory), "table": "own_migrations"}]}
    yield directory, ("-e", json.dumps(wanted))
    database_host.sql(
        "DROP TABLE IF EXISTS audit.own_migrations, audit.own_migrations_event, audit.first, audit.second;"
        " DROP FUNCTION IF EXISTS audit.own_migrations_event_guard",
        "audit_db",
    )


def exists(host, name):
    return host.sql(f"SELECT to_regclass('audit.{name}') IS NOT NULL", "audit_db") == "t"


def test_every_migration_is_recorded(database_host):
    rows = database_host.sql("SELECT version, state FROM audit.schema_migrations ORDER BY 1", "audit_db")
    assert rows.splitlines() == [f"{path.name[:4]}\tapplied" for path in SHIPPED]
    assert database_host.sql("SELECT count(*) FROM audit.schema_migrations_event", "audit_db") == str(len(SHIPPED))


def test_everything_belongs_to_the_owner(database_host):
    owners = database_host.sql(
        "SELECT DISTINCT relowner::regrole FROM pg_class WHERE relnamespace = 'audit'::regnamespace", "audit_db"
    )
    assert owners == "audit_owner"


def test_an_operators_policy_survives_the_next_run(database_host, playbook):
    change = "UPDATE audit.audit_retention_policy SET retention_days = {} WHERE policy_name = 'standard'"
    database_host.sql(change.format(3650), "audit_db")
    run = playbook(MIGRATE)
    assert (run.code, run.changed) == (0, 0), run.output
    find = "SELECT retention_days FROM audit.audit_retention_policy WHERE policy_name = 'standard'"
    assert database_host.sql(find, "audit_db") == "3650"
    database_host.sql(change.format(2555), "audit_db")


def test_a_broken_migration_leaves_nothing_and_mended_is_applied(database_host, playbook, own):
    directory, arguments = own
    file = directory / "0001_two_tables.sql"
    file.write_text("CREATE TABLE audit.first (id int);\nCREATE TABLE audit.second (id no_such_type);\n")
    run = playbook(MIGRATE, *arguments)
    assert run.code != 0
    assert "0001_two_tables.sql line 2" in run.text
    assert not exists(database_host, "first")
    file.write_text("CREATE TABLE audit.first (id int);\nCREATE TABLE audit.second (id int);\n")
    run = playbook(MIGRATE, *arguments)
    assert (run.code, run.changed) == (0, 1), run.output
    assert exists(database_host, "second")


def test_an_edited_migration_is_refused(database_host, playbook, own):
    directory, arguments = own
    file = directory / "0001_first.sql"
    file.write_text("CREATE TABLE audit.first (id int);\n")
    assert playbook(MIGRATE, *arguments).code == 0
    before = database_host.sql("SELECT checksum FROM audit.own_migrations", "audit_db")
    file.write_text("CREATE TABLE audit.first (id bigint);\n")
    (directory / "0002_second.sql").write_text("CREATE TABLE audit.second (id int);\n")
    run = playbook(MIGRATE, *arguments)
    assert run.code != 0
    assert run.changed == 0
    assert before in run.text
    assert hashlib.sha256(file.read_bytes()).hexdigest() in run.text
    assert not exists(database_host, "second")


def test_a_failed_backup_stops_before_anything_is_applied(database_host, playbook, own, tmp_path):
    directory, arguments = own
    (directory / "0001_first.sql").write_text("CREATE TABLE audit.first (id int);\n")
    hook = tmp_path / "backup.yml"
    hook.write_text(
        "- name: Back up\n"
        "  ansible.builtin.command: pg_dump -Fc -f /tmp/b.dump {{ audit_schema_database }}{{ end | default('') }}\n"
    )
    before = ("-e", f"audit_schema_before={hook}")
    run = playbook(MIGRATE, *arguments, *before, "-e", "end=_missing")
    assert run.code != 0
    assert not exists(database_host, "first")
    run = playbook(MIGRATE, *arguments, *before)
    assert run.code == 0, run.output
    assert exists(database_host, "first")
    assert "audit_log" in database_host.run("pg_restore", "-l", "/tmp/b.dump", user="postgres")
    database_host.run("rm", "/tmp/b.dump")
    run = playbook(MIGRATE, *arguments, *before)
    assert (run.code, run.changed) == (0, 0), run.output


def test_migrations_survive_a_restart(database_host, playbook):
    database_host.restart()
    run = playbook()
    assert (run.code, run.changed) == (0, 0), run.output
