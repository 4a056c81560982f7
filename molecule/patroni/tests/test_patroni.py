"""One member leads and two follow; what is shared is what is declared; and nobody changes it who may not."""

from __future__ import annotations

import json

import pytest
import urllib3
from members import DATA, STATE, UNIT, passwords

PLAY = "auditdb.postgresql.patroni"


def test_one_leads_and_two_stream_from_it(cluster):
    cluster.whole()
    wanted = ["leader", "quorum_standby", "quorum_standby"]
    cluster.wait(lambda: sorted(each["role"] for each in cluster.listed()) == wanted, "they are no quorum")
    leader = cluster.leader
    assert leader.sql("SELECT DISTINCT sync_state FROM pg_stat_replication") == "quorum"
    assert leader.sql("SHOW synchronous_standby_names").startswith("ANY 1 (")
    assert leader.sql("SELECT count(*) FROM pg_replication_slots WHERE active") == "2"
    for host in cluster.standbys:
        assert host.sql("SELECT pg_is_in_recovery()") == "t"


def test_each_member_has_the_servers_settings(cluster):
    for host in cluster.hosts.values():
        assert host.sql("SHOW shared_buffers") == "256MB"
        assert host.sql("SHOW ssl") == "on"
        assert host.sql("SHOW data_checksums") == "on"
        assert host.sql("SHOW wal_log_hints") == "on"
        assert host.sql("SHOW config_file") == "/etc/postgresql/17/main/postgresql.conf"
        assert host.run("pg_lsclusters", "-h").split()[:2] == ["17", "main"]


def test_nothing_else_starts_the_server(cluster):
    for host in cluster.hosts.values():
        _code, said = cluster.call(host, "systemctl", "is-enabled", "postgresql@17-main")
        assert said.strip() == "masked"
        code, said = cluster.call(host, "pg_ctlcluster", "17", "main", "restart")
        assert code != 0, said
        assert host.run("systemctl", "show", "--value", "-p", "Restart", UNIT).strip() == "always"
        assert host.run("systemctl", "is-enabled", UNIT).strip() == "enabled"


def test_reading_goes_over_tls_alone(cluster):
    for host in cluster.hosts.values():
        assert cluster.rest(host, "/health").status == 200
        code, _said = cluster.call(host, "curl", "-sS", "-m", "5", f"http://{host.container.name}:8008/health")
        assert code != 0
        old = ("--tls-max", "1.1")
        code, _said = cluster.call(host, "curl", "-sSk", "-m", "5", *old, f"https://{host.container.name}:8008/health")
        assert code != 0


def test_changing_needs_an_address_a_certificate_and_the_password(cluster):
    leader, other = cluster.leader, cluster.standbys[0]
    body = ["-X", "PATCH", "-H", "Content-Type: application/json", "-d", '{"ttl": 99}']
    tls, password = cluster.credentials[:4], cluster.credentials[4:]
    before = cluster.dcs()
    for options, status in (([], 403), (password, 403), (tls, 401), ([*tls, "-u", "patroni:wrong"], 401)):
        assert cluster.curl(other, "/config", *options, *body, to=leader)[0] == status, options
    for path in ("/restart", "/switchover", "/reinitialize"):
        assert cluster.curl(other, path, "-X", "POST", "-d", "{}", to=leader)[0] == 403
    # This machine is no member; it has the password.
    headers = urllib3.make_headers(basic_auth=f"patroni:{passwords()['rest']}")
    assert cluster.rest(leader, "/config", method="PATCH", body=b'{"ttl": 99}', headers=headers).status == 403
    assert cluster.dcs() == before


def test_the_members_roles_are_no_superusers(cluster):
    rows = cluster.leader.sql(
        "SELECT rolname, rolsuper, rolreplication, left(rolpassword, 14) FROM pg_authid"
        " WHERE rolname LIKE 'patroni%' ORDER BY 1"
    )
    assert rows.split() == [
        "patroni_replication", "f", "t", "SCRAM-SHA-256$",
        "patroni_rewind", "f", "f", "SCRAM-SHA-256$",
    ]  # fmt: skip


def test_passwords_are_nowhere_else(cluster, playbook):
    found = passwords()
    assert sorted(found) == ["replication", "rest", "rewind"]
    for path in (STATE / "patroni").glob("*.password"):
        assert path.stat().st_mode & 0o077 == 0
    run = playbook("auditdb.postgresql.patroni", "-vvv", "--diff")
    assert (run.code, run.changed) == (0, 0), run.output
    logs = ""
    for host in cluster.hosts.values():
        assert host.run("stat", "-c", "%a %U", "/etc/patroni/17-main.yml").split() == ["600", "postgres"]
        logs += host.run(
            "sh", "-c", "cat /var/log/postgresql/*; journalctl --no-pager; ps axww; cat /etc/systemd/system/p*/*"
        )
        open_to_all = (
            f"find /etc/patroni /etc/postgresql /var/lib/postgresql/*.pgpass {DATA} -type f -perm /044 -print0"
        )
        logs += host.run("sh", "-c", f"{open_to_all} | xargs -0r cat")
    assert "patroni" in logs
    for password in found.values():
        assert password not in run.output and password not in logs


