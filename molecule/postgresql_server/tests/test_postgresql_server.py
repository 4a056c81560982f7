"""The server is as declared, says what it does, and refuses what would break it."""

from __future__ import annotations

import json
import time

import psycopg2
import pytest

SETTINGS = "/etc/postgresql/17/main/conf.d/10-postgresql_server.conf"


def test_cluster_is_utf8_checksummed_and_scram(database_host):
    assert database_host.sql("SHOW server_encoding") == "UTF8"
    assert database_host.sql("SELECT datcollate || ' ' || datctype FROM pg_database WHERE datname = 'template1'") == (
        "en_US.UTF-8 en_US.UTF-8"
    )
    assert database_host.sql("SHOW data_checksums") == "on"
    assert database_host.sql("SHOW password_encryption") == "scram-sha-256"


def test_there_is_one_cluster(database_host):
    assert database_host.run("pg_lsclusters", "-h").split()[:2] == ["17", "main"]
    assert len(database_host.run("pg_lsclusters", "-h").splitlines()) == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("shared_buffers", "256MB"),
        ("effective_cache_size", "768MB"),
        ("shared_preload_libraries", "pg_stat_statements"),
        ("log_min_duration_statement", "1s"),
        ("log_checkpoints", "on"),
        ("log_connections", "on"),
        ("log_disconnections", "on"),
        ("log_lock_waits", "on"),
        ("ssl", "on"),
        ("ssl_min_protocol_version", "TLSv1.2"),
    ],
)
def test_settings(database_host, setting, value):
    assert database_host.sql(f"SHOW {setting}") == value


def test_access_rules_have_no_trust_and_nothing_open(database_host):
    rules = database_host.sql(
        "SELECT type, database, user_name, address, auth_method FROM pg_hba_file_rules ORDER BY line_number"
    )
    assert rules.splitlines() == [
        "local\t{all}\t{postgres}\t\tpeer",
        "local\t{replication}\t{postgres}\t\tpeer",
        "hostssl\t{all}\t{all}\tsamehost\tscram-sha-256",
        "hostssl\t{all}\t{all}\tsamenet\tscram-sha-256",
    ]


def test_tls_is_required_and_verified(database_host, scenario):
    database_host.sql("DROP ROLE IF EXISTS probe")
    database_host.sql("CREATE ROLE probe LOGIN PASSWORD 'only-for-this-test'")
    login = {
        "host": f"auditdb-{database_host.name}",
        "hostaddr": database_host.address,
        "user": "probe",
        "password": "only-for-this-test",
        "dbname": "postgres",
        "sslrootcert": str(scenario / "inventory/.state/tls/ca.crt"),
    }
    with psycopg2.connect(**login, sslmode="verify-full") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert cursor.fetchone()[0] in ("TLSv1.2", "TLSv1.3")
    with pytest.raises(psycopg2.OperationalError, match="no encryption"):
        psycopg2.connect(**login, sslmode="disable")
    with pytest.raises(psycopg2.OperationalError, match="protocol"):
        psycopg2.connect(
            **login, sslmode="require", ssl_max_protocol_version="TLSv1.1", ssl_min_protocol_version="TLSv1"
        )
    database_host.sql("DROP ROLE probe")


def test_key_is_the_hosts_own_and_private(database_host):
    assert database_host.run("stat", "-c", "%a %U %G", "/etc/postgresql/tls/server.key").split() == [
        "640",
        "root",
        "postgres",
    ]


def started(host):
    return host.sql("SELECT pg_postmaster_start_time()")


def test_reload_where_it_is_enough(database_host, playbook):
    before = started(database_host)
    run = playbook("auditdb.postgresql.server", "-e", '{"postgresql_server_settings": {"work_mem": "5MB"}}')
    assert run.code == 0, run.output
    assert database_host.sql("SHOW work_mem") == "5MB"
    assert started(database_host) == before


def test_restart_where_it_is_needed_and_named(database_host, playbook):
    before = started(database_host)
    run = playbook("auditdb.postgresql.server", "-e", '{"postgresql_server_settings": {"max_connections": 120}}')
    assert run.code == 0, run.output
    assert "Restart it, for: max_connections" in run.output
    assert database_host.sql("SHOW max_connections") == "120"
    assert database_host.sql("SHOW work_mem") == "4MB"
    assert started(database_host) > before


def test_a_file_left_unread_by_an_interrupted_run_is_read(database_host, playbook):
    assert playbook().code == 0
    time.sleep(1.1)  # file times have whole seconds
    database_host.run(
        "sh",
        "-c",
        "sed -i \"s/^work_mem = .*/work_mem = '6MB'/\" /etc/postgresql/17/main/conf.d/10-postgresql_server.conf",
    )
    assert database_host.sql("SHOW work_mem") == "4MB"
    run = playbook("auditdb.postgresql.server", "-e", '{"postgresql_server_settings": {"work_mem": "6MB"}}')
    assert run.code == 0, run.output
    assert database_host.sql("SHOW work_mem") == "6MB"
    assert playbook().code == 0


