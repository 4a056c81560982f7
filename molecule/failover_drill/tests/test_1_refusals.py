"""What is no drill is refused before anything changes; and what a drill finds is red."""

from __future__ import annotations

from drills import CLUSTER, PLAY, reports
from throwaway import wait_until


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_changed(drill):
    drilled = drill("postgres_crash", "no_such", "host_freeze", failover_drill_cluster="other", failover_drill_power={})
    assert drilled.run.code != 0 and drilled.run.changed == 0 and not drilled.evidence
    assert "failover_drill_cluster is 'other', and the cluster is 'main'. Remedy:" in drilled.run.text
    assert "failover_drill_fault is 'no_such'. Remedy: one of postgres_crash, " in drilled.run.text
    assert (
        "host_freeze needs a command that does 'freeze' to a host. Remedy: set failover_drill_power" in drilled.run.text
    )


def test_a_cluster_that_is_paused_and_not_whole_has_no_drill(cluster, playbook):
    cluster.whole()
    standby = cluster.standbys[0]
    assert cluster.change("/config", {"pause": True}, "PATCH")[0] == 200
    standby.run("systemctl", "stop", "etcd")
    try:
        wait_until(lambda: cluster.rest(standby, "/patroni").data.find(b'"pause": true') > 0, "it is not paused", 30)
        before = reports()
        run = playbook(PLAY, "-e", CLUSTER, "-e", "failover_drill_fault=postgres_crash")
    finally:
        standby.run("systemctl", "start", "etcd")
        assert cluster.change("/config", {"pause": None}, "PATCH")[0] == 200
    assert run.code != 0 and run.changed == 0 and reports() == before
    assert "the cluster is paused" in run.text and f"auditdb-{standby.name}:2379 does not say" in run.text


def test_check_mode_says_what_would_be_done(cluster, playbook):
    cluster.whole()
    run = playbook(PLAY, "--check", "-e", CLUSTER, "-e", "failover_drill_fault=postgres_crash")
    assert run.code == 0 and "the leader's postmaster is killed with -9." in run.text


def test_clients_that_cannot_begin_end_the_drill_and_leave_nothing(drill, nothing_left, balancer):
    balancer.run("systemctl", "stop", "pgbouncer")
    try:
        drilled = drill("haproxy_kill")
    finally:
        balancer.run("systemctl", "start", "pgbouncer")
    assert drilled.run.code != 0 and not drilled.evidence
    assert "No fault was injected: " in drilled.run.text and "Remedy: see whether" in drilled.run.text
    nothing_left()


def test_a_budget_that_is_exceeded_is_red_after_the_evidence_is_written(drill, nothing_left):
    drilled = drill("haproxy_kill", "postgres_crash", failover_drill_budgets={"process": 0})
    assert drilled.run.code != 0
    assert {name: each["verdict"] for name, each in drilled.evidence.items()} == {"haproxy_kill": "failed"}
    assert "writes go on within 0.0 s - they did not for" in drilled.run.text
    nothing_left()


def test_an_acknowledged_row_that_is_gone_is_lost(cluster, clients):
    with clients.meanwhile("gone") as outcome:
        gone = "DELETE FROM failover_drill.written WHERE fault = 'gone' AND number = 3"
        cluster.leader.sql(gone, "audit_db")
    assert outcome.lost == [3] and outcome.rows > 50
    assert outcome.leader_before == outcome.leader_after == cluster.leader.name
    assert outcome.degraded == 0


def test_a_standby_that_is_away_is_seen(cluster, clients):
    standby = cluster.standbys[0]
    with clients.meanwhile("away") as outcome:
        standby.run("systemctl", "stop", "patroni@17-main")
        cluster.wait(lambda: cluster.streaming() == 1, "it streams")
        standby.run("systemctl", "start", "patroni@17-main")
    assert outcome.lost == [] and outcome.degraded > 1
    assert outcome.leader_after == outcome.leader_before
