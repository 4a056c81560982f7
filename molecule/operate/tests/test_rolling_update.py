"""Who needs it is updated and restarted, one at a time, the leader last, while clients write; others are left alone.

In the order of the file.
"""

from __future__ import annotations

import json

import pytest
from election import outcome, writing
from members import STATE, UNIT
from nodes import processes, started
from throwaway import keep_figure

NAMED = ("-e", "patroni_rolling_update=main")
MORE = {"postgresql_server_max_connections": 103, "postgresql_server_settings": {"track_activity_query_size": 2048}}
SETTINGS = ("-e", json.dumps(MORE))
# What an update does to a program that runs: another file has its name.
REPLACE = 'cp -p "$1" "$1.new" && mv "$1.new" "$1"'


def pooled(balancer, cluster):
    """Return the login of a client of the pool, with a table to write to."""
    for statement in (
        "DROP TABLE IF EXISTS public.election",
        "CREATE TABLE public.election (number bigint PRIMARY KEY)",
        "GRANT USAGE ON SCHEMA public TO audit_writer",
        "GRANT INSERT ON public.election TO audit_writer",
        "ALTER ROLE audit_writer IN DATABASE audit_db SET search_path = public",
    ):
        cluster.leader.sql(statement, "audit_db")
    connection = balancer.connect("audit_writer", port=6432)
    login = {**connection.get_dsn_parameters(), "password": connection.info.password}
    connection.close()
    return {key: value for key, value in login.items() if key != "options"}


def test_check_mode_says_who_would_be_restarted_for_what(cluster, timed):
    cluster.whole()
    leader, *standbys = cluster.leader, *cluster.standbys
    for host in cluster.hosts.values():
        host.run("apt-get", "install", "-y", "-qq", "--reinstall", "postgresql-17")
    standbys[0].run("sh", "-c", REPLACE, "sh", "/usr/bin/etcd")
    before = processes(cluster, *cluster.hosts)
    run = timed("rolling_update", "--check", *NAMED)
    assert run.code == 0, run.output
    for host in cluster.hosts.values():
        assert f"{host.name} would be updated and restarted" in run.text
    assert f"{leader.name} would be updated and restarted, last, after a switchover" in run.text
    assert "the server runs files that were replaced" in run.text
    assert processes(cluster, *cluster.hosts) == before
    assert cluster.leader_name() == leader.name


def test_under_load_no_row_is_lost_and_the_leader_is_last(cluster, timed, balancer):
    """PostgreSQL was reinstalled, a program of etcd replaced, two settings wait, HAProxy has a new version."""
    older = balancer.run("sh", "-c", "apt-cache madison haproxy | awk '{print $3}' | sort -V | head -1").strip()
    newest = balancer.run("dpkg-query", "-W", "-f", "${Version}", "haproxy")
    balancer.run("apt-get", "install", "-y", "-qq", "--allow-downgrades", f"haproxy={older}")
    cluster.whole()
    led, etcd = cluster.leader, cluster.standbys[0].run("systemctl", "show", "-p", "MainPID", "etcd")
    first = cluster.standbys[0]
    login = pooled(balancer, cluster)
    with cluster.written("rolling update") as direct, writing([login], 30) as pool:
        run = timed("rolling_update", *NAMED, *SETTINGS)
    assert run.code == 0, run.output
    leader = cluster.leader
    assert leader.name != led.name
    assert direct.lost == [] and direct.rows > 500
    rows = {int(each) for each in leader.sql("SELECT number FROM public.election", "audit_db").split()}
    through = outcome(pool, rows)
    keep_figure(STATE / "election.json", "rolling update, through the pool", {"outage_s": round(through.outage, 2)})
    assert through.lost == [] and through.rows > 500
    # The last may have been under way when it ended.
    assert pool.number - through.rows <= 1, "a transaction of the pool has failed"
    assert max(direct.outage, through.outage) < 60
    for host in cluster.hosts.values():
        assert host.sql("SHOW max_connections") == "103"
        assert host.sql("SHOW track_activity_query_size") == "2kB"
        assert host.sql("SELECT count(*) FROM pg_settings WHERE pending_restart") == "0"
    assert max(cluster.hosts.values(), key=started).name == led.name
    assert first.run("systemctl", "show", "-p", "MainPID", "etcd") != etcd
    assert balancer.run("dpkg-query", "-W", "-f", "${Version}", "haproxy") == newest
    program = balancer.run("sh", "-c", "readlink /proc/$(systemctl show -p MainPID --value haproxy)/exe").strip()
    assert program == "/usr/sbin/haproxy"
    leader.sql("ALTER ROLE audit_writer IN DATABASE audit_db RESET search_path", "audit_db")
    leader.sql("DROP TABLE public.election; REVOKE USAGE ON SCHEMA public FROM audit_writer", "audit_db")


