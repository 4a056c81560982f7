"""A standby is a clone that streams, over TLS, through a slot of its own; its password is nowhere."""

from __future__ import annotations

import json

import pytest
from streaming import arrived, rows, wait, write
from throwaway import Host

STANDBY = "auditdb.postgresql.standby"


def test_rows_arrive_and_it_takes_no_writes(pair):
    expected = write(pair.lead, 3)
    arrived(pair.lead, pair.follow)
    assert rows(pair.follow) == expected
    with pytest.raises(AssertionError, match="read-only transaction"):
        write(pair.follow)
    assert pair.lead.sql("SHOW data_checksums") == pair.follow.sql("SHOW data_checksums") == "on"


def test_it_streams_over_tls_through_its_slot(pair):
    name = f"follow_{pair.release}"
    streams = pair.lead.sql(
        "SELECT application_name, usename, ssl.version, state, slot_name, wal_status FROM pg_stat_replication "
        "JOIN pg_stat_ssl AS ssl USING (pid) JOIN pg_replication_slots ON active_pid = pid"
    )
    assert streams == f"{name}\tauditdb_standby\tTLSv1.3\tstreaming\tstandby_{name}\treserved"
    assert "sslmode=verify-full" in pair.follow.sql("SHOW primary_conninfo")
    for host in (pair.lead, pair.follow):
        assert host.sql("SHOW max_slot_wal_keep_size") == "4GB"


def test_it_is_set_up_as_its_primary(pair):
    names = "'lc_messages', 'default_text_search_config', 'TimeZone', 'shared_preload_libraries', 'max_connections'"
    settings = f"SELECT name, setting FROM pg_settings WHERE name IN ({names}) ORDER BY name"
    assert pair.lead.sql(settings) == pair.follow.sql(settings)
    assert pair.follow.run("pg_lsclusters", "-h").split()[:4] == [str(pair.version), "main", "5432", "online,recovery"]


def test_the_role_reads_and_changes_nothing(pair):
    assert pair.lead.sql(
        "SELECT rolsuper, rolreplication, rolcreaterole, rolcreatedb, rolbypassrls FROM pg_roles "
        "WHERE rolname = 'auditdb_standby'"
    ) == "f\tt\tf\tf\tf"  # fmt: skip
    assert pair.lead.sql(
        "SELECT proname, count(*) FROM pg_proc, aclexplode(proacl) WHERE grantee = 'auditdb_standby'::regrole "
        "GROUP BY proname ORDER BY proname"
    ).split() == ["pg_ls_dir", "1", "pg_read_binary_file", "2", "pg_stat_file", "1"]


def test_nothing_is_left_of_the_cloning(pair):
    assert pair.call(pair.follow, "stat -c '%a %U' /etc/auditdb-standby/main.pgpass") == "600 postgres"
    left = "find /var/lib/postgresql -maxdepth 2 -name 'main*' -o -maxdepth 2 -name '.*ing-*'"
    assert pair.call(pair.follow, left) == pair.data
    assert pair.call(pair.follow, f"stat -c '%a %U' {pair.data}") == "700 postgres"
    assert pair.call(pair.follow, f"ls {pair.data} | grep -e auditdb_standby -e standby.signal") == "standby.signal"
    assert pair.follow.sql("SELECT count(*) FROM pg_replication_slots") == "0"


@pytest.mark.newest
def test_the_password_is_nowhere(pair, playbook, scenario):
    (file,) = (scenario / "inventory/.state/standby").glob(f"lead-{pair.release}-main.password")
    password = file.read_text().strip()
    assert len(password) == 40 and oct(file.stat().st_mode)[-3:] == "600"
    assert len({each.read_text() for each in file.parent.glob("*.password")}) > 1, "each primary has its own"
    pair.lead.sql("ALTER SYSTEM SET log_statement = 'all'")
    pair.lead.sql("SELECT pg_reload_conf()")
    pair.lead.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    pair.lead.sql("ALTER ROLE auditdb_standby PASSWORD NULL")
    pair.follow.run("rm", "/etc/auditdb-standby/main.pgpass")
    run = playbook(STANDBY, "--limit", pair.limit, "-vvv", "--diff")
    assert run.code == 0 and run.changed >= 2, run.output
    pair.lead.sql("ALTER SYSTEM RESET log_statement")
    pair.lead.sql("SELECT pg_reload_conf()")
    assert password not in run.output
    assert pair.call(pair.follow, "cut -d: -f5 /etc/auditdb-standby/main.pgpass") == password
    log = pair.call(pair.lead, "cat /var/log/postgresql/*.log")
    assert "ALTER ROLE" in log and "auditdb_standby" in log
    everything = log + pair.lead.sql("SELECT query FROM pg_stat_statements")
    for host in (pair.lead, pair.follow):
        everything += pair.call(host, "journalctl; cat /var/log/postgresql/*.log; ps -eo args")
        everything += pair.call(host, "cat /etc/postgresql/*/main/conf.d/* /etc/postgresql/*/main/postgresql.conf")
    assert password not in everything


