"""With a fence that confirms that a host is off, nobody waits for the ttl; without its word, everybody does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import docker
import pytest
from drills import FIGURES, spread
from throwaway import keep_figure

pytestmark = pytest.mark.long

PLAY = "auditdb.postgresql.patroni"
TIMES = 10


class Power(BaseHTTPRequestHandler):
    """Turns throwaway hosts off, as the controller of a machine's power does: GET /off/NAME."""

    works: ClassVar[bool] = True
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        name = self.path.removeprefix("/off/")
        self.asked.append(name)
        container = docker.from_env().containers.get(f"auditdb-{name}")
        if self.works and container.status == "running":
            container.kill()
        container.reload()
        off = self.works and container.status == "exited"
        self.send_response(200 if off else 500)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def power(cluster, playbook) -> Iterator[type[Power]]:
    """Have the members fence by it meanwhile."""
    cluster.whole()
    gateway = cluster.leader.container.attrs["NetworkSettings"]["Networks"]["auditdb"]["Gateway"]
    server = ThreadingHTTPServer((gateway, 0), Power)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Power.works, Power.asked[:] = True, []
    url = f"http://{gateway}:{server.server_port}/off/{{host}}"
    given = {"patroni_fence_command": ["curl", "--silent", "--show-error", "--fail", "--max-time", "8", url]}
    first = playbook(PLAY, "-e", json.dumps(given))
    assert first.code == 0, first.output
    again = playbook(PLAY, "-e", json.dumps(given))
    assert (again.code, again.changed) == (0, 0), again.output
    yield Power
    server.shutdown()
    without = playbook(PLAY)
    assert without.code == 0, without.output
    for host in cluster.hosts.values():
        assert host.run("sh", "-c", "ls /etc/patroni/*-fence.json /usr/local/bin/auditdb-fence 2>/dev/null; :") == ""


def killed(cluster, clients, fault):
    """Kill the host of who leads, and start it again once another leads; return what that has cost."""
    before = cluster.leader
    with clients.meanwhile(fault) as outcome:
        before.container.kill()
        cluster.replaced(before)
        before.container.start()
    assert outcome.lost == [] and outcome.leader_after != before.name
    return before.name, outcome


def test_a_host_that_is_dead_and_confirmed_to_be_off_is_replaced_at_once(cluster, clients, power):
    """Each second one leads etcd, too: its death takes longer, as nobody is asked anything until etcd has another."""
    took = []
    for number in range(TIMES):
        cluster.whole()
        cluster.lead_etcd(cluster.leader if number % 2 else cluster.standbys[0])
        name, outcome = killed(cluster, clients, f"host_death fenced {number}")
        assert power.asked == [name], "it was turned off once, and no other"
        power.asked.clear()
        took.append(outcome.outage)
    keep_figure(FIGURES, "host_death of one leader, fenced", spread(took[::2]))
    keep_figure(FIGURES, "host_death of two leaders, fenced", spread(took[1::2]))
    figures = spread(took)
    keep_figure(FIGURES, "host_death, fenced", figures)
    assert figures["median_s"] < 18, figures


def test_a_fence_that_fails_leaves_it_to_the_ttl(cluster, clients, power):
    power.works = False
    name, outcome = killed(cluster, clients, "host_death, fence fails")
    assert set(power.asked) == {name}
    assert outcome.outage > 15


def test_a_leader_that_one_member_does_not_reach_goes_on(cluster, programs, power):
    leader, (standby, _other) = cluster.leader, cluster.standbys
    cut = f"type filter hook output priority -10; ip daddr {leader.address} drop;"
    standby.run("nft", f"table inet only_here {{\nchain output {{ {cut} }}\n}}")
    try:
        assert cluster.call(standby, "timeout", "3", "bash", "-c", f": < /dev/tcp/{leader.address}/8008")[0] == 124
        time.sleep(20)
    finally:
        standby.run("nft", "delete", "table", "inet", "only_here")
    assert power.asked == [] and cluster.leader.name == leader.name
    cluster.whole()
