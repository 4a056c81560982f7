"""The site on three members that elect their leader: its runs, and what is said of one that is not well.

In the order of the file.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import pytest
import yaml
from members import UNIT

LINES = {
    "leader": "one member leads, and no other server takes writes",
    "streaming": "each declared member streams from the leader, on its timeline",
    "others": "no other host is a member",
    "waiting": "no member waits for a restart to put a setting in force",
    "pause": "a failure of the leader is answered; a pause is said",
    "etcd": "etcd has its quorum, and all of its members",
}
PLAIN = {"ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml", "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
"""Has the table printed in lines, without colours between them."""
HEALTH = "auditdb.postgresql.health"
# What the database is: its partitions and tables with their rights, its roles and who belongs to whom.
SHAPE = """
    SELECT md5(string_agg(line, ';' ORDER BY line)) FROM (
      SELECT concat(oid::regclass, relacl, pg_get_expr(relpartbound, oid)) FROM pg_class
      WHERE relnamespace = 'audit'::regnamespace
      UNION ALL SELECT concat(rolname, rolcanlogin, rolpassword) FROM pg_authid
      UNION ALL SELECT concat(roleid::regrole, member::regrole) FROM pg_auth_members) AS found (line)
"""


def test_check_mode_on_bare_hosts_changes_nothing_and_ends_well(first):
    if first is None:
        pytest.skip("the hosts are not bare")
    assert first.checked.code == 0, first.checked.output
    assert "would be" in first.checked.text


def test_bare_hosts_become_a_healthy_database(first):
    if first is None:
        pytest.skip("the hosts are not bare")
    assert first.made.code == 0, first.made.output
    for line in LINES.values():
        assert f"ok       cluster      {line}" in first.made.output


def test_the_second_run_changes_nothing(playbook, figure):
    begun = time.monotonic()
    run = playbook()
    figure("second run", time.monotonic() - begun)
    assert (run.code, run.changed) == (0, 0), run.output


@pytest.mark.long
def test_check_mode_on_the_running_cluster_changes_nothing(playbook):
    run = playbook("auditdb.postgresql.site", "--check", "--diff")
    assert (run.code, run.changed) == (0, 0), run.output


def reads(balancer) -> bool:
    connection = balancer.connect("audit_reader", port=6432)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) > 0 FROM audit.audit_retention_policy")
            return bool(cursor.fetchone()[0])
    finally:
        connection.close()


def test_clients_read_through_the_balancer(balancer):
    assert reads(balancer)


def test_what_the_site_prints_connects_and_past_the_balancer_too(cluster, playbook, balancer, scenario):
    """Each line as it is printed, but for the addresses of names that this machine does not resolve."""
    run = playbook("auditdb.postgresql.connection", **PLAIN)
    printed = dict(re.findall(r"(write|read|fallback): (host=.*)", run.output))
    assert [*printed] == ["write", "read", "fallback"], run.output
    secrets = yaml.safe_load((scenario / "inventory/group_vars/all/secrets.yml").read_text())["audit_passwords"]
    addresses = {host.container.name: host.address for host in (balancer, *cluster.hosts.values())}
    standby = {}
    for name, string in printed.items():
        options = dict(word.split("=", 1) for word in string.split())
        hostaddr = ",".join(addresses[host] for host in options["host"].split(","))
        connection = psycopg2.connect(string, hostaddr=hostaddr, password=secrets[options["user"]])
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_is_in_recovery()")
            standby[name] = cursor.fetchone()[0]
        connection.close()
    assert standby == {"write": False, "read": True, "fallback": False}


@pytest.mark.long
def test_the_journal_of_each_member_is_loaded_once(cluster, playbook):
    name = "auditdb.postgresql.load_journal"
    loaded = "SELECT count(*) FROM audit.audit_log WHERE action LIKE 'dpkg.%'"
    assert playbook(name).code == 0
    before = int(cluster.leader.sql(loaded, "audit_db"))
    assert before > 3 * 100
    assert playbook(name).code == 0
    assert int(cluster.leader.sql(loaded, "audit_db")) == before


@pytest.mark.long
def test_after_a_switchover_the_site_is_as_it_was(cluster, playbook, balancer, scenario):
    cluster.whole()
    before, candidate = cluster.leader, cluster.standbys[0]
    shape = before.sql(SHAPE, "audit_db")
    code, said = cluster.change("/switchover", {"leader": before.name, "candidate": candidate.name})
    assert code == 200, said
    cluster.wait(lambda: cluster.leader_name() == candidate.name, "it does not lead")
    cluster.whole()

    evidence = scenario / "inventory/.state/evidence/health"
    kept = set(evidence.glob("*.json"))
    run = playbook()
    assert (run.code, run.changed) == (0, 0), run.output
    assert f"Health of {candidate.name}" in run.text and f"Health of {before.name}" not in run.text
    assert [file.name.startswith(candidate.name) for file in set(evidence.glob("*.json")) - kept] == [True]
    assert candidate.sql(SHAPE, "audit_db") == shape
    assert reads(balancer)


@contextmanager
def stopped(host, unit: str) -> Iterator[None]:
    host.run("systemctl", "stop", unit)
    try:
        yield
    finally:
        host.run("systemctl", "start", unit)


@pytest.mark.long
def test_health_says_who_is_missing_and_what_waits(cluster, playbook):
    cluster.whole()
    leader, missing, other = cluster.leader, *cluster.standbys
    connections = leader.sql("SHOW max_connections")
    more = {"postgresql": {"parameters": {"max_connections": int(connections) + 1}}}
    less = {"postgresql": {"parameters": {"max_connections": int(connections)}}}
    with cluster.changed(more, less), stopped(missing, UNIT), stopped(other, "etcd"):
        waits = "SELECT count(*) FROM pg_settings WHERE pending_restart"
        cluster.wait(lambda: leader.sql(waits) == "1", "it does not wait")
        run = playbook(HEALTH, **PLAIN)
    assert run.code != 0
    assert f"FAILED cluster {LINES['streaming']} - {missing.name}: the server does not answer" in run.text
    assert f"FAILED cluster {LINES['waiting']} - " in run.text
    assert f"{leader.name}: max_connections" in run.text
    assert f"FAILED cluster {LINES['etcd']} - auditdb-{other.name}:2379 does not say that it is healthy to" in run.text
    assert f"ok cluster {LINES['leader']}" in run.text
    cluster.whole()


@pytest.mark.long
def test_health_says_that_a_second_server_takes_writes_and_that_the_cluster_is_paused(cluster, playbook):
    """As after a Patroni that hangs: its server is promoted by hand, and nobody but health asks it."""
    rogue = cluster.standbys[0]
    with cluster.changed({"pause": True}, {"pause": None}):
        rogue.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", UNIT)
        try:
            assert rogue.sql("SELECT pg_promote()") == "t"
            run = playbook(HEALTH, **PLAIN)
        finally:
            rogue.run("systemctl", "kill", "--signal=CONT", "--kill-whom=main", UNIT)
    assert run.code != 0
    assert f"FAILED cluster {LINES['leader']} - {rogue.name} takes writes, and does not lead" in run.text
    assert f"{rogue.name}: Patroni does not answer" in run.text
    assert f"ok cluster {LINES['pause']} - the cluster is paused" in run.text
    cluster.whole()
    assert rogue.sql("SELECT pg_is_in_recovery()") == "t", "it still takes writes"


@pytest.mark.long
def test_where_nobody_leads_it_is_waited_for_and_then_refused(cluster, playbook):
    leader, witness = cluster.leader, cluster.standbys[0]
    assert cluster.change("/config", {"pause": True}, "PATCH")[0] == 200
    try:
        # In a pause, nobody takes the place of a leader whose Patroni is gone.
        leader.run("systemctl", "stop", UNIT)
        cluster.wait(lambda: b'"cluster_unlocked": true' in cluster.rest(witness, "/patroni").data, "somebody leads")
        for name in ("maintenance", "health"):
            run = playbook(f"auditdb.postgresql.{name}", "-e", "patroni_election_timeout=1")
            assert run.code != 0 and run.changed == 0
            assert f"None of {', '.join(cluster.hosts)} leads" in run.text and "Remedy:" in run.text
            assert f"{leader.name}: no answer" in run.text and f"{witness.name}: replica, running" in run.text
        back = threading.Timer(4, leader.run, ("systemctl", "start", UNIT))
        back.start()
        run = playbook("auditdb.postgresql.migrate")
        back.join()
        assert (run.code, run.changed) == (0, 0), run.output
    finally:
        leader.run("systemctl", "start", UNIT)
        assert cluster.change("/config", {"pause": None}, "PATCH")[0] == 200
    cluster.whole()


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["server", "topology", "standby", "backup", "restore", "restore_logical", "restore_drill", "disaster_plan"]
)
def test_what_is_for_servers_that_run_by_themselves_leaves_members_alone(playbook, name):
    run = playbook(f"auditdb.postgresql.{name}")
    assert run.code != 0 and run.changed == 0
    assert "is run by Patroni" in run.text and "Remedy:" in run.text
