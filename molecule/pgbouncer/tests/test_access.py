"""Who gets through the pool, by which TLS, and who does not."""

from __future__ import annotations

import secrets

import psycopg2
import pytest
from pool import wait
from throwaway import execute

PASSWORD = "only-for-this-test"
LOOKUP = "SELECT * FROM pgbouncer.user_lookup('audit_reader')"


def test_a_component_logs_in_by_scram_with_tls_on_both_sides(pool):
    connection = pool.connect("audit_reader")
    assert connection.info.ssl_in_use
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.version, host(a.client_addr), a.usename, current_setting('password_encryption') "
            "FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE pid = pg_backend_pid() AND s.ssl"
        )
        version, address, user, _ = cursor.fetchone()
    assert (version, address, user) == ("TLSv1.3", pool.address, "audit_reader")
    for what in ("clients", "servers"):
        rows = [row for row in pool.show(what) if row["user"] == "audit_reader"]
        assert rows and all(row["tls"].startswith("TLSv1.") for row in rows)
    connection.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "wrong"}, "SASL authentication failed"),
        ({"sslmode": "disable"}, "SSL required|TLS"),
        ({"host": "another-name"}, "does not match host name"),
        ({"user": "nobody_at_all", "password": "x"}, "SASL authentication failed|no such user"),
        ({"dbname": "pgbouncer"}, "not allowed|timeout expired"),
        ({"dbname": "auditdb_auth"}, "rejected|SASL authentication failed"),
        ({"dbname": "postgres"}, "no such database|SASL authentication failed"),
        ({"ssl_max_protocol_version": "TLSv1.1", "ssl_min_protocol_version": "TLSv1"}, "protocol"),
    ],
)  # fmt: skip
def test_others_are_refused(pool, change, message):
    with pytest.raises(psycopg2.OperationalError, match=message):
        pool.connect(**{"user": "audit_reader", **change})


def test_the_pools_own_account_is_refused(pool, scenario):
    password = (scenario / "inventory/.state/pgbouncer/auditdb_pgbouncer.password").read_text().strip()
    assert pool.base.sql("SELECT rolcanlogin AND NOT rolsuper FROM pg_roles WHERE rolname = 'auditdb_pgbouncer'") == "t"
    with pytest.raises(psycopg2.OperationalError, match="rejected"):
        pool.connect("auditdb_pgbouncer", password=password)


@pytest.fixture
def roles(pool):
    """Roles with a password that is right, and what is wrong with them."""
    made = {
        "pool_guest": "",
        "pool_boss": "SUPERUSER",
        "pool_copier": "REPLICATION",
        "pool_deputy": "IN ROLE pool_boss",
        "pool_former": "VALID UNTIL 'yesterday'",
        "pool_group": "",
    }
    for name in reversed(made):
        pool.base.sql(f"DROP ROLE IF EXISTS {name}")
    for name, options in made.items():
        pool.base.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' {options}")
    pool.base.sql("ALTER ROLE pool_group NOLOGIN")
    pool.base.sql("GRANT CONNECT ON DATABASE audit_db TO pool_guest")
    yield pool
    pool.base.sql("REVOKE CONNECT ON DATABASE audit_db FROM pool_guest")
    # What the pool keeps open is the dropped role's, and no role's of that name to come.
    pool.base.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pool_guest'")
    for name in reversed(made):
        pool.base.sql(f"DROP ROLE {name}")


def test_superusers_and_replication_do_not_get_through(roles):
    pool = roles
    assert pool.ask("pool_guest", "SELECT current_user", password=PASSWORD) == "pool_guest"
    for name in ("pool_boss", "pool_copier", "pool_deputy", "pool_former", "pool_group", "postgres"):
        with pytest.raises(psycopg2.OperationalError, match=r"SASL authentication failed|no such user"):
            pool.connect(name, password=PASSWORD)
    pool.base.connect("pool_boss", password=PASSWORD).close()  # the server would let it in: the pool refuses


def test_a_new_password_counts_at_once(roles):
    assert roles.ask("pool_guest", "SELECT 1", password=PASSWORD) == "1"
    roles.base.sql("ALTER ROLE pool_guest PASSWORD 'another-one'")
    with pytest.raises(psycopg2.OperationalError, match="SASL authentication failed"):
        roles.connect("pool_guest", password=PASSWORD)
    assert roles.ask("pool_guest", "SELECT 1", password="another-one") == "1"


def test_nobody_else_may_ask_for_verifiers(pool):
    asked = "audit_db" if pool.old else "postgres"
    other = "postgres" if pool.old else "audit_db"
    assert pool.base.sql("SELECT to_regprocedure('pgbouncer.user_lookup(text)') IS NULL", other) == "t"
    rights = pool.base.sql(
        "SELECT r.rolname FROM pg_roles r WHERE NOT r.rolsuper "
        "AND has_function_privilege(r.oid, 'pgbouncer.user_lookup(text)', 'EXECUTE')",
        asked,
    )
    assert rights == "auditdb_pgbouncer"
    state = "SELECT prosecdef, proconfig, pg_get_userbyid(proowner) FROM pg_proc WHERE proname = 'user_lookup'"
    assert pool.base.sql(state, asked) == 't\t{"search_path=pg_catalog, pg_temp"}\tpostgres'
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        connection = pool.base.connect("audit_reader", asked)
        connection.cursor().execute(LOOKUP)