def test_drift_of_what_is_shared_is_shown_and_undone(cluster, playbook):
    drifted = {
        "ttl": 60,
        "maximum_lag_on_syncnode": 1000,
        "synchronous_mode": None,
        "postgresql": {"use_pg_rewind": False},
    }
    assert cluster.change("/config", drifted, "PATCH")[0] == 200
    live = cluster.dcs()
    shown = "maximum_lag_on_syncnode: 1000 -> (none), postgresql.use_pg_rewind: False -> True, "
    shown += "synchronous_mode: (none) -> quorum, ttl: 60 -> 20"
    run = playbook(PLAY, "--check")
    assert run.code == 0 and run.changed == 1, run.output
    assert shown in run.text
    assert cluster.dcs() == live, "check mode changes nothing"
    run = playbook(PLAY)
    assert run.code == 0 and shown in run.text
    assert cluster.dcs()["ttl"] == 20 and cluster.dcs()["synchronous_mode"] == "quorum"
    assert "maximum_lag_on_syncnode" not in cluster.dcs()


def test_a_paused_cluster_stays_paused(cluster, playbook):
    with cluster.changed({"pause": True}, {"pause": None}):
        run = playbook(PLAY)
        assert (run.code, run.changed) == (0, 0), run.output
        assert cluster.dcs()["pause"] is True


def started(cluster) -> dict[str, str]:
    return {name: host.sql("SELECT pg_postmaster_start_time()") for name, host in cluster.hosts.items()}


def test_a_setting_is_reloaded_where_that_is_enough(cluster, playbook):
    before, leader = started(cluster), cluster.leader.name
    run = playbook(PLAY, "-e", '{"postgresql_server_settings": {"work_mem": "5MB"}}')
    assert run.code == 0, run.output
    for host in cluster.hosts.values():
        cluster.wait(lambda host=host: host.sql("SHOW work_mem") == "5MB", "it is not in force")
    assert (started(cluster), cluster.leader.name) == (before, leader)


def test_a_setting_that_needs_it_restarts_the_standbys_and_then_the_leader(cluster, playbook):
    leader = cluster.leader.name
    given = {"max_connections": 120, "shared_preload_libraries": "pg_stat_statements,auto_explain"}
    run = playbook(PLAY, "-e", json.dumps({"postgresql_server_settings": given}))
    assert run.code == 0, run.output
    cluster.whole()
    assert cluster.leader.name == leader, "no failover"
    for host in cluster.hosts.values():
        assert host.sql("SHOW max_connections") == "120"
        assert host.sql("SHOW shared_preload_libraries") == given["shared_preload_libraries"]
    since = started(cluster)
    assert max(since, key=lambda name: since[name]) == leader
    run = playbook(PLAY)
    assert run.code == 0 and playbook(PLAY).changed == 0
    assert cluster.leader.sql("SHOW max_connections") == "100"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"patroni_profile": "fast"}, "patroni_profile"),
        ({"patroni_ttl": 10}, "patroni_ttl (10) is 20 or more"),
        ({"patroni_retry_timeout": 15}, "patroni_retry_timeout (15)"),
        ({"patroni_maximum_lag": 1048576}, "patroni_maximum_lag (1048576)"),
        ({"patroni_parameters": {"work_mem": "1MB"}}, "all others go into postgresql_server_settings"),
        ({"patroni_members": ["elect1", "elect2", "elect3", "elect4"]}, "elect4"),
        ({"patroni_etcd_hosts": []}, "patroni_etcd_hosts"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(playbook, given, said):
    run = playbook(PLAY, "-e", json.dumps(given))
    assert run.code != 0 and run.changed == 0
    assert said in run.text


def test_some_of_the_members_are_refused(playbook):
    run = playbook(PLAY, "--limit", "elect1")
    assert run.code != 0 and run.changed == 0
    assert "without --limit" in run.text


def test_the_data_of_another_cluster_are_refused_and_a_bare_member_is_cloned(cluster, playbook):
    host = cluster.standbys[0]
    initdb = "/usr/lib/postgresql/17/bin/initdb"
    host.run("systemctl", "stop", UNIT)
    host.run("mv", DATA, f"{DATA}.aside")
    host.run("install", "-d", "-o", "postgres", "-m", "0700", DATA)
    host.run(initdb, DATA, user="postgres")
    run = playbook(PLAY)
    assert run.code != 0 and run.changed == 0
    assert f"{host.name} has data of another cluster" in run.text and "aside" in run.text
    host.run("rm", "-r", DATA)
    run = playbook(PLAY)
    assert run.code == 0, run.output
    cluster.whole()
    host.run("rm", "-r", f"{DATA}.aside")


def test_access_rules_that_keep_standbys_out_are_refused(playbook):
    rules = [{"type": "local", "database": "all", "user": "postgres", "method": "peer"}]
    run = playbook(PLAY, "-e", json.dumps({"postgresql_server_hba": rules}))
    assert run.code != 0 and run.changed == 0
    assert "{type: hostssl, database: replication, user: patroni_replication" in run.text
