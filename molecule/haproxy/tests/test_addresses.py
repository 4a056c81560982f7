"""Members are found by their names: also one that comes back with another address, and while one is not known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import docker
from steering import READS, WRITES, figure, wait
from throwaway import Host


@contextmanager
def moved(host: Host) -> Iterator[None]:
    """Stop a host meanwhile, and start it with another address, of those that the engine gives to nobody yet."""
    network, before = docker.from_env().networks.get("auditdb"), host.address
    first, second, third, fourth = before.split(".")
    host.container.kill()
    try:
        network.disconnect(host.container)
        yield
    finally:
        network.connect(host.container, ipv4_address=f"{first}.{second}.{14 if third == '15' else 15}.{fourth}")
        host.container.start()
    assert host.address != before


def test_a_member_that_comes_back_with_another_address_is_found(cluster, balancers):
    cluster.whole()
    standby = cluster.standbys[0]
    with moved(standby):
        pass
    cluster.whole()
    took = max(
        wait(lambda each=each: each.who(READS) == standby.address, "the standby is not read from", seconds=30)
        for each in balancers.values()
    )
    figure("another address: it is read from, s after it streams", took)


def test_a_leader_that_comes_back_with_another_address_is_written_to(cluster, balancers):
    """Where it leads again: the other does not, as it lacks what was committed while it was away."""
    cluster.whole()
    leader, standby = cluster.leader, cluster.standbys[0]
    standby.run("systemctl", "stop", "patroni@17-main")
    with moved(leader):
        pass
    for each in balancers.values():
        wait(lambda each=each: each.who(WRITES) == leader.address, "the leader is not written to", seconds=90)
    standby.run("systemctl", "start", "patroni@17-main")
    cluster.whole()


def test_a_name_that_is_not_known_keeps_no_balancer_from_starting(cluster, balancer):
    """The engine knows no name of a host that is off. Once it does, the host is found."""
    cluster.whole()
    leader, standby = cluster.leader, cluster.standbys[0]
    with moved(standby):
        balancer.run("systemctl", "restart", "haproxy")
        wait(lambda: balancer.who(WRITES) == leader.address, "the leader is not written to")
        assert balancer.who(READS) == leader.address
    cluster.whole()
    wait(lambda: balancer.who(READS) == standby.address, "the standby is not read from", seconds=30)
