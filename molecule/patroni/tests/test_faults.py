"""Who leads changes, and a cluster begins from what there is. In the order of the file."""

from __future__ import annotations

import time

from members import DATA, UNIT


def test_a_switchover_through_the_rest_api(cluster):
    before, candidate = cluster.leader, cluster.standbys[0]
    with cluster.written("switchover") as outcome:
        code, said = cluster.change("/switchover", {"leader": before.name, "candidate": candidate.name})
        assert code == 200, said
        cluster.wait(lambda: cluster.leader_name() == candidate.name, "it does not lead")
    # On two cores beside other tests. What faults cost: molecule/failover_drill.
    assert outcome.rows >= 40 and outcome.lost == [] and outcome.outage < 12, outcome


def test_a_run_after_all_this_changes_nothing(playbook):
    run = playbook()
    assert (run.code, run.changed) == (0, 0), run.output


def forget(cluster, host) -> None:
    """Have etcd forget the cluster."""
    assert cluster.etcdctl(host, "del", "--prefix", "/auditdb/")[0] == 0


def test_a_server_with_data_is_converted_and_loses_nothing(cluster, playbook):
    """From three hosts that know of no cluster, one of which has a server with data."""
    for host in cluster.hosts.values():
        host.run(
            "sh", "-c", f"systemctl disable --now {UNIT} 2> /dev/null; systemctl unmask postgresql@17-main 2> /dev/null"
        )
        host.run(
            "sh",
            "-c",
            f"rm -rf /etc/patroni/17-main.yml /etc/systemd/system/{UNIT}.service.d /etc/postgresql/17 {DATA}",
        )
    first = next(iter(cluster.hosts.values()))
    forget(cluster, first)

    single = cluster.hosts["elect2"]
    # As it was set up before its inventory knew of Patroni: now that playbook refuses members.
    alone = '{"patroni_etcd_hosts": []}'
    assert playbook("auditdb.postgresql.server", "--limit", "elect2", "-e", alone).code == 0
    single.sql("CREATE TABLE kept AS SELECT i, md5(i::text) AS text FROM generate_series(1, 20000) AS i")
    rows = "SELECT count(*), md5(string_agg(text, '' ORDER BY i)) FROM kept"
    before = single.sql(rows)
    identifier = "SELECT system_identifier FROM pg_control_system()"
    known = single.sql(identifier)

    assert playbook("auditdb.postgresql.cluster", "--check").code == 0
    assert single.run("systemctl", "is-active", "postgresql@17-main").strip() == "active", "check mode changes nothing"
    run = playbook()
    assert run.code == 0, run.output
    cluster.whole()
    assert cluster.leader.name == "elect2"
    for host in cluster.hosts.values():
        cluster.wait(lambda host=host: host.sql(rows) == before, f"{host.name} has other rows")
        assert host.sql(identifier) == known
    again = playbook()
    assert (again.code, again.changed) == (0, 0), again.output


def test_a_member_without_data_never_begins_a_cluster_of_its_own(cluster):
    """Where etcd has forgotten all, who has data leads; who has none waits."""
    bare, *others = cluster.standbys
    leader = cluster.leader
    members = (leader, *others, bare)
    for host in members:
        host.run("systemctl", "stop", UNIT)
    bare.run("mv", DATA, f"{DATA}.aside")
    forget(cluster, leader)
    bare.run("systemctl", "start", UNIT)
    time.sleep(10)
    assert bare.run("sh", "-c", f"ls {DATA}/global/pg_control 2> /dev/null; echo").strip() == ""
    for host in (leader, *others):
        host.run("systemctl", "start", UNIT)
    cluster.whole()
    assert cluster.leader.sql("SELECT count(*) FROM kept") == "20000"
    bare.run("rm", "-r", f"{DATA}.aside")
