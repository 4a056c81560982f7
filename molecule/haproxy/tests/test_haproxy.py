"""Writes reach who leads, reads the other; sessions end with the role; a start misleads nobody."""

from __future__ import annotations

import socket
import threading
import time

import psycopg2
import pytest
from drills import commands
from election import writing
from members import STATE
from steering import READS, WRITES, ended, figure, wait
from throwaway import Host, ask

PLAY = "auditdb.postgresql.haproxy"
FILE = "/etc/haproxy/haproxy.cfg"


def switch(cluster) -> tuple[Host, Host]:
    """Have the other member lead, and return who did and who does."""
    cluster.whole()
    before, after = cluster.leader, cluster.standbys[0]
    asked = {"leader": before.name, "candidate": after.name}
    # One that has only just come back may not lead yet: Patroni refuses then.
    wait(lambda: cluster.change("/switchover", asked)[0] == 200, "nobody else may lead", seconds=60)
    return before, after


def test_writes_reach_who_leads_and_reads_the_other(cluster, balancers):
    cluster.whole()
    leader, standby = cluster.leader.address, cluster.standbys[0].address
    for each in balancers.values():
        wait(lambda each=each: each.who(READS) == standby, "the standby is not read from")
        assert [each.who(WRITES) for _ in range(5)] == [leader] * 5
        assert [each.who(READS) for _ in range(5)] == [standby] * 5


def test_a_session_ends_with_the_role_of_its_server(cluster, balancer):
    """Also where the server would keep it: a standby that leads does not end its sessions."""
    cluster.whole()
    wait(lambda: balancer.who(READS) == cluster.standbys[0].address, "the standby is not read from")
    writes, reads = balancer.login(WRITES), balancer.login(READS)
    ask(writes, "INSERT INTO election VALUES (1)")
    _before, after = switch(cluster)
    with pytest.raises(psycopg2.Error):
        ask(writes, "INSERT INTO election VALUES (2)")
    figure("switchover: the new leader is written to, s after Patroni has said so",
           wait(lambda: balancer.who(WRITES) == after.address, "the new leader is not written to"))  # fmt: skip
    assert not ask(balancer.login(WRITES), "SELECT pg_is_in_recovery()")
    wait(lambda: ended(reads), "the session for reading goes on with who leads")


def test_a_switchover_through_the_pool_beside_it(cluster, balancer):
    """Client, PgBouncer, HAProxy, leader: verified TLS all the way, and the client's own session goes on."""
    cluster.whole()
    cluster.leader.sql("TRUNCATE election")
    login = {
        "host": balancer.container.name, "hostaddr": balancer.address, "port": 6432, "dbname": "postgres",
        "user": "election", "password": "only-for-this-test",
        "sslmode": "verify-full", "sslrootcert": str(STATE / "tls/ca.crt"),
    }  # fmt: skip
    with writing([login], patience=15) as writer:
        _before, after = switch(cluster)
        wait(lambda: balancer.who(WRITES) == after.address, "the new leader is not written to")
    figure("switchover: no row was written through PgBouncer and HAProxy for, s", writer.outage)
    assert writer.outage < 15
    cluster.whole()
    present = {int(each) for each in cluster.leader.sql("SELECT number FROM election").split()}
    assert len(writer.acknowledged) >= 40 and set(writer.acknowledged) <= present, "acknowledged rows are lost"


def test_no_session_waits_for_a_server_that_is_gone(cluster, balancer):
    """What is begun before another leads, and is refused, finds it at its first retry."""
    took, address = [], balancer.address

    def session() -> None:
        begun = time.monotonic()
        try:
            with socket.create_connection((address, WRITES), timeout=12) as begins:
                begins.sendall(bytes([0, 0, 0, 8, 4, 210, 22, 47]))  # wishes for TLS
                begins.recv(1)
        except OSError:
            pass
        took.append(time.monotonic() - begun)

    for _ in range(3):
        cluster.whole()
        cluster.leader.run(*commands("postgres_crash"))
        sessions = [threading.Thread(target=session) for _ in range(100)]
        for each in sessions:
            each.start()
            time.sleep(0.05)
        for each in sessions:
            each.join()
    figure("postgres killed: until a new session was answered or refused, s at most", max(took))
    assert max(took) < 5


def test_a_standby_that_lags_is_not_read_from_until_it_has_caught_up(cluster, balancer):
    cluster.whole()
    leader, standby = cluster.leader, cluster.standbys[0]
    wait(lambda: balancer.who(READS) == standby.address, "the standby is not read from")
    before = balancer.login(READS)
    with standby.replay_held():
        # Twice what this inventory allows.
        leader.sql("SELECT pg_logical_emit_message(true, 'steer', repeat('x', 2097152))")
        took = wait(lambda: balancer.who(READS) == leader.address, "a standby that lags is read from")
        figure("lag: a standby is not read from, s after it lags", took)
        assert ended(before), "the session goes on with old rows"
        meanwhile = balancer.login(READS)
        assert not ended(meanwhile)
    wait(lambda: balancer.who(READS) == standby.address, "the standby is not read from again")
    wait(lambda: ended(meanwhile), "the session stays with the leader")


def test_where_there_is_no_standby_who_leads_is_read_from(cluster, balancer):
    cluster.whole()
    leader, standby = cluster.leader, cluster.standbys[0]
    standby.container.kill()
    try:
        figure("no standby: the leader is read from, s after the standby's host was killed",
               wait(lambda: balancer.who(READS) == leader.address, "nobody is read from"))  # fmt: skip
        assert balancer.who(WRITES) == leader.address
    finally:
        standby.container.start()
    cluster.whole()
    wait(lambda: balancer.who(READS) == cluster.standbys[0].address, "the standby is not read from again")


