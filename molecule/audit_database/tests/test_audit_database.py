"""The database, its roles and its schema are as declared; what cannot be is refused before anything changes."""

from __future__ import annotations

import json

import pytest

ROLES = ["backup", "migrator", "monitor", "partitioner", "reader", "verifier", "writer"]


def test_the_database_is_utf8_and_belongs_to_the_owner(database_host):
    facts = database_host.sql(
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype, datdba::regrole FROM pg_database "
        "WHERE datname = 'audit_db'"
    )
    assert facts.split("\t") == ["UTF8", "en_US.UTF-8", "en_US.UTF-8", "audit_owner"]


def test_extensions_schema_and_search_path(database_host):
    extensions = database_host.sql(
        "SELECT extname, extnamespace::regnamespace FROM pg_extension ORDER BY 1", "audit_db"
    )
    assert extensions.splitlines() == ["pg_stat_statements\tpublic", "pgcrypto\tpublic", "plpgsql\tpg_catalog"]
    assert database_host.sql("SHOW search_path", "audit_db") == "audit, public"
    assert database_host.sql("SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'audit'", "audit_db") == (
        "audit_owner"
    )


def test_no_component_is_a_superuser_and_the_owner_cannot_log_in(database_host):
    rows = database_host.sql(
        "SELECT rolname, rolcanlogin, rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls, rolreplication, "
        "rolinherit FROM pg_roles WHERE starts_with(rolname, 'audit_') ORDER BY 1"
    )
    expected = {
        **{f"audit_{role}": ["t", "f", "f", "t"] for role in ROLES},
        "audit_owner": ["f", "f", "f", "t"],
        "audit_backup": ["t", "f", "t", "t"],
        "audit_migrator": ["t", "f", "f", "f"],
        "audit_partitioner": ["t", "f", "f", "f"],
    }
    assert {line.split("\t")[0]: line.split("\t")[1:] for line in rows.splitlines()} == expected


def test_passwords_are_scram_and_let_in(database_host):
    stored = (
        "SELECT count(*) FROM pg_authid WHERE starts_with(rolname, 'audit_') AND starts_with(rolpassword, 'SCRAM-')"
    )
    assert database_host.sql(stored) == str(len(ROLES))
    for role in ROLES:
        database_host.connect(f"audit_{role}").close()


def test_a_changed_password_is_noticed_and_never_printed(database_host, playbook, scenario):
    changed = json.dumps({"audit_database_passwords": {f"audit_{role}": f"canary-{role}" for role in ROLES}})
    run = playbook(scenario / "converge.yml", "-vvv", "--diff", "--check", "-e", changed)
    assert run.changed == 1 and "PASSWORD '********'" in run.output
    # The command line itself, which -vvv does not print, is the only place where they stand.
    assert "canary-" not in run.output
    database_host.connect("audit_reader").close()


def test_everything_that_is_wrong_is_told_at_once(database_host, playbook, scenario):
    database_host.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    wrong = {"audit_database": "latin", "audit_database_passwords": {"audit_writer": ""}}
    try:
        run = playbook(scenario / "converge.yml", "-e", json.dumps(wrong))
    finally:
        database_host.sql("DROP DATABASE latin")
    assert run.code != 0 and run.changed == 0
    assert "LATIN1, LC_COLLATE C, LC_CTYPE C; wanted is UTF8, LC_COLLATE en_US.UTF-8" in run.text
    assert "audit_passwords.audit_reader" in run.text and "audit_passwords.audit_writer" in run.text


@pytest.mark.parametrize("drift", ["ALTER ROLE audit_reader SUPERUSER", "GRANT audit_owner TO audit_writer"])
def test_drift_is_put_right(database_host, playbook, drift):
    database_host.sql(drift)
    run = playbook()
    assert (run.code, run.changed) == (0, 1), run.output
    assert (playbook().code, playbook().changed) == (0, 0)
