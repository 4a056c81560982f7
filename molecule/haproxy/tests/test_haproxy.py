"""Writes reach who leads, reads the other; sessions end with the role; and what it cannot do is refused by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import pytest
from members import STATE
from throwaway import Host

PLAY = "auditdb.postgresql.haproxy"
FILE = "/etc/haproxy/haproxy.cfg"
WRITES, READS = 5000, 5001


@pytest.fixture(scope="session")
def balancer(scenario, cluster) -> Host:
    leader = cluster.leader
    if leader.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'way'") == "0":
        leader.sql("CREATE ROLE way LOGIN PASSWORD 'only-for-this-test'")
        leader.sql("CREATE TABLE way (number bigint)")
        leader.sql("GRANT SELECT, INSERT ON way TO way")
    host = Host("way-lb", scenario / "inventory")
    host.run("sh", "-c", "command -v curl socat > /dev/null || apt-get install -y -qq curl socat")
    return host


def login(host: Host, port: int):
    connection = psycopg2.connect(
        host=host.container.name, hostaddr=host.address, port=port, dbname="postgres", user="way",
        password="only-for-this-test", sslmode="verify-full", sslrootcert=str(STATE / "tls/ca.crt"), connect_timeout=5,
    )  # fmt: skip
    connection.autocommit = True
    return connection


def ask(connection, statement: str):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def who(host: Host, port: int) -> str:
    """Return the address of the server that a new session on a port has; '' while there is none."""
    try:
        connection = login(host, port)
    except psycopg2.OperationalError:
        return ""
    try:
        return str(ask(connection, "SELECT host(inet_server_addr())"))
    except psycopg2.Error:
        return ""
    finally:
        connection.close()


def wait(until, message: str, seconds: float = 20) -> float:
    begun = time.monotonic()
    while not until():
        assert time.monotonic() - begun < seconds, message
        time.sleep(0.1)
    return time.monotonic() - begun


def switch(cluster) -> tuple[Host, Host]:
    """Have the other member lead, and return who did and who does."""
    cluster.whole()
    before, after = cluster.leader, cluster.standbys[0]
    code, said = cluster.change("/switchover", {"leader": before.name, "candidate": after.name})
    assert code == 200, said
    return before, after


@contextmanager
def replay_held(standby: Host) -> Iterator[None]:
    """Stop the process that replays: Patroni resumes a replay that is paused."""
    standby.run("pkill", "-STOP", "-f", "postgres.*: [s]tartup recovering")
    try:
        yield
    finally:
        standby.run("pkill", "-CONT", "-f", "postgres.*: [s]tartup recovering")


def test_writes_reach_who_leads_and_reads_the_other(cluster, balancer):
    cluster.whole()
    leader, standby = cluster.leader.address, cluster.standbys[0].address
    wait(lambda: who(balancer, READS) == standby, "the standby is not read from")
    assert [who(balancer, WRITES) for _ in range(5)] == [leader] * 5
    assert [who(balancer, READS) for _ in range(5)] == [standby] * 5


def test_a_session_ends_with_the_role_of_its_server(cluster, balancer):
    """Also where the server would keep it: a standby that leads does not end its sessions."""
    cluster.whole()
    writes, reads = login(balancer, WRITES), login(balancer, READS)
    ask(writes, "INSERT INTO way VALUES (1)")
    _before, after = switch(cluster)
    with pytest.raises(psycopg2.Error):
        ask(writes, "INSERT INTO way VALUES (2)")
    wait(lambda: who(balancer, WRITES) == after.address, "the new leader is not written to")
    assert not ask(login(balancer, WRITES), "SELECT pg_is_in_recovery()")

    def ended() -> bool:
        try:
            ask(reads, "SELECT 1")
        except psycopg2.Error:
            return True
        return False

    wait(ended, "the session for reading goes on with who leads")


def test_a_standby_that_lags_is_not_read_from_until_it_has_caught_up(cluster, balancer):
    cluster.whole()
    leader, standby = cluster.leader, cluster.standbys[0]
    wait(lambda: who(balancer, READS) == standby.address, "the standby is not read from")
    with replay_held(standby):
        # Twice what this inventory allows.
        leader.sql("SELECT pg_logical_emit_message(true, 'way', repeat('x', 2097152))")
        wait(lambda: who(balancer, READS) == leader.address, "a standby that lags is read from")
    wait(lambda: who(balancer, READS) == standby.address, "the standby is not read from again")


def test_where_there_is_no_standby_who_leads_is_read_from(cluster, balancer):
    cluster.whole()
    leader, standby = cluster.leader, cluster.standbys[0]
    standby.container.kill()
    try:
        wait(lambda: who(balancer, READS) == leader.address, "nobody is read from")
        # With the standby goes a member of etcd, perhaps its leader: where an election lasts, Patroni steps back.
        wait(lambda: who(balancer, WRITES) == leader.address, "nobody is written to", seconds=60)
    finally:
        standby.container.start()
    cluster.whole()
    wait(lambda: who(balancer, READS) == cluster.standbys[0].address, "the standby is not read from again")


def test_one_that_is_killed_comes_back(balancer):
    before = balancer.run("systemctl", "show", "--value", "-p", "MainPID", "haproxy").strip()
    balancer.run("systemctl", "kill", "--signal=KILL", "haproxy")
    wait(lambda: who(balancer, WRITES) != "", "it did not come back")
    assert balancer.run("systemctl", "show", "--value", "-p", "MainPID", "haproxy").strip() not in ("0", before)


def test_a_change_leaves_the_sessions(balancer, playbook):
    connection = login(balancer, WRITES)
    pid = ask(connection, "SELECT pg_backend_pid()")
    run = playbook(PLAY, "-e", "haproxy_maximum_connections=1999", "--diff")
    assert (run.code, run.changed) == (0, 2), run.output
    assert "+    maxconn 1999" in run.output
    assert ask(connection, "SELECT pg_backend_pid()") == pid
    assert "maxconn 1999" in balancer.run("cat", FILE)
    assert playbook(PLAY).code == 0


def test_a_file_that_an_interrupted_run_left_unread_is_read(balancer, playbook):
    time.sleep(1.1)
    balancer.run("touch", FILE)
    run = playbook(PLAY)
    assert (run.code, run.changed) == (0, 1), run.output
    assert playbook(PLAY).changed == 0


def test_the_statistics_are_on_loopback_alone(balancer):
    said = balancer.run("curl", "-sS", "http://127.0.0.1:7000/metrics")
    assert 'haproxy_server_status{proxy="writes",server="way1",state="UP"}' in said
    code, _said = balancer.container.exec_run(
        ["curl", "-sS", "-m", "3", f"http://{balancer.address}:7000/"], demux=False
    )
    assert code == 7
    assert balancer.run("stat", "-c", "%U %a", "/run/haproxy/admin.sock").strip() == "root 600"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("haproxy_members", '["nobody"]'),
        ("haproxy_write_port", "0"),
        ("haproxy_read_port", "5000"),
        ("haproxy_listen_addresses", '["everywhere"]'),
        ("haproxy_maximum_lag", "0"),
        ("haproxy_maximum_connections", "0"),
        ("haproxy_check_interval_ms", "5"),
        ("haproxy_hard_stop_after", '"0"'),
    ],
)
def test_wrong_input_is_refused_by_name(playbook, option, value):
    run = playbook(PLAY, "-e", f'{{"{option}": {value}}}')
    assert run.code != 0 and run.changed == 0
    assert option in run.text and "Remedy:" in run.text


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
        assert "has nobody for writes and nobody for reads of way1, way2" in run.text and "Remedy:" in run.text
    finally:
        assert playbook(PLAY).code == 0
    assert who(balancer, WRITES) != ""