@pytest.mark.parametrize("verb", ["reload", "restart", "kill"])
def test_no_session_for_writing_is_misled_by_a_start(cluster, balancer, verb):
    """HAProxy takes each server for able until it has asked it once."""
    cluster.whole()
    wait(lambda: balancer.who(WRITES) == cluster.leader.address, "the leader is not written to")
    before, leader = balancer.pid, cluster.leader.address
    balancer.run("systemctl", verb, *(["--signal=KILL"] if verb == "kill" else []), "haproxy")
    begun, seen = time.monotonic(), []
    while time.monotonic() - begun < 4:
        seen.append(balancer.who(WRITES))
    assert set(seen) <= {leader, ""}, seen
    assert seen[-1] == leader
    assert verb != "reload" or leader in seen[:2], "sessions wait for the first answers"
    wait(lambda: balancer.pid != "0", "it did not come back")
    assert (balancer.pid == before) == (verb == "reload")


def test_a_change_leaves_the_sessions(balancers, playbook):
    sessions = [each.login(WRITES) for each in balancers.values()]
    before = [ask(each, "SELECT pg_backend_pid()") for each in sessions]
    run = playbook(PLAY, "-e", "haproxy_maximum_connections=1999", "--diff")
    assert (run.code, run.changed) == (0, 4), run.output
    assert "+    maxconn 1999" in run.output
    assert [ask(each, "SELECT pg_backend_pid()") for each in sessions] == before
    assert all("maxconn 1999" in each.run("cat", FILE) for each in balancers.values())
    assert playbook(PLAY).code == 0


def test_a_file_that_an_interrupted_run_left_unread_is_read(balancer, playbook):
    balancer.run("touch", FILE)
    balancer.run("touch", "/etc/keepalived/keepalived.conf")
    run = playbook(PLAY)
    assert (run.code, run.changed) == (0, 2), run.output
    assert playbook(PLAY).changed == 0


def test_the_statistics_are_on_loopback_alone(balancer):
    said = balancer.run("curl", "-sS", "http://127.0.0.1:7000/metrics")
    assert 'haproxy_server_status{proxy="writes",server="steer1",state="UP"}' in said
    code, _said = balancer.container.exec_run(
        ["curl", "-sS", "-m", "3", f"http://{balancer.address}:7000/"], demux=False
    )
    assert code == 7
    assert balancer.run("stat", "-c", "%U %a", "/run/haproxy/admin.sock").strip() == "root 600"
    assert "is DOWN, reason: " in balancer.run("journalctl", "-u", "haproxy", "--no-pager")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("haproxy_members", "[]"),
        ("haproxy_members", '["nobody"]'),
        ("haproxy_write_port", "0"),
        ("haproxy_write_port", "6432"),
        ("haproxy_read_port", "5000"),
        ("haproxy_nameservers", '["dns.example.org"]'),
        ("haproxy_listen_addresses", '["everywhere"]'),
        ("haproxy_listen_addresses", '["192.0.2.10"]'),
        ("haproxy_statistics_address", '"0.0.0.0"'),
        ("haproxy_maximum_lag", "0"),
        ("haproxy_maximum_lag", '"16MB"'),
        ("haproxy_maximum_connections", "0"),
        ("haproxy_check_interval_ms", "5"),
        ("haproxy_hard_stop_after", '"0"'),
        ("haproxy_ca", '"/nowhere/ca.crt"'),
        ("haproxy_virtual_address", '"balancer.example.org"'),
        ("haproxy_virtual_interface", '"eth9"'),
        ("haproxy_virtual_router_id", "256"),
        ("haproxy_balancers", '["steer-lb1"]'),
    ],
)
def test_wrong_input_is_refused_by_name(playbook, option, value):
    run = playbook(PLAY, "-e", f'{{"{option}": {value}}}')
    assert run.code != 0 and run.changed == 0
    assert option in run.text
    assert "Remedy:" in run.text or value == '"16MB"', "the type is checked before all else"
    assert value != "6432" or "another program listens on port 6432" in run.text


def test_an_authority_that_has_not_signed_the_members_leads_nowhere(balancer, playbook, tmp_path):
    """What is asked of an impostor is not believed."""
    balancer.run(
        "sh", "-c", "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=other -days 2"
        " -keyout /dev/null -out /tmp/other.crt 2> /dev/null",
    )  # fmt: skip
    other = tmp_path / "other.crt"
    other.write_text(balancer.run("cat", "/tmp/other.crt"))
    try:
        run = playbook(PLAY, "-e", f"haproxy_ca={other}")
        assert run.code != 0
        assert "has nobody for writes and nobody for reads of steer1, steer2" in run.text and "Remedy:" in run.text
    finally:
        assert playbook(PLAY).code == 0
    assert balancer.who(WRITES) != ""


def test_members_known_by_their_addresses_are_verified_by_their_names(cluster, balancer, playbook):
    """HAProxy compares no addresses with a certificate."""
    given = {name: {"patroni_address": host.address} for name, host in cluster.hosts.items()}
    hosts = STATE.parent / "host_vars"
    hosts.mkdir()
    try:
        for name, values in given.items():
            (hosts / f"{name}.yml").write_text(f"patroni_address: {values['patroni_address']}\n")
        run = playbook(PLAY)
        assert run.code == 0, run.output
        address = cluster.hosts["steer1"].address
        assert f"server steer1 {address}:5432 port 8008 verifyhost steer1" in balancer.run("cat", FILE)
        assert balancer.who(WRITES) == cluster.leader.address
    finally:
        for name in given:
            (hosts / f"{name}.yml").unlink()
        hosts.rmdir()
        assert playbook(PLAY).code == 0


def test_a_run_after_all_this_changes_nothing(playbook):
    run = playbook()
    assert (run.code, run.changed) == (0, 0), run.output