def test_rights_that_were_added_are_taken_back(pools, playbook):
    pool = pools["pool-trixie"]
    pool.base.sql("GRANT EXECUTE ON FUNCTION pgbouncer.user_lookup(text) TO PUBLIC")
    pool.base.sql("GRANT USAGE ON SCHEMA pgbouncer TO audit_reader WITH GRANT OPTION")
    run = playbook("auditdb.postgresql.pgbouncer", "--check", "--limit", pool.limit)
    assert run.code == 0 and run.changed == 1, run.output
    run = playbook("auditdb.postgresql.pgbouncer", "--limit", pool.limit)
    assert run.code == 0 and run.changed == 1, run.output
    assert pool.base.sql("SELECT has_schema_privilege('audit_reader', 'pgbouncer', 'USAGE')") == "f"
    test_nobody_else_may_ask_for_verifiers(pool)


def test_a_function_of_somebody_else_is_refused(pools, playbook):
    pool = pools["pool-trixie"]
    pool.base.sql("ALTER SCHEMA pgbouncer OWNER TO audit_owner")
    run = playbook("auditdb.postgresql.pgbouncer", "--limit", pool.limit)
    pool.base.sql("ALTER SCHEMA pgbouncer OWNER TO postgres")
    assert run.code != 0 and run.changed == 0
    assert "audit_owner is no superuser, and could change what the pool is told" in run.text


@pytest.mark.newest
def test_the_pool_verifies_the_server(pool):
    file = "/etc/pgbouncer/pgbouncer.ini"
    pool.run("cp", "-a", file, "/root/kept.ini")
    try:
        pool.run("sed", "-i", f"s/host=auditdb-{pool.base.name}/host={pool.base.address}/", file)
        pool.run("auditdb-pgbouncer", "reload")
        pool.base.run("systemctl", "restart", "postgresql")  # nothing that was verified before is left
        with pytest.raises(psycopg2.OperationalError):
            pool.connect("audit_reader")
        assert "certificate" in pool.run("journalctl", "-u", "pgbouncer", "--no-pager", "-n", "50")
    finally:
        pool.run("cp", "-a", "/root/kept.ini", file)
        pool.run("auditdb-pgbouncer", "reload")
    wait(pool.works, "the right server is not reached", seconds=5)


def test_the_console_is_for_root_and_postgres_over_the_socket(pool):
    for user in ("root", "postgres"):
        assert pool.console("show", "version", user=user)[1].startswith("version\nPgBouncer 1.")
    code, output = pool.console("show", "version", user="nobody")
    assert code != 0, output
    code, output = pool.console("pause", user="postgres")
    assert code != 0 and "only root can pause" in output


def test_an_account_for_statistics_only_looks(pools, playbook):
    pool = pools["pool-trixie"]
    run = playbook("auditdb.postgresql.pgbouncer", "--limit", pool.limit, "-e", '{"pgbouncer_stats_users": ["nobody"]}')
    assert run.code == 0, run.output
    code, output = pool.console("show", "pools", user="nobody")
    assert code == 0 and output.startswith("database\t")
    script = "import psycopg2; c = psycopg2.connect(host='/run/pgbouncer', port=6432, dbname='pgbouncer', user='{}'); "
    script += "c.autocommit = True; c.cursor().execute('PAUSE')"
    for user in ("nobody", "root", "postgres"):
        code, output = execute(pool.container, ["python3", "-c", script.format(user)], "nobody")
        assert code != 0, f"{user}: {output.decode()}"
    assert playbook("auditdb.postgresql.pgbouncer", "--limit", pool.limit).code == 0
    assert pool.console("show", "pools", user="nobody")[0] != 0


def test_files_and_certificates(pool):
    assert pool.run("stat", "-c", "%a %U %G", "/etc/pgbouncer/userlist.txt").split() == ["640", "root", "postgres"]
    assert pool.run("stat", "-c", "%a %U %G", "/etc/postgresql/tls/server.key").split() == ["640", "root", "postgres"]


def test_passwords_are_nowhere(pools, playbook, scenario):
    pool = pools["pool-trixie"]
    kept = scenario / "inventory/.state/pgbouncer/auditdb_pgbouncer.password"
    assert kept.stat().st_mode & 0o077 == 0
    old = kept.read_text()
    canary = f"canary{secrets.token_hex(12)}"
    outputs = []
    try:
        kept.write_text(f"{canary}\n")
        for arguments, strategy in ((["--check"], {}), ([], {"ANSIBLE_STRATEGY": "linear"}), ([], {})):
            run = playbook(
                "auditdb.postgresql.pgbouncer", "-vvv", "--diff", "--limit", pool.limit, *arguments, **strategy
            )
            outputs.append(run.output)
            if not arguments:
                assert run.code == 0, run.output
        assert run.changed == 0
        assert pool.works()
        outputs.append(pool.run("journalctl", "--no-pager") + pool.run("ps", "axww"))
        outputs.append(pool.base.run("sh", "-c", "cat /var/log/postgresql/*.log; journalctl --no-pager; ps axwwe"))
        outputs.append(pool.base.sql("SELECT query FROM pg_stat_statements", "audit_db"))
        verifier = pool.base.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'audit_reader'")
        assert [text for text in outputs if canary in text or verifier in text] == []
        assert pool.run("grep", "-rl", canary, "/etc", "/run", "/var/log", "/root").split() == [
            "/etc/pgbouncer/userlist.txt"
        ]
    finally:
        kept.write_text(old)
        assert playbook("auditdb.postgresql.pgbouncer", "--limit", pool.limit).code == 0
