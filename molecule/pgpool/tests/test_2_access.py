"""Who gets through Pgpool, by which TLS, and where its secrets are."""

from __future__ import annotations

import json
import time

import psycopg2
import pytest
from caching import PORT, wait
from throwaway import ask


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sslmode": "disable"}, "no pool_hba.conf entry|SSL off"),
        ({"password": "wrong"}, "password authentication failed|authentication failed"),
        ({"password": ""}, "no password supplied"),
        ({"user": "nobody_at_all", "password": "x"}, "no pool_hba.conf entry|authentication failed"),
        ({"user": "postgres", "password": "x"}, "no pool_hba.conf entry|authentication failed"),
        ({"host": "another-name"}, "does not match host name"),
    ],
)
def test_others_are_refused(cache, change, message):
    with pytest.raises(psycopg2.OperationalError, match=message):
        cache.login(**change)


def test_its_own_account_is_for_the_host_alone(cache, scenario):
    password = (scenario / "inventory/.state/pgpool/auditdb_pgpool.password").read_text().split()[0]
    with pytest.raises(psycopg2.OperationalError, match=r"no pool_hba\.conf entry"):
        cache.login("auditdb_pgpool", password=password)
    cache.login("auditdb_pgpool", at=cache.base, password=password).close()


def test_tls_and_scram_on_both_sides(cache):
    session = cache.login()
    assert session.info.ssl_in_use
    assert ask(
        session, "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'alice'"
    )
    hba = cache.run("cat", "/etc/pgpool2/pool_hba.conf")
    assert {line.split()[-1] for line in hba.splitlines() if line[:1] not in ("", "#")} == {"scram-sha-256"}


@pytest.mark.newest
def test_servers_of_another_authority_are_not_believed(cache):
    authority = "/etc/postgresql/tls/ca.crt"
    cache.run("cp", "-a", authority, "/root/kept.crt")
    try:
        cache.run(
            "sh", "-c", "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=other -days 2"
            f" -keyout /dev/null -out {authority} 2> /dev/null",
        )  # fmt: skip
        cache.run("systemctl", "restart", "pgpool2")
        begun = time.time()
        said = ["journalctl", "-u", "pgpool2", "--no-pager", f"--since=@{int(begun)}"]
        while time.time() - begun < 15:
            with pytest.raises(psycopg2.OperationalError):
                cache.login()
        assert "certificate verify failed" in cache.run(*said)
    finally:
        cache.run("cp", "-a", "/root/kept.crt", authority)
        cache.run("systemctl", "restart", "pgpool2")
        wait(lambda: cache.writes_reach(cache.base), "the right servers are not reached")


def test_administration_is_on_loopback_alone(cache):
    listening = [line.split()[3] for line in cache.run("ss", "-Hltn").splitlines()]
    assert "127.0.0.1:9898" in listening
    assert [each for each in listening if each.endswith(":9898")] == ["127.0.0.1:9898"]
    assert any(each.endswith(f":{PORT}") and not each.startswith("127.") for each in listening)


def test_secrets_are_nowhere_else(cache, scenario):
    for name in ("pgpoolkey", "pool_passwd", "look.pgpass", "pcp.pgpass", "pcp.conf"):
        assert cache.run("stat", "-c", "%a %U", f"/etc/pgpool2/{name}").split() == ["600", "postgres"]
    state = scenario / "inventory/.state/pgpool"
    assert all(path.stat().st_mode & 0o077 == 0 for path in state.iterdir())
    own = (state / "auditdb_pgpool.password").read_text().split()[0]
    key = (state / f"{cache.name}.key").read_text().split()[0]
    said = cache.run(
        "sh", "-c", "journalctl --no-pager; ps axwwe; cat /etc/pgpool2/pool_passwd /etc/pgpool2/pgpool.conf"
    )
    assert [secret for secret in (own, key, "only for alice") if secret in said] == []


def test_a_run_says_no_secret(caches, playbook, scenario):
    cache = caches["cache1"]
    # A password that differs, so that the run has something to write.
    given = json.dumps({"pgpool_passwords": {"alice": "only for alice", "bob": "only for this run"}})
    own = (scenario / "inventory/.state/pgpool/auditdb_pgpool.password").read_text().split()[0]
    run = playbook("auditdb.postgresql.pgpool", "-vvv", "--diff", "--limit", cache.limit, "-e", given)
    assert run.code == 0 and run.changed >= 1, run.output
    # What is given on the command line of a test is said there.
    said = "\n".join(line for line in run.output.splitlines() if "-e" not in line)
    assert "only for bob" not in said and own not in said and "only for alice" not in said.replace(given, "")
    assert playbook("auditdb.postgresql.pgpool", "--limit", cache.limit).code == 0
    assert ask(cache.login("bob"), "SELECT 1") == 1