def test_the_second_run_changes_nothing(cluster, timed):
    before = processes(cluster, *cluster.hosts)
    run = timed("rolling_update", *NAMED, *SETTINGS)
    assert (run.code, run.changed) == (0, 0), run.output
    assert "nobody, as nothing waits for it" in run.text
    assert processes(cluster, *cluster.hosts) == before


def test_it_stops_at_the_first_failure_and_goes_on_when_run_again(cluster, timed):
    """Patroni was reinstalled; on one member it does not start."""
    cluster.whole()
    for host in cluster.hosts.values():
        host.run("apt-get", "install", "-y", "-qq", "--reinstall", "patroni")
    broken, later = sorted(cluster.standbys, key=lambda host: host.name)
    leader = cluster.leader
    before = processes(cluster, later.name, leader.name)
    folder = f"/etc/systemd/system/{UNIT}.service.d"
    broken.run("sh", "-c", f"printf '[Service]\\nExecStartPre=/bin/false\\n' > {folder}/broken.conf")
    run = timed("rolling_update", *NAMED, *SETTINGS)
    assert run.code != 0
    assert f"{broken.name} could not be updated" in run.text
    assert "Done: nobody. Not done: " in run.text and "run again: it goes on" in run.text
    assert processes(cluster, later.name, leader.name) == before
    broken.run("rm", f"{folder}/broken.conf")
    broken.run("systemctl", "daemon-reload")
    broken.run("systemctl", "restart", UNIT)
    cluster.whole()
    kept = started(broken)
    run = timed("rolling_update", *NAMED, *SETTINGS)
    assert run.code == 0, run.output
    assert started(broken) == kept, "it was done already"
    assert cluster.leader_name() != leader.name
    assert processes(cluster, later.name)[later.name] != before[later.name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-e", "patroni_rolling_update=other"), "patroni_rolling_update is 'other', and the cluster is 'main'"),
        ((*NAMED, "-e", "postgresql_server_max_connections=50"), "max_connections (103 -> 50) would become less"),
    ],
)
def test_wrong_input_changes_nothing(cluster, timed, arguments, said):
    run = timed("rolling_update", *arguments)
    assert run.code != 0 and run.changed == 0
    assert said in run.text and "Remedy:" in run.text


def test_a_cluster_that_is_not_whole_is_left_alone(cluster, timed):
    """All that is wrong is said at once."""
    cluster.whole()
    missing, other = cluster.standbys
    missing.run("systemctl", "stop", UNIT)
    other.run("systemctl", "stop", "etcd")
    assert cluster.change("/config", {"pause": True}, "PATCH")[0] == 200
    try:
        run = timed("rolling_update", *NAMED)
    finally:
        other.run("systemctl", "start", "etcd")
        missing.run("systemctl", "start", UNIT)
        cluster.wait(lambda: cluster.change("/config", {"pause": None}, "PATCH")[0] == 200, "it stays paused")
    assert run.code != 0 and run.changed == 0
    assert f"{missing.name}: the server does not answer. Remedy:" in run.text
    assert f"etcd: auditdb-{other.name}:2379 does not say that it is healthy" in run.text
    assert "the cluster is paused. Remedy:" in run.text
    cluster.whole()
