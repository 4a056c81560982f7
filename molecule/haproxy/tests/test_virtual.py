"""One of two balancers has the virtual address, and the other takes it. In the order of the file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from steering import ASK, VIRTUAL, WRITES, figure, wait


@pytest.fixture
def client(cluster, balancers):
    """A host that is no balancer, and has a way to the address."""
    host = cluster.standbys[0]
    host.run("ip", "route", "replace", f"{VIRTUAL}/32", "dev", "eth0")
    wait(lambda: sum(each.has_the_address for each in balancers.values()) == 1, "not one has the address")
    return host


@contextmanager
def asked(client, seconds: float) -> Iterator[dict[str, float]]:
    """Ask the address again and again meanwhile; afterwards it is known for how long nobody answered."""
    found: dict[str, float] = {}

    def run() -> None:
        said = client.run("python3", "-c", ASK, VIRTUAL, str(WRITES), str(seconds))
        found["outage"], found["answers"] = (float(each) for each in said.split())

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(1)
    yield found
    thread.join(timeout=seconds + 30)
    assert found["answers"] > 40


def parties(balancers):
    """Return who has the address, and who has not."""
    holder = next(each for each in balancers.values() if each.has_the_address)
    return holder, next(each for each in balancers.values() if each is not holder)


def test_an_haproxy_that_comes_back_at_once_keeps_the_address(client, balancers):
    holder, other = parties(balancers)
    with asked(client, 6) as found:
        holder.run("systemctl", "kill", "--signal=KILL", "haproxy")
    figure("haproxy killed: the address did not answer for, s", found["outage"])
    assert found["outage"] < 4
    assert holder.has_the_address and not other.has_the_address


def test_a_balancer_whose_haproxy_does_not_answer_gives_the_address_up(client, balancers):
    holder, other = parties(balancers)
    with asked(client, 8) as found:
        holder.run("systemctl", "stop", "haproxy")
    try:
        assert other.has_the_address and not holder.has_the_address
        figure("haproxy stopped: the address did not answer for, s", found["outage"])
        assert found["outage"] < 6
    finally:
        holder.run("systemctl", "start", "haproxy")
    time.sleep(6)
    assert other.has_the_address and not holder.has_the_address, "who has it keeps it"


def test_one_that_is_frozen_gives_the_address_up(client, balancers):
    """It runs, and does not answer."""
    holder, other = parties(balancers)
    workers = "systemctl kill --signal={} haproxy"
    with asked(client, 9) as found:
        holder.run("sh", "-c", workers.format("STOP"))
    try:
        assert other.has_the_address and not holder.has_the_address
        figure("haproxy frozen: the address did not answer for, s", found["outage"])
        assert found["outage"] < 7
    finally:
        holder.run("sh", "-c", workers.format("CONT"))


def test_the_host_that_has_the_address_is_killed(client, balancers):
    wait(lambda: sum(each.has_the_address for each in balancers.values()) == 1, "not one has the address")
    time.sleep(4)  # HAProxy of the other has answered twice
    holder, other = parties(balancers)
    with asked(client, 8) as found:
        holder.container.kill()
    try:
        assert other.has_the_address
        figure("balancer's host killed: the address did not answer for, s", found["outage"])
        assert found["outage"] < 5
    finally:
        holder.container.start()
    active = ["systemctl", "is-active", "keepalived"]
    wait(lambda: holder.container.exec_run(active).exit_code == 0, "it does not come back", seconds=60)
    time.sleep(6)
    assert other.has_the_address and not holder.has_the_address, "who has it keeps it"


def test_a_keepalived_that_is_killed_leaves_no_second_address(client, balancers):
    holder, _other = parties(balancers)
    with asked(client, 6) as found:
        holder.run("systemctl", "kill", "--signal=KILL", "keepalived")
    figure("keepalived killed: the address did not answer for, s", found["outage"])
    wait(lambda: sum(each.has_the_address for each in balancers.values()) == 1, "not one has the address")
    assert found["outage"] < 5


def test_the_address_is_given_up_where_it_is_no_longer_declared(balancers, playbook):
    run = playbook("auditdb.postgresql.haproxy", "-e", "haproxy_virtual_address=")
    assert run.code == 0, run.output
    assert not any(each.has_the_address for each in balancers.values())
    run = playbook("auditdb.postgresql.haproxy", "-e", "haproxy_virtual_address=")
    assert (run.code, run.changed) == (0, 0), run.output
    run = playbook("auditdb.postgresql.haproxy")
    assert run.code == 0, run.output
    assert sum(each.has_the_address for each in balancers.values()) == 1


def test_somebody_elses_keepalived_is_left_alone(balancers, playbook):
    lb = balancers["steer-lb2"]
    drop_in = "/etc/systemd/system/keepalived.service.d/auditdb.conf"
    lb.run("mv", drop_in, "/root/kept.conf")
    try:
        run = playbook("auditdb.postgresql.haproxy")
        assert run.code != 0 and run.changed == 0
        assert "/etc/keepalived/keepalived.conf is of somebody else" in run.text
    finally:
        lb.run("mv", "/root/kept.conf", drop_in)
