"""Runs of the playbook: what changes is put in force without losing a client, what is wrong is refused."""

from __future__ import annotations

import json

import pytest

PLAYBOOK = "auditdb.postgresql.pgbouncer"


@pytest.fixture
def newest(pools):
    return pools["pool-trixie"]


def test_a_second_run_changes_nothing(playbook):
    run = playbook()
    assert run.code == 0, run.output
    assert run.changed == 0


def test_health_is_green_beside_the_pool(playbook):
    run = playbook("auditdb.postgresql.health")
    assert run.code == 0, run.output


def test_a_reload_keeps_clients_and_a_restart_is_named(newest, playbook):
    pool, before = newest, newest.pid
    connection = pool.connect("audit_reader")
    connection.autocommit = False
    connection.cursor().execute("SELECT 1")
    values = {
        "pgbouncer_pool_size": 15,
        "pgbouncer_max_client_conn": 900,
        "pgbouncer_settings": {"server_lifetime": 700},
    }
    run = playbook(PLAYBOOK, "--limit", pool.limit, "-e", json.dumps(values))
    assert run.code == 0, run.output
    config = pool.config
    assert [config[name] for name in ("default_pool_size", "max_client_conn", "server_lifetime")] == [
        "15",
        "900",
        "700",
    ]
    assert pool.pid == before
    with connection.cursor() as cursor:
        cursor.execute("SELECT 2")
        assert cursor.fetchone() == (2,)
    connection.close()
    run = playbook(PLAYBOOK, "--limit", pool.limit, "-e", "pgbouncer_listen_port=6433")
    assert run.code == 0 and "Restart it, for: listen_port" in run.output, run.output
    assert pool.pid != before
    run = playbook(PLAYBOOK, "--limit", pool.limit)
    assert run.code == 0 and "Restart it, for: listen_port" in run.output, run.output
    assert pool.works()


def test_what_an_interrupted_run_left_unread_is_read(newest, playbook):
    before = newest.pid
    newest.run("sh", "-c", "sleep 0.1; touch /etc/pgbouncer/hba.conf")
    assert json.loads(newest.console("pending")[1]) == {"restart": [], "reload": ["/etc/pgbouncer/hba.conf"]}
    run = playbook(PLAYBOOK, "--limit", newest.limit)
    assert run.code == 0 and run.changed == 1, run.output
    assert newest.pid == before


def serial(pool) -> str:
    asked = "openssl s_client -starttls postgres -connect localhost:6432 </dev/null 2>/dev/null"
    return pool.run("bash", "-c", f"{asked} | openssl x509 -noout -serial")


def test_a_renewed_certificate_is_read(newest, playbook):
    before, process = serial(newest), newest.pid
    run = playbook(PLAYBOOK, "--limit", newest.limit, "-e", "postgresql_server_tls_renew_days=398")
    assert run.code == 0, run.output
    assert serial(newest) != before and newest.pid == process


@pytest.mark.parametrize("settings", [{"no_such_setting": 1}, {"server_round_robin": "perhaps"}])
def test_a_setting_that_pgbouncer_refuses_stops_the_play(newest, playbook, settings):
    before = newest.run("cat", "/etc/pgbouncer/pgbouncer.ini")
    run = playbook(PLAYBOOK, "--limit", newest.limit, "-e", json.dumps({"pgbouncer_settings": settings}))
    assert run.code != 0 and run.changed == 0
    assert next(iter(settings)) in run.output and "PgBouncer refuses the file" in run.output
    assert newest.run("cat", "/etc/pgbouncer/pgbouncer.ini") == before
    assert newest.works()


def test_bad_input_is_told_at_once_before_anything_changes(newest, playbook):
    values = {
        "pgbouncer_hosts": [],
        "pgbouncer_databases": [{"name": "pgbouncer"}, {"name": "x", "pool_size": 99}, {"name": "x"}],
        "pgbouncer_listen_port": 0,
        "pgbouncer_query_wait_timeout": 0,
        "pgbouncer_max_client_conn": 60000,
        "pgbouncer_hba": [{"database": "all", "user": "all", "address": "0.0.0.0/0"}],
        "pgbouncer_settings": {"auth_type": "trust", "server_tls_sslmode": "disable"},
    }
    run = playbook(PLAYBOOK, "--limit", newest.limit, "-e", json.dumps(values))
    assert run.code != 0 and run.changed == 0
    for message in (
        "pgbouncer_hosts is empty. Remedy:",
        "'pgbouncer' cannot be a database's name here. Remedy:",
        "pgbouncer_databases (pgbouncer, x, x) has a name twice. Remedy:",
        "pool_size of x is 99. Remedy:",
        "pgbouncer_listen_port is 0. Remedy:",
        "pgbouncer_query_wait_timeout is 0",
        "pgbouncer_max_client_conn is 60000. Remedy:",
        "the address '0.0.0.0/0' is open to all",
        "pgbouncer_settings has auth_type. Remedy:",
        "pgbouncer_settings has server_tls_sslmode. Remedy:",
    ):
        assert message in run.text.replace("''", "'"), f"{message}\n{run.output}"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pgbouncer_max_db_connections": 98}, "the pools may take 100 connections, and the server has 97. Remedy:"),
        ({"pgbouncer_databases": [{"name": "nothing"}]}, "there is no database nothing on the server. Remedy:"),
        ({"pgbouncer_balancers": []}, "pgbouncer_balancers (none): it is not known"),
        ({"pgbouncer_hosts": ["nowhere.invalid"]}, "what is behind it: nowhere.invalid:5432/postgres:"),
        ({"pgbouncer_port": 5433}, "The pool cannot log in to what is behind it"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_server_is_refused(newest, playbook, values, message):
    run = playbook(PLAYBOOK, "--limit", newest.limit, "-e", json.dumps(values))
    assert run.code != 0 and run.changed == 0
    assert message in run.text, run.output
    assert newest.works()


@pytest.mark.newest
def test_of_a_bare_host_check_mode_says_so_and_a_run_sets_it_up(pool, playbook):
    """Stands last in this file: the host is made bare."""
    pool.run(
        "bash", "-euc",
        "apt-get -qq purge -y pgbouncer python3-cryptography python3-psycopg2 > /dev/null 2>&1; "
        "rm -rf /etc/pgbouncer /etc/postgresql/tls /etc/systemd/system/pgbouncer.service.d "
        "/usr/local/bin/auditdb-pgbouncer",
    )  # fmt: skip
    run = playbook(PLAYBOOK, "--check", "--diff", "--limit", pool.limit)
    assert run.code == 0 and "PgBouncer would be installed" in run.text, run.output
    assert pool.run("bash", "-c", "ls -d /etc/pgbouncer /etc/postgresql/tls 2>/dev/null | wc -l").strip() == "0"
    run = playbook(PLAYBOOK, "--limit", pool.limit)
    assert run.code == 0, run.output
    assert pool.works()
    run = playbook(PLAYBOOK, "--limit", pool.limit)
    assert run.code == 0 and run.changed == 0, run.output