@pytest.mark.parametrize(
    ("settings", "named"),
    [('{"shared_buffers": "lots"}', "shared_buffers"), ('{"no_such_setting": 1}', "no_such_setting")],
)
def test_a_setting_that_the_server_refuses_stops_the_play(database_host, playbook, settings, named):
    before = database_host.sql(f"SELECT pg_read_file('{SETTINGS}')")
    run = playbook("auditdb.postgresql.server", "-e", f'{{"postgresql_server_settings": {settings}}}')
    assert run.code != 0
    assert named in run.output
    after = database_host.sql(f"SELECT pg_read_file('{SETTINGS}')")
    assert after == before
    assert database_host.run("systemctl", "is-active", "postgresql@17-main").strip() == "active"


@pytest.mark.parametrize(
    "rule",
    [
        '{"type": "local", "database": "all", "user": "all", "method": "trust"}',
        '{"type": "hostssl", "database": "all", "user": "all", "address": "0.0.0.0/0", "method": "scram-sha-256"}',
        '{"type": "hostssl", "database": "all", "user": "all", "address": "samenet", "method": "md5"}',
    ],
)
def test_an_open_rule_is_refused(playbook, rule):
    run = playbook("auditdb.postgresql.server", "-e", f'{{"postgresql_server_hba": [{rule}]}}')
    assert run.code != 0
    assert "postgresql_server_hba has the rule" in run.text
    assert run.changed == 0


def test_another_version_is_refused(database_host, playbook):
    run = playbook("auditdb.postgresql.server", "-e", "postgresql_server_version=16")
    assert run.code != 0
    assert "exists with PostgreSQL 17 and postgresql_server_version is 16" in run.text
    assert "pg_upgradecluster" in run.text
    assert run.changed == 0
    assert len(database_host.run("pg_lsclusters", "-h").splitlines()) == 1


def test_vanished_data_is_not_replaced_by_an_empty_cluster(database_host, playbook):
    database_host.run("systemctl", "stop", "postgresql@17-main")
    database_host.run("mv", "/var/lib/postgresql/17/main", "/var/lib/postgresql/17/aside")
    run = playbook()
    assert run.code != 0
    assert "holds no cluster" in run.text
    database_host.run("mv", "/var/lib/postgresql/17/aside", "/var/lib/postgresql/17/main")
    run = playbook()
    assert run.code == 0, run.output


def test_an_interrupted_creation_is_finished(database_host, playbook):
    database_host.run("systemctl", "stop", "postgresql@17-main")
    database_host.run("touch", "/var/lib/postgresql/.creating-17-main")
    database_host.run("rm", "-r", "/var/lib/postgresql/17/main/global")  # initdb was killed before pg_control
    run = playbook()
    assert run.code == 0, run.output
    assert database_host.sql("SHOW data_checksums") == "on"


def test_a_certificate_that_ends_soon_is_renewed(database_host, playbook):
    serial = database_host.run("openssl", "x509", "-in", "/etc/postgresql/tls/server.crt", "-noout", "-serial")
    run = playbook("auditdb.postgresql.server", "-e", "postgresql_server_tls_renew_days=398")
    assert run.code == 0, run.output
    assert database_host.run("openssl", "x509", "-in", "/etc/postgresql/tls/server.crt", "-noout", "-serial") != serial


def test_another_apt_source_is_given_as_data(database_host, playbook):
    line = next(
        line.split()
        for line in database_host.run("cat", "/etc/apt/sources.list").splitlines()
        if line.startswith("deb ") and " main" in line
    )
    source = {"uris": [line[1]], "suites": [line[2]], "components": ["main"], "enabled": True}
    given = json.dumps({"postgresql_server_apt_source": source, "postgresql_server_packages": ["postgresql-17-cron"]})
    assert playbook("auditdb.postgresql.server", "-e", given, "--check").code == 0
    run = playbook("auditdb.postgresql.server", "-e", given)
    assert run.code == 0, run.output
    written = database_host.run("cat", "/etc/apt/sources.list.d/postgresql-server.sources")
    assert f"URIs: {line[1]}" in written and f"Suites: {line[2]}" in written
    assert "postgresql-17-cron" in database_host.run("dpkg-query", "-f", "${Package}\n", "-W", "postgresql-17-cron")
    assert playbook("auditdb.postgresql.server", "-e", given).changed == 0