@pytest.mark.newest
def test_commits_wait_for_a_synchronous_standby(pair, playbook):
    name = f"follow_{pair.release}"
    given = json.dumps({"postgresql_standby_synchronous_names": f"ANY 1 ({name})"})
    limited = ("--limit", pair.lead.name)
    run = playbook(STANDBY, *limited, "-e", given)
    assert run.code == 0 and run.changed == 2, run.output
    wait(lambda: pair.lead.sql("SELECT sync_state FROM pg_stat_replication") == "quorum", "it is not waited for")
    pair.lead.sql("CREATE TABLE IF NOT EXISTS waited (id int)")
    pair.follow.run("systemctl", "stop", pair.unit)
    try:
        with pytest.raises(AssertionError):
            pair.call(pair.lead, "timeout 2 runuser -u postgres -- psql -Xc 'INSERT INTO waited VALUES (1)'")
        # It is taken back although the standby is away: that is when it is needed.
        run = playbook(STANDBY, *limited)
        assert run.code == 0, run.output
        pair.lead.sql("INSERT INTO waited VALUES (2)")
        # Nor is a standby waited for that is not there.
        run = playbook(STANDBY, *limited, "-e", given)
        assert run.code != 0 and run.changed == 0
        assert "All commits would wait. Remedy:" in run.text
    finally:
        pair.follow.run("systemctl", "start", pair.unit)
    wait(lambda: pair.lead.sql("SELECT sync_state FROM pg_stat_replication") == "async", "it does not stream again")


@pytest.mark.long
@pytest.mark.newest
def test_what_makes_no_sense_is_refused(pair, playbook):
    both = ("--limit", pair.limit)
    cases = (
        ({"postgresql_standby_keep_mb": 1}, "postgresql_standby_keep_mb is 1. Remedy"),
        ({"postgresql_standby_max_rate": "fast"}, "postgresql_standby_max_rate is 'fast'. Remedy"),
        ({"postgresql_standby_rebuild": {pair.lead.name: "clone"}}, "its data are not to go. Remedy"),
        ({"postgresql_standby_rebuild": {pair.follow.name: "delete"}}, "Remedy: say rewind or clone"),
        ({"postgresql_standby_rebuild": "clone"}, "Remedy: name the host, as in"),
        ({"postgresql_standby_primary_address": "a b"}, "postgresql_standby_primary_address is 'a b'"),
    )
    for given, said in cases:
        run = playbook(STANDBY, *both, "-e", json.dumps(given))
        assert run.code != 0 and run.changed == 0 and said in run.text, run.output
    assert playbook(STANDBY, *both).code == 0


@pytest.mark.long
@pytest.mark.newest
def test_a_rule_that_is_missing_is_refused_with_the_rule(pair, playbook):
    rules = [{"type": "local", "database": "all", "user": "postgres", "method": "peer"}]
    server, both = "auditdb.postgresql.server", ("--limit", pair.limit)
    assert playbook(server, *both, "-e", json.dumps({"postgresql_server_hba": rules})).code == 0
    run = playbook(STANDBY, *both)
    assert run.code != 0 and run.changed == 0
    assert "no rule of pg_hba.conf lets auditdb_standby stream" in run.text
    assert playbook(server, *both).code == 0
    assert playbook(STANDBY, *both).changed == 0


@pytest.mark.long
@pytest.mark.parametrize("pair", ["pair-trixie"], indirect=True)
def test_check_mode_on_bare_hosts(pair, playbook, scenario, declared):
    bare = [Host(f"bare-{each}", scenario / "inventory") for each in ("trixie", "bookworm")]
    for name, inventory in (
        ("auditdb.postgresql.site", declared(*bare)),
        (STANDBY, declared(pair.lead, pair.follow, bare[0])),
    ):
        run = playbook(name, "--check", "--diff", inventory=inventory)
        assert run.code == 0, run.output
        assert "would be made a standby of" in run.text
    for host in bare:
        host.run("sh", "-c", "test ! -e /etc/postgresql && test ! -e /etc/auditdb-standby")
