"""Hosts that are far from each other, and a quarter of an hour of all that is no reason to have another lead."""

from __future__ import annotations

import time

import pytest
from drills import FIGURES, commands
from latency import far
from throwaway import keep_figure

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("programs")]

BURN = "for core in 1 2; do timeout {} sha256sum /dev/zero & done > /dev/null 2>&1"
SOAK_S = 15 * 60


def answer_ms(cluster) -> float:
    """Return how long the leader's API takes to a first answer, at least."""
    took = []
    for _ in range(5):
        begun = time.monotonic()
        assert cluster.rest(cluster.leader, "/liveness").status == 200
        took.append((time.monotonic() - begun) * 1000)
    return min(took)


def kill_etcd_leader(cluster) -> int:
    """Kill who leads etcd with -9; systemd starts it again. Return how many were killed."""
    host = cluster.leads_etcd()
    if host is None:
        return 0
    host.run(*commands("etcd_leader_kill"))
    return 1


def test_members_that_are_200_ms_from_each_other(cluster, clients):
    """A way from one to another passes the wires of both: 100 ms each."""
    near = answer_ms(cluster)
    with clients.meanwhile("200 ms between members") as outcome, far(cluster.hosts.values(), 100):
        assert answer_ms(cluster) > near + 200, "a handshake of TLS and an answer: three ways there and back"
        time.sleep(60)
    keep_figure(FIGURES, "200 ms between members", outcome.as_json())
    assert outcome.lost == [] and outcome.rows > 40
    assert outcome.leader_after == outcome.leader_before and len(outcome.servers) == 1
    assert outcome.outage < 10


def test_a_quarter_of_an_hour_of_load_and_disturbance_has_nobody_else_lead(cluster, clients):
    """All cores are busy; who leads etcd is killed each minute; the members are near and far by turns."""
    cluster.whole()
    timeline = "SELECT timeline_id FROM pg_control_checkpoint()"
    leader, kills = cluster.leader, 0
    before = leader.sql(timeline)
    for host in cluster.hosts.values():
        host.run("sh", "-c", BURN.format(SOAK_S))
    with clients.meanwhile("soak") as outcome:
        ends = time.monotonic() + SOAK_S
        while time.monotonic() < ends:
            with far(cluster.hosts.values(), 50):
                time.sleep(20)
                kills += kill_etcd_leader(cluster)
                time.sleep(10)
            kills += kill_etcd_leader(cluster)
            time.sleep(30)
    found = outcome.as_json()
    keep_figure(FIGURES, "soak", {**found, "seconds": SOAK_S, "etcd_leader_kills": kills})
    assert kills >= SOAK_S / 60
    assert outcome.lost == [] and outcome.rows > 1000, found
    assert (cluster.leader.name, cluster.leader.sql(timeline)) == (leader.name, before), "another led meanwhile"
    assert outcome.servers == [outcome.servers[0]], found
